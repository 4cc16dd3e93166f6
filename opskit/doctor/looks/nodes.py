"""Looks at model nodes and agents: their ladders, what they are, what they hold. Nothing is loaded."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from opskit.checks.agents import climb_agent
from opskit.checks.ladder import ProbeOptions, climb
from opskit.checks.spec import Check, CheckContext, NotHere, Observation
from opskit.checks.state import NodeState
from opskit.config.schema import AgentConfig, NodeConfig
from opskit.doctor.evidence import AgentFacts, NodeFacts
from opskit.doctor.looks import deep
from opskit.doctor.looks.board import FactBoard, check
from opskit.llm.catalog import generates
from opskit.llm.faults import FaultKind, classify
from opskit.providers.agent import AgentClient
from opskit.providers.base import CallError, ModelInfo, Provider
from opskit.providers.node import Node
from opskit.result import Finding, Status

_GONE = (NodeState.REFUSED, NodeState.UNREACHABLE)
_OPEN = (NodeState.IDLE, NodeState.BUSY, NodeState.LOADING)
#: Models whose metadata is asked for; a catalogue of hundreds would take its time.
_SHOWN_MODELS = 8
_SPARE_S = 10.0


def node(board: FactBoard, config: NodeConfig, *, limit_s: float, ask: bool) -> Check:
    """The ladder of one node, and what it says of itself; `ask` sends the one prompt of `--deep`."""

    async def look(scene: CheckContext) -> Observation:
        whole = scene.around.config
        climbed, read = await asyncio.gather(
            climb(config, whole, ProbeOptions(), scene.around.locks), _read(config, scene)
        )
        state = _state(climbed)
        process = climbed.evidence.get("process") or {}
        facts = replace(
            read,
            state=state,
            detail=climbed.detail,
            pid=process.get("pid"),
            stopped=bool(process.get("stopped")),
            **_model_fault(climbed),
        )
        board.nodes[config.name] = facts
        if ask and state in (NodeState.OK, NodeState.SLOW) and _may_cut(facts):
            board.nodes[config.name] = await deep.asked(facts, scene)
        return _judged(climbed, state, explicit=config.explicit or config.required)

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
        whole = scene.around.config
        climbed = await climb_agent(config, whole)
        state = _state(climbed)
        async with AgentClient(config, whole.budgets) as client:
            known = await _is_agent(client, state)
        board.agents[config.name] = AgentFacts(config, state, climbed.detail, known)
        return _judged(climbed, state, explicit=config.explicit or config.required)

    return check(
        f"agent {config.name}",
        look,
        area="agents",
        target=config.name,
        timeout_s=limit_s + _SPARE_S,
        imports=("httpx", "opskit.providers.transport"),
    )


async def _is_agent(client: AgentClient, state: NodeState) -> bool | None:
    """Whether what answers speaks as agents do: a JSON object at /status or /health (SPEC D1, C1)."""
    if state is not NodeState.FAILING:
        return None if state in (*_GONE, NodeState.WEDGED) else True
    try:
        await client.status()
    except CallError as error:
        # An agent that is ill answers 5xx; a stranger has no such page, or does not speak JSON or HTTP.
        return error.status is not None and error.status >= 500
    return True


def _model_fault(climbed: Finding) -> dict[str, Any]:
    fault = climbed.evidence.get("fault")
    if fault is None:
        return {}
    asked = climbed.evidence.get("model", "")
    return {"model_fault": FaultKind(fault), "asked": asked, "remedy": climbed.remedy or ""}


def _state(found: Finding) -> NodeState:
    state = NodeState(found.state)
    idle = state is NodeState.OK and found.status is not Status.PASS
    return NodeState.IDLE if idle else state


def _judged(found: Finding, state: NodeState, *, explicit: bool) -> Observation:
    if state in _GONE and not explicit:
        raise NotHere(f"{found.detail}; nobody asked for it")
    values: Mapping[str, Any] = {"state": state.value}
    evidence = {"ladder": found.evidence.get("ladder", [])}
    well = state in (NodeState.OK, NodeState.SLOW)
    return Observation(
        values,
        found.detail,
        problem="" if well else found.detail,
        undecided=found.detail if state in _OPEN else "",
        state=found.state,
        code=found.code,
        remedy=found.remedy,
        evidence=evidence,
    )


async def _read(config: NodeConfig, scene: CheckContext) -> NodeFacts:
    """What the server is and what it holds, by its metadata alone."""
    whole = scene.around.config
    node = Node(config, replace(whole.budgets, metadata_s=whole.probe.http_s))
    facts = NodeFacts(config, NodeState.OK)
    try:
        try:
            provider = await node.provider()
        except CallError as error:
            return replace(facts, trouble=classify(error))
        facts = replace(facts, kind=provider.kind)
        try:
            models = tuple(filter(generates, await provider.models()))
            resident = await provider.resident() or ()
        except CallError:
            return facts
        facts = replace(facts, models=models, resident=resident)
        names = {one.name for one in resident}
        wanted = sorted(models, key=lambda one: (one.name not in names, one.size_bytes or 0))
        return replace(facts, shapes=await _shapes(provider, wanted[:_SHOWN_MODELS]))
    finally:
        await node.aclose()


def _may_cut(facts: NodeFacts) -> bool:
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
