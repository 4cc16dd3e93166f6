"""What people did to the stack lately, or do now: it is theirs, and left alone for `recovery.hands_off_s`."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path

from opskit.checks.restore_assessment import assess_interrupted_restore
from opskit.checks.stopped_by_hand import until
from opskit.facts.container import Container
from opskit.facts.container_events import ContainerEvents, RecoveryHistory, read_container_events
from opskit.facts.container_survey import EVENTS_FACT, history_of
from opskit.facts.unfinished_restore import UnfinishedRestore, backup_is_running, read_unfinished_restores
from opskit.recovery.step import RecoveryContext
from opskit.system.manual_commands import RunningCommand, manual_commands


async def interrupted_restore(context: RecoveryContext, files: Sequence[Path]) -> UnfinishedRestore | None:
    """Return the restore that was interrupted and has left one of these files, or what they name, behind.

    What a half-restored project would be started from is neither its old nor its new settings.
    """
    from opskit.facts.compose_project import project_files

    restores = await context.survey.get(read_unfinished_restores, not_before=time.monotonic())
    restores = tuple(restore for restore in restores if restore.is_interrupted)
    if not restores or not files:
        return None
    named = await asyncio.to_thread(project_files, files, context.environ)
    return next((restore for restore in restores if restore.covers(named)), None)


async def at_work(
    context: RecoveryContext,
    *,
    program: str | None = None,
    containers: bool = True,
    files: Sequence[Path] = (),
    project: tuple[str, Sequence[Path]] | None = None,
) -> str | None:
    """Say what somebody is doing that a repair would break off; None when nobody is.

    That is work with Docker, and a backup, where `containers` are touched; what is done with a `program`,
    with any where it is None; and a restore that was interrupted and left the Compose `files` half restored.
    `project` is the name and the files of the only project that is touched.
    """
    if containers and await asyncio.to_thread(backup_is_running, context.config):
        return "a backup is being made or restored"
    if (restore := await interrupted_restore(context, files)) is not None:
        half = assess_interrupted_restore(restore)
        return f"{half.detail}; {half.remedy}"
    commands = await asyncio.to_thread(manual_commands, context.environ.get("DOCKER_HOST"))
    relevant = [
        running
        for running in commands
        if (containers and _concerns(running, project))
        or (program is None and not running.is_of_docker)
        or (program and running.command.words.startswith(program))
    ]
    return worked_on(relevant, context.config.recovery.hands_off_s)


def _concerns(running: RunningCommand, project: tuple[str, Sequence[Path]] | None) -> bool:
    """Tell whether a command works with containers, of that project or of nobody knows which."""
    is_elsewhere = project is not None and running.project is not None and not running.project.is_of(*project)
    return running.is_of_docker and not is_elsewhere


def worked_on(at_work: Sequence[RunningCommand], hands_off_s: float) -> str | None:
    """Return what somebody is doing; `up` in the foreground counts only in its first minutes. Pure."""
    for running_command in at_work:
        command = running_command.command
        if not command.stays or running_command.age_s < hands_off_s:
            return f"somebody runs `{command.words}` (process {running_command.pid})"
    return None


def history(context: RecoveryContext) -> RecoveryHistory:
    records = context.memory.targets
    repairs = {
        name: (record.repairs[-1], record.ended_at) for name, record in records.items() if record.repairs
    }
    return history_of(repairs, context.memory.facts, context.config)


async def read_events(context: RecoveryContext, containers: Sequence[Container]) -> ContainerEvents:
    """Read what is known of the last minutes, and record it. Raises OpskitError DOCKER_*."""
    events = await read_container_events(
        context.docker,
        containers,
        back_s=context.config.recovery.hands_off_s,
        history=history(context),
        clock_s=context.clock(),
    )
    context.memory.facts[EVENTS_FACT] = events.as_recorded()
    return events


def first_missed(
    marks: dict[str, float],
    key: str,
    missing: Mapping[str, object],
    now: float,
    events: ContainerEvents,
    hands_off_s: float,
    seen_s: float | None = None,
) -> str | None:
    """Return why a project without a container is left alone although no event tells of a removal.

    Where the events do not reach back to `seen_s`, when its containers were last there, the moment at which
    they were first missed counts. It is kept in `marks` and dropped once nothing is missing.
    """
    was_seen = seen_s is not None and events.since is not None and now - seen_s < hands_off_s
    reach = not was_seen or events.reach(events.now - timedelta(seconds=now - (seen_s or now)))
    if not missing or (events.complete and reach):
        marks.pop(key, None)
        return None
    ago_s = max(0.0, now - marks.setdefault(key, now))
    if ago_s >= hands_off_s:
        return None
    return f"Docker does not remember whether somebody removed it{until(ago_s, hands_off_s)}"
