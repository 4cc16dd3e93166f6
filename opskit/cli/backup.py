"""`opskit backup`: keep the files that a stack cannot be rebuilt without, and put them back."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from opskit.cli import backup_view, context, render
from opskit.cli.options import ConfigOption, DebugOption, JsonOption

if TYPE_CHECKING:
    from opskit.backup.place import Place
    from opskit.backup.restoration import Plan

app = typer.Typer(
    no_args_is_help=True,
    help="Keep and put back .env files, Compose files, results and logs, with checksums.",
)


@app.command()
def create(
    max_size: Annotated[
        str | None,
        typer.Option(
            "--max-size",
            metavar="SIZE",
            help="Leave out larger files, such as 500MB or 2GiB [default: backup.max_file_bytes, 1 GiB].",
            show_default=False,
        ),
    ] = None,
    config: ConfigOption = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Archive what `backup.files` selects, private and with checksums; the oldest beyond `keep` go.

    Exits 1 when something that is selected is not in the archive; it says what and why.
    """
    del debug  # read by main
    from dataclasses import replace
    from datetime import UTC, datetime

    from opskit.backup import creation
    from opskit.backup.interruption import interruptible

    place = _place(config)
    if max_size is not None:
        place = replace(place, max_file_bytes=_size(max_size))
    with place.alone(), interruptible():
        _recover(place)
        created = creation.create(place, now=datetime.now(UTC))
    backup_view.created(created, as_json=json)
    raise typer.Exit(int(created.report.exit))


@app.command(name="list")
def list_(config: ConfigOption = None, json: JsonOption = False, debug: DebugOption = False) -> None:
    """List the archives, the newest first, and whether their manifests can be read."""
    del debug  # read by main
    from opskit.backup import shelf

    place = _place(config)
    _recover_if_free(place)
    backup_view.listed(shelf.stored(place.folder), place.folder, as_json=json)


@app.command()
def verify(
    date: Annotated[
        str,
        typer.Argument(metavar="DATE|latest|all|PATH", help="Which one; the beginning of a date will do."),
    ] = "latest",
    config: ConfigOption = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Read archives to the last byte: checksums, missing and extra members, what must not be restored."""
    del debug  # read by main
    from opskit.backup import shelf
    from opskit.backup.verification import verify as judged
    from opskit.errors import OpskitError

    place = _place(config)
    _recover_if_free(place)
    if date == "all":
        paths = [one.path for one in shelf.stored(place.folder)]
        if not paths:
            raise OpskitError(
                "BACKUP_001", "there is no backup yet", remedy="`opskit backup create` makes one"
            )
    else:
        paths = [shelf.find(place, date)]
    report = judged(paths)
    render.report(report, as_json=json)
    raise typer.Exit(int(report.exit))


@app.command()
def restore(
    date: Annotated[
        str | None,
        typer.Argument(
            metavar="DATE|latest|PATH",
            help="Which one; the beginning of a date will do.",
            show_default=False,
        ),
    ] = None,
    to: Annotated[
        Path | None,
        typer.Option(
            "--to", metavar="FOLDER", help="Restore here instead of `backup.root`.", show_default=False
        ),
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(
            "--only",
            metavar="PATTERN",
            help="Only what matches, as in `backup.files`; repeatable.",
            show_default=False,
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would change, and stop.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Finish a restoration that was killed.")] = False,
    rollback: Annotated[bool, typer.Option("--rollback", help="Take back one that was killed.")] = False,
    config: ConfigOption = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Put a backup back: all of it or, on any failure, nothing. What it replaces is kept in an archive.

    The whole archive is judged before anything is touched. Nothing that the backup does not hold is removed.
    """
    del debug  # read by main
    from opskit.backup import interrupted

    _check_usage(date, resume=resume, rollback=rollback, dry_run=dry_run)
    place = _place(config)
    if dry_run and date is not None:
        if interrupted.waiting(place):
            render.note(
                "note: an interrupted restoration is taken back first: `opskit backup restore --rollback`"
            )
        _restore(place, date, to, only or [], dry_run=True, yes=yes, as_json=json)
        return
    with place.alone():
        if rollback:
            backup_view.told("backup restore", interrupted.roll_back(place), as_json=json)
        elif resume and (again := interrupted.resume(place)) is None:
            backup_view.told("backup restore", "the interrupted restoration is finished", as_json=json)
        elif resume and again is not None:
            render.note("note: it had changed nothing yet, and begins anew")
            _restore(
                place,
                again.archive,
                Path(again.target),
                list(again.only),
                dry_run=False,
                yes=yes,
                as_json=json,
            )
        elif date is not None:
            _recover(place)
            _restore(place, date, to, only or [], dry_run=False, yes=yes, as_json=json)


def _restore(
    place: "Place", date: str, to: Path | None, only: list[str], *, dry_run: bool, yes: bool, as_json: bool
) -> None:
    import secrets
    from datetime import UTC, datetime

    from opskit.backup import restoration, shelf

    with restoration.opened(shelf.find(place, date)) as archive:
        plan = restoration.plan(archive, place, to=to, only=only)
        if dry_run or plan.idle:
            backup_view.planned(plan, as_json=as_json, dry_run=dry_run)
            return
        if not as_json:
            backup_view.planned(plan, as_json=False, dry_run=False)
        _ask(plan, yes=yes)
        done = restoration.restore(archive, plan, place, now=datetime.now(UTC), token=secrets.token_hex(4))
    backup_view.restored(plan, done, as_json=as_json)


def _ask(plan: "Plan", *, yes: bool) -> None:
    import sys

    from opskit.errors import UsageError

    if yes:
        return
    if not sys.stdin.isatty():
        raise UsageError(
            f"this changes files in {plan.target}, and there is nobody to ask", remedy="give --yes as well"
        )
    if not typer.confirm(f"Restore to {render.printable(str(plan.target))}?", err=True):
        render.note("nothing was changed")
        raise typer.Abort


def _check_usage(date: str | None, *, resume: bool, rollback: bool, dry_run: bool) -> None:
    from opskit.errors import UsageError

    if (date is not None) + resume + rollback != 1:
        raise UsageError(
            "say which backup, or --resume, or --rollback, one of them",
            remedy="`opskit backup list` shows the dates; `latest` is the newest",
        )
    if dry_run and date is None:
        raise UsageError("--dry-run goes with a date", remedy="`opskit backup restore latest --dry-run`")


def _place(config: str | None) -> "Place":
    from opskit.backup.place import place_of

    return place_of(context.load_config(config))


def _size(text: str) -> int:
    from opskit.checks.quantity import size_bytes
    from opskit.errors import UsageError

    size = size_bytes(text)
    if not size:
        raise UsageError(f"--max-size: {text!r} is no size", remedy="write 500MB or 2GiB")
    return size


def _recover(place: "Place") -> None:
    """Under the lock."""
    from opskit.backup import interrupted

    done = interrupted.recover(place)
    if done is not None:
        render.note(f"note: {done}")


def _recover_if_free(place: "Place") -> None:
    """Looking at backups mends as well, unless somebody is at work; and it never fails for it."""
    from opskit.backup import interrupted
    from opskit.errors import OpskitError

    if not interrupted.waiting(place):
        return
    with _noted(OpskitError), place.alone():
        _recover(place)


@contextlib.contextmanager
def _noted(kind: type[Exception]) -> Iterator[None]:
    try:
        yield
    except kind as exc:
        render.note(f"note: {exc}")
