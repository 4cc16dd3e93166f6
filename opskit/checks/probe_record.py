"""What the probe of a node or an agent came to, and the finding that it makes."""

from typing import TYPE_CHECKING, Any, ClassVar

from opskit.checks.probe_stages import ProbeStage, process_json
from opskit.checks.remedies import address_remedy, agent_remedy, node_remedy, stranger_remedy
from opskit.checks.state import CODES, NodeState
from opskit.config.schema import AgentConfig, NodeConfig
from opskit.facts.agent import AgentFacts
from opskit.facts.node import NodeFacts
from opskit.llm.faults import SERVER_IS_WELL, FaultKind
from opskit.providers.kinds import ServerKind
from opskit.records import Record, asdict
from opskit.result import Finding, Status
from opskit.system.sockets import Listener

if TYPE_CHECKING:
    from opskit.checks.runner_assessment import RunnerAssessment
    from opskit.checks.upkeep import Upkeep


class ProbeOptions(Record):
    """What a probe may do. `model` and `load` are the permissions to load; `goal` asks for a whole answer."""

    model: str | None = None
    load: bool = False
    goal: str | None = None
    required: bool = False


class _TargetProbe(Record, kw_only=True):
    """What both have in common: where the probe ended, and why."""

    check: ClassVar[str]

    config: NodeConfig | AgentConfig
    state: NodeState
    detail: str
    stages: tuple[ProbeStage, ...] = ()
    process: Listener | None = None
    seconds: float = 0.0

    @property
    def is_well(self) -> bool:
        return self.state in (NodeState.OK, NodeState.SLOW)

    @property
    def status(self) -> Status:
        raise NotImplementedError

    def advice(self) -> str | None:
        """Return what to type next; None when nothing is to be done."""
        raise NotImplementedError

    def evidence(self) -> dict[str, Any]:
        """Return what readers of `--json` get; what is not known is left out."""
        raise NotImplementedError

    def finding(self) -> Finding:
        status = self.status
        code = CODES.get(self.state) if status in (Status.FAIL, Status.WARN) else None
        return Finding(
            self.check,
            self.config.name,
            status,
            self.state.shown,
            self.detail,
            code,
            self.advice(),
            self.seconds,
            self.evidence(),
        )


class NodeProbe(_TargetProbe, kw_only=True):
    """What the probe of one node came to.

    `model` was asked and `first_token_s` says that it gave a token; `answer` is its whole answer where a goal
    was given. `fault` is why its question failed, where a request failed. `loaded` is a model that the
    probe loaded. `listed` False means that the node does not hold the wanted model. `slots` are all
    and busy ones, where every slot was looked at. `runner` is what the process behind a model showed, where
    that ended the probe. `kept` is the kind of server as the process that runs is kept, where it was looked
    at.
    """

    check: ClassVar = "node"

    config: NodeConfig
    options: ProbeOptions
    facts: NodeFacts
    remedy: str | None = None
    model: str | None = None
    first_token_s: float | None = None
    answer: str | None = None
    fault: FaultKind | None = None
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
        required = self.config.required or self.options.required
        match self.state:
            case NodeState.OK:
                return Status.PASS if self.facts.address_problem is None else Status.WARN
            case NodeState.SLOW:
                return Status.WARN
            case NodeState.IDLE | NodeState.BUSY | NodeState.LOADING:
                return Status.INCONCLUSIVE if required or self.options.load else Status.SKIP
            case NodeState.REFUSED | NodeState.UNREACHABLE if not required:
                return Status.WARN if self.config.explicit else Status.SKIP
            case _:
                return Status.FAIL

    def advice(self) -> str | None:
        if self.facts.address_problem is not None:
            return address_remedy(self.config, self.facts.address_problem)
        return self.remedy or node_remedy(
            self.config, self.state, model=self.model, process=self.process, kind=self.kept or self.facts.kind
        )

    def evidence(self) -> dict[str, Any]:
        facts = self.facts
        known = {
            "server": facts.version,
            "models": None
            if facts.models is None
            else [name for model in facts.models for name in model.names],
            "resident": [model.name for model in facts.resident] if facts.residency_known else None,
            "lists_it": None if self.listed else False,
            "loaded": self.loaded,
            "slots": None if self.slots is None else {"total": self.slots[0], "busy": self.slots[1]},
            "first_token_s": None if self.first_token_s is None else round(self.first_token_s, 4),
            "model": self.model,
            "answer": None if self.answer is None else self.answer[:500],
            "process": None if self.process is None else process_json(self.process),
            "fault": None if self.fault is None else self.fault.value,
        }
        stages = [stage.as_json() for stage in self.stages]
        known = {key: value for key, value in known.items() if value is not None}
        return {"url": self.config.url, "ladder": stages, **known}


class AgentProbe(_TargetProbe, kw_only=True):
    """What the probe of one agent came to; `upkeep` is that of its process, where it was looked at."""

    check: ClassVar = "agent"

    config: AgentConfig
    facts: AgentFacts
    upkeep: "Upkeep | None" = None

    @property
    def status(self) -> Status:
        match self.state:
            case NodeState.OK:
                return Status.PASS
            case NodeState.SLOW | NodeState.BUSY:
                return Status.WARN
            case NodeState.REFUSED | NodeState.UNREACHABLE if not self.config.required:
                return Status.WARN if self.config.explicit else Status.SKIP
            case _:
                return Status.FAIL

    def advice(self) -> str | None:
        if self.facts.address_problem is not None:
            return address_remedy(self.config, self.facts.address_problem)
        if self.state is NodeState.FAILING and self.facts.is_stranger:
            return stranger_remedy(self.config)
        if self.upkeep is None:
            return agent_remedy(self.config, self.state)
        return agent_remedy(self.config, self.state, restart=self.upkeep.restart, log=self.upkeep.log)

    def evidence(self) -> dict[str, Any]:
        known: dict[str, Any] = {"url": self.config.url, "ladder": [stage.as_json() for stage in self.stages]}
        if self.facts.levels:
            known["levels"] = self.facts.levels
        if self.facts.queue is not None:
            known["queue"] = asdict(self.facts.queue)
        if self.facts.last_error:
            known["last_error"] = self.facts.last_error
        if self.process is not None:
            known["process"] = process_json(self.process)
        return known
