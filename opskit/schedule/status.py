"""What the scheduler knows of the job, and what the job sees otherwise than this process."""

import getpass
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from opskit.config.schema import Config
from opskit.errors import OpskitError
from opskit.schedule import inside as inside_program
from opskit.schedule.client import SchedulerClient
from opskit.schedule.comparison import Difference, compare
from opskit.schedule.installation import SchedulePlace, job_of
from opskit.schedule.interval import DEFAULT
from opskit.schedule.job import GOOD_EXITS, Job
from opskit.schedule.look import ProcessView, look
from opskit.schedule.reach import needed
from opskit.schedule.scheduler import JobState, Name, Scheduler
from opskit.system.program import NotStarted, run

_INSIDE_S = 40.0
#: What `opskit recover` means by its status; launchd says 78 too when it cannot start the program.
_MEANINGS = {
    1: "something is still broken",
    3: "something could not be judged",
    5: "it gave something up",
    70: "a bug of opskit",
    78: "its configuration, its interpreter or the folder of its log is not right",
}


@dataclass(frozen=True, slots=True)
class Inside:
    """The look from where the job runs. `emulated` where there is no scheduler: its environment, without it.

    `problem` says why there is none to compare.
    """

    shell: ProcessView | None = None
    job: ProcessView | None = None
    emulated: bool = False
    found: tuple[Difference, ...] = ()
    problem: str = ""
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class ScheduleStatus:
    """`loaded` is None where no scheduler answers. `last_exit` is negative for a signal.

    `differences` are sentences: what the job sees otherwise than this shell, and what to do. `problem` is
    empty when the job is loaded, up to date, and ended well or has not run yet. Times are UTC.
    """

    scheduler: Name | None
    installed: bool
    loaded: bool | None = None
    last_exit: int | None = None
    last_run: datetime | None = None
    next_run: datetime | None = None
    differences: tuple[str, ...] = ()
    problem: str = ""
    remedy: str = ""
    running: bool = False
    disabled: bool = False
    current: bool = True
    every: int | None = None
    log: str = ""
    files: tuple[str, ...] = ()
    inside: Inside | None = field(default=None)

    @property
    def known(self) -> bool:
        """Whether a scheduler answered."""
        return self.loaded is not None


async def status(
    config: Config, environ: Mapping[str, str], *, inside: bool, place: SchedulePlace | None = None
) -> ScheduleStatus:
    """Ask the scheduler; with `inside`, run a look from where the job runs and compare it with this process.

    The look starts a second, temporary job that loads nothing and changes nothing. Never raises for what
    the scheduler says: that is `problem`.
    """
    place = place or SchedulePlace.here(environ)
    scheduler, client = place.scheduler()
    state: JobState | None = None
    silent = ""
    try:
        state = await scheduler.state(datetime.now(UTC))
    except OpskitError as error:
        silent, remedy = error.message, error.remedy
    try:
        wished: Job | None = job_of(config, place, every=_every(state))
        refused = ""
    except OpskitError as error:
        wished, refused = None, error.message
    seen = None
    if inside:
        seen = await _inside(
            config, place, scheduler, client, (state.job if state else None) or wished, silent
        )
    told = () if seen is None else tuple(f"{one.text}: {one.remedy}" for one in seen.found)
    if state is None:
        files = () if wished is None else tuple(map(str, scheduler.files(wished)))
        there = bool(files) and all(Path(path).exists() for path in files)
        return ScheduleStatus(
            None, there, None, differences=told, problem=silent, remedy=remedy, inside=seen, files=files
        )
    current = wished is not None and not _changed(scheduler, wished, state)
    problem, remedy = _judged(scheduler, state, wished, refused)
    return ScheduleStatus(
        scheduler.name,
        state.installed,
        state.loaded,
        state.last_exit,
        state.last_run,
        state.next_run,
        told,
        problem,
        remedy,
        running=state.running,
        disabled=state.disabled,
        current=current,
        every=None if state.job is None else state.job.every,
        log=scheduler.log,
        files=tuple(str(path) for path in state.files),
        inside=seen,
    )


def _every(state: JobState | None) -> int:
    return DEFAULT if state is None or state.job is None else state.job.every


