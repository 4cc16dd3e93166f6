"""What the scheduler knows of the job, and what the job sees otherwise than this process."""

import asyncio
import getpass
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from msgspec import to_builtins

from opskit.config.schema import Config
from opskit.errors import OpskitError
from opskit.records import replace
from opskit.recovery.executor import scheduling
from opskit.recovery.status import DEFAULT_INTERVAL_S, Schedule
from opskit.result import Finding, Report, Status
from opskit.schedule import inside as inside_program
from opskit.schedule.environment import needed_paths
from opskit.schedule.inside import InsideComparison
from opskit.schedule.installation import scheduler_of
from opskit.schedule.job import DEFAULT_MINUTES, RECOVER, Job, JobKind, SchedulePlace, planned
from opskit.schedule.scheduler import INSIDE_S, Scheduler, ScheduleStatus
from opskit.system.program import run
from opskit.text import counted, span

__all__ = ["ScheduleStatus", "recovery_schedule", "report", "status"]

#: A scheduler answers at once or not at all.
_ANSWER_S = 3.0
#: What `opskit recover` means by its status; launchd says 78 too when it cannot start the program.
_MEANINGS = {
    1: ": something is still broken",
    3: ": something could not be judged",
    5: ": it gave something up",
    70: ": a bug of opskit",
    78: ": its configuration, its interpreter or the folder of its log is not right",
}


async def status(
    config: Config,
    environ: Mapping[str, str],
    *,
    inside: bool,
    place: SchedulePlace | None = None,
    kind: JobKind = RECOVER,
) -> ScheduleStatus:
    """Ask the scheduler; with `inside`, run a look from where the job runs and compare it with this process.

    The look starts a second, temporary job that loads nothing and changes nothing. Never raises for what
    the scheduler says: that is `problem`.
    """
    place = place or SchedulePlace.here(environ)
    scheduler = scheduler_of(place, kind)
    try:
        current = await scheduler.state(datetime.now(UTC))
    except OpskitError as error:
        files = scheduler.installed_files()
        current = ScheduleStatus(None, files, kind=kind, problem=error.message, remedy=error.remedy)
    minutes = DEFAULT_MINUTES if current.job is None else current.job.every
    wanted: Job | OpskitError
    try:
        wanted = planned(config, place, every=minutes, kind=kind)
    except OpskitError as error:
        wanted = error
    if current.loaded is not None:
        word, problem, remedy = _judged(scheduler, current, wanted)
        current = replace(current, state=word, problem=problem, remedy=remedy)
    if not inside:
        return current
    job = current.job or (wanted if isinstance(wanted, Job) else None)
    comparison = await _inside(config, place, scheduler, job, emulated=current.loaded is None)
    return replace(current, inside=comparison)


async def recovery_schedule(config: Config, environ: Mapping[str, str]) -> Schedule | None:
    """Return what the status of recovery needs; None when the scheduler does not answer in time."""
    try:
        async with asyncio.timeout(_ANSWER_S):
            current = await status(config, environ, inside=False)
    except TimeoutError:
        return None
    return Schedule(
        scheduler=current.scheduler or "scheduler",
        installed=current.installed,
        interval_s=DEFAULT_INTERVAL_S if current.job is None else current.job.every * 60.0,
        next_run=None if current.next_run is None else current.next_run.timestamp(),
        problem=current.problem if current.installed else "",
        remedy=current.remedy,
    )


def _judged(scheduler: Scheduler, state: ScheduleStatus, wanted: Job | OpskitError) -> tuple[str, str, str]:
    """Return the state of the job in a word, the first thing that is wrong, and what to do about it."""
    install = f"`{scheduler.kind.install}`"
    if not state.traces:
        return "not installed", "it is not installed", install
    if not state.installed:
        return "not installed", "some of its files are missing", install
    if state.job is None:
        return "differs", "its files were changed, and cannot be understood", install
    if state.disabled:
        return "disabled", "it is switched off", f"{install} switches it on again"
    if not state.loaded:
        return "not loaded", "its files are there, and it is not loaded: nothing starts it", install
    if state.stale:
        return "differs", "its files were changed, and the scheduler has not read them", install
    interpreter = state.job.arguments[0]
    if not Path(interpreter).exists():
        return "differs", f"its interpreter {interpreter} is gone", f"{install} names the one of today"
    if state.trouble:
        return "failing", state.trouble, f"its log tells more; `{scheduler.log}`"
    is_over = not (scheduler.kind.stays and state.running)
    if is_over and state.last_exit is not None and state.last_exit not in scheduler.kind.good_exits:
        end = f"signal {-state.last_exit}" if state.last_exit < 0 else f"exit status {state.last_exit}"
        meaning = "" if scheduler.kind.stays else _MEANINGS.get(state.last_exit, "")
        return "failing", f"its last run ended with {end}{meaning}", f"its log tells why; `{scheduler.log}`"
    if scheduler.kind.stays and not state.running:
        return "stopped", "it does not run", f"`opskit schedule run-now {scheduler.kind.name}`"
    if isinstance(wanted, OpskitError):
        problem = f"an installation now would be refused: {wanted.message}"
        return "differs", problem, "correct it, then install again"
    # The interval is what a person chose; all else follows from the configuration and this shell.
    if dict(scheduler.files(wanted)) == dict(state.files):
        return "loaded", "", ""
    here, there = wanted.environment, state.job.environment
    changes = ["the command"] if wanted.arguments != state.job.arguments else []
    # Names of variables, not their values.
    changes += [name for name in sorted({*here, *there}) if here.get(name) != there.get(name)]
    problem = f"an installation now would write something else: {', '.join(changes) or 'other settings'}"
    return "differs", problem, f"`{scheduler.kind.install} --dry-run` shows it, {install} writes it"


