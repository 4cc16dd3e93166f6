"""A model node or an agent as recovery knows it: how it is started, and all that a repair stands on."""

import asyncio
import getpass
import os
import shutil
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from opskit.checks.container_assessment import AssessedContainer, ContainerRules, assessed
from opskit.config.schema import AgentConfig, Config, NodeConfig, StackConfig
from opskit.errors import OpskitError
from opskit.facts.container import Container
from opskit.facts.container_survey import read_containers, survey_containers
from opskit.facts.port_owner import PortOwner, read_port
from opskit.facts.start_obstacles import read_start_obstacles
from opskit.llm.loads import load_budget_s
from opskit.providers.kinds import ServerKind, expected_kind
from opskit.records import Record
from opskit.recovery import hands_off
from opskit.recovery.step import RecoveryContext
from opskit.system.host import is_loopback
from opskit.system.network import endpoint
from opskit.system.process import Process, is_like, ports_of, processes_like
from opskit.system.program import output_of, unusable_program
from opskit.system.services import Domain, Service, at_rest
from opskit.system.systemctl import instant, unit_properties

_UNIT_PROPERTIES = ("LoadState", "ActiveState", "UnitFileState", "Result", "InactiveEnterTimestamp")
#: What a person disabled or masked is not to be started.
_ENABLED = ("enabled", "enabled-runtime", "linked", "static", "alias")
#: Labels of Homebrew: the second since its version 6.
_BREW = ("homebrew.mxcl.", "sh.brew.")
_LAUNCHCTL_S = 3.0


class ManagedServer(Record, kw_only=True):
    """One server of the configuration.

    `explicit` tells that a person wrote its address. `known_by` are words by which its process is recognised.
    `containers` are the stack's, `is_named` tells that a person named them. `start` is its start command, run
    in `folder`, empty without one.
    `services` are names under which a service may be installed (`ollama.service`, `brew install ollama`).
    `settle_s` is how long it may take to be well after its start, None for the configuration's `step_s`.
    `kind` is what a node is configured as, None for an agent.
    """

    name: str
    url: str
    explicit: bool = True
    required: bool = False
    known_by: tuple[str, ...] = ()
    containers: tuple[str, ...] = ()
    is_named: bool = True
    start: tuple[str, ...] = ()
    folder: str | None = None
    services: tuple[str, ...] = ()
    settle_s: float | None = None
    kind: ServerKind | None = None

    @property
    def port(self) -> int:
        return endpoint(self.url)[1]

    @property
    def is_local(self) -> bool:
        return is_loopback(self.url)

    @property
    def is_optional(self) -> bool:
        """Tell whether it is on another machine and not required, so that it is nobody's here to repair."""
        return not self.is_local and not self.required

    def is_meant_by(self, *words: str) -> bool:
        """Tell whether one of these words, of a process or its owner, speaks of this server."""
        text = " ".join(words).lower()
        return any(word in text for word in self.known_by)


def server_of(config: NodeConfig | AgentConfig, whole: Config) -> ManagedServer:
    name = config.name.lower()
    kind = expected_kind(config.source) if isinstance(config, NodeConfig) else None
    start, containers = whole.stack.start.get(config.name, ()), whole.stack.containers.get(config.name, ())
    # Its start command runs in the folder of the configuration file, whatever the scheduler's is.
    folder = str(whole.located("."))
    if start and "/" in start[0]:
        start = (str(whole.located(start[0])), *start[1:])
    settle_s = None
    if kind is not None and not kind.loads_on_demand:
        loads_s = load_budget_s(whole.budgets, weights_bytes(start, Path(folder)))
        settle_s = max(whole.recovery.step_s, loads_s + whole.probe.first_token_s)
    return ManagedServer(
        name=config.name,
        url=config.url,
        explicit=config.explicit,
        required=config.required,
        known_by=(*kind.known_by, name) if kind is not None else (name,),
        containers=containers,
        is_named=containers != StackConfig().containers.get(config.name),
        start=start,
        folder=folder,
        services=tuple(dict.fromkeys((name, *kind.services)))
        if kind is not None
        else (name, f"{name}-agent", f"opskit-{name}"),
        settle_s=settle_s,
        kind=kind,
    )


def weights_bytes(start: tuple[str, ...], folder: Path) -> int | None:
    """Return the size of the model that a start command names (`--model DIR`); None when unknown."""
    for option, value in pairwise(start):
        if option == "--model":
            try:
                return sum(file.stat().st_size for file in (folder / value).glob("*.safetensors")) or None
            except OSError:
                return None
    return None


class InactiveService(Record):
    """A service that is installed and does not run.

    `state` is systemd's word (inactive, failed, activating), empty elsewhere. `stopped_s` is how long ago
    systemd stopped it cleanly, as after `systemctl stop`; None when it failed or never ran.
    """

    service: Service
    state: str = ""
    stopped_s: float | None = None

    @property
    def words(self) -> str:
        return f"{self.service.name}{f' ({self.state})' if self.state else ''}"


