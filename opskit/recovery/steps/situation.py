"""All that a decision about a broken server stands on: its port, its containers, its service, its process."""

import asyncio
import getpass
import os
import shutil
import time
from dataclasses import dataclass

from opskit.backup.catalog import running as backup_runs
from opskit.checks.container_assessment import AssessedContainer, ContainerRules, assessed
from opskit.errors import OpskitError
from opskit.facts.container_survey import read_containers, survey_containers
from opskit.facts.port_owner import PortOwner, read_port
from opskit.recovery.context import RecoveryContext
from opskit.recovery.steps.hands_off import own_repairs, worked_on
from opskit.recovery.steps.inactive_service import InactiveService, resting
from opskit.recovery.steps.subject import RepairSubject, started_by_us
from opskit.system.handiwork import workers
from opskit.system.running import SAME_START_S, Running, is_like, like


@dataclass(frozen=True, slots=True)
class RepairContext:
    """`program` is a process that runs exactly the start command, on the port or not yet.

    `ours` tells that a repair of opskit started it. `containers` are those of the stack behind this
    server; `docker_says` is why Docker could not be asked, empty when it could. `start_found` is the program
    of the start command as an absolute path, None when PATH has none. `at_work` is what somebody is
    doing that a repair would break off.
    """

    now: float
    user: str
    uid: int
    holder: PortOwner | None = None
    containers: tuple[AssessedContainer, ...] = ()
    docker_says: str = ""
    docker_installed: bool = True
    resting: InactiveService | None = None
    program: Running | None = None
    ours: bool = False
    start_found: str | None = None
    at_work: str = ""


async def situation(ground: RecoveryContext, subject: RepairSubject) -> RepairContext:
    """As it is now. Looks only; never raises for what it finds."""
    port, (containers, problem) = await asyncio.gather(
        ground.survey.get(read_port, "tcp", subject.port, not_before=time.monotonic()),
        _containers(ground, subject),
    )
    held = port.loopback_owner
    path = ground.environ.get("PATH")
    program, rest = None, None
    if held is None:
        if subject.start:
            found = await asyncio.to_thread(like, subject.start, path)
            program = found[0] if found else None
        if not containers and program is None:
            rest = await resting(ground, subject)
    elif held.process is not None and is_like(held.process.command, subject.start, path):
        program = held.process
    return RepairContext(
        ground.clock(),
        getpass.getuser(),
        os.geteuid(),
        held,
        containers,
        problem,
        shutil.which("docker", path=path) is not None,
        rest,
        program,
        program is not None and _is_ours(ground, subject, program),
        shutil.which(subject.start[0], path=path) if subject.start else None,
        await _at_work(ground, subject, in_containers=bool(containers)),
    )


async def _at_work(ground: RecoveryContext, subject: RepairSubject, *, in_containers: bool) -> str:
    """A pull keeps a model server from being restarted; work with Docker, and backups, containers."""
    found = await asyncio.to_thread(workers, ground.environ.get("DOCKER_HOST"))
    with_docker = [one for one in found if one.work.words.startswith("docker")]
    program = subject.kind.program if subject.kind is not None else ""
    pulled = [one for one in found if program and one.work.words.startswith(program)]
    touched = with_docker if in_containers else []
    if in_containers and await asyncio.to_thread(backup_runs, ground.config):
        return "a backup is being made or restored"
    return worked_on([*pulled, *touched], ground.config.recovery.hands_off_s) or ""


async def _containers(
    ground: RecoveryContext, subject: RepairSubject
) -> tuple[tuple[AssessedContainer, ...], str]:
    """Read the containers of that server and assess them; or why Docker does not tell."""
    try:
        containers = await read_containers(ground.door, subject.containers)
        survey = await survey_containers(
            ground.door, containers, ground.config, repairs=own_repairs(ground), clock_s=ground.clock()
        )
    except OpskitError as error:
        return (), error.message
    return tuple(assessed(survey, ContainerRules.of(ground.config.recovery))), ""


def _is_ours(ground: RecoveryContext, subject: RepairSubject, program: Running) -> bool:
    kept = started_by_us(ground, subject)
    return kept is not None and kept[0] == program.pid and abs(kept[1] - program.began) < SAME_START_S
