"""The ladder of one model node: tcp, http, models listed, model resident, first token (ops facts 0.1).

A probe does no harm: it asks only a resident model, for one token, by the rules of `opskit.llm.one_token`.
Nothing is loaded or swapped unless asked for.
"""

import asyncio
import math
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from opskit.checks.remedies import node_remedy
from opskit.checks.rungs import Ladder, ProbeFailed, fallen, tcp, why
from opskit.checks.state import CODES, NodeState
from opskit.checks.token import direct, first_token
from opskit.config.schema import Config, NodeConfig
from opskit.llm.catalog import generates
from opskit.llm.faults import classify
from opskit.llm.fit import GIB, fit, gib
from opskit.llm.loads import load_budget_s
from opskit.llm.one_token import may_be_asked
from opskit.llm.plan import same_model
from opskit.providers.base import (
    DEFAULT_MODEL,
    CallCause,
    CallError,
    ModelInfo,
    Provider,
    Resident,
)
from opskit.providers.node import Node
from opskit.result import Finding, Status
from opskit.system.host import available_memory_bytes, is_loopback
from opskit.system.lock import try_lock

#: Weights of models that are loaded on one machine are hardly larger.
_LARGEST_BYTES = 60 * GIB


@dataclass(frozen=True, slots=True)
class ProbeOptions:
    """What a probe may do. `model` and `load` are the permissions to load; `goal` asks for a whole answer."""

    model: str | None = None
    load: bool = False
    goal: str | None = None
    required: bool = False


async def climb(config: NodeConfig, whole: Config, wish: ProbeOptions, locks: Path) -> Finding:
    """Climb as far as it goes and say where it ended and why. Never raises for what the server does.

    `evidence` holds the rungs, the models and the resident ones.
    """
    began = time.monotonic()
    ladder = Ladder(config)
    budgets = replace(whole.budgets, metadata_s=whole.probe.http_s)
    node = Node(config, budgets)
    limit = limit_s(whole, may_load=wish.load or wish.model is not None)
    try:
        async with asyncio.timeout(limit):
            await _climb(ladder, node, whole, wish, locks)
    except ProbeFailed as fallen:
        ladder.state, ladder.detail, ladder.remedy = fallen.state, fallen.detail, fallen.remedy
    except TimeoutError:
        ladder.state, ladder.detail = NodeState.WEDGED, f"the probe was ended after {limit:.0f} s"
    finally:
        await node.aclose()
    return _finding(config, ladder, wish, time.monotonic() - began)


def limit_s(whole: Config, *, may_load: bool = False) -> float:
    """Seconds within which a climb has ended by itself.

    Every climb has room for a load: a request may turn into one, and a server that loads is not left.
    """
    asking_s = 2 * whole.probe.http_s + 2 * whole.probe.first_token_s + whole.probe.cycle_s
    loads_s = load_budget_s(whole.budgets, _LARGEST_BYTES)
    return asking_s + loads_s * (2 if may_load else 1)


async def _climb(ladder: Ladder, node: Node, whole: Config, wish: ProbeOptions, locks: Path) -> None:
    await tcp(ladder, whole)
    provider, slow = await _http(ladder, node, whole)
    models = await _models(ladder, provider)
    resident, known = await _resident(ladder, provider, models)
    chosen = await _choose(ladder, provider, models, resident, known=known, whole=whole, wish=wish)
    with try_lock(locks / f"probe-{ladder.node.name}.lock") as mine:
        if not mine:
            ladder.rung("first token", Status.SKIP, 0.0, "another probe is asking this node just now")
            raise ProbeFailed(NodeState.BUSY, "another probe is asking this node just now")
        await first_token(ladder, provider, chosen, whole)
        if wish.goal is not None:
            await direct(ladder, provider, chosen, whole, wish.goal)
    if slow and ladder.state is NodeState.OK:
        ladder.state = NodeState.SLOW
        ladder.detail = f"its health page took {slow:.1f} s; {ladder.detail}"


