"""What to do about a server that is not well. Pure: the same situation gives the same decision."""

import sys
from dataclasses import dataclass, replace
from pathlib import Path

from opskit.checks.container_assessment import AssessedContainer, ContainerState
from opskit.config.schema import RecoveryConfig
from opskit.facts.container import Container
from opskit.facts.port_owner import PortOwner
from opskit.recovery.step import Command, Condition, Repair
from opskit.recovery.steps.inactive_service import InactiveService
from opskit.recovery.steps.situation import RepairContext
from opskit.recovery.steps.subject import RepairSubject
from opskit.system.running import Running
from opskit.system.services import Service, quit_command, restart_command

_OWNER_S = 60.0
_END_S = 30.0
#: What Docker needs beside the time that a container may take to stop.
_MARGIN_S = 30.0


@dataclass(frozen=True, slots=True)
class NodeProblem:
    """What is wrong with a server.

    `speaks` tells that it answered in its protocol, so that whoever holds the port is the server that is
    meant. `curable` False means that a restart would not help; then `remedy` says what would. `fresh_s` is
    for how long after its start a server counts as starting.
    """

    state: str
    detail: str
    speaks: bool = False
    curable: bool = True
    remedy: str | None = None
    fresh_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Decision:
    """`repair` is there for what is broken and may be mended; else `remedy` says what a person types."""

    condition: Condition
    state: str
    cause: str
    repair: Repair | None = None
    remedy: str | None = None


@dataclass(frozen=True, slots=True)
class RepairCase:
    """One server in trouble, where it stands, and by which rules.

    `settle_s` is how long it may take to be well after its start, None for the configuration's; `folder` is
    where its start command runs.
    """

    subject: RepairSubject
    trouble: NodeProblem
    situation: RepairContext
    rules: RecoveryConfig
    settle_s: float | None = None
    folder: str | None = None


def decide(case: RepairCase) -> Decision:
    """The repair, or the reason why there is none."""
    subject, trouble, held = case.subject, case.trouble, case.situation.holder
    if not subject.local:
        where = f"it is on another machine ({subject.url})"
        return _by_hand(case, f"{trouble.detail}; {where}", trouble.remedy or "start it there")
    if not trouble.curable:
        return _by_hand(case, trouble.detail, trouble.remedy)
    if case.situation.at_work:
        why = f"{trouble.detail}; {case.situation.at_work}"
        return Decision(Condition.LEFT, trouble.state, why)
    mine = [one for one in case.situation.containers if held is None or _behind(held, one.container)]
    if mine:
        return _in_containers(case, mine)
    if held is not None:
        return _held(case, held)
    if case.situation.program is not None:
        return _starting(case, case.situation.program)
    if case.situation.resting is not None:
        return _at_rest(case, case.situation.resting)
    return _nobody(case)


def _behind(held: PortOwner, container: Container) -> bool:
    """Whether the port can be the container's: a process of the machine may hold it instead."""
    return held.container == container.name or held.process is None


def _in_containers(case: RepairCase, containers: list[AssessedContainer]) -> Decision:
    for one in containers:
        if (decision := _hindered(case, one)) is not None:
            return decision
    names = " ".join(one.container.name for one in containers)
    commands = tuple(
        container_restart(one.container) if one.container.running else container_start(one.container)
        for one in containers
    )
    states = ", ".join(f"container {one.container.name} is {one.container.status}" for one in containers)
    logs = f"`docker logs --tail 50 {names}`"
    return _mend(case, commands, states, f"a restart loses nothing that is kept in volumes; {logs}")


def _hindered(case: RepairCase, one: AssessedContainer) -> Decision | None:
    """Return why a container is not restarted for its server; None when it may be."""
    trouble, container, assessment = case.trouble, one.container, one.assessment
    name = container.name
    if container.action != "restart":
        why = f"{trouble.detail}; container {name} is labelled opskit.action={container.action}"
        condition = Condition.BROKEN if container.action == "notify" else Condition.LEFT
        return Decision(condition, trouble.state, why, remedy=f"`docker restart {name}`")
    if assessment.state is ContainerState.PAUSED or assessment.left:
        state = "paused" if assessment.state is ContainerState.PAUSED else "stopped"
        why = f"container {name}: {assessment.left or assessment.detail}"
        return Decision(Condition.LEFT, state, why, remedy=assessment.remedy or f"`docker start {name}`")
    if assessment.state in (ContainerState.LOOPING, ContainerState.DEAD):
        why = f"{trouble.detail}; container {name}: {assessment.detail}"
        return Decision(Condition.BROKEN, assessment.state.value, why, remedy=assessment.remedy)
    young = container.running and assessment.age_s is not None and assessment.age_s < _grace_s(case)
    if assessment.state in (ContainerState.STARTING, ContainerState.REMOVING) or young:
        reason = assessment.detail or f"it was started {assessment.age_s:.0f} s ago"
        why = f"{trouble.detail}; container {name}: {reason}"
        return Decision(Condition.WAITING, "starting", why)
    if not container.running and container.project is not None:
        why = f"{trouble.detail}; container {name} is {container.status}, and Compose starts it"
        return _by_hand(case, why, f"`docker start {name}`")
    return None


