"""`opskit schedule`: `recover` every few minutes, or a server, from launchd or systemd."""

import os
from datetime import UTC, datetime
from importlib.util import find_spec
from typing import Annotated

import typer

from opskit.cli import context, render
from opskit.cli.inputs import choice
from opskit.cli.options import DryOption, SharedOptions, shares
from opskit.errors import OpskitError, UsageError
from opskit.result import Finding, Report, Status
from opskit.schedule import installation
from opskit.schedule.job import RECOVER, VICTORIA, JobKind, SchedulePlace, minutes_of

app = typer.Typer(no_args_is_help=True)


JobArgument = Annotated[
    str, typer.Argument(metavar="[JOB]", help="recover (every few minutes) or victoria (a server).")
]


@shares(of=app)
def install(
    shared: SharedOptions,
    job: JobArgument = "recover",
    every: Annotated[str | None, "TIME", "1m to 1h, whatever divides an hour; 5m by default."] = None,
    dry_run: DryOption = False,
) -> None:
    """Install a job and start it, or bring it up to date. A second time changes nothing."""
    kind = _kind(job)
    if every is not None and kind.stays:
        raise UsageError(f"{job} is a server and runs always: it has no --every", remedy="drop --every")
    if kind.stays and not all(map(find_spec, ("fastapi", "uvicorn"))):
        # The scheduler would start it again and again, and it would end each time.
        raise OpskitError(
            "CONFIG_001", "the parts of a server are not installed", remedy="`pip install 'opskit[serve]'`"
        )
    every = "5m" if every is None else every
    minutes = minutes_of(every)
    loaded, place = shared.load(), SchedulePlace.here(os.environ)
    change = context.run(installation.install(loaded, place, every=minutes, dry=dry_run, kind=kind))
    runs = f"keeps `{kind.command}` running" if kind.stays else f"runs `{kind.command}` every {every} now"
    see = "opskit schedule status" + (f" {job}" if kind.stays else "")
    done = f"{change.scheduler.name} {runs}; see `{see}`"
    nothing = "it is installed as it should be; nothing was changed"
    _show(shared, "install", change, done, nothing, dry=dry_run)


@shares(of=app)
def remove(shared: SharedOptions, job: JobArgument = "recover", dry_run: DryOption = False) -> None:
    """Take the job out of the scheduler and remove its files. Its log stays."""
    change = context.run(installation.remove(SchedulePlace.here(os.environ), dry=dry_run, kind=_kind(job)))
    done, nothing = "the job and its files are removed", "there is no job to remove"
    _show(shared, "remove", change, done, nothing, dry=dry_run)


@shares(of=app)
def status(
    shared: SharedOptions,
    job: JobArgument = "recover",
    no_inside: Annotated[bool, "Do not look from where the job runs."] = False,
) -> None:
    """Tell whether the job is up to date and how it ended. And what it sees otherwise than this shell.

    Exit status 1 when it is not well, 3 when no scheduler answers.
    """
    from opskit.schedule.status import report
    from opskit.schedule.status import status as ask

    loaded = shared.load()
    content = report(
        context.run(ask(loaded, os.environ, inside=not no_inside, kind=_kind(job))), datetime.now(UTC)
    )
    shared.end(content.exit, content.as_json(), lambda: render.findings(content.findings))


@shares(of=app)
def run_now(shared: SharedOptions, job: JobArgument = "recover") -> None:
    """Start the job now, through its scheduler. Says where its log is."""
    change = context.run(installation.start(SchedulePlace.here(os.environ), _kind(job)))
    log = f"its log: {change.scheduler.log}"
    _show(shared, "run-now", change, f"started; {log}", f"it is running already; {log}", dry=False)


def _kind(job: str) -> JobKind:
    kinds = {kind.name: kind for kind in (RECOVER, VICTORIA)}
    return kinds[choice(job, kinds, "job")]


def _show(
    shared: SharedOptions,
    command: str,
    change: installation.ScheduleChange,
    done: str,
    nothing: str,
    *,
    dry: bool,
) -> None:
    for text in change.notes:
        render.note(f"note: {text}")
    said = nothing if not change.steps else done
    steps = [step.shell for step in change.steps]
    state = "unchanged" if not steps else "planned" if dry else "done"
    finding = Finding("job", change.scheduler.name, Status.PASS, state, "" if dry else said)
    report = Report(f"schedule {command}", [finding])
    lines = "\n".join(steps) if dry and steps else said
    extra = {"steps": steps, "notes": list(change.notes)}
    shared.show({**report.as_json(), **extra}, lambda: render.line(lines))
