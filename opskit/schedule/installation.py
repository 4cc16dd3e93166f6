"""Installing and removing the job: looked at first, done step by step, undone when a step fails."""

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from opskit.config.load import ensure_state_dir
from opskit.config.origins import default_state_dir
from opskit.config.schema import Config
from opskit.errors import OpskitError
from opskit.schedule import carried, reach
from opskit.schedule.client import Refused, SchedulerClient
from opskit.schedule.interval import DEFAULT
from opskit.schedule.job import Job, planned
from opskit.schedule.launchd import Launchd
from opskit.schedule.scheduler import JobState, Scheduler
from opskit.schedule.steps import Step
from opskit.schedule.systemd import Systemd


@dataclass(frozen=True, slots=True)
class SchedulePlace:
    """Where a schedule is made: all that is not configuration. Tests have places of their own."""

    environ: Mapping[str, str]
    home: Path
    platform: str = sys.platform
    uid: int = 0
    interpreter: str = sys.executable

    @classmethod
    def here(cls, environ: Mapping[str, str]) -> "SchedulePlace":
        home = Path(environ["HOME"]) if environ.get("HOME") else Path.home()
        # Not resolved: the link to the interpreter is what makes a virtual environment.
        interpreter = str(Path(sys.executable).absolute())
        return cls(environ, home, sys.platform, os.getuid(), interpreter)

    @property
    def state_folder(self) -> Path:
        """The state folder of this place, whatever a configuration says: what is installed needs none."""
        chosen = self.environ.get("OPSKIT_STATE_DIR")
        return ensure_state_dir(chosen or default_state_dir(self.environ))

    def scheduler(self) -> tuple[Scheduler, SchedulerClient]:
        """Return the scheduler of this system, and the client that it is asked through."""
        environ = dict(self.environ)
        if self.platform == "darwin":
            client = SchedulerClient(environ)
            return Launchd(client, home=self.home, uid=self.uid), client
        # A session of cron or sudo lacks it, and the user's systemd is there all the same.
        if "XDG_RUNTIME_DIR" not in environ and Path(f"/run/user/{self.uid}").is_dir():
            environ["XDG_RUNTIME_DIR"] = f"/run/user/{self.uid}"
        client = SchedulerClient(environ)
        return Systemd(client, home=self.home), client


@dataclass(frozen=True, slots=True)
class ScheduleChange:
    """`steps` were carried out, or would be; none when all was as it should be. `notes` are for people."""

    scheduler: Scheduler
    steps: tuple[Step, ...]
    state: JobState | None
    notes: tuple[str, ...] = ()


def job_of(config: Config, place: SchedulePlace, *, every: int = DEFAULT) -> Job:
    """The job that an installation would write. Raises OpskitError SCHEDULE_004 and CONFIG_001."""
    return planned(
        config,
        place.environ,
        interpreter=place.interpreter,
        every=every,
        platform=place.platform,
        home=place.home,
    )


async def install(config: Config, place: SchedulePlace, *, every: int, dry: bool = False) -> ScheduleChange:
    """Install the job, or bring it up to date; what is right already is left alone.

    Raises OpskitError: SCHEDULE_001 without a scheduler, SCHEDULE_002 when it refuses (what was begun is
    undone), SCHEDULE_003 for a path that macOS denies, SCHEDULE_004 for a secret.
    """
    if place.platform == "darwin":
        reach.check(config, place.interpreter, home=place.home)
    job = job_of(config, place, every=every)
    scheduler, client = place.scheduler()
    notes = [_withheld(name, scheduler) for name in carried.withheld(config, place.environ)]
    before = await _before(scheduler, notes, dry=dry)
    if before is not None and _as_wished(scheduler, job, before):
        return ScheduleChange(scheduler, (), before, tuple(notes))
    steps = tuple(scheduler.install(job))
    if dry or before is None:
        return ScheduleChange(scheduler, steps, before, tuple(notes))
    with client.changing(ensure_state_dir(config.state_dir), "schedule install"):
        after = await _installed(scheduler, client, steps, before)
    if isinstance(scheduler, Systemd) and await scheduler.lingers() is not True:
        notes.append(
            "the timer stops when you log out: `loginctl enable-linger $USER` lets it run without a session"
        )
    return ScheduleChange(scheduler, steps, after, tuple(notes))