async def _http(ladder: Ladder, node: Node, whole: Config) -> tuple[Provider, float]:
    """The provider, and the seconds of a slow health page (0.0 when it was quick)."""
    began = time.monotonic()
    try:
        provider = await node.provider()
        ladder.kind = provider.kind
        version = await provider.version()
    except CallError as error:
        took = time.monotonic() - began
        state, detail = await why(ladder, error, took)
        ladder.rung("http", Status.FAIL, took, detail)
        raise ProbeFailed(state, detail) from error
    took = time.monotonic() - began
    ladder.evidence["server"] = version
    ladder.rung("http", Status.PASS, took, version)
    return provider, took if took > whole.probe.slow_http_s else 0.0


async def _models(ladder: Ladder, provider: Provider) -> tuple[ModelInfo, ...]:
    began = time.monotonic()
    try:
        models = tuple(model for model in await provider.models() if generates(model))
    except CallError as error:
        took = time.monotonic() - began
        state, detail = await why(ladder, error, took)
        ladder.rung("models", Status.FAIL, took, detail)
        raise ProbeFailed(state, f"its list of models cannot be read: {detail}") from error
    names = [model.name for model in models]
    ladder.evidence["models"] = names
    if not models:
        ladder.rung("models", Status.FAIL, time.monotonic() - began, "no model that can chat is installed")
        raise ProbeFailed(NodeState.FAILING, "the server runs, but no model that can chat is installed")
    ladder.rung("models", Status.PASS, time.monotonic() - began, f"{len(names)}: {_some(names)}")
    return models


async def _resident(
    ladder: Ladder, provider: Provider, models: tuple[ModelInfo, ...]
) -> tuple[tuple[Resident, ...], bool]:
    """What is loaded, and whether that could be told."""
    began = time.monotonic()
    try:
        resident = await provider.resident()
    except CallError as error:
        took = time.monotonic() - began
        if error.cause is CallCause.TIMEOUT and provider.kind.loads_on_demand:
            # Ollama holds /api/ps for the whole load of an MLX-engine runner (wire facts A2).
            detail = f"/api/ps is silent for {took:.1f} s: a model is being loaded"
            ladder.rung("resident", Status.INCONCLUSIVE, took, detail)
            raise ProbeFailed(NodeState.LOADING, detail) from error
        if error.cause is not CallCause.STATUS:
            state, detail = await why(ladder, error, took)
            ladder.rung("resident", Status.FAIL, took, detail)
            raise ProbeFailed(state, detail) from error
        # It lists models and cannot say which is loaded: that alone makes it neither well nor ill.
        resident = None
    if resident is None:
        resident = tuple(Resident(model.name) for model in models if model.resident)
        known = bool(resident)
    else:
        known = True
    resident = tuple(r for r in resident if any(r.name == model.name for model in models))
    if known:
        ladder.evidence["resident"] = [r.name for r in resident]
    took = time.monotonic() - began
    if resident:
        ladder.rung("resident", Status.PASS, took, _some([_described(r) for r in resident]))
    else:
        told = "no model is loaded" if known else "the server does not tell what is loaded"
        ladder.rung("resident", Status.SKIP, took, told)
    return resident, known


async def _choose(
    ladder: Ladder,
    provider: Provider,
    models: tuple[ModelInfo, ...],
    resident: tuple[Resident, ...],
    *,
    known: bool,
    whole: Config,
    wish: ProbeOptions,
) -> Resident:
    """The model to ask; loads it only when the wish allows. Raises ProbeFailed when there is none to ask."""
    if wish.model is not None:
        model = next((m for m in models if same_model(wish.model, m.name)), None)
        if model is None:
            pull = provider.kind.pull_hint("NAME")
            remedy = "`opskit models list` shows the names" + (f"; {pull} installs one" if pull else "")
            ladder.evidence["lists_it"] = False
            raise ProbeFailed(NodeState.IDLE, f"it does not list {wish.model}", remedy)
        loaded = next((r for r in resident if r.name == model.name), None)
        return loaded or await _load(ladder, provider, model, resident, whole)
    if resident:
        return _steadiest(resident)
    if wish.load:
        fitting = [m for m in models if not m.cloud and _fits(ladder, m, resident, whole).ok is not False]
        if not fitting:
            raise ProbeFailed(NodeState.IDLE, "none of its models fits in the free memory")
        smallest = min(fitting, key=lambda m: (m.size_bytes or 0, m.parameters or 0))
        return await _load(ladder, provider, smallest, resident, whole)
    told = "no model is loaded" if known else "the server does not tell which model is loaded"
    detail = f"{told}, so no token was asked for: a probe does not load"
    ladder.rung("first token", Status.SKIP, 0.0, detail)
    raise ProbeFailed(NodeState.IDLE, detail)