class ServerFacts(Record, kw_only=True):
    """All that a decision about a broken server stands on, in one reading.

    `containers` are the stack's behind it; `docker_problem` is why Docker could not be asked, empty when it
    could. `program` is a process that runs exactly the start command, on the port or not yet; `is_ours` tells
    that a repair of opskit started it, `other_ports` are where it listens if not on the server's port.
    `start_program` is the program of the start command as an absolute
    path, None when there is none; then `start_problem` says why. `at_work` is what somebody is doing that a
    repair would break off.
    """

    now_s: float
    user: str
    uid: int
    owner: PortOwner | None = None
    containers: tuple[AssessedContainer, ...] = ()
    docker_problem: str = ""
    has_docker: bool = True
    inactive: InactiveService | None = None
    program: Process | None = None
    is_ours: bool = False
    other_ports: frozenset[int] = frozenset()
    start_program: str | None = None
    start_problem: str = ""
    at_work: str | None = None

    @property
    def process(self) -> Process | None:
        """Return the process on its port, else the one that does not listen yet."""
        return self.owner.process if self.owner is not None else self.program


async def read_server(context: RecoveryContext, server: ManagedServer) -> ServerFacts:
    """Read everything about a server as it is now. Never raises for what is found."""
    port, (containers, problem) = await asyncio.gather(
        context.survey.get(read_port, "tcp", server.port, not_before=time.monotonic()),
        _containers(context, server),
    )
    owner, path = port.loopback_owner, context.environ.get("PATH")
    program, inactive, other_ports = None, None, frozenset[int]()
    start_program = shutil.which(server.start[0], path=path) if server.start else None
    if owner is None:
        if server.start:
            program = next(iter(await asyncio.to_thread(processes_like, server.start, path)), None)
        if not containers and program is None:
            inactive = await _inactive_service(context, server)
        other_ports = frozenset() if program is None else await asyncio.to_thread(ports_of, program.pid)
    elif owner.process is not None and (
        is_like(owner.process.command, server.start, path)
        # A script that starts it becomes it.
        or context.memory.has_started(server.name, owner.process)
    ):
        program = owner.process
    return ServerFacts(
        now_s=context.clock(),
        user=getpass.getuser(),
        uid=os.geteuid(),
        owner=owner,
        containers=containers,
        docker_problem=problem,
        has_docker=shutil.which("docker", path=path) is not None,
        inactive=inactive,
        program=program,
        other_ports=other_ports,
        is_ours=program is not None and context.memory.has_started(server.name, program),
        start_program=start_program,
        start_problem=unusable_program(server.start[0], path) if server.start and not start_program else "",
        # A pull keeps a model server from being restarted; work with Docker, and backups, containers.
        at_work=await hands_off.at_work(
            context,
            program=server.kind.program if server.kind else "",
            containers=bool(containers),
            files=[file for assessed in containers for file in assessed.container.compose_files],
            project=_project([assessed.container for assessed in containers]),
        ),
    )


def _project(containers: Sequence[Container]) -> tuple[str, Sequence[Path]] | None:
    """Return the name and the files of the Compose project that containers belong to: empty for none of any.

    None where they are of several. A command of another project does not touch them.
    """
    projects = {(container.project or "", container.compose_files) for container in containers}
    return projects.pop() if len(projects) == 1 else None


async def _containers(
    context: RecoveryContext, server: ManagedServer
) -> tuple[tuple[AssessedContainer, ...], str]:
    """Read the containers of that server and assess them; or why Docker does not tell."""
    try:
        containers = await read_containers(context.docker, server.containers)
        survey = await survey_containers(
            context.docker,
            containers,
            context.config,
            history=hands_off.history(context),
            clock_s=context.clock(),
            obstacles=await read_start_obstacles(context.survey, containers),
        )
    except OpskitError as error:
        return (), error.message
    return tuple(assessed(survey, ContainerRules.of(context.config.recovery))), ""


async def _inactive_service(context: RecoveryContext, server: ManagedServer) -> InactiveService | None:
    """Return the installed service that would run it; None where there is none. Starts nothing."""
    read = _service_of_mac if context.platform == "darwin" else _service_of_linux
    for name in server.services:
        if (service := await read(context, name)) is not None:
            return service
    return None


async def _service_of_linux(context: RecoveryContext, name: str) -> InactiveService | None:
    unit = f"{name}.service"
    domains: tuple[Domain, ...] = ("user", "system")
    for domain in domains:
        shown = await unit_properties(context.environ, unit, *_UNIT_PROPERTIES, user=domain == "user")
        enabled = shown.get("LoadState") == "loaded" and shown.get("UnitFileState") in _ENABLED
        service = at_rest(name, units={unit: domain} if enabled else {})
        if service is None:
            continue
        state, ended = shown.get("ActiveState", ""), instant(shown.get("InactiveEnterTimestamp", ""))
        if state == "inactive" and shown.get("Result") == "success" and ended is not None:
            return InactiveService(service, state, max(0.0, context.clock() - ended.timestamp()))
        return InactiveService(service, state)
    return None


async def _service_of_mac(context: RecoveryContext, name: str) -> InactiveService | None:
    home = Path(context.environ.get("HOME", "/"))
    agents = home / "Library" / "LaunchAgents"
    is_formula = any((agents / f"{prefix}{name}.plist").is_file() for prefix in _BREW)
    folders = (home / "Applications", Path("/Applications"))
    listed = await output_of(("launchctl", "list"), timeout_s=_LAUNCHCTL_S, env=context.environ) or ""
    service = at_rest(
        name,
        brew=(name,) if is_formula and shutil.which("brew", path=context.environ.get("PATH")) else (),
        labels=[parts[2] for line in listed.splitlines()[1:] if len(parts := line.split("\t")) == 3],
        applications=[str(application) for folder in folders for application in folder.glob("*.app")],
    )
    return None if service is None else InactiveService(service)
