"""Everything that a diagnosis may look at: facts, gathered once, frozen. Secrets do not get in here."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from opskit.checks.container_assessment import ContainerAssessment
from opskit.checks.state import NodeState
from opskit.config.origins import Origin
from opskit.config.schema import AgentConfig, Config, NodeConfig
from opskit.doctor.scheduled import ScheduleFacts
from opskit.facts.container import Container
from opskit.facts.environment import Environment
from opskit.facts.port_owner import PortOwner
from opskit.llm.faults import Fault, FaultKind
from opskit.providers.base import ModelInfo, Resident
from opskit.providers.kinds import ServerKind, expected_kind
from opskit.result import Finding, Status


@dataclass(frozen=True, slots=True)
class ConfigProblem:
    """One thing that is wrong with the configuration; never quotes a value."""

    where: str
    text: str
    code: str
    remedy: str


@dataclass(frozen=True, slots=True)
class ExaminedNode:
    """One model node. `trouble` is why the server could not be recognised; `kind` what it is.

    `state` and `detail` are the end of its ladder; `model_fault`, with its `remedy`, is a fault of the model
    `asked` that no restart of the server mends. `shapes` are the bytes that a token of context costs, by
    model, where the server tells.
    """

    config: NodeConfig
    state: NodeState
    detail: str = ""
    kind: ServerKind | None = None
    trouble: Fault | None = None
    models: tuple[ModelInfo, ...] | None = None
    resident: tuple[Resident, ...] = ()
    pid: int | None = None
    stopped: bool = False
    model_fault: FaultKind | None = None
    asked: str = ""
    remedy: str = ""
    shapes: Mapping[str, int] = field(default_factory=dict)
    sent_words: int | None = None
    read_tokens: int | None = None
    deep_model: str = ""

    @property
    def likely_kind(self) -> ServerKind:
        """What it is, or where it did not tell what it is configured as."""
        return self.kind or expected_kind(self.config.source)


@dataclass(frozen=True, slots=True)
class ExaminedAgent:
    """One agent. `known` tells whether what answers there speaks as an agent does; None: nothing answered."""

    config: AgentConfig
    state: NodeState
    detail: str = ""
    known: bool | None = None


@dataclass(frozen=True, slots=True)
class DiskFacts:
    """The room around a path. `what` names the path's use."""

    what: str
    path: str
    used_percent: float
    free_bytes: int
    device: int = 0


@dataclass(frozen=True, slots=True)
class DockerFacts:
    """Docker as seen from here.

    `told_by` is what decides where it is looked for: DOCKER_HOST, DOCKER_CONTEXT, a context's name, default.
    `others` are sockets elsewhere on this machine at which a daemon answers.
    """

    looked: bool = False
    answers: bool = False
    where: str = ""
    told_by: str = "default"
    problem: str = ""
    invalid: bool = False
    socket_missing: bool = False
    permitted: bool = True
    silent: bool = False
    installed: bool = False
    desktop: bool = False
    others: tuple[str, ...] = ()
    root: str | None = None


@dataclass(frozen=True, slots=True)
class ExaminedContainer:
    """One container, assessed; the values of its variables are left out of `container`.

    `project` is its Compose project by the name of the configuration. `of_stack`: a name or a label puts it
    there, not just its variables.
    """

    container: Container
    assessment: ContainerAssessment
    project: str | None = None
    environment: Environment = field(default_factory=Environment)
    of_stack: bool = True

    @property
    def name(self) -> str:
        return self.container.name

    @property
    def network_mode(self) -> str:
        return self.container.network_mode

    @property
    def ports(self) -> frozenset[int]:
        """The ports that it publishes on the host."""
        return frozenset(one.host_port for one in self.container.bindings if one.host_port is not None)


@dataclass(frozen=True, slots=True)
class ProjectFacts:
    """A Compose project of `stack.compose`. `problem` is what Compose says of its files."""

    name: str
    files: tuple[str, ...]
    problem: str = ""
    missing_program: bool = False
    services: tuple[str, ...] = ()
    unset: tuple[str, ...] = ()
    command: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ClockFacts:
    """How far another clock is from ours in seconds, positive when it is ahead."""

    what: str
    where: str
    skew_s: float


@dataclass(frozen=True, slots=True)
class EnvFileFacts:
    """One file of `stack.env_files`: names only."""

    path: str
    problem: str = ""
    empty: tuple[str, ...] = ()
    placeholders: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Call:
    """A request to a model as a log tells it. `fault` None: it is not known to have failed."""

    client: str
    node: str
    model: str
    at: float | None
    num_ctx: int | None = None
    fault: str | None = None
    prompt_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Cut:
    """Ollama's own log says that it cut a prompt."""

    source: str
    limit: int
    prompt: int


@dataclass(frozen=True, slots=True)
class Evidence:
    """One examination, whole."""

    config: Config
    now: datetime
    platform: str = "linux"
    in_docker: bool = False
    origins: Mapping[str, Origin] = field(default_factory=dict)
    problems: tuple[ConfigProblem, ...] = ()
    notes: tuple[str, ...] = ()
    shell: Environment = field(default_factory=Environment)
    findings: tuple[Finding, ...] = ()
    nodes: tuple[ExaminedNode, ...] = ()
    agents: tuple[ExaminedAgent, ...] = ()
    holders: Mapping[int, tuple[PortOwner, ...]] = field(default_factory=dict)
    disks: tuple[DiskFacts, ...] = ()
    memory_used_percent: float | None = None
    memory_available_bytes: int | None = None
    memory_total_bytes: int | None = None
    localhost: tuple[str, ...] | None = None
    docker: DockerFacts = field(default_factory=DockerFacts)
    containers: tuple[ExaminedContainer, ...] = ()
    network_exists: bool | None = None
    projects: tuple[ProjectFacts, ...] = ()
    clocks: tuple[ClockFacts, ...] = ()
    env_files: tuple[EnvFileFacts, ...] = ()
    calls: tuple[Call, ...] = ()
    cuts: tuple[Cut, ...] = ()
    schedule: ScheduleFacts | None = None

    def finding(self, check: str) -> Finding | None:
        return next((one for one in self.findings if one.check == check), None)

    def failed(self, check: str) -> bool:
        found = self.finding(check)
        return found is not None and found.status in (Status.FAIL, Status.WARN)

    def chosen(self, key: str) -> bool:
        return chosen(self.origins, key)


def chosen(origins: Mapping[str, Origin], key: str) -> bool:
    """Whether a person set this key, or one below it, in a file or in the environment."""
    return any(
        origin.kind != "default" and (name == key or name.startswith(f"{key}."))
        for name, origin in origins.items()
    )