def container_restart(container: Container) -> Command:
    """Return `docker restart`, with time for the container's own stop."""
    return Command(("docker", "restart", container.name), container.stop_timeout_s + _MARGIN_S)


def container_start(container: Container) -> Command:
    return Command(("docker", "start", container.name), _MARGIN_S)


def _held(case: RepairCase, held: PortOwner) -> Decision:
    subject, trouble, process = case.subject, case.trouble, held.process
    if process is not None and process.traced:
        why = f"{trouble.detail}; a debugger holds {held.words}"
        return Decision(Condition.LEFT, "stopped", why)
    if not trouble.speaks and not _is_it(case, held):
        why = f"port {held.port} is held by {held.words}, which does not answer as {subject.name} does"
        return _by_hand(case, why, f"end it, or correct the address of {subject.name} ({subject.url})")
    if process is not None and process.stopped:
        return _wake(case, process, held.words)
    if process is not None and (age := case.situation.now - process.began) < _grace_s(case):
        why = f"{trouble.detail}; {held.words} was started {max(0.0, age):.0f} s ago"
        return Decision(Condition.WAITING, "starting", why)
    if held.service is None or held.service.kind == "stray":
        return _stray(case, held)
    return _by_owner(case, held.service, held.words)


def _is_it(case: RepairCase, held: PortOwner) -> bool:
    """Whether the holder is the server that is meant, although it does not answer as such."""
    return case.situation.program is not None or case.subject.known(*held.known_by)


def _stray(case: RepairCase, held: PortOwner) -> Decision:
    """A process that nothing keeps: only one that opskit started itself is ended."""
    program = case.situation.program
    if program is not None and case.situation.ours:
        return _anew(case, program)
    if held.process is None:
        why = f"{case.trouble.detail}; port {held.port} is held by {held.words}"
        return _by_hand(case, why, f"`sudo lsof -nP -i :{held.port}` shows it; restart it as its owner")
    why = f"{case.trouble.detail}; {held.words} was started by hand: nothing would start it again"
    again = " then `opskit recover`" if case.subject.start else " then start it again"
    return _by_hand(case, why, f"`kill {held.process.pid}`,{again}")


def _starting(case: RepairCase, program: Running) -> Decision:
    """Its process is there, its port is not."""
    age = max(0.0, case.situation.now - program.began)
    words = f"process {program.pid} ({program.name})"
    why = f"{case.trouble.detail}; {words} was started {age:.0f} s ago and does not listen yet"
    if age < _grace_s(case):
        return Decision(Condition.WAITING, "starting", why)
    if program.stopped:
        return _wake(case, program, words)
    if case.situation.ours:
        return _anew(case, program)
    return _by_hand(case, why, f"`kill {program.pid}`, then `opskit recover`")


def _wake(case: RepairCase, process: Running, words: str) -> Decision:
    """Let a stopped process go on; nothing of it is lost."""
    why = f"{words} is stopped (SIGSTOP or Ctrl-Z)"
    stopped = replace(case, trouble=replace(case.trouble, state="stopped", detail=why))
    wake = Command(("kill", "-CONT", str(process.pid)), _END_S)
    undo = f"`kill -STOP {process.pid}`"
    return _mend(stopped, (wake,), "it goes on where it was", undo, short=True, tell=False)


def _anew(case: RepairCase, program: Running) -> Decision:
    """End the server that opskit started, and start it as it was."""
    start = _start(case)
    if start is None:
        return _missing_program(case)
    # By its start as well as by its id: the id may belong to another process by then.
    end = (sys.executable, "-m", "opskit.system.end_process", str(program.pid), f"{program.began:.2f}")
    why = f"process {program.pid} ({program.name}) is the one that opskit started"
    return _mend(case, (Command(end, _END_S), start), why, _end_it(case))


