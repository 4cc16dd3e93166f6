"""The probe of a node or an agent: its stages, where and why it ended, and the finding that it makes."""

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from opskit.checks.remedies import NO_DNS, address_remedy, agent_remedy, node_remedy, stranger_remedy
from opskit.checks.state import CODES, NodeState, judge_silence, state_of
from opskit.config.schema import AgentConfig, NodeConfig
from opskit.facts.address import AddressProblem
from opskit.facts.agent import AgentFacts
from opskit.facts.endpoint import connection_problem
from opskit.facts.node import NodeFacts
from opskit.llm.faults import SERVER_IS_WELL, Fault, FaultKind, classify
from opskit.providers.base import CallCause, CallError
from opskit.providers.kinds import ServerKind
from opskit.records import MutableRecord, Record, asdict, field
from opskit.result import Finding, Status
from opskit.system.host import is_loopback
from opskit.system.network import TcpResult, endpoint
from opskit.system.sockets import Listener, listener

if TYPE_CHECKING:
    from opskit.checks.runner_assessment import RunnerAssessment
    from opskit.checks.upkeep import Upkeep


class ProbeStage(Record):
    """One stage of a probe: tcp, http, models, resident, first token, ..."""

    name: str
    status: Status
    seconds: float
    detail: str

    def as_json(self) -> dict[str, Any]:
        seconds = round(self.seconds, 4)
        return {"rung": self.name, "status": self.status.value, "seconds": seconds, "detail": self.detail}


class ProbeEnded(Exception):  # noqa: N818 - which is a result, and stands in its record
    """The probe has ended before its last stage."""


class ProbeOptions(Record):
    """What a probe may do. `model` and `load` are the permissions to load; `goal` asks for a whole answer."""

    model: str | None = None
    load: bool = False
    goal: str | None = None
    required: bool = False


class TargetProbe(MutableRecord, kw_only=True):
    """The probe of a node or an agent, under way or ended: its stages so far, and what was seen on the way.

    `fault` is why its question failed, where a request to a model failed, `remedy_name` as in `Fault`.
    """

    check: ClassVar[str]

    config: NodeConfig | AgentConfig
    options: ProbeOptions = ProbeOptions()
    facts: NodeFacts | AgentFacts
    state: NodeState = NodeState.OK
    detail: str = ""
    remedy: str | None = None
    fault: FaultKind | None = None
    remedy_name: str = ""
    stages: list[ProbeStage] = field(default_factory=list)
    process: Listener | None = None
    seconds: float = 0.0

    @property
    def is_well(self) -> bool:
        return self.state in (NodeState.OK, NodeState.SLOW)

    @property
    def is_required(self) -> bool:
        return self.config.required or self.options.required

    @property
    def status(self) -> Status:
        match self.state:
            case NodeState.OK if self.facts.address_problem is None:
                return Status.PASS
            case NodeState.OK | NodeState.SLOW | NodeState.BUSY:
                return Status.WARN
            case NodeState.REFUSED | NodeState.UNREACHABLE if not self.is_required:
                return Status.WARN if self.config.explicit else Status.SKIP
        return Status.FAIL

    @abstractmethod
    def advice(self) -> str | None:
        """Return what to type next; None when nothing is to be done."""

    @abstractmethod
    def known(self) -> dict[str, Any]:
        """Return the evidence that is this target's own, None for what is not known."""

    def evidence(self) -> dict[str, Any]:
        """Return what readers of `--json` get; what is not known is left out."""
        known = {key: value for key, value in self.known().items() if value is not None}
        return {"url": self.config.url, "ladder": [stage.as_json() for stage in self.stages], **known}

    def finding(self) -> Finding:
        code = CODES.get(self.state) if self.status in (Status.FAIL, Status.WARN) else None
        return Finding(
            check=self.check,
            target=self.config.name,
            status=self.status,
            state=self.state.shown,
            detail=self.detail,
            code=code,
            remedy=self.advice(),
            seconds=self.seconds,
            evidence=self.evidence(),
        )

    def add(self, name: str, status: Status, seconds: float, detail: str) -> None:
        self.stages.append(ProbeStage(name, status, seconds, detail))

    def end(
        self,
        state: NodeState,
        detail: str,
        *,
        stage: str = "",
        seconds: float = 0.0,
        status: Status = Status.FAIL,
        remedy: str | None = None,
        fault: Fault | None = None,
    ) -> NoReturn:
        """End the probe, with a last stage where that has a name. Raises ProbeEnded."""
        if stage:
            self.add(stage, status, seconds, detail)
        self.state, self.detail, self.remedy = state, detail, remedy
        if fault is not None:
            self.fault, self.remedy_name = fault.kind, fault.remedy_name
        raise ProbeEnded

    def connected(self, tcp: TcpResult) -> None:
        """Add the first stage. Raises ProbeEnded when nothing accepts a connection."""
        proxy = self.config.proxy if isinstance(self.config, NodeConfig) else None
        url = proxy or self.config.url
        if tcp.problem is None:
            (host, port), name = endpoint(url), "" if proxy is None else "the proxy "
            self.add("tcp", Status.PASS, tcp.seconds, f"{name}{host}:{port} accepts connections")
            return
        state = NodeState.REFUSED if tcp.problem == "refused" else NodeState.UNREACHABLE
        remedy = NO_DNS if tcp.is_without_dns(endpoint(url)[0]) else None
        self.end(state, connection_problem(url, tcp), stage="tcp", seconds=tcp.seconds, remedy=remedy)

    def end_at_address(
        self, problem: AddressProblem, error: CallError, tcp: TcpResult, http_s: float
    ) -> NoReturn:
        """Add the stage at which an address leads past its server. Raises ProbeEnded."""
        if tcp.problem is None:
            self.connected(tcp)
        state = NodeState.FAILING if error.relayed else state_of(classify(error))
        self.end(state, problem.detail, stage="tcp" if tcp.problem else "http", seconds=http_s)

    def process_json(self) -> dict[str, Any] | None:
        process = self.process
        if process is None:
            return None
        cores = round(process.cpu, 2)
        return {"pid": process.pid, "name": process.name, "stopped": process.stopped, "cpu_cores": cores}

    async def reason(self, error: CallError, took_s: float) -> tuple[NodeState, str]:
        """Return the state behind a failed call; silence after an accepted connection needs evidence."""
        fault = classify(error)
        if fault.kind is FaultKind.FIRST_TOKEN_TIMEOUT and error.cause is CallCause.TIMEOUT:
            state, detail = judge_silence(
                progress_seen=False, others_served=False, process=await self.look_at_process(), seconds=took_s
            )
            return state, detail.replace("no token in", "it accepts connections and answers nothing for")
        status = f"HTTP {fault.status}: " if fault.status and fault.status != 200 else ""
        return state_of(fault), f"{status}{fault.detail}"

    async def look_at_process(self) -> Listener | None:
        """Return the process behind the port, when it is one of this machine; it is kept."""
        if not is_loopback(self.config.url):
            return None
        self.process = await listener(endpoint(self.config.url)[1]) or self.process
        return self.process


