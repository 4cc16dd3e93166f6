"""Which model would answer, in order, and why each of the others would not: one pure function.

A first choice (SPEC B8, D4): what was asked for by name; the category's models that are loaded, then models
that must be loaded; then whatever else is there, loaded and powerful first. A fallback (SPEC A3, A4) must be
quick and dependable instead: loaded models first, MLX before Ollama, in the order of the fallback lists.
Inside each tier an overloaded node (SPEC B10) comes later, and a longer queue after a shorter one.
"""

from collections.abc import Callable, Collection, Mapping
from enum import StrEnum
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import NamedTuple

from opskit.config.schema import RouterConfig, Source
from opskit.llm.catalog import NodeView, Snapshot
from opskit.llm.faults import Fault
from opskit.llm.fit import Fit
from opskit.llm.health import CircuitState, Health
from opskit.providers.base import DEFAULT_MODEL, ModelInfo, short_name
from opskit.records import Record


class ModelRequest(Record):
    """What a request wants of the choice.

    `source` is the back end a task's block was given (SPEC B10). `fallback` is True once a model has failed.
    """

    model: str | None = None
    node: str | None = None
    category: str = "default"
    source: str | None = None
    fallback: bool = False


class Candidate(Record):
    """A model on a node that may be asked. `resident` None means unknown."""

    node: str
    source: Source
    model: str
    resident: bool | None
    why: str
    size_bytes: int | None = None
    num_ctx: int | None = None


class SkipReason(StrEnum):
    """Why a model, or a whole node, may not be asked."""

    NODE_FAULT = "node_fault"
    NOT_ASKED_FOR = "not_asked_for"
    CLOUD = "cloud"
    FAILED_BEFORE = "failed_before"
    CIRCUIT_OPEN = "circuit_open"
    TOO_LARGE = "too_large"


class Skipped(Record):
    """A model, or a whole node (`model` empty), that may not be asked, and why in words.

    `fault` is that of the node; `reason` is given by the plan of a request.
    """

    node: str
    model: str
    why: str
    reason: SkipReason | None = None
    fault: Fault | None = None


class Plan(Record):
    candidates: tuple[Candidate, ...]
    skipped: tuple[Skipped, ...]


class PlanContext(Record):
    """Everything the choice depends on, at one moment."""

    snapshot: Snapshot
    health: Health
    failed: Collection[tuple[str, str]]
    in_flight: Mapping[str, int]
    now: float
    fits: Callable[[NodeView, ModelInfo], Fit]


def plan(request: ModelRequest, router: RouterConfig, situation: PlanContext) -> Plan:
    """All models of all nodes, judged. No I/O, no randomness."""
    ranked: list[tuple[tuple[float, ...], Candidate]] = []
    skipped: list[Skipped] = []
    for view in situation.snapshot.nodes:
        if request.node is not None and view.name != request.node:
            continue
        if view.fault is not None:
            why = f"{view.fault.kind.value}: {view.fault.detail}"
            skipped.append(Skipped(view.name, "", why, SkipReason.NODE_FAULT, view.fault))
            continue
        of_node = (
            0 if request.source in (None, view.source) else 1,
            1 if situation.health.overloaded(view.name, situation.now) else 0,
        )
        queue = situation.in_flight.get(view.name, 0) // view.likely_kind.slots
        source_rank = _source_rank(router, view.source)
        for model in view.models:
            refusal = _refusal(request, view, model, situation)
            if refusal is not None:
                reason, why = refusal
                skipped.append(Skipped(view.name, model.name, why, reason))
                continue
            resident = view.is_resident(model)
            loaded = bool(resident) or not router.prefer_resident
            choice = _choice(request, router, view, model, loaded=loaded)
            key = (choice.tier, *of_node, 0 if loaded else 1, queue, *choice.rank, source_rank)
            ranked.append(
                (
                    key,
                    Candidate(
                        view.name,
                        view.source,
                        model.name,
                        resident,
                        f"{choice.why}; {_RESIDENCY[resident]}",
                        model.size_bytes,
                        view.context_of(model.name) if resident else None,
                    ),
                )
            )
    ranked.sort(key=lambda pair: pair[0])
    return Plan(tuple(candidate for _, candidate in ranked), tuple(skipped))


