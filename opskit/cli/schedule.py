"""`opskit schedule`: `recover` every few minutes, or a server, from launchd or systemd."""

import os
from enum import StrEnum
from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated

import typer

from opskit.cli import context, render
from opskit.cli.options import DryOption, SharedOptions, shares
from opskit.errors import OpskitError, UsageError

if TYPE_CHECKING:
    from opskit.schedule.installation import ScheduleChange
    from opskit.schedule.job import JobKind

app = typer.Typer(no_args_is_help=True)


class JobName(StrEnum):
    """The jobs that there are."""

    RECOVER = "recover"
    VICTORIA = "victoria"


JobArgument = Annotated[
    JobName, typer.Argument(metavar="[JOB]", help="recover (every few minutes) or victoria (a server).")
]


@app.command()
@shares()
def install(
    shared: SharedOptions,
    job: JobArgument = JobName.RECOVER,
    every: Annotated[
        str | None, typer.Option(metavar="TIME", help="1m to 1h, whatever divides an hour; 5m by default.")
    ] = None,
    dry_run: DryOption = False,
) -> None:
    """Install a job and start it, or bring it up to date; a second time changes nothing."""
    from opskit.schedule.installation import install as install_job
    from opskit.schedule.job import SchedulePlace, minutes_of

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
    change = context.run(install_job(loaded, place, every=minutes, dry=dry_run, kind=kind))
    runs = f"keeps `{kind.command}` running" if kind.stays else f"runs `{kind.command}` every {every} now"
    see = "opskit schedule status" + (f" {job}" if kind.stays else "")
    done = f"{change.scheduler.name} {runs}; see `{see}`"
    nothing = "it is installed as it should be; nothing was changed"
    _show(shared, "install", change, done, nothing, dry=dry_run)


@app.command()
@shares()
def remove(
    shared: SharedOptions,
    job: JobArgument = JobName.RECOVER,
    dry_run: DryOption = False,
) -> None:
    """Take the job out of the scheduler and remove its files; its log stays."""
    from opskit.schedule.installation import remove as remove_job
    from opskit.schedule.job import SchedulePlace

    change = context.run(remove_job(SchedulePlace.here(os.environ), dry=dry_run, kind=_kind(job)))
    _show(
        shared,
        "remove",
        change,
        "the job and its files are removed",
        "there is no job to remove",
        dry=dry_run,
    )


@app.command()
@shares()
def status(
    shared: SharedOptions,
    job: JobArgument = JobName.RECOVER,
    no_inside: Annotated[bool, typer.Option(help="Do not look from where the job runs.")] = False,
) -> None:
    """Is it installed, loaded, up to date; how did it end; and what does it see otherwise than this shell.

    Exit status 1 when it is not well, 3 when no scheduler answers.
    """
    from datetime import UTC, datetime

    from opskit.schedule.status import report
    from opskit.schedule.status import status as ask

    loaded = shared.load()
    content = report(
        context.run(ask(loaded, os.environ, inside=not no_inside, kind=_kind(job))), datetime.now(UTC)
    )
    shared.end(content.exit, content.as_json(), lambda: render.findings(content.findings))


@app.command("run-now")
@shares()
def run_now(
    shared: SharedOptions,
    job: JobArgument = JobName.RECOVER,
) -> None:
    """Start the job now, through its scheduler, and say where its log is."""
    from opskit.schedule.installation import start
    from opskit.schedule.job import SchedulePlace

    change = context.run(start(SchedulePlace.here(os.environ), _kind(job)))
    log = f"its log: {change.scheduler.log}"
    _show(shared, "run-now", change, f"started; {log}", f"it is running already; {log}", dry=False)


def _kind(job: JobName) -> "JobKind":
    from opskit.schedule.job import RECOVER, VICTORIA

    return VICTORIA if job is JobName.VICTORIA else RECOVER


def _show(
    shared: SharedOptions, command: str, change: "ScheduleChange", done: str, nothing: str, *, dry: bool
) -> None:
    from opskit.result import Finding, Report, Status

    for text in change.notes:
        render.note(f"note: {text}")
    said = nothing if not change.steps else done
    steps = [step.shell for step in change.steps]
    state = "unchanged" if not steps else "planned" if dry else "done"
    report = Report(
        f"schedule {command}",
        [Finding("job", change.scheduler.name, Status.PASS, state, "" if dry else said)],
    )
    lines = "\n".join(steps) if dry and steps else said
    extra = {"steps": steps, "notes": list(change.notes)}
    shared.show({**report.as_json(), **extra}, lambda: render.line(lines))