async def _load(
    ladder: Ladder, provider: Provider, model: ModelInfo, resident: tuple[Resident, ...], whole: Config
) -> Resident:
    room = _fits(ladder, model, resident, whole)
    if room.ok is False:
        ladder.rung("load", Status.FAIL, 0.0, f"{model.name}: {room.reason}")
        raise ProbeFailed(NodeState.FAILING, f"{model.name} was not loaded: {room.reason}")
    began = time.monotonic()
    if provider.kind.loads_on_demand:
        budget = load_budget_s(whole.budgets, model.size_bytes)
        try:
            async with asyncio.timeout(budget):
                await provider.load(model.name)
        except TimeoutError as exc:
            detail = f"{model.name} was not loaded within {budget:.0f} s"
            ladder.rung("load", Status.FAIL, budget, detail)
            raise ProbeFailed(NodeState.LOADING, detail) from exc
        except CallError as error:
            fault = classify(error)
            detail = f"loading {model.name} failed: {fault.kind.value}: {fault.detail}"
            ladder.rung("load", Status.FAIL, time.monotonic() - began, detail)
            raise fallen(ladder, fault, model.name, detail) from error
    took = time.monotonic() - began
    ladder.rung("load", Status.PASS, took, f"{model.name} loaded in {took:.1f} s")
    ladder.evidence["loaded"] = model.name
    return Resident(model.name)


def _fits(ladder: Ladder, model: ModelInfo, resident: tuple[Resident, ...], whole: Config) -> Any:
    return fit(
        model.size_bytes,
        resident=any(r.name == model.name for r in resident),
        local=is_loopback(ladder.node.url),
        available_bytes=available_memory_bytes(),
        resident_bytes=[r.size_bytes or 0 for r in resident],
        factor=whole.router.memory_factor,
        reserve_bytes=whole.router.memory_reserve_bytes,
    )


def _steadiest(resident: tuple[Resident, ...]) -> Resident:
    """Of several loaded models that may be asked the smallest: it answers soonest and disturbs least."""
    return min(resident, key=lambda r: (not may_be_asked(r), r.size_bytes or math.inf))


def _described(resident: Resident) -> str:
    size = resident.size_bytes
    partly = size is not None and resident.size_vram_bytes is not None and 0 < resident.size_vram_bytes < size
    name = "the model it was started with" if resident.name == DEFAULT_MODEL else resident.name
    return name + (f" ({gib(size)}{', partly on the CPU' if partly else ''})" if size else "")


def _some(names: list[str], limit: int = 4) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def _finding(node: NodeConfig, ladder: Ladder, wish: ProbeOptions, seconds: float) -> Finding:
    required = node.required or wish.required
    state = ladder.state
    if state is NodeState.OK:
        status = Status.PASS
    elif state is NodeState.SLOW:
        status = Status.WARN
    elif state in (NodeState.IDLE, NodeState.BUSY, NodeState.LOADING):
        status = Status.INCONCLUSIVE if required or wish.load else Status.SKIP
    elif state in (NodeState.REFUSED, NodeState.UNREACHABLE) and not required:
        status = Status.WARN if node.explicit else Status.SKIP
    else:
        status = Status.FAIL
    process = ladder.evidence.get("process")
    return Finding(
        "node",
        node.name,
        status,
        state.shown,
        ladder.detail,
        CODES.get(state) if status in (Status.FAIL, Status.WARN) else None,
        ladder.remedy
        or node_remedy(node, state, model=ladder.evidence.get("model"), process=process, kind=ladder.kind),
        seconds,
        {"url": node.url, "ladder": ladder.rungs, **ladder.evidence},
    )