class NodeProbe(TargetProbe, kw_only=True):
    """What the probe of one node came to.

    `model` was asked and `first_token_s` says that it gave a token; `answer` is its whole answer where a goal
    was given. `loaded` is a model that the probe loaded. `listed` False means that the node does not hold the
    wanted model. `slots` are all and busy ones, where every slot was looked at. `runner` is what the process
    behind a model showed, where that ended the probe. `kept` is the kind of server as the process that runs
    is kept, where it was looked at.
    """

    check: ClassVar = "node"

    config: NodeConfig
    facts: NodeFacts
    model: str | None = None
    first_token_s: float | None = None
    answer: str | None = None
    loaded: str | None = None
    listed: bool = True
    slots: tuple[int, int] | None = None
    runner: "RunnerAssessment | None" = None
    kept: ServerKind | None = None

    @property
    def speaks(self) -> bool:
        """Tell whether the server answers in its protocol, whatever else is wrong."""
        return self.facts.version is not None

    @property
    def server_is_well(self) -> bool:
        """Tell whether what is wrong is not the server's: a restart would not help."""
        holds_none = self.state is NodeState.FAILING and self.facts.models == ()
        return holds_none or self.fault in SERVER_IS_WELL

    @property
    def model_fails(self) -> bool:
        """Tell whether the server answers, and one model on it fails."""
        return self.state is NodeState.FAILING and self.speaks and self.model is not None

    @property
    def status(self) -> Status:
        if self.state in (NodeState.IDLE, NodeState.BUSY, NodeState.LOADING):
            is_open = self.is_required or self.options.load
            return Status.INCONCLUSIVE if is_open else Status.SKIP
        return super().status

    def advice(self) -> str | None:
        if self.facts.address_problem is not None:
            return address_remedy(self.config, self.facts.address_problem)
        if self.state is NodeState.FAILING and self.facts.models == ():
            return self.remedy or self.facts.likely_kind.fill
        return self.remedy or node_remedy(
            self.config, self.state, process=self.process, kind=self.kept or self.facts.kind
        )

    def known(self) -> dict[str, Any]:
        facts = self.facts
        models = None if facts.models is None else [name for model in facts.models for name in model.names]
        return {
            "server": facts.version,
            "models": models,
            "resident": [model.name for model in facts.resident] if facts.residency_known else None,
            "lists_it": None if self.listed else False,
            "loaded": self.loaded,
            "slots": None if self.slots is None else {"total": self.slots[0], "busy": self.slots[1]},
            "first_token_s": None if self.first_token_s is None else round(self.first_token_s, 4),
            "model": self.model,
            "answer": None if self.answer is None else self.answer[:500],
            "process": self.process_json(),
            "fault": None if self.fault is None else self.fault.value,
        }


class AgentProbe(TargetProbe, kw_only=True):
    """What the probe of one agent came to; `upkeep` is that of its process, where it was looked at."""

    check: ClassVar = "agent"

    config: AgentConfig
    facts: AgentFacts
    upkeep: "Upkeep | None" = None

    def advice(self) -> str | None:
        if self.facts.address_problem is not None:
            return address_remedy(self.config, self.facts.address_problem)
        if self.state is NodeState.FAILING and self.facts.is_stranger:
            return stranger_remedy(self.config)
        upkeep = {} if self.upkeep is None else asdict(self.upkeep)
        return self.remedy or agent_remedy(self.config, self.state, **upkeep)

    def known(self) -> dict[str, Any]:
        return {
            "levels": self.facts.levels or None,
            "queue": None if self.facts.queue is None else asdict(self.facts.queue),
            "last_error": self.facts.last_error or None,
            "process": self.process_json(),
        }
