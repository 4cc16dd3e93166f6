"""Everything that a cause may be computed from: what one examination read and judged, frozen."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path

from opskit.checks.agent_probe import probe_agent
from opskit.checks.container_assessment import AssessedContainer, ContainerRules, assessed
from opskit.checks.node_probe import probe_node
from opskit.checks.probe_record import AgentProbe, NodeProbe
from opskit.checks.project_assessment import MovedProject, moved_project
from opskit.checks.state import NodeState
from opskit.checks.upkeep import Upkeep, upkeep_here
from opskit.config.origins import Origin
from opskit.config.schema import Config
from opskit.doctor.cause import key_of
from opskit.doctor.target import ExaminationTarget, Member
from opskit.facts import docker_daemon, machine
from opskit.facts.agent import read_agent_paths
from opskit.facts.compose_project import ComposeFacts, read_compose_project
from opskit.facts.container import StartObstacle
from opskit.facts.container_survey import read_last_words
from opskit.facts.environment import EnvFileFacts, Environment, known, read_env_file
from opskit.facts.kernel_log import KernelKill, read_kernel_kills
from opskit.facts.machine import ClockReading, DiskFacts, HeldLock, read_clock, read_held_locks
from opskit.facts.model_memory import PromptReading, read_cache_sizes, read_prompt
from opskit.facts.model_requests import ModelRequests, read_container_requests, read_own_requests
from opskit.facts.port_owner import PortOwner, read_port
from opskit.facts.runner import RunnerProcess, read_orphaned_runners
from opskit.facts.server_log import ServerLog, read_server_log
from opskit.facts.stack_containers import StackContainers, read_service_obstacles, read_stack_containers
from opskit.facts.survey import Survey
from opskit.facts.unfinished_restore import UnfinishedRestore, read_unfinished_restores
from opskit.records import Record, field
from opskit.result import Finding, Status
from opskit.schedule.job import VICTORIA
from opskit.schedule.status import ScheduleStatus, status
from opskit.system.host import MemoryGauge, is_loopback
from opskit.system.network import endpoint


class RecoveryJob(Record, kw_only=True):
    """The job as its scheduler sees it; None is what it does not tell.

    `problem` is the scheduler's own account of what is wrong. `differences` are sentences on what works in
    this shell and not inside the job. `lost_program` is the interpreter that the job starts and that is not
    there. `given_up` are the targets that recovery has given up.
    """

    installed: bool
    scheduler: str | None = None
    loaded: bool | None = None
    last_exit: int | None = None
    next_run: datetime | None = None
    differences: tuple[str, ...] = ()
    problem: str = ""
    given_up: tuple[str, ...] = ()
    lost_program: str = ""


async def read_recovery_job(survey: Survey) -> RecoveryJob:
    """Ask the scheduler, and look from inside a job that is installed. Never raises for what it says."""
    job = await status(survey.config, survey.environ, inside=False)
    program = job.job.arguments[0] if job.installed and job.job is not None else ""
    is_lost = bool(program) and not Path(program).exists()
    if job.installed and not is_lost:
        job = await status(survey.config, survey.environ, inside=True)
    differences = () if job.inside is None else job.inside.found
    return RecoveryJob(
        installed=job.installed,
        scheduler=job.scheduler,
        loaded=job.loaded,
        last_exit=job.last_exit,
        next_run=job.next_run,
        # Differences that do no harm are left to `opskit schedule status`.
        differences=tuple(difference.text for difference in differences if difference.harmful),
        problem=job.problem,
        given_up=_given_up(survey),
        lost_program=program if is_lost else "",
    )


async def read_victoria_job(survey: Survey) -> ScheduleStatus:
    """Ask the scheduler for the job that keeps `opskit serve victoria` running."""
    return await status(survey.config, survey.environ, inside=False, kind=VICTORIA)


def _given_up(survey: Survey) -> tuple[str, ...]:
    """Return the targets whose circuit is open. A memory that cannot be read says nothing of the stack."""
    from opskit.recovery.budget import RepairCircuit
    from opskit.recovery.memory import FILE_NAME, load

    if not (survey.state_folder / FILE_NAME).is_file():
        return ()
    memory, _ = load(survey.state_folder)
    targets = sorted(memory.targets.items())
    return tuple(name for name, record in targets if record.circuit is RepairCircuit.OPEN)


class ExaminedContainer(AssessedContainer):
    """One container, assessed. `project` is its Compose project by the name of the configuration.

    `of_stack`: a name or a label puts it there, not just its variables.
    """

    project: str | None = None
    of_stack: bool = True

    @property
    def name(self) -> str:
        return self.container.name

    @property
    def environment(self) -> Environment:
        """Its variables without their secrets."""
        return known(self.container.variables)


class Evidence(Record, kw_only=True):
    """One examination, whole. What was not read is empty, or None where empty would say something.

    `env_files` are by path, `cache_sizes` and `prompts` by node. `state_problem` says why the state folder
    cannot be written. `programs` are installed model servers. `ports` are ports of this machine at which
    nodes and agents are expected, `host_ports` accept connections on the machine around this container.
    `last_words` are of containers, by their ids. `networks` tells which networks of Docker there are,
    `service_obstacles` by project what keeps services from a container, `restores` which were interrupted,
    `moved` which projects have their containers under the name of another folder.
    """

    target: ExaminationTarget
    findings: tuple[Finding, ...] = ()
    nodes: tuple[NodeProbe, ...] = ()
    agents: tuple[AgentProbe, ...] = ()
    agent_paths: Mapping[str, frozenset[str]] = field(default_factory=dict)
    cache_sizes: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    prompts: Mapping[str, PromptReading] = field(default_factory=dict)
    ports: Mapping[int, tuple[PortOwner, ...]] = field(default_factory=dict)
    host_ports: frozenset[int] = frozenset()
    disks: tuple[DiskFacts, ...] = ()
    container_logs: Mapping[str, int] = field(default_factory=dict)
    memory: MemoryGauge | None = None
    state_problem: str = ""
    programs: frozenset[str] = frozenset()
    orphaned_runners: tuple[RunnerProcess, ...] = ()
    held_locks: tuple[HeldLock, ...] = ()
    localhost: tuple[str, ...] | None = None
    clocks: tuple[ClockReading, ...] = ()
    docker: docker_daemon.DockerDaemon | None = None
    other_daemons: tuple[str, ...] = ()
    containers: tuple[ExaminedContainer, ...] = ()
    last_words: Mapping[str, str] = field(default_factory=dict)
    networks: Mapping[str, bool] = field(default_factory=dict)
    projects: tuple[ComposeFacts, ...] = ()
    service_obstacles: Mapping[str, Mapping[str, StartObstacle]] = field(default_factory=dict)
    moved: Mapping[str, MovedProject] = field(default_factory=dict)
    env_files: Mapping[str, EnvFileFacts] = field(default_factory=dict)
    requests: tuple[ModelRequests, ...] = ()
    server_logs: tuple[ServerLog, ...] = ()
    kernel_kills: tuple[KernelKill, ...] = ()
    job: RecoveryJob | None = None
    victoria_job: ScheduleStatus | None = None
    restores: tuple[UnfinishedRestore, ...] = ()

    @property
    def config(self) -> Config:
        return self.target.config

    @property
    def origins(self) -> Mapping[str, Origin]:
        return self.target.loaded.origins

    def finding(self, check: str) -> Finding | None:
        return next((finding for finding in self.findings if finding.check == check), None)

    def failed(self, check: str) -> bool:
        finding = self.finding(check)
        return finding is not None and finding.status in (Status.FAIL, Status.WARN)

    def half_restored(self, files: Iterable[Path]) -> tuple[str, ...]:
        """Return the keys of the causes that have left these files half restored."""
        paths = tuple(files)
        return tuple(
            key_of("restore-interrupted", str(restore.target))
            for restore in self.restores
            if restore.covers(paths)
        )

    def has_answered(self, member: Member) -> bool:
        """Tell whether a log of the last hour has an answer from this very address."""
        calls = (call for requests in self.requests for call in requests.calls)
        return any(call.outcome == "ok" and call.url == member.url for call in calls)

    def refuses(self, member: Member) -> bool:
        """Tell whether nothing listens at the address of a node or an agent."""
        probes = (*self.nodes, *self.agents)
        return any(probe.config.name == member.name and probe.state is NodeState.REFUSED for probe in probes)

    def upkeep(self, member: Member) -> Upkeep:
        """Return what keeps the process on the port of a node or an agent."""
        return upkeep_here(next(iter(self.owners(member)), None))

    def owners(self, member: Member) -> tuple[PortOwner, ...]:
        """Who listens on the port of a node or an agent, when that is a port of this machine."""
        return self.ports.get(endpoint(member.url)[1], ()) if is_loopback(member.url) else ()


def evidence_of(target: ExaminationTarget, survey: Survey, findings: tuple[Finding, ...]) -> Evidence:
    """Take from a survey what it has read. Reads nothing."""
    config, facts = target.config, survey.known
    nodes = {probe.config: probe for probe in facts(probe_node).values()}
    agents = {probe.config: probe for probe in facts(probe_agent).values()}
    docker = facts(docker_daemon.read_docker_daemon).get(())
    clocks = [clock for clock in facts(read_clock).values() if clock is not None]
    if docker is not None and docker.clock_ahead_s is not None:
        clocks.append(ClockReading("Docker", docker.address.shown, docker.clock_ahead_s))
    stack = facts(read_stack_containers).get(())
    projects = tuple(facts(read_compose_project).values())
    return Evidence(
        target=target,
        findings=findings,
        nodes=tuple(nodes[node] for node in config.nodes if node in nodes),
        agents=tuple(agents[agent] for agent in config.agents if agent in agents),
        agent_paths={
            agent.name: paths for (agent,), paths in facts(read_agent_paths).items() if paths is not None
        },
        cache_sizes={node.name: sizes for (node,), sizes in facts(read_cache_sizes).items()},
        prompts={node.name: prompt for (node,), prompt in facts(read_prompt).items() if prompt is not None},
        ports={port: sockets.owners for (_, port), sockets in facts(read_port).items()},
        host_ports=frozenset(
            port for (port,), tcp in facts(machine.read_host_port).items() if tcp.problem is None
        ),
        disks=tuple(disk for disk in facts(machine.read_disk).values() if disk is not None),
        container_logs=next(iter(facts(machine.read_container_logs).values()), {}),
        memory=facts(machine.read_memory).get(()),
        state_problem=facts(machine.read_state_folder).get((), ""),
        programs=frozenset(name for (name,), path in facts(machine.read_program).items() if path is not None),
        orphaned_runners=facts(read_orphaned_runners).get((), ()),
        held_locks=facts(read_held_locks).get((), ()),
        localhost=facts(machine.read_addresses).get(("localhost",)),
        clocks=tuple(clocks),
        docker=docker,
        other_daemons=facts(docker_daemon.read_other_daemons).get((), ()),
        containers=() if stack is None else examined_containers(stack, config),
        last_words={identifier: words for (identifier, _), words in facts(read_last_words).items()},
        networks={name: exists for (name,), exists in facts(docker_daemon.has_docker_network).items()},
        projects=projects,
        service_obstacles={name: obstacles for (name,), obstacles in facts(read_service_obstacles).items()},
        moved={} if stack is None else _moved(stack, projects),
        env_files={str(path): env_file for (path,), env_file in facts(read_env_file).items()},
        requests=(
            *facts(read_own_requests).values(),
            *facts(read_container_requests).values(),
        ),
        server_logs=tuple(facts(read_server_log).values()),
        kernel_kills=facts(read_kernel_kills).get((), ()),
        job=facts(read_recovery_job).get(()),
        victoria_job=facts(read_victoria_job).get(()),
        restores=tuple(
            restore for restore in facts(read_unfinished_restores).get((), ()) if restore.is_interrupted
        ),
    )


def _moved(stack: StackContainers, projects: Iterable[ComposeFacts]) -> dict[str, MovedProject]:
    there = set(stack.projects.values())
    moved = {
        project.name: moved_project(stack.listed, project.services, project.files)
        for project in projects
        if project.name not in there
    }
    return {name: project for name, project in moved.items() if project is not None}


def examined_containers(stack: StackContainers, config: Config) -> tuple[ExaminedContainer, ...]:
    """Assess the containers of the stack. Pure."""
    return tuple(
        ExaminedContainer(
            judged.container,
            judged.assessment,
            project=stack.projects.get(judged.container.id),
            of_stack=judged.container.id in stack.named,
        )
        for judged in assessed(stack.survey, ContainerRules.of(config.recovery))
        if judged.container.id in stack.named | stack.clients and not judged.container.one_off
    )
