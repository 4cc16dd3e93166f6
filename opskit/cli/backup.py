"""`opskit backup`: keep the files that a stack cannot be rebuilt without, and put them back."""

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from opskit.cli import render
from opskit.cli.inputs import confirm
from opskit.cli.options import SharedOptions, YesOption, shares
from opskit.errors import OpskitError, UsageError
from opskit.result import plain_document
from opskit.text import counted, size, size_bytes

if TYPE_CHECKING:
    from opskit.backup.catalog import BackupCatalog, CreatedBackup, StoredArchive
    from opskit.backup.restore import RestorePlan, RestoreResult
    from opskit.result import Report

_MOST_SHOWN = 50

app = typer.Typer(no_args_is_help=True)


@app.command()
@shares()
def create(
    shared: SharedOptions,
    max_size: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE",
            help="Leave out larger files, such as 500MB or 2GiB [default: backup.max_file_bytes, 1 GiB].",
        ),
    ] = None,
) -> None:
    """Archive the files of the stack, private and with checksums.

    These are what `backup.files` selects and what the stack is started from. The oldest beyond `keep` go.
    Exits 1 when something that should be in the archive is not; it says what and why.
    """
    import os
    from datetime import UTC, datetime

    from opskit.backup.catalog import catalog_of
    from opskit.backup.selection import stack_files
    from opskit.records import replace

    loaded = shared.load()
    catalog = catalog_of(loaded)
    if max_size is not None:
        limit_bytes = size_bytes(max_size)
        if not limit_bytes:
            raise UsageError(f"--max-size: {max_size!r} is no size", remedy="write 500MB or 2GiB")
        catalog = replace(catalog, max_file_bytes=limit_bytes)
    with catalog.lock():
        _recover(catalog)
        created = catalog.create(now=datetime.now(UTC), stack_files=stack_files(loaded, os.environ))
    report = created.report
    shared.end(report.exit, report.as_json(), lambda: _print_created(created, report))


@app.command(name="list")
@shares()
def list_(shared: SharedOptions) -> None:
    """List the archives, the newest first. And whether their manifests can be read."""
    catalog = _catalog(shared)
    archives, folder = catalog.archives(), catalog.folder
    document = plain_document("backup list", folder=str(folder), backups=list(map(_listed, archives)))
    shared.show(document, lambda: _print_archives(archives, folder))


@app.command()
@shares()
def verify(
    shared: SharedOptions,
    date: Annotated[
        str,
        typer.Argument(metavar="DATE|latest|all|PATH", help="Which one; the beginning of a date will do."),
    ] = "latest",
) -> None:
    """Read archives to the last byte. Checksums, missing and extra members, what must not be restored."""
    from opskit.backup.catalog import verify as verify_archives

    catalog = _catalog(shared)
    if date == "all":
        paths = [archive.path for archive in catalog.archives()]
        if not paths:
            remedy = "`opskit backup create` makes one"
            raise OpskitError("BACKUP_001", "there is no backup yet", remedy=remedy)
    else:
        paths = [catalog.find(date)]
    report = verify_archives(paths)
    shared.end(report.exit, report.as_json(), lambda: render.findings(report.findings))


@app.command()
@shares()
def restore(
    shared: SharedOptions,
    date: Annotated[
        str | None,
        typer.Argument(metavar="DATE|latest|PATH", help="Which one; the beginning of a date will do."),
    ] = None,
    to: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Restore here instead of `backup.root`.")
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(metavar="PATTERN", help="Only what matches, as in `backup.files`; repeatable."),
    ] = None,
    dry_run: Annotated[bool, typer.Option(help="Show what would change, and stop.")] = False,
    yes: YesOption = False,
    resume: Annotated[bool, typer.Option(help="Finish a restoration that was killed.")] = False,
    rollback: Annotated[bool, typer.Option(help="Take back one that was killed.")] = False,
) -> None:
    """Put a backup back: all of it or, on any failure, nothing. What it replaces is kept in an archive.

    The whole archive is judged before anything is touched. Nothing that the backup does not hold is removed.
    """
    from datetime import UTC, datetime

    from opskit.backup.archive import opened
    from opskit.backup.catalog import catalog_of
    from opskit.backup.restore import plan as plan_restore
    from opskit.backup.restore import restore as restore_backup
    from opskit.backup.undo import interrupted_targets, recover

    if (date is not None) + resume + rollback != 1 or (dry_run and date is None):
        raise UsageError(
            "say which backup, or --resume, or --rollback, one of them; --dry-run goes with a date",
            remedy="`opskit backup list` shows the dates; `latest` is the newest",
        )
    catalog = catalog_of(shared.load())
    with contextlib.nullcontext() if dry_run else catalog.lock():
        if dry_run and interrupted_targets(catalog):
            remedy = "`opskit backup restore --rollback`"
            render.note(f"note: an interrupted restoration is taken back first: {remedy}")
        elif not dry_run:
            undone = recover(catalog, to_resume=resume)
            if date is None and not undone:
                remedy = "`opskit backup restore DATE` begins one"
                raise UsageError("no restoration was interrupted", remedy=remedy)
            detail = "; ".join(map(str, undone))
            if rollback:
                document = plain_document("backup restore", detail=detail)
                shared.show(document, lambda: render.line(render.printable(detail)))
                return
            if undone:
                render.note(f"note: {detail}")
            if resume:
                render.note("note: it is done again")
                record, to = undone[0].record, undone[0].target
                # It was begun after a yes.
                date, only, yes = record.archive, list(record.only), True
        with opened(catalog.find(date or "latest")) as archive:
            plan = plan_restore(archive, catalog, to=to, only=only or ())
            if dry_run or plan.idle:
                document = _plan_document(plan, dry_run=dry_run, replaced=None)
                shared.show(document, lambda: _print_plan(plan, dry_run=dry_run))
                return
            if not shared.json:
                _print_plan(plan, dry_run=False)
            target = render.printable(str(plan.target))
            confirm([f"this changes files in {target}"], question=f"Restore to {target}?", yes=yes)
            result = restore_backup(archive, plan, catalog, now=datetime.now(UTC))
    document = _plan_document(plan, dry_run=False, replaced=result.replaced)
    shared.show(document, lambda: _print_restored(plan, result))


