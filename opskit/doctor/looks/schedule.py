"""Looks at the recovery job: what its scheduler says, what it sees from inside, what it has given up."""

from pathlib import Path

from opskit.checks.spec import Check, CheckContext, NotHere, Observation
from opskit.doctor.looks.board import FactBoard, check
from opskit.doctor.scheduled import ScheduleFacts, causes
from opskit.recovery.budget import RepairCircuit
from opskit.recovery.memory import load
from opskit.schedule.status import ScheduleStatus, status

#: A job that is started and ends; its scheduler's own limit is a little less.
_LIMIT_S = 50.0


def schedule(board: FactBoard, state_dir: Path) -> Check:
    """A job that is not installed is no news, and no second look is made from inside one."""

    async def look(scene: CheckContext) -> Observation:
        around = scene.around
        given_up = _given_up(state_dir)
        outside = await status(around.config, around.environ, inside=False)
        told = await status(around.config, around.environ, inside=True) if outside.installed else outside
        board.schedule = facts(told, given_up)
        if not told.installed and not given_up:
            raise NotHere("no recovery job is installed (`opskit schedule install`)")
        problem = "; ".join(one.title for one in causes(board.schedule))
        next_run = f"; next run {told.next_run:%H:%M} UTC" if told.next_run else ""
        return Observation({}, f"{told.scheduler} runs it{next_run}", problem=problem, state="ok")

    return check("recovery job", look, area="schedule", timeout_s=_LIMIT_S)


def facts(told: ScheduleStatus, given_up: tuple[str, ...]) -> ScheduleFacts:
    """What counts of a status: differences that do no harm are left to `opskit schedule status`."""
    found = () if told.inside is None else told.inside.found
    return ScheduleFacts(
        told.installed,
        told.loaded,
        told.last_exit,
        told.next_run,
        tuple(one.text for one in found if one.harmful),
        told.problem,
        given_up,
    )


def _given_up(state_dir: Path) -> tuple[str, ...]:
    """The targets whose circuit is open. A memory that cannot be read is none of the stack's causes."""
    if not (state_dir / "recovery.json").is_file():
        return ()
    memory, _ = load(state_dir)
    return tuple(name for name, one in sorted(memory.targets.items()) if one.circuit is RepairCircuit.OPEN)
