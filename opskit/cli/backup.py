"""`opskit backup`: keep the files that a stack cannot be rebuilt without, and put them back."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from opskit.cli import backup_view, confirm, render
from opskit.cli.options import SharedOptions, YesOption, shares
from opskit.errors import OpskitError, UsageError
from opskit.result import plain_document
from opskit.text import size_bytes

if TYPE_CHECKING:
    from opskit.backup.catalog import BackupCatalog

app = typer.Typer(
    no_args_is_help=True,
    help="Keep and put back .env files, Compose files, results and logs, with checksums.",
)


@app.command()
@shares()
def create(
    shared: SharedOptions,
    max_size: Annotated[
        str | None,
        typer.Option(
            "--max-size",
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
    shared.end(report.exit, report.as_json(), lambda: backup_view.created(created, report))


@app.command(name="list")
@shares()
def list_(shared: SharedOptions) -> None:
    """List the archives, the newest first, and whether their manifests can be read."""
    catalog = _catalog(shared)
    _recover_if_free(catalog)
    archives, folder = catalog.archives(), catalog.folder
    shared.show(backup_view.listing(archives, folder), lambda: backup_view.listed(archives, folder))


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
        Path | None, typer.Option("--to", metavar="FOLDER", help="Restore here instead of `backup.root`.")
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(
            "--only", metavar="PATTERN", help="Only what matches, as in `backup.files`; repeatable."
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would change, and stop.")] = False,
    yes: YesOption = False,
    resume: Annotated[bool, typer.Option("--resume", help="Finish a restoration that was killed.")] = False,
    rollback: Annotated[bool, typer.Option("--rollback", help="Take back one that was killed.")] = False,
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
            document = backup_view.planning(plan, dry_run=dry_run, replaced=None)
            shared.show(document, lambda: backup_view.planned(plan, dry_run=dry_run))
            return
        if not shared.json:
            backup_view.planned(plan, dry_run=False)
        target = render.printable(str(plan.target))
        confirm.confirm([f"this changes files in {target}"], question=f"Restore to {target}?", yes=yes)
        result = restore_backup(archive, plan, catalog, now=datetime.now(UTC))
    document = backup_view.planning(plan, dry_run=False, replaced=result.replaced)
    shared.show(document, lambda: backup_view.restored(plan, result))


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
