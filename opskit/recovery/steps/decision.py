"""What to do about a server that is not well. Pure: the same facts give the same decision."""

import sys
from pathlib import Path

from opskit.checks.container_assessment import AssessedContainer, ContainerState
from opskit.checks.upkeep import upkeep_of
from opskit.config.schema import RecoveryConfig
from opskit.facts.container import Container
from opskit.facts.port_owner import PortOwner
from opskit.records import Record, replace
from opskit.recovery.step import Command, Condition, Repair, TargetFinding
from opskit.recovery.steps.server import InactiveService, ManagedServer, ServerFacts
from opskit.system import end_process
from opskit.system.process import Process
from opskit.system.services import Service, quit_command, restart_by_hand, restart_command
from opskit.text import listing

_OWNER_S = 60.0
_END_S = 30.0
#: What Docker needs beside the time that a container may take to stop.
_MARGIN_S = 30.0


class ServerProblem(Record):
    """What is wrong with a server.

    `speaks` tells that it answered in its protocol, so that the owner of the port is the server that is
    meant. `curable` False means that a restart would not help; then `remedy` says what would. `fresh_s` is
    for how long after its start a server counts as starting. `stopped` is a process behind one of its models
    that only has to be let go on, `unload` a model to be unloaded before anything is restarted; with
    `restart` False nothing is.
    """

    state: str
    detail: str
    speaks: bool = False
    curable: bool = True
    remedy: str | None = None
    fresh_s: float = 0.0
    stopped: Process | None = None
    unload: str | None = None
    restart: bool = True


def unload_mark(name: str) -> str:
    """Return the mark under which it is kept when a model of a server was last unloaded by a repair."""
    return f"unload:{name}"


def decide(
    server: ManagedServer, problem: ServerProblem, facts: ServerFacts, rules: RecoveryConfig
) -> TargetFinding:
    """Return the finding with its repair, or with the reason why there is none."""
    return _Decision(server, problem, facts, rules).made()


def container_restart(container: Container) -> Command:
    """Return `docker restart`, with time for the container's own stop."""
    return Command(("docker", "restart", container.name), container.stop_timeout_s + _MARGIN_S)