async def _inside(
    config: Config, place: SchedulePlace, scheduler: Scheduler, job: Job | None, *, emulated: bool
) -> InsideComparison:
    if job is None:
        return InsideComparison(problem="there is no job whose environment could be used")
    files = list(dict.fromkeys(str(path) for _, path in needed_paths(config, job.arguments[0])))
    command = (job.arguments[0], *inside_program.arguments(files))
    began = time.monotonic()
    shell = await inside_program.look(config, files, place.environ, platform=place.platform)
    try:
        if emulated:
            written = await _emulated(place, command, job.environment)
        else:
            # A second job of its own, which is taken out again: several may look at once.
            with scheduling(
                scheduler.environ, place.state_folder, source="schedule status", exclusive=False
            ) as executor:
                written = await scheduler.inside(executor, command, job.environment)
        view = inside_program.view_from(written)
    except (OpskitError, ValueError) as error:
        return InsideComparison(shell, emulated=emulated, problem=f"a look from inside failed: {error}")
    differences = inside_program.compare(shell, view, platform=place.platform)
    return InsideComparison(shell, view, emulated, differences, seconds=time.monotonic() - began)


async def _emulated(place: SchedulePlace, command: Sequence[str], variables: Mapping[str, str]) -> str:
    """The job's environment and nothing else, in `/`, without a terminal: as a scheduler would start it."""
    user = getpass.getuser()
    environ = {"HOME": str(place.home), "USER": user, "LOGNAME": user, **variables}
    try:
        async with asyncio.timeout(INSIDE_S):
            done = await run(command, cwd=Path("/"), env=environ)
    except TimeoutError as error:
        raise OpskitError("HOST_001", f"it did not end within {INSIDE_S:g} s") from error
    if done.exit:
        raise OpskitError("HOST_001", f"it ended with {done.exit}: {done.complaint}")
    return done.out


def report(current: ScheduleStatus, now: datetime) -> Report:
    """Return findings: exit 0 for a job that is loaded and well, 1 for another, 3 for unknown."""
    findings = [_job_finding(current)]
    if current.loaded is not None and current.installed:
        findings.append(_runs_finding(current, now))
    if current.inside is not None:
        findings += _inside_findings(current.inside, current.kind.unit)
    return Report("schedule status", findings)


def _job_finding(current: ScheduleStatus) -> Finding:
    unit = current.kind.unit
    evidence = {"files": list(map(str, current.files)), "scheduler": current.scheduler}
    if current.loaded is None:
        detail = current.problem + ("; its files are there" if current.installed else "")
        state, remedy = "no scheduler", current.remedy
        return Finding("job", unit, Status.INCONCLUSIVE, state, detail, "SCHEDULE_001", remedy)
    if current.problem:
        words = current.state, current.problem, "SCHEDULE_002", current.remedy
        return Finding("job", unit, Status.FAIL, *words, evidence=evidence)
    minutes = DEFAULT_MINUTES if current.job is None else current.job.every
    detail = f"{current.scheduler} starts it every {'hour' if minutes == 60 else f'{minutes} min'}"
    detail = f"{current.scheduler} keeps it running" if current.kind.stays else detail
    return Finding("job", unit, Status.PASS, "loaded", detail, evidence=evidence)


def _runs_finding(current: ScheduleStatus, now: datetime) -> Finding:
    parts = ["it runs now"] if current.running else []
    if current.last_exit is None:
        parts.append("no run has ended yet")
    else:
        end = f"signal {-current.last_exit}" if current.last_exit < 0 else f"exit {current.last_exit}"
        when = "" if current.last_run is None else f" {span((now - current.last_run).total_seconds())} ago"
        parts.append(f"last run ended{when} with {end}")
    if current.next_run is not None:
        ahead_s = (current.next_run - now).total_seconds()
        parts.append(f"next in {span(ahead_s)}" if ahead_s > 0 else "the next is due")
    times = {"last_run": current.last_run, "next_run": current.next_run}
    evidence = {
        **{name: None if at is None else at.isoformat() for name, at in times.items()},
        "last_exit": current.last_exit,
        "running": current.running,
        "log": current.log,
    }
    state = "running" if current.running else "waiting" if current.loaded else "idle"
    return Finding("runs", current.kind.unit, Status.PASS, state, "; ".join(parts), evidence=evidence)


def _inside_findings(inside: InsideComparison, unit: str) -> Iterator[Finding]:
    evidence = {
        "emulated": inside.emulated,
        "shell": to_builtins(inside.shell),
        "job": to_builtins(inside.job),
    }
    if inside.job is None:
        status, remedy = Status.INCONCLUSIVE, "`--no-inside` leaves it out"
        yield Finding("inside", unit, status, "not seen", inside.problem, None, remedy, evidence=evidence)
        return
    where = "its environment, emulated" if inside.emulated else "the scheduler"
    count = f"{counted(len(inside.job.files), 'path')}, {counted(len(inside.job.servers), 'server')}"
    detail = f", all is as in this shell: {count}, Docker, programs, configuration"
    if inside.found:
        detail = (
            f": {count}, Docker, programs, configuration; {len(inside.found)} otherwise than in this shell"
        )
    detail, seconds = f"seen from {where}{detail}", inside.seconds
    yield Finding("inside", unit, Status.PASS, "compared", detail, seconds=seconds, evidence=evidence)
    for difference in inside.found:
        level = Status.FAIL if difference.harmful else Status.WARN
        yield Finding("inside", difference.topic, level, "differs", difference.text, remedy=difference.remedy)