async def remove(place: SchedulePlace, *, dry: bool = False) -> ScheduleChange:
    """Take the job out; its log stays. Nothing is done where there is none."""
    scheduler, client = place.scheduler()
    notes: list[str] = []
    before = await _before(scheduler, notes, dry=dry)
    if before is not None and not before.traces:
        return ScheduleChange(scheduler, (), before)
    steps = tuple(scheduler.remove())
    if dry or before is None:
        return ScheduleChange(scheduler, steps, before, tuple(notes))
    with client.changing(place.state_folder, "schedule remove"):
        try:
            for step in steps:
                await client.do(step)
        except Refused as refused:
            raise await scheduler.explained(refused) from refused
    return ScheduleChange(scheduler, steps, await scheduler.state(datetime.now(UTC)))


async def start(place: SchedulePlace) -> ScheduleChange:
    """Start the job now, through its scheduler; one that runs already is left alone."""
    scheduler, client = place.scheduler()
    before = await scheduler.state(datetime.now(UTC))
    if before.running:
        return ScheduleChange(scheduler, (), before)
    step = scheduler.start()
    with client.changing(place.state_folder, "schedule run-now"):
        try:
            await client.do(step)
        except Refused as refused:
            raise await scheduler.explained(refused) from refused
    return ScheduleChange(scheduler, (step,), before)


async def _before(scheduler: Scheduler, notes: list[str], *, dry: bool) -> JobState | None:
    """A plan can be shown where no scheduler answers, too."""
    try:
        return await scheduler.state(datetime.now(UTC))
    except OpskitError as error:
        if not dry:
            raise
        notes.append(f"{error.message}; what stands here could not be done now")
        return None


def _as_wished(scheduler: Scheduler, job: Job, state: JobState) -> bool:
    same = {str(path): text for path, text in state.files.items()} == {
        str(path): text for path, text in scheduler.files(job).items()
    }
    return same and state.loaded and not state.disabled and not state.stale and scheduler.ready()


async def _installed(
    scheduler: Scheduler, client: SchedulerClient, steps: Sequence[Step], before: JobState
) -> JobState:
    try:
        for step in steps:
            await client.do(step)
        state = _checked(await scheduler.state(datetime.now(UTC)))
    except BaseException as exc:
        # The explanation first: it looks at what the undoing takes away.
        problem = await scheduler.explained(exc) if isinstance(exc, Refused) else exc
        left = await _undone(scheduler, client, before)
        if not isinstance(problem, OpskitError):
            raise
        end = f"undoing it failed too: {left}" if left else "what was begun is undone"
        raise OpskitError(problem.code, f"{problem.message}; {end}", remedy=problem.remedy) from exc
    return state


def _checked(state: JobState) -> JobState:
    if not state.loaded:
        raise OpskitError("SCHEDULE_002", "every step went well, and the job is not loaded all the same")
    return state


async def _undone(scheduler: Scheduler, client: SchedulerClient, before: JobState) -> str:
    """What could not be undone; every step is tried."""
    left = []
    for step in scheduler.undo(before):
        try:
            await client.do(step)
        except OpskitError as error:
            left.append(error.message)
    return "; ".join(left)


def _withheld(name: str, scheduler: Scheduler) -> str:
    how = (
        f"`launchctl setenv {name} VALUE` gives it to jobs until the next restart"
        if scheduler.name == "launchd"
        else "give it by `EnvironmentFile=` in `systemctl --user edit opskit-recover.service`"
    )
    return f"{name} is a secret and is not written into the schedule; {how}"