def _changed(scheduler: Scheduler, wished: Job, state: JobState) -> tuple[str, ...]:
    """What an installation now would write otherwise: names of variables, not their values.

    The interval is what a person chose; all else follows from the configuration and this shell.
    """
    if dict(scheduler.files(wished)) == dict(state.files):
        return ()
    if state.job is None:
        return ("everything",)
    here, there = dict(wished.environment), dict(state.job.environment)
    parts = [name for name in sorted({*here, *there}) if here.get(name) != there.get(name)]
    if wished.arguments != state.job.arguments:
        parts.insert(0, "the command")
    return tuple(parts) or ("other settings",)


def _judged(scheduler: Scheduler, state: JobState, wished: Job | None, refused: str) -> tuple[str, str]:
    """The first thing that is wrong, and what to do about it."""
    install = "`opskit schedule install`"
    if not state.traces:
        return "it is not installed", install
    if not state.installed:
        return "some of its files are missing", install
    if state.job is None:
        return "its files were changed, and cannot be understood", install
    if state.disabled:
        return "it is switched off", f"{install} switches it on again"
    if not state.loaded:
        return "its files are there, and it is not loaded: nothing starts it", install
    if state.stale:
        return "its files were changed, and the scheduler has not read them", install
    interpreter = state.job.arguments[0]
    if not Path(interpreter).exists():
        return f"its interpreter {interpreter} is gone", f"{install} names the one of today"
    if state.trouble:
        return state.trouble, "its log tells more"
    if state.last_exit is not None and state.last_exit not in GOOD_EXITS:
        how = f"signal {-state.last_exit}" if state.last_exit < 0 else f"exit status {state.last_exit}"
        meaning = f": {_MEANINGS[state.last_exit]}" if state.last_exit in _MEANINGS else ""
        return f"its last run ended with {how}{meaning}", "its log tells why"
    if refused:
        return f"an installation now would be refused: {refused}", "correct it, then install again"
    if wished is not None and (parts := _changed(scheduler, wished, state)):
        what = ", ".join(parts)
        return (
            f"an installation now would write something else: {what}",
            f"`opskit schedule install --dry-run` shows it, {install} writes it",
        )
    return "", ""


async def _inside(
    config: Config,
    place: SchedulePlace,
    scheduler: Scheduler,
    client: SchedulerClient,
    job: Job | None,
    silent: str,
) -> Inside:
    if job is None:
        return Inside(problem="there is no job whose environment could be used")
    files = list(dict.fromkeys(str(path) for what, path in needed(config, job.arguments[0]) if what))
    arguments = inside_program.arguments(files)
    began = time.monotonic()
    shell = await look(config, files, place.environ, platform=place.platform)
    try:
        if silent:
            written = await _emulated(place, job, arguments)
        else:
            # A second agent of its own, which is taken out again: several may look at once.
            with client.changing(place.state_folder, "schedule status", exclusive=False):
                written = await scheduler.inside(job, arguments)
        seen = inside_program.answer(written)
    except (OpskitError, ValueError) as error:
        return Inside(shell, emulated=bool(silent), problem=f"a look from inside failed: {error}")
    found = compare(shell, seen, platform=place.platform)
    return Inside(shell, seen, bool(silent), found, seconds=time.monotonic() - began)


async def _emulated(place: SchedulePlace, job: Job, arguments: tuple[str, ...]) -> str:
    """The job's environment and nothing else, in `/`, without a terminal: as a scheduler would start it."""
    import asyncio

    user = getpass.getuser()
    environ = {"HOME": str(place.home), "USER": user, "LOGNAME": user, **job.environment}
    try:
        async with asyncio.timeout(_INSIDE_S):
            done = await run((job.arguments[0], *arguments), cwd=Path("/"), env=environ)
    except NotStarted as error:
        raise OpskitError("HOST_001", error.message) from error
    except TimeoutError as error:
        raise OpskitError("HOST_001", f"it did not end within {_INSIDE_S:g} s") from error
    if done.exit:
        raise OpskitError("HOST_001", f"it ended with {done.exit}: {done.complaint}")
    return done.out