def _refusal(
    request: ModelRequest, view: NodeView, model: ModelInfo, situation: PlanContext
) -> tuple[SkipReason, str] | None:
    if request.model is not None and not model.is_called(request.model):
        return SkipReason.NOT_ASKED_FOR, "another model was asked for by name"
    if model.cloud and request.model is None:
        return SkipReason.CLOUD, "it runs in the cloud; ask for it by name"
    if (view.name, model.name) in situation.failed:
        return SkipReason.FAILED_BEFORE, "it failed in this session"
    if situation.health.state(view.name, model.name, situation.now) is not CircuitState.CLOSED:
        return SkipReason.CIRCUIT_OPEN, situation.health.why(view.name, model.name, situation.now)
    fitting = situation.fits(view, model)
    return (SkipReason.TOO_LARGE, fitting.reason) if fitting.ok is False else None


class _Choice(NamedTuple):
    """Tier (smaller first), rank inside it, and the reason in words."""

    tier: int
    rank: tuple[float, ...]
    why: str


def _choice(
    request: ModelRequest, router: RouterConfig, view: NodeView, model: ModelInfo, *, loaded: bool
) -> _Choice:
    if request.model is not None:
        return _Choice(0, (0.0,), "it was asked for by name")
    if model.name == DEFAULT_MODEL:
        return _Choice(1, (-1.0,), "it is the model this server was started with")
    if view.likely_kind.naming_swaps:
        # One slot: any other name replaces the resident model (wire facts B3).
        power = _power(router, model, request.category)
        return _Choice(6, (power,), "it would replace the resident model of this server")
    if request.fallback:
        return _as_fallback(request, router, view, model, loaded=loaded)
    return _as_first(request, router, model, loaded=loaded)


def _as_first(request: ModelRequest, router: RouterConfig, model: ModelInfo, *, loaded: bool) -> _Choice:
    patterns, reason = router.categories.get(request.category, ()), f"it suits {request.category}"
    if request.category == "default" and not patterns:
        patterns, reason = router.power, "it is among the most powerful"
    position = position_of(model, patterns)
    if position is not None:
        return _Choice(1 if loaded else 2, (float(position),), f"{reason} (choice {position + 1})")
    return _Choice(3 if loaded else 4, (_power(router, model, request.category),), "it is there")


def _as_fallback(
    request: ModelRequest, router: RouterConfig, view: NodeView, model: ModelInfo, *, loaded: bool
) -> _Choice:
    position = position_of(model, router.fallbacks(view.source))
    if position is not None:
        place = (float(_source_rank(router, view.source)), float(position))
        return _Choice(1 if loaded else 2, place, f"it is fallback {position + 1} of {view.source}")
    power = _power(router, model, request.category)
    if loaded:
        return _Choice(1, (float(len(router.order)), power), "it is there")
    if position_of(model, router.categories.get(request.category, ())) is not None:
        return _Choice(3, (power,), f"it suits {request.category}")
    return _Choice(4, (power,), "it is there")


def position_of(model: ModelInfo, patterns: tuple[str, ...]) -> int | None:
    """Return which of the patterns is the first that one of the names of a model matches."""
    return _position(patterns, model.names)


@lru_cache(maxsize=4096)
def _position(patterns: tuple[str, ...], names: tuple[str, ...]) -> int | None:
    written = {form for name in names for form in (name.lower(), short_name(name))}
    for index, pattern in enumerate(patterns):
        if any(fnmatchcase(form, pattern.lower()) for form in written):
            return index
    return None


def _power(router: RouterConfig, model: ModelInfo, category: str) -> float:
    """Smaller is earlier: the larger model first, for fast work the smaller one."""
    known = position_of(model, router.power)
    if known is not None and category != "fast":
        return float(known) - 1e6
    size = model.parameters or (model.size_bytes or 0) * 2.0
    return size / 1e9 if category == "fast" else -size / 1e9


def _source_rank(router: RouterConfig, source: Source) -> int:
    return router.order.index(source) if source in router.order else len(router.order)


_RESIDENCY = {True: "loaded", False: "must be loaded", None: "unknown whether loaded"}