def _catalog(shared: SharedOptions) -> "BackupCatalog":
    """Return the catalog to look at; restores that were killed are undone unless somebody is at work."""
    from opskit.backup.catalog import catalog_of
    from opskit.backup.undo import interrupted_targets

    catalog = catalog_of(shared.load())
    if catalog.half_written or interrupted_targets(catalog):
        try:
            with catalog.lock():
                _recover(catalog)
        except OpskitError as exc:
            render.note(f"note: {exc}")
    return catalog


def _recover(catalog: "BackupCatalog") -> None:
    """Undo restores that were killed. Under the lock."""
    from opskit.backup.undo import recover

    for undone in recover(catalog):
        render.note(f"note: {undone}")


def _print_created(backup: "CreatedBackup", report: "Report") -> None:
    evidence = report.findings[0].evidence
    packed, root = size(evidence["size_bytes"], precise=True), render.printable(evidence["root"])
    render.line(render.printable(evidence["path"]))
    content = (
        f"{counted(evidence['files'], 'file')} of {root}, {size(evidence['content_bytes'], precise=True)}"
    )
    render.line(f"{content} in {packed}")
    for finding in report.findings[1:]:
        render.note(f"{finding.state}: {render.printable(finding.target)}: {finding.detail}")
    _print_removed(backup.removed)


def _print_removed(paths: Sequence[Path]) -> None:
    for path in paths:
        render.note(f"removed: {path.name}, the oldest beyond `backup.keep`")


def _print_archives(archives: Sequence["StoredArchive"], folder: Path) -> None:
    if not archives:
        where = render.printable(str(folder))
        render.note(f"there is no backup in {where}; `opskit backup create` makes one")
        return
    rows = []
    for archive in archives:
        files, content, root, state = "", "", "", archive.problem or "none: no checksums"
        if (manifest := archive.manifest) is not None:
            files, content = str(manifest.files), size(manifest.content_bytes, precise=True)
            root, left_out = manifest.root, len(manifest.skipped)
            state = f"{left_out} left out" if left_out else "ok"
        rows.append((archive.label, files, content, size(archive.size_bytes, precise=True), state, root))
    render.table(("date", "files", "content", "size", "manifest", "made of"), rows)


def _listed(archive: "StoredArchive") -> dict[str, Any]:
    manifest = archive.manifest
    return {
        "date": archive.date,
        "purpose": archive.purpose,
        "path": str(archive.path),
        "size_bytes": archive.size_bytes,
        "readable": not archive.problem,
        "checksums": manifest is not None,
        "problem": archive.problem or None,
        "files": manifest.files if manifest else None,
        "content_bytes": manifest.content_bytes if manifest else None,
        "left_out": len(manifest.skipped) if manifest else None,
        "root": _text(manifest.root) if manifest else None,
        "host": _text(manifest.host) if manifest else None,
    }


def _print_plan(plan: "RestorePlan", *, dry_run: bool) -> None:
    """Show what would change; that is the whole result when nothing would."""
    shown, target = [change for change in plan.changes if change.action != "same"], str(plan.target)
    for change in shown[:_MOST_SHOWN]:
        why = f" ({change.why})" if change.why else ""
        folder = "/" if change.entry.kind == "folder" else ""
        render.line(f"{change.action:8} {render.printable(change.entry.path)}{folder}{why}")
    if len(shown) > _MOST_SHOWN:
        render.line(f"... and {len(shown) - _MOST_SHOWN} more (--json shows all)")
    counts = ", ".join(f"{len(plan.of(action))} {action}" for action in ("new", "changed", "same"))
    ending = "; nothing was changed (--dry-run)" if dry_run else ""
    result = (
        f"{target} holds all of it already; nothing was changed"
        if plan.idle
        else f"{counts} in {target}{ending}"
    )
    render.line(render.printable(result))


def _print_restored(plan: "RestorePlan", result: "RestoreResult") -> None:
    render.line(f"restored {plan.archive.name} to {render.printable(str(plan.target))}")
    if result.replaced is not None:
        render.line(f"what it replaced is kept: {result.replaced}")
    _print_removed(result.removed)
    render.note("containers go on with what they started with: `docker compose up -d` applies what is new")


def _plan_document(plan: "RestorePlan", *, dry_run: bool, replaced: Path | None) -> dict[str, Any]:
    """Return the document of a restore, with the archive of what it replaced once it is done."""
    return plain_document(
        "backup restore",
        archive=_text(str(plan.archive)),
        target=_text(str(plan.target)),
        dry_run=dry_run,
        changed=not dry_run and not plan.idle,
        replaced=str(replaced) if replaced is not None else None,
        changes=[
            {"path": _text(entry.path), "kind": entry.kind, "action": change.action, "why": change.why}
            for change in plan.changes
            for entry in (change.entry,)
        ],
    )


def _text(path: str) -> str:
    from opskit.backup.manifest import printable_path

    return printable_path(path)
