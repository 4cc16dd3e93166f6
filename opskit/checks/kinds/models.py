"""Kinds that ask model nodes and agents for an answer: node_ladder, model, and what `opskit probe` says.

Nothing is loaded unless a check says `load: true`.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from opskit.checks.kinds.network import Url, without_secrets
from opskit.checks.spec import CheckContext, NotHere, Observation, kind, unknown_member
from opskit.checks.state import NodeState
from opskit.config.fields import Flag, Text
from opskit.config.schema import NodeConfig, Source
from opskit.config.values import Parameters
from opskit.llm.verdict import judge
from opskit.result import Finding, Status

if TYPE_CHECKING:
    from opskit.checks.probe_record import NodeProbe

PROMPT = "Reply with the single word ready."
_OPEN = (Status.INCONCLUSIVE, Status.SKIP)
_NOT_ASKED = (NodeState.UNREACHABLE, NodeState.UNAUTHORISED)
#: Values that only a node which was asked for a token can tell.
_OF_A_TOKEN = {"token", "first_token_s", "answered", "answer", "verdict", "seconds", "error"}
_YIELDS = {
    "token": "whether a first token came",
    "state": "ok, slow, busy, loading, wedged, failing, refused, unreachable, unauthorised",
    "reached": "the last rung that held: tcp, http, models, resident, first token, ...",
    "rungs": "all rungs that held",
    "first_token_s": "seconds to the first token",
    "model": "the model that was asked",
    "models": "models that the node holds",
    "resident": "models that are loaded",
    "server": "what the server calls itself",
    "seconds": "how long it all took",
    "error": "null",
}
#: A probe ends by itself long before, but it does not leave a server that loads a model (wire facts A8).
_LIMIT_S = 1800.0


class NodeParams(Parameters):
    """A node of the configuration by name, or any server by its address."""

    node: Text | None = None
    url: Url | None = None
    source: Source = "ollama"

    def __post_init__(self) -> None:
        if (self.node is None) == (self.url is None):
            raise ValueError("needs either node (a name of the configuration) or url")

    @property
    def shown(self) -> str:
        return self.node or without_secrets(self.url or "")


class ModelParams(NodeParams):
    """`model` None is whatever is loaded; `load` permits to load it."""

    model: Text | None = None
    load: Flag = False
    prompt: Text = PROMPT


def _node(params: NodeParams, context: CheckContext) -> NodeConfig:
    """Raises Unjudged for a node that the configuration does not have."""
    if params.url is not None:
        # Its name is that of the lock which keeps two probes from asking one server at once.
        name = "".join(char if char.isalnum() else "-" for char in params.url.partition("://")[2])[:80]
        return NodeConfig(name, params.url.rstrip("/"), params.source)
    try:
        return context.survey.config.node(params.node or "")
    except KeyError as exc:
        known = [node.name for node in context.survey.config.nodes]
        raise unknown_member("node", str(params.node), known) from exc


async def _probed(context: CheckContext, config: NodeConfig, **options: Any) -> "NodeProbe":
    from opskit.checks.node_probe import probe_node
    from opskit.checks.probe_record import ProbeOptions

    return await probe_node(context.survey, config, ProbeOptions(required=True, **options))


@kind(
    "a model node up to its first token: tcp, http, models, resident, token; loads nothing",
    _YIELDS,
    {"token": True},
    lambda p: str(p.shown),
    timeout_s=_LIMIT_S,
    imports=("opskit.checks.node_probe",),
)
async def node_ladder(params: NodeParams, context: CheckContext) -> Observation:
    probe = await _probed(context, _node(params, context))
    return _observed(probe, _values(probe))


def _values(probe: "NodeProbe") -> dict[str, Any]:
    passed = [stage.name for stage in probe.stages if stage.status is Status.PASS]
    evidence = probe.evidence()
    return {
        "token": probe.first_token_s is not None,
        "state": probe.state.shown,
        "reached": passed[-1] if passed else None,
        "rungs": passed,
        "first_token_s": evidence.get("first_token_s"),
        "model": probe.model,
        # What the node did not tell is not there, rather than empty.
        **{key: evidence[key] for key in ("models", "resident") if key in evidence},
        "server": probe.facts.version,
        "seconds": probe.seconds,
    }


def _observed(probe: "NodeProbe", values: Mapping[str, Any]) -> Observation:
    """What a probe tells. Of a node that was not asked, or could not be, its silence tells nothing."""
    finding = probe.finding()
    undecided = probe.detail if probe.status in _OPEN else ""
    unasked = undecided or probe.state in _NOT_ASKED
    return Observation(
        values,
        probe.detail,
        problem=probe.detail if unasked else "",
        settled=values.keys() - _OF_A_TOKEN if unasked else (),
        undecided=undecided,
        state=finding.state,
        code=finding.code,
        remedy=finding.remedy,
        evidence={key: finding.evidence[key] for key in ("ladder", "process") if key in finding.evidence},
    )


@kind(
    "a model gives a real answer that is no echo; it is loaded only with `load: true`",
    {
        **_YIELDS,
        "resident": "whether it was loaded before",
        "loaded": "whether this check loaded it",
        "answered": "whether a whole, honest answer came",
        "answer": "the answer",
        "verdict": "empty, only_thinking, call, echo, loop, cut_off, or null for a good answer",
    },
    {"answered": True},
    lambda p: f"{p.shown}/{p.model or 'loaded model'}",
    timeout_s=_LIMIT_S,
    imports=("opskit.checks.node_probe",),
)
async def model(params: ModelParams, context: CheckContext) -> Observation:
    config = _node(params, context)
    if not params.load:
        refusal = await _not_resident(params, config, context)
        if refusal is not None:
            return refusal
    probe = await _probed(context, config, model=params.model, load=params.load, goal=params.prompt)
    answer = probe.answer
    verdict = judge(answer, (params.prompt,), length_is_fine=True) if answer is not None else None
    values = _values(probe)
    if "resident" in values:
        values["resident"] = values["model"] in values["resident"]
    values |= {
        "loaded": probe.loaded is not None,
        "answered": answer is not None and verdict is None and probe.is_well,
        "answer": answer,
        "verdict": verdict.value if verdict else None,
    }
    return _observed(probe, values)


async def _not_resident(params: ModelParams, config: NodeConfig, context: CheckContext) -> Observation | None:
    """A check that may not load says so, and does not ask; None when the model is loaded, or nobody knows."""
    from opskit.facts.node import read_node

    if params.model is None:
        return None
    facts = await context.survey.get(read_node, config, not_before=context.not_before)
    if facts.models is None or facts.silence is not None:
        # The probe says better what is wrong.
        return None
    listed = [name for model in facts.models for name in model.names]
    model = facts.model_called(params.model)
    if model is not None and any(loaded.name == model.name for loaded in facts.resident):
        return None
    values = {"token": False, "resident": False, "answered": False, "models": listed}
    if model is None:
        remedy = facts.likely_kind.pull_hint(params.model) or None
        detail = f"{config.name} does not hold {params.model}"
        return Observation(values, detail, state="missing", code="MODEL_001", remedy=remedy)
    why = "is not loaded" if facts.residency_known else "may not be loaded (the server does not tell)"
    detail = f"{params.model} {why}, and this check may not load it (`load: true` lets it)"
    settled = ("resident", "models") if facts.residency_known else ("models",)
    return Observation(values, problem=detail, settled=settled, undecided=detail, state="not loaded")


class ProbeParams(Parameters):
    """A node or an agent of the configuration; neither means the chain of them."""

    node: Text | None = None
    agent: Text | None = None

    def __post_init__(self) -> None:
        if self.node is not None and self.agent is not None:
            raise ValueError("needs either node or agent, or neither for the chain")

    @property
    def shown(self) -> str:
        return self.node or self.agent or "chain"


@kind(
    "what `opskit probe` says: of a node, of an agent, or of the chain whether a request is answered",
    {
        "status": "pass, warn, fail, skip (it is not there, and nobody asked for it), inconclusive",
        "state": "ok, slow, busy, loading, wedged, failing, refused, unreachable, unauthorised",
    },
    {"status": {"not": "fail"}},
    lambda p: str(p.shown),
    timeout_s=_LIMIT_S,
    imports=("opskit.checks.probe",),
    judges_itself=True,
)
async def probe(params: ProbeParams, context: CheckContext) -> Finding:
    from opskit.checks.agent_probe import probe_agent
    from opskit.checks.node_probe import probe_node
    from opskit.checks.probe import answered
    from opskit.checks.probe_record import ProbeOptions

    survey, config, not_before = context.survey, context.survey.config, context.not_before
    if params.node is not None:
        node = next((node for node in config.nodes if node.name == params.node), None)
        if node is None:
            raise unknown_member("node", params.node, [node.name for node in config.nodes])
        return (await survey.get(probe_node, node, ProbeOptions(), not_before=not_before)).finding()
    if params.agent is not None:
        agent = config.agent_named(params.agent)
        if agent is None:
            raise unknown_member("agent", params.agent, [agent.name for agent in config.agents])
        return (await survey.get(probe_agent, agent, not_before=not_before)).finding()
    if not config.nodes:
        raise NotHere("no node is configured")
    return await answered(context)