class _Decision(Record):
    """One server in trouble, where it stands, and by which rules."""

    server: ManagedServer
    problem: ServerProblem
    facts: ServerFacts
    rules: RecoveryConfig

    def made(self) -> TargetFinding:
        server, problem, facts, owner = self.server, self.problem, self.facts, self.facts.owner
        if not server.is_local:
            why = f"it is on another machine ({server.url})"
            return self._by_hand(problem.remedy or "start it there", why)
        if not problem.curable:
            return self._by_hand(problem.remedy)
        if facts.at_work:
            return self._finding(Condition.LEFT, facts.at_work)
        # A process of the machine may hold the port in place of the container.
        containers = [
            assessed
            for assessed in facts.containers
            if owner is None or owner.container == assessed.container.name or owner.process is None
        ]
        of_model = problem.stopped is not None or problem.unload is not None or not problem.restart
        if (blocked := next(filter(None, map(self._not_restarted, containers)), None)) is not None:
            return blocked
        if of_model:
            return self._of_model()
        if containers:
            return self._in_containers(containers)
        if owner is not None:
            return self._owned(owner)
        if facts.program is not None:
            return self._starting(facts.program)
        if facts.inactive is not None:
            return self._inactive(facts.inactive)
        return self._unkept()

    def _of_model(self) -> TargetFinding:
        """Decide about one model: its server is well, or is held up by it alone, and is not restarted."""
        stopped, model = self.problem.stopped, self.problem.unload
        if stopped is not None and stopped.traced:
            why = f"a debugger holds process {stopped.pid}"
            return self._finding(Condition.LEFT, why, state="stopped")
        if stopped is not None:
            return self._wake(stopped, f"process {stopped.pid} ({stopped.name}), which serves a model,")
        if model is None:
            return self._by_hand(self.problem.remedy)
        argv = (sys.executable, "-I", "-m", "opskit.recovery.unload", self.server.url, model)
        why = f"{model} is unloaded; the next request loads it again, and other models stay as they are"
        undo, command = f"`opskit probe --model {model}` loads it again", Command(argv, _END_S + _MARGIN_S)
        return self._repaired_by((command,), why, undo, mark=unload_mark(self.server.name))

    def _in_containers(self, containers: list[AssessedContainer]) -> TargetFinding:
        records = [assessed.container for assessed in containers]
        commands = tuple(
            container_restart(container)
            if container.running
            else Command(("docker", "start", container.name), _MARGIN_S)
            for container in records
        )
        states = ", ".join(f"container {container.name} is {container.status}" for container in records)
        logs = f"`docker logs --tail 50 {' '.join(container.name for container in records)}`"
        return self._repaired_by(commands, states, f"a restart loses nothing that is kept in volumes; {logs}")

    def _not_restarted(self, assessed: AssessedContainer) -> TargetFinding | None:
        """Return why a container is not restarted for its server; None when it may be."""
        container, assessment = assessed.container, assessed.assessment
        name, state = container.name, assessment.state
        if container.action != "restart":
            condition = Condition.BROKEN if container.action == "notify" else Condition.LEFT
            why = f"container {name} is labelled opskit.action={container.action}"
            return self._finding(condition, why, remedy=f"`docker restart {name}`")
        if state is ContainerState.PAUSED or assessment.left:
            return replace(
                self._finding(Condition.LEFT, remedy=assessment.remedy or f"`docker start {name}`"),
                state="paused" if state is ContainerState.PAUSED else "stopped",
                cause=f"container {name}: {assessment.left or assessment.detail}",
            )
        if state in (ContainerState.LOOPING, ContainerState.DEAD):
            why = f"container {name}: {assessment.detail}"
            return self._finding(Condition.BROKEN, why, state=state.value, remedy=assessment.remedy)
        if assessment.obstacle is not None:
            return self._by_hand(
                assessment.obstacle.remedy, f"container {name}: {assessment.obstacle.detail}"
            )
        if state is ContainerState.ORPHANED:
            return self._by_hand(assessment.remedy, f"container {name}: {assessment.detail}")
        young = container.running and assessment.age_s is not None and assessment.age_s < self._grace_s
        if state in (ContainerState.STARTING, ContainerState.REMOVING) or young:
            reason = assessment.detail or f"it was started {assessment.age_s:.0f} s ago"
            return self._finding(Condition.WAITING, f"container {name}: {reason}", state="starting")
        if not container.running and container.project is not None:
            why = f"container {name} is {container.status}, and Compose starts it"
            return self._by_hand(f"`docker start {name}`", why)
        return None

    def _owned(self, owner: PortOwner) -> TargetFinding:
        server, problem, process = self.server, self.problem, owner.process
        if process is not None and process.traced:
            return self._finding(Condition.LEFT, f"a debugger holds {owner.words}", state="stopped")
        if not (problem.speaks or self.facts.program is not None or server.is_meant_by(*owner.known_by)):
            why = f"port {owner.port} is held by {owner.words}, which does not answer as {server.name} does"
            remedy = f"end it, or correct the address of {server.name} ({server.url})"
            return self._finding(Condition.BROKEN, cause=why, remedy=remedy)
        if process is not None and process.stopped:
            return self._wake(process, owner.words)
        if process is not None and (age_s := self.facts.now_s - process.began) < self._grace_s:
            why = f"{owner.words} was started {max(0.0, age_s):.0f} s ago"
            return self._finding(Condition.WAITING, why, state="starting")
        if owner.service is None or owner.service.kind == "stray":
            return self._stray(owner)
        return self._by_keeper(owner.service, owner.words)

    def _stray(self, owner: PortOwner) -> TargetFinding:
        """Decide about a process that nothing keeps: only one that opskit started itself is ended."""
        if self.facts.program is not None and self.facts.is_ours:
            return self._restart(self.facts.program)
        if owner.process is None:
            remedy = f"`sudo lsof -nP -i :{owner.port}` shows it; restart it as its owner"
            return self._by_hand(remedy, f"port {owner.port} is held by {owner.words}")
        remedy = f"`kill {owner.process.pid}`, then `opskit recover`"
        if not self.server.start:
            remedy = upkeep_of(owner, user=self.facts.user, uid=self.facts.uid).restart
        why = f"{owner.words} was started by hand: nothing would start it again"
        return self._by_hand(remedy, why)

    def _starting(self, program: Process) -> TargetFinding:
        """Its process is there, its port is not."""
        age_s = max(0.0, self.facts.now_s - program.began)
        words = f"process {program.pid} ({program.name})"
        ports = listing(sorted(map(str, self.facts.other_ports)))
        listens = f"listens on port {ports}, not on {self.server.port}" if ports else "does not listen yet"
        why = f"{words} was started {age_s:.0f} s ago and {listens}"
        if age_s < self._grace_s:
            return self._finding(Condition.WAITING, why, state="starting")
        if program.stopped:
            return self._wake(program, words)
        if self.facts.other_ports:
            # Started again it would listen there again.
            server = self.server
            remedy = f"correct the address of {server.name} ({server.url}), or `stack.start.{server.name}`"
            remedy = f"{remedy} and `kill {program.pid}`"
            return self._finding(Condition.BROKEN, cause=why, state="other port", remedy=remedy)
        if self.facts.is_ours:
            return self._restart(program)
        return self._by_hand(f"`kill {program.pid}`, then `opskit recover`", why)

    def _wake(self, process: Process, words: str) -> TargetFinding:
        """Let a stopped process go on; nothing of it is lost."""
        why = f"{words} is stopped (SIGSTOP or Ctrl-Z)"
        if self.facts.uid != 0 and process.user != self.facts.user:
            remedy = f"`sudo kill -CONT {process.pid}` lets it go on"
            return self._finding(Condition.BROKEN, cause=why, state="stopped", remedy=remedy)
        command = Command(("kill", "-CONT", str(process.pid)), _END_S)
        repair = Repair((command,), "it goes on where it was", f"`kill -STOP {process.pid}`")
        return self._finding(Condition.BROKEN, cause=why, state="stopped", repair=repair)

    def _restart(self, program: Process) -> TargetFinding:
        """End the server that opskit started, and start it as it was."""
        # By its start as well as by its id: the id may belong to another process by then.
        end = end_process.command(program.pid, program.began)
        why = f"process {program.pid} ({program.name}) is the one that opskit started"
        return self._start(why, Command(end, _END_S))

    def _inactive(self, inactive: InactiveService) -> TargetFinding:
        if inactive.state == "activating":
            return self._finding(Condition.WAITING, f"{inactive.words} is on its way", state="starting")
        if inactive.stopped_s is not None and inactive.stopped_s < self.rules.hands_off_s:
            remaining_s = self.rules.hands_off_s - inactive.stopped_s
            why = (
                f"{inactive.service.name} was stopped by hand {inactive.stopped_s:.0f} s ago; "
                f"it is left alone for {remaining_s:.0f} s more"
            )
            return self._finding(Condition.LEFT, cause=why, state="stopped")
        return self._by_keeper(inactive.service, inactive.words)

    def _by_keeper(self, service: Service, words: str) -> TargetFinding:
        """Its own keeper restarts it; nothing is killed past it."""
        user, uid = self.facts.user, self.facts.uid
        command = restart_command(service, user=user, uid=uid)
        as_system = service.kind == "systemd" and service.domain == "system"
        if command is None or (as_system and uid != 0):
            remedy = restart_by_hand(service, user=user, uid=uid) or "restart it as its owner"
            return self._by_hand(remedy, f"{words} belongs to {service.user or 'root'}")
        ending = quit_command(service) if self.facts.owner is not None else None
        commands = tuple(Command(argv, _OWNER_S) for argv in (ending, command) if argv is not None)
        undo = "a restart of a service keeps its files and models"
        return self._repaired_by(commands, f"{words} keeps it", undo)

    def _unkept(self) -> TargetFinding:
        """Decide where nothing listens and nothing keeps the server: only a start command starts it."""
        server, problem, facts = self.server, self.problem, self.facts
        if server.start:
            finding = self._start(f"nothing else on this machine starts {server.name}")
            return finding if finding.repair is None else replace(finding, cause=problem.detail)
        names = " ".join(server.containers)
        if server.containers and facts.docker_problem and facts.has_docker:
            why = f"it lives in container {names}: {facts.docker_problem}"
            remedy = "`opskit recover --only docker`"
            return self._finding(Condition.UNKNOWN, why, state="down", remedy=remedy)
        if not server.explicit:
            why = f"{problem.detail}, and nothing on this machine would start it"
            return self._finding(Condition.ABSENT, cause=why, state="absent", remedy=problem.remedy)
        if server.containers and server.is_named:
            remedy = "`opskit recover --only compose`, or make it: `docker compose up -d`"
            return self._by_hand(remedy, f"container {names} does not exist")
        key = f"stack.start.{server.name}"
        why = f"{problem.detail}, and nothing that opskit knows would start it"
        remedy = f"start it, or set `{key}` so that opskit can ({problem.remedy or key})"
        return self._finding(Condition.BROKEN, cause=why, remedy=remedy)

    def _start(self, why: str, *before: Command) -> TargetFinding:
        """Give the start command, with an absolute program; that is a person's where it is not there."""
        server, program = self.server, self.facts.start_program
        if program is None:
            missing = f"its start program: {self.facts.start_problem or f'{server.start[0]} is not found'}"
            return self._by_hand(f"mend the program, or correct `stack.start.{server.name}`", missing)
        argv = (str(Path(program).absolute()), *server.start[1:])
        commands = (*before, Command(argv, cwd=server.folder, detached=True))
        return self._repaired_by(commands, why, f"end the process that listens on port {server.port}")

    @property
    def _grace_s(self) -> float:
        return max(self.rules.startup_grace_s, self.problem.fresh_s)

    def _repaired_by(
        self, commands: tuple[Command, ...], precondition: str, undo: str, *, mark: str | None = None
    ) -> TargetFinding:
        repair = Repair(commands, precondition, undo, self.server.settle_s, mark)
        return self._finding(Condition.BROKEN, precondition, repair=repair)

    def _by_hand(self, remedy: str | None, why: str = "") -> TargetFinding:
        return self._finding(Condition.BROKEN, why, remedy=remedy)

    def _finding(
        self,
        condition: Condition,
        why: str = "",
        *,
        cause: str = "",
        state: str = "",
        remedy: str | None = None,
        repair: Repair | None = None,
    ) -> TargetFinding:
        """`why` is added to the detail of the problem, `cause` stands in its place."""
        if repair is not None:
            remedy = ", then ".join(f"`{command.shown}`" for command in repair.commands)
        return TargetFinding(
            self.server.name,
            condition,
            state or self.problem.state,
            cause or "; ".join(filter(None, (self.problem.detail, why))),
            self.server.containers,
            remedy=remedy,
            repair=repair,
        )
