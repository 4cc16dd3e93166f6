"""Models: none there, the wanted one missing, or too large for the free memory."""

from collections.abc import Iterator

from opskit.checks.state import NodeState
from opskit.doctor.areas.nodes import check_of
from opskit.doctor.cause import Cause, counted, key_of, listing
from opskit.doctor.evidence import Evidence, ExaminedNode
from opskit.llm.fit import Fit, fit
from opskit.llm.plan import same_model
from opskit.providers.base import ModelInfo
from opskit.result import Status
from opskit.system.host import is_loopback

_UP = (NodeState.OK, NodeState.SLOW, NodeState.IDLE, NodeState.BUSY, NodeState.LOADING, NodeState.FAILING)


def causes(evidence: Evidence) -> Iterator[Cause]:
    up = [one for one in evidence.nodes if one.state in _UP and one.models is not None]
    for node in up:
        if not node.models:
            yield _empty(node)
    yield from _wanted(evidence, up)
    for node in up:
        yield from _too_large(evidence, node)


def _empty(node: ExaminedNode) -> Cause:
    return Cause(
        "no-model",
        node.config.name,
        f"{node.config.name} is up and has no model that can chat",
        (f"{node.config.url} lists none",),
        node.likely_kind.fill,
        check_of(node.config.name),
        code="MODEL_001",
    )


def _wanted(evidence: Evidence, up: list[ExaminedNode]) -> Iterator[Cause]:
    """What the configuration names must be somewhere. A silent node might hold it: then nothing is said."""
    for node in up:
        model = node.config.default_model
        if model and _lists_all(node) and node.models and not _held(node, model):
            yield _missing(model, f"`nodes.{node.config.name}.default_model`", [node])
    model = evidence.config.victoria_model
    if model and up and len(up) == len(evidence.config.nodes) and all(map(_lists_all, up)):
        holders = [node for node in up if _held(node, model)]
        if not holders and any(node.models for node in up):
            yield _missing(model, "VICTORIA_MODEL", up)


def _lists_all(node: ExaminedNode) -> bool:
    return node.kind is not None and node.kind.lists_every_model


def _missing(model: str, told_by: str, nodes: list[ExaminedNode]) -> Cause:
    names = [node.config.name for node in nodes]
    pull = next((hint for node in nodes if (hint := node.likely_kind.pull_hint(model))), "")
    return Cause(
        "model-missing",
        model,
        f"{model} is wanted and not installed",
        (f"{told_by} names it; {listing(names)} does not hold it",),
        f"{pull}, or name one of `opskit models list`" if pull else "name one of `opskit models list`",
        status=Status.WARN,
        code="MODEL_001",
    )


def _too_large(evidence: Evidence, node: ExaminedNode) -> Iterator[Cause]:
    """A model that somebody named, or any at all when none of them could be loaded."""
    models = [one for one in node.models or () if not one.cloud]
    resident = {one.name for one in node.resident}
    named = [name for name in (node.config.default_model, evidence.config.victoria_model) if name]
    said = set()
    for name in named:
        model = next((one for one in models if same_model(name, one.name)), None)
        if model is None or model.name in resident:
            continue
        room = _fit(evidence, node, model)
        if room.ok is False:
            said.add(model.name)
            yield _large(node, model.name, f"{model.name} does not fit in memory", room)
    if resident or said or not models:
        return
    rooms = {model.name: _fit(evidence, node, model) for model in models}
    if all(room.ok is False for room in rooms.values()):
        smallest = min(models, key=lambda one: one.size_bytes or 0)
        title = f"none of the {counted(len(models), 'model')} of {node.config.name} fits in memory"
        if len(models) == 1:
            title = f"{smallest.name}, the only model of {node.config.name}, does not fit in memory"
        yield _large(node, smallest.name, title, rooms[smallest.name])


def _large(node: ExaminedNode, model: str, title: str, room: Fit) -> Cause:
    kind = node.likely_kind
    return Cause(
        "model-too-large",
        f"{node.config.name}/{model}",
        title,
        (f"{model}: {room.reason}",),
        f"free memory ({', '.join(filter(None, ('`opskit models loaded`', kind.unload_hint('NAME'))))}), or "
        + (f"install a smaller one: {kind.pull_hint()}" if kind.pull else "start it with a smaller one"),
        check_of(node.config.name),
        because=("memory-full",),
        code="MODEL_003",
    )


def _fit(evidence: Evidence, node: ExaminedNode, model: ModelInfo) -> Fit:
    router = evidence.config.router
    # A server in a container or on another machine has a memory of its own.
    return fit(
        model.size_bytes,
        resident=False,
        local=is_loopback(node.config.url),
        available_bytes=evidence.memory_available_bytes,
        resident_bytes=[one.size_bytes or 0 for one in node.resident],
        factor=router.memory_factor,
        reserve_bytes=router.memory_reserve_bytes,
    )


def _held(node: ExaminedNode, model: str) -> bool:
    return any(same_model(model, one.name) for one in node.models or ())


def keys_of(name: str) -> tuple[str, ...]:
    """Keys of the causes for which a node gives no answers at all."""
    kinds = ("port-taken", "process-stopped", "node-wedged", "node-unreachable", "node-unauthorised",
             "node-down", "node-failing", "no-model")  # fmt: skip
    return tuple(key_of(kind, name) for kind in kinds)
