"""`opskit backup`: keep the files that a stack cannot be rebuilt without, and put them back."""

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
    """Archive what `backup.files` selects and what the stack is started from, private and with checksums.

    The oldest beyond `keep` go. Exits 1 when something that should be in the archive is not; it says what and
    why.
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
    """List the archives, the newest first, and whether their manifests can be read."""
    catalog = _catalog(shared)
    _recover_if_free(catalog)
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
    """Read archives to the last byte: checksums, missing and extra members, what must not be restored."""
    from opskit.backup.catalog import verify as verify_archives

    catalog = _catalog(shared)
    _recover_if_free(catalog)
    if date == "all":
        paths = [archive.path for archive in catalog.archives()]
        if not paths:
            raise OpskitError(
                "BACKUP_001", "there is no backup yet", remedy="`opskit backup create` makes one"
            )
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
    from opskit.backup.undo import interrupted_targets, recover

    if (date is not None) + resume + rollback != 1:
        raise UsageError(
            "say which backup, or --resume, or --rollback, one of them",
            remedy="`opskit backup list` shows the dates; `latest` is the newest",
        )
    catalog = _catalog(shared)
    if dry_run:
        if date is None:
            remedy = "`opskit backup restore latest --dry-run`"
            raise UsageError("--dry-run goes with a date", remedy=remedy)
        if interrupted_targets(catalog):
            render.note(
                "note: an interrupted restoration is taken back first: `opskit backup restore --rollback`"
            )
        _restore(shared, catalog, date, to, only or (), dry_run=True, yes=yes)
        return
    with catalog.lock():
        if date is not None:
            _recover(catalog)
            _restore(shared, catalog, date, to, only or (), dry_run=False, yes=yes)
            return
        undone = recover(catalog, to_resume=resume)
        if not undone:
            remedy = "`opskit backup restore DATE` begins one"
            raise UsageError("no restoration was interrupted", remedy=remedy)
        if rollback:
            detail = "; ".join(map(str, undone))
            document = plain_document("backup restore", detail=detail)
            shared.show(document, lambda: render.line(render.printable(detail)))
            return
        render.note("note: the interrupted restoration was taken back, and is done again")
        record, target = undone[0].record, undone[0].target
        # It was begun after a yes.
        _restore(shared, catalog, record.archive, target, record.only, dry_run=False, yes=True)


def _restore(
    shared: SharedOptions,
    catalog: "BackupCatalog",
    date: str,
    to: Path | None,
    only: Sequence[str],
    *,
    dry_run: bool,
    yes: bool,
) -> None:
    from datetime import UTC, datetime

    from opskit.backup.archive import opened
    from opskit.backup.restore import plan as plan_restore
    from opskit.backup.restore import restore as restore_backup

    with opened(catalog.find(date)) as archive:
        plan = plan_restore(archive, catalog, to=to, only=only)
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
    from opskit.backup.catalog import catalog_of

    return catalog_of(shared.load())


def _recover(catalog: "BackupCatalog") -> None:
    """Undo restores that were killed. Under the lock."""
    from opskit.backup.undo import recover

    for undone in recover(catalog):
        render.note(f"note: {undone}")


def _recover_if_free(catalog: "BackupCatalog") -> None:
    """Undo restores that were killed, unless somebody is at work; looking at backups never fails for it."""
    from opskit.backup.undo import interrupted_targets

    if not interrupted_targets(catalog):
        return
    try:
        with catalog.lock():
            _recover(catalog)
    except OpskitError as exc:
        render.note(f"note: {exc}")


def _print_created(backup: "CreatedBackup", report: "Report") -> None:
    evidence = report.findings[0].evidence
    sizes = [size(evidence[key], precise=True) for key in ("content_bytes", "size_bytes")]
    render.line(render.printable(evidence["path"]))
    root = render.printable(evidence["root"])
    render.line(f"{counted(evidence['files'], 'file')} of {root}, {sizes[0]} in {sizes[1]}")
    for finding in report.findings[1:]:
        render.note(f"{finding.state}: {render.printable(finding.target)}: {finding.detail}")
    _removed(backup.removed)


def _removed(paths: Sequence[Path]) -> None:
    for path in paths:
        render.note(f"removed: {path.name}, the oldest beyond `backup.keep`")


def _print_archives(archives: Sequence["StoredArchive"], folder: Path) -> None:
    if not archives:
        render.note(
            f"there is no backup in {render.printable(str(folder))}; `opskit backup create` makes one"
        )
        return
    rows = [
        (
            archive.label,
            str(archive.manifest.files) if archive.manifest else "",
            size(archive.manifest.content_bytes, precise=True) if archive.manifest else "",
            size(archive.size_bytes, precise=True),
            _state(archive),
            archive.manifest.root if archive.manifest else "",
        )
        for archive in archives
    ]
    render.table(("date", "files", "content", "size", "manifest", "made of"), rows)


def _state(archive: "StoredArchive") -> str:
    if archive.manifest is None:
        return archive.problem or "none: no checksums"
    return f"{len(archive.manifest.skipped)} left out" if archive.manifest.skipped else "ok"


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
    shown = [change for change in plan.changes if change.action != "same"]
    for change in shown[:_MOST_SHOWN]:
        why = f" ({change.why})" if change.why else ""
        folder = "/" if change.entry.kind == "folder" else ""
        render.line(f"{change.action:8} {render.printable(change.entry.path)}{folder}{why}")
    if len(shown) > _MOST_SHOWN:
        render.line(f"... and {len(shown) - _MOST_SHOWN} more (--json shows all)")
    if plan.idle:
        render.line(f"{render.printable(str(plan.target))} holds all of it already; nothing was changed")
    else:
        ending = "; nothing was changed (--dry-run)" if dry_run else ""
        counts = ", ".join(f"{len(plan.of(action))} {action}" for action in ("new", "changed", "same"))
        render.line(f"{counts} in {render.printable(str(plan.target))}{ending}")


def _print_restored(plan: "RestorePlan", result: "RestoreResult") -> None:
    render.line(f"restored {plan.archive.name} to {render.printable(str(plan.target))}")
    if result.replaced is not None:
        render.line(f"what it replaced is kept: {result.replaced}")
    _removed(result.removed)
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
            {"path": _text(change.entry.path), "kind": change.entry.kind, "action": change.action}
            | {"why": change.why}
            for change in plan.changes
        ],
    )


def _text(path: str) -> str:
    from opskit.backup.manifest import printable_path

    return printable_path(path)
