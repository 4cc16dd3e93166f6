"""Looks at model nodes and agents: their probes, what they are, what they hold. Nothing is loaded."""

import asyncio

from opskit.checks.agent_probe import AgentProbe, probe_agent
from opskit.checks.node_probe import NodeProbe, ProbeOptions, probe_node
from opskit.checks.spec import Check, CheckContext, NotHere, Observation
from opskit.checks.state import NodeState
from opskit.config.schema import AgentConfig, NodeConfig
from opskit.doctor.evidence import ExaminedAgent, ExaminedNode
from opskit.doctor.looks import deep
from opskit.doctor.looks.board import FactBoard, check
from opskit.facts.node import ReadingStep
from opskit.providers.base import CallError, ModelInfo, Provider

_GONE = (NodeState.REFUSED, NodeState.UNREACHABLE)
_OPEN = (NodeState.IDLE, NodeState.BUSY, NodeState.LOADING)
#: Models whose metadata is asked for; a catalogue of hundreds would take its time.
_SHOWN_MODELS = 8
_SPARE_S = 10.0


def node(board: FactBoard, config: NodeConfig, *, limit_s: float, ask: bool) -> Check:
    """The probe of one node, and what it says of itself; `ask` sends the one prompt of `--deep`."""

    async def look(scene: CheckContext) -> Observation:
        probe = await scene.around.get(probe_node, config, ProbeOptions())
        facts = await _examined(probe, scene)
        board.nodes[config.name] = facts
        if ask and probe.is_well and _may_cut(facts):
            board.nodes[config.name] = await deep.asked(facts, scene)
        return _judged(probe)

    return check(
        f"node {config.name}",
        look,
        area="nodes",
        target=config.name,
        timeout_s=limit_s + _SPARE_S,
        imports=("httpx", "opskit.providers.transport"),
    )


def agent(board: FactBoard, config: AgentConfig, *, limit_s: float) -> Check:
    async def look(scene: CheckContext) -> Observation:
        probe = await scene.around.get(probe_agent, config)
        known = None if probe.state is not NodeState.FAILING else not probe.facts.is_stranger
        board.agents[config.name] = ExaminedAgent(config, probe.state, probe.detail, known)
        return _judged(probe)

    return check(
        f"agent {config.name}",
        look,
        area="agents",
        target=config.name,
        timeout_s=limit_s + _SPARE_S,
        imports=("httpx", "opskit.providers.transport"),
    )


def _judged(probe: NodeProbe | AgentProbe) -> Observation:
    config, state, finding = probe.config, probe.state, probe.finding()
    if state in _GONE and not (config.explicit or config.required):
        raise NotHere(f"{probe.detail}; nobody asked for it")
    return Observation(
        {"state": state.value},
        probe.detail,
        problem="" if probe.is_well else probe.detail,
        undecided=probe.detail if state in _OPEN else "",
        state=finding.state,
        code=finding.code,
        remedy=finding.remedy,
        evidence={"ladder": finding.evidence["ladder"]},
    )


async def _examined(probe: NodeProbe, scene: CheckContext) -> ExaminedNode:
    """What the server is and what it holds, by its metadata alone."""
    facts, process = probe.facts, probe.process
    trouble = facts.fault if facts.failed in (ReadingStep.TCP, ReadingStep.HTTP) else None
    shapes: dict[str, int] = {}
    if facts.models is not None:
        names = {model.name for model in facts.resident}
        wanted = sorted(facts.models, key=lambda model: (model.name not in names, model.size_bytes or 0))
        provider = await scene.around.node(facts.config).provider()
        shapes = await _shapes(provider, wanted[:_SHOWN_MODELS])
    return ExaminedNode(
        facts.config,
        probe.state,
        probe.detail,
        facts.kind,
        trouble,
        facts.models,
        facts.resident,
        None if process is None else process.pid,
        process is not None and process.stopped,
        probe.fault,
        probe.model or "" if probe.fault else "",
        probe.advice() or "" if probe.fault else "",
        shapes,
    )


def _may_cut(facts: ExaminedNode) -> bool:
    """Whether a long prompt would be cut without an error."""
    return facts.kind is not None and facts.kind.context_per_request


async def _shapes(provider: Provider, models: list[ModelInfo]) -> dict[str, int]:
    async def one(model: ModelInfo) -> tuple[str, int | None]:
        try:
            return model.name, await provider.cache_bytes_per_token(model.name)
        except CallError:
            return model.name, None

    found = await asyncio.gather(*map(one, models))
    return {name: size for name, size in found if size}