def _at_rest(case: RepairCase, rest: InactiveService) -> Decision:
    trouble = case.trouble
    if rest.state == "activating":
        return Decision(Condition.WAITING, "starting", f"{trouble.detail}; {rest.words} is on its way")
    if rest.stopped_s is not None and rest.stopped_s < case.rules.hands_off_s:
        left_s = case.rules.hands_off_s - rest.stopped_s
        why = (
            f"{rest.service.name} was stopped by hand {rest.stopped_s:.0f} s ago; "
            f"it is left alone for {left_s:.0f} s more"
        )
        return Decision(Condition.LEFT, "stopped", why)
    return _by_owner(case, rest.service, rest.words)


def _by_owner(case: RepairCase, service: Service, words: str) -> Decision:
    """Its own keeper restarts it; nothing is killed past it."""
    user, uid = case.situation.user, case.situation.uid
    command = restart_command(service, user=user, uid=uid)
    as_system = service.kind == "systemd" and service.domain == "system"
    if command is None or (as_system and uid != 0):
        told = f"`sudo systemctl restart {service.name}`" if as_system else "restart it as its owner"
        return _by_hand(case, f"{case.trouble.detail}; {words} belongs to {service.user or 'root'}", told)
    ending = quit_command(service) if case.situation.holder is not None else None
    commands = tuple(Command(one, _OWNER_S) for one in (ending, command) if one is not None)
    return _mend(case, commands, f"{words} keeps it", "a restart of a service keeps its files and models")


def _nobody(case: RepairCase) -> Decision:
    """Nothing listens, and nothing that is known would start it, except the start command."""
    subject, trouble, now = case.subject, case.trouble, case.situation
    if subject.start:
        start = _start(case)
        if start is None:
            return _missing_program(case)
        why = f"nothing else on this machine starts {subject.name}"
        return _mend(case, (start,), why, _end_it(case), tell=False)
    if subject.containers and now.docker_says and now.docker_installed:
        why = f"{trouble.detail}; it lives in container {' '.join(subject.containers)}: {now.docker_says}"
        return Decision(Condition.UNKNOWN, "down", why, remedy="`opskit recover --only docker`")
    if not subject.explicit:
        why = f"{trouble.detail}, and nothing on this machine would start it"
        return Decision(Condition.ABSENT, "absent", why, remedy=trouble.remedy)
    if subject.containers:
        names = " ".join(subject.containers)
        why = f"{trouble.detail}; container {names} does not exist"
        return _by_hand(case, why, "`opskit recover --only compose`, or make it: `docker compose up -d`")
    why = f"{trouble.detail}, and nothing that opskit knows would start it"
    name = f"stack.start.{subject.name}"
    return _by_hand(case, why, f"start it, or set `{name}` so that opskit can ({trouble.remedy or name})")


def _start(case: RepairCase) -> Command | None:
    """The start command with an absolute program; None when it is not there."""
    if case.situation.start_found is None:
        return None
    program = str(Path(case.situation.start_found).absolute())
    return Command((program, *case.subject.start[1:]), cwd=case.folder, detached=True)


def _missing_program(case: RepairCase) -> Decision:
    program = case.subject.start[0]
    why = f"{case.trouble.detail}; the program that would start it is not found: {program}"
    return _by_hand(case, why, f"give its whole path in `stack.start.{case.subject.name}`")


def _end_it(case: RepairCase) -> str:
    return f"end the process that listens on port {case.subject.port}"


def _grace_s(case: RepairCase) -> float:
    return max(case.rules.startup_grace_s, case.trouble.fresh_s)


def _mend(
    case: RepairCase,
    commands: tuple[Command, ...],
    precondition: str,
    undo: str,
    *,
    short: bool = False,
    tell: bool = True,
) -> Decision:
    settle_s = None if short else case.settle_s
    repair = Repair(commands, precondition, undo, settle_s)
    told = f"{case.trouble.detail}; {precondition}" if tell else case.trouble.detail
    shown = ", then ".join(f"`{one.shown}`" for one in commands)
    return Decision(Condition.BROKEN, case.trouble.state, told, repair, remedy=shown)


def _by_hand(case: RepairCase, cause: str, remedy: str | None) -> Decision:
    return Decision(Condition.BROKEN, case.trouble.state, cause, remedy=remedy)
