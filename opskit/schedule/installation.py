"""Installing and removing the job: checked first, done step by step, undone when a step fails."""

from datetime import UTC, datetime
from pathlib import Path

from opskit.config.load import ensure_state_dir
from opskit.config.schema import Config
from opskit.errors import OpskitError
from opskit.records import Record
from opskit.recovery.executor import Executor, scheduling
from opskit.schedule import environment
from opskit.schedule.job import DEFAULT_MINUTES, RECOVER, JobKind, SchedulePlace, planned
from opskit.schedule.scheduler import Scheduler, ScheduleStatus, ScheduleStep


class ScheduleChange(Record):
    """`steps` were carried out, or would be; none when all was as it should be. `notes` are for people."""

    scheduler: Scheduler
    steps: tuple[ScheduleStep, ...]
    state: ScheduleStatus | None
    notes: tuple[str, ...] = ()


def scheduler_of(place: SchedulePlace, kind: JobKind = RECOVER) -> Scheduler:
    """Return the scheduler of this system, for one job."""
    from opskit.schedule.launchd import Launchd
    from opskit.schedule.systemd import Systemd

    environ = dict(place.environ)
    if place.platform == "darwin":
        return Launchd(environ, home=place.home, uid=place.uid, kind=kind)
    # A session of cron or sudo lacks it, and the user's systemd is there all the same.
    runtime = f"/run/user/{place.uid}"
    if "XDG_RUNTIME_DIR" not in environ and Path(runtime).is_dir():
        environ["XDG_RUNTIME_DIR"] = runtime
    return Systemd(environ, home=place.home, kind=kind)


async def install(
    config: Config,
    place: SchedulePlace,
    *,
    every: int = DEFAULT_MINUTES,
    dry: bool = False,
    kind: JobKind = RECOVER,
) -> ScheduleChange:
    """Install the job, or bring it up to date; what is right already is left alone.

    Raises OpskitError: SCHEDULE_001 without a scheduler, SCHEDULE_002 when it refuses (what was begun is
    undone), SCHEDULE_003 for a path that macOS denies, SCHEDULE_004 for a secret.
    """
    if place.platform == "darwin":
        environment.check_reach(config, place.interpreter, home=place.home)
    job = planned(config, place, every=every, kind=kind)
    scheduler = scheduler_of(place, kind)
    notes = [
        f"{name} is a secret and is not written into the schedule; {scheduler.by_hand.format(name)}"
        for name in environment.withheld(config, place.environ, serves=kind.stays)
    ]
    before = await _before(scheduler, notes, dry=dry)
    if before is not None and scheduler.as_wanted(job, before):
        return ScheduleChange(scheduler, (), before, tuple(notes))
    steps = tuple(scheduler.install(job))
    if dry or before is None:
        return ScheduleChange(scheduler, steps, before, tuple(notes))
    folder = ensure_state_dir(config.state_dir)
    with scheduling(scheduler.environ, folder, source="schedule install") as executor:
        after = await _installed(scheduler, executor, steps, before)
    if not await scheduler.runs_without_session():
        notes.append(
            f"the {'server' if kind.stays else 'timer'} stops when you log out: "
            "`loginctl enable-linger $USER` lets it run without a session"
        )
    return ScheduleChange(scheduler, steps, after, tuple(notes))


async def remove(place: SchedulePlace, *, dry: bool = False, kind: JobKind = RECOVER) -> ScheduleChange:
    """Take the job out; its log stays. Nothing is done where there is none."""
    scheduler = scheduler_of(place, kind)
    notes: list[str] = []
    before = await _before(scheduler, notes, dry=dry)
    if before is not None and not before.traces:
        return ScheduleChange(scheduler, (), before)
    steps = tuple(scheduler.restore({}, loaded=False))
    if dry or before is None:
        return ScheduleChange(scheduler, steps, before, tuple(notes))
    with scheduling(scheduler.environ, place.state_folder, source="schedule remove") as executor:
        await scheduler.carry_out(executor, steps)
    return ScheduleChange(scheduler, steps, await scheduler.state(datetime.now(UTC)))


async def start(place: SchedulePlace, kind: JobKind = RECOVER) -> ScheduleChange:
    """Start the job now, through its scheduler; one that runs already is left alone."""
    scheduler = scheduler_of(place, kind)
    before = await scheduler.state(datetime.now(UTC))
    if before.running:
        return ScheduleChange(scheduler, (), before)
    steps = (scheduler.start(),)
    with scheduling(scheduler.environ, place.state_folder, source="schedule run-now") as executor:
        await scheduler.carry_out(executor, steps)
    return ScheduleChange(scheduler, steps, before)


async def _before(scheduler: Scheduler, notes: list[str], *, dry: bool) -> ScheduleStatus | None:
    """A plan can be shown where no scheduler answers, too."""
    try:
        return await scheduler.state(datetime.now(UTC))
    except OpskitError as error:
        if not dry:
            raise
        notes.append(f"{error.message}; what stands here could not be done now")
        return None


async def _installed(
    scheduler: Scheduler, executor: Executor, steps: tuple[ScheduleStep, ...], before: ScheduleStatus
) -> ScheduleStatus:
    try:
        await scheduler.carry_out(executor, steps)
        return await _loaded(scheduler)
    except BaseException as exc:
        problems = []
        for step in scheduler.restore(before.files, loaded=bool(before.loaded)):
            try:
                await scheduler.carry_out(executor, (step,))
            except OpskitError as error:
                problems.append(error.message)
        if not isinstance(exc, OpskitError):
            raise
        end = f"undoing it failed too: {'; '.join(problems)}" if problems else "what was begun is undone"
        raise OpskitError(exc.code, f"{exc.message}; {end}", remedy=exc.remedy) from exc


async def _loaded(scheduler: Scheduler) -> ScheduleStatus:
    state = await scheduler.state(datetime.now(UTC))
    if not state.loaded:
        raise OpskitError("SCHEDULE_002", "every step succeeded, and the job is still not loaded")
    return state
