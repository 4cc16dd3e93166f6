"""What people did to a project lately, or do now: it is theirs, and left alone for `hands_off_s`."""

import asyncio
from collections.abc import Mapping, Sequence

from opskit.checks.stopped_by_hand import until
from opskit.facts.container import Container
from opskit.facts.container_events import ContainerEvents, read_container_events
from opskit.facts.container_survey import repairs_by_container
from opskit.recovery.context import RecoveryContext
from opskit.recovery.steps.declared import Sources
from opskit.system.manual_commands import RunningCommand, manual_commands


async def past_events(ground: RecoveryContext, containers: Sequence[Container]) -> ContainerEvents:
    """Read what Docker remembers, and when opskit repaired these containers. Raises OpskitError DOCKER_*."""
    return await read_container_events(
        ground.door,
        containers,
        back_s=ground.config.recovery.hands_off_s,
        own_repairs=own_repairs(ground),
        clock_s=ground.clock(),
    )


def own_repairs(ground: RecoveryContext) -> dict[str, tuple[float, ...]]:
    """Return when this run and earlier ones repaired each container, in epoch seconds."""
    return repairs_by_container(
        {name: record.repairs for name, record in ground.memory.targets.items()}, ground.config
    )


async def busy(ground: RecoveryContext, found: Sources) -> str | None:
    """Why nothing of a project is touched now; None when nobody is at it."""
    rules = ground.config.recovery
    ago_s = ground.clock() - found.changed
    if abs(ago_s) < rules.hands_off_s:
        left_s = rules.hands_off_s - max(0.0, ago_s)
        return f"{found.newest} was changed {max(0.0, ago_s):.0f} s ago; left alone for {left_s:.0f} s more"
    if await asyncio.to_thread(_backup_runs, ground):
        return "a backup is being made or restored"
    at_work = await asyncio.to_thread(manual_commands, ground.environ.get("DOCKER_HOST"))
    return worked_on(at_work, rules.hands_off_s)


def worked_on(at_work: Sequence[RunningCommand], hands_off_s: float) -> str | None:
    """What somebody is doing; `up` in the foreground counts only in its first minutes. Pure."""
    for one in at_work:
        if not one.command.stays or one.age_s < hands_off_s:
            return f"somebody runs `{one.command.words}` (process {one.pid})"
    return None


def first_missed(
    marks: dict[str, float],
    key: str,
    missing: Mapping[str, object],
    now: float,
    events: ContainerEvents,
    hands_off_s: float,
) -> str | None:
    """Why a project without a container is left alone although no event tells of a removal.

    Where Docker's events do not reach back, the moment at which they were first missed counts. It is kept
    in `marks` and dropped once nothing is missing.
    """
    if not missing or events.complete:
        marks.pop(key, None)
        return None
    ago_s = max(0.0, now - marks.setdefault(key, now))
    if ago_s >= hands_off_s:
        return None
    return f"Docker does not remember whether somebody removed it{until(ago_s, hands_off_s)}"


def _backup_runs(ground: RecoveryContext) -> bool:
    from opskit.backup.catalog import running

    return running(ground.config)
