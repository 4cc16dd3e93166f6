"""Models: none there, the wanted one missing, or too large for the free memory."""

from collections.abc import Iterator, Sequence

from opskit.checks.node_assessment import assess_fit
from opskit.checks.probe_record import NodeProbe
from opskit.checks.state import NodeState
from opskit.doctor.cause import Cause, claims_of, key_of, warning
from opskit.doctor.evidence import Evidence
from opskit.llm.fit import Fit
from opskit.system.network import authority
from opskit.text import counted, listing

_UP = (NodeState.OK, NodeState.SLOW, NodeState.IDLE, NodeState.BUSY, NodeState.LOADING, NodeState.FAILING)
#: The causes for which a node gives no answers at all.
_SILENCING = ("port-taken", "process-stopped", "scheduler-hangs", "node-wedged", "node-unreachable",
              "node-unauthorised", "node-down", "node-failing", "no-model")  # fmt: skip


def causes(evidence: Evidence) -> Iterator[Cause]:
    probes = [probe for probe in evidence.nodes if probe.state in _UP and probe.facts.models is not None]
    for probe in probes:
        if not probe.facts.models:
            yield _no_model(probe, evidence)
    yield from _missing_models(evidence, probes)
    for probe in probes:
        yield from _too_large(evidence, probe)


def _no_model(probe: NodeProbe, evidence: Evidence) -> Cause:
    """A server that lists none: perhaps its models are in another folder, or with another server."""
    kind, name = probe.facts.likely_kind, probe.config.name
    hints = {f"{probe.config.url} lists none": ""}
    for owner in evidence.owners(probe.config):
        if owner.environment is not None and (folder := owner.environment.settings.get("OLLAMA_MODELS")):
            sign = f"OLLAMA_MODELS of the server is {folder}"
            hints[sign] = f"`ls -ld {folder}` shows whether that folder is there, and its drive mounted"
    own = {owner.pid for owner in evidence.owners(probe.config)}
    for other in (owner for owners in evidence.ports.values() for owner in owners if owner.pid not in own):
        if other.process is not None and other.process.name == kind.program:
            url = f"http://{authority(other.address, other.port)}"
            sign = f"another one listens on port {other.port}: {other.words}"
            hints[sign] = f"`curl -s {url}/api/tags` shows the models of the other one: stop one of them"
    return Cause(
        id="no-model",
        target=name,
        title=f"{name} is up and has no model that can chat",
        evidence=tuple(hints),
        remedy="; else ".join(filter(None, (*hints.values(), kind.fill))),
        claims=claims_of(name),
    )


def silencing(name: str) -> tuple[str, ...]:
    """Return keys of the causes for which a node gives no answers at all."""
    return tuple(key_of(kind, name) for kind in _SILENCING)


def _missing_models(evidence: Evidence, probes: Sequence[NodeProbe]) -> Iterator[Cause]:
    """What the configuration names must be somewhere. A silent node might hold it: then nothing is said."""
    for probe in probes:
        model = probe.config.default_model
        if model and _lists_all(probe) and probe.facts.models and not _holds(probe, model):
            yield _missing(model, f"`nodes.{probe.config.name}.default_model`", [probe])
    model = evidence.config.victoria_model
    listing_nodes = {probe.config.name for probe in probes if _lists_all(probe)}
    unknown = (probe for probe in evidence.nodes if probe.config.name not in listing_nodes)
    # Where nobody asked for a node and nothing listens, nothing holds the model.
    if not model or not all(
        probe.state is NodeState.REFUSED and not probe.config.explicit for probe in unknown
    ):
        return
    if any(probe.facts.models for probe in probes) and not any(_holds(probe, model) for probe in probes):
        yield _missing(model, "VICTORIA_MODEL", probes)


def _lists_all(probe: NodeProbe) -> bool:
    return probe.facts.kind is not None and probe.facts.kind.lists_every_model


def _holds(probe: NodeProbe, name: str) -> bool:
    return probe.facts.model_called(name) is not None


def _missing(model: str, named_by: str, probes: Sequence[NodeProbe]) -> Cause:
    nodes = listing([probe.config.name for probe in probes])
    hints = (probe.facts.likely_kind.pull_hint(model) for probe in probes)
    pull = next((hint for hint in hints if hint), "")
    return warning(
        id="model-missing",
        target=model,
        title=f"{model} is wanted and not installed",
        evidence=(f"{named_by} names it; {nodes} does not hold it",),
        remedy=f"{pull}, or name one of `opskit models list`" if pull else "name one of `opskit models list`",
    )


def _too_large(evidence: Evidence, probe: NodeProbe) -> Iterator[Cause]:
    """A model that somebody named, or any at all when none of them could be loaded."""
    models = [model for model in probe.facts.models or () if not model.cloud]
    free_bytes = None if evidence.memory is None else evidence.memory.available_bytes
    loaded = {model.name for model in probe.facts.resident}
    names = [name for name in (probe.config.default_model, evidence.config.victoria_model) if name]
    is_named = False
    for name in names:
        model = probe.facts.model_called(name)
        if model is None or model.cloud or model.name in loaded:
            continue
        room = assess_fit(probe.facts, model, evidence.config.router, free_bytes)
        if room.ok is False:
            is_named = True
            yield _large(probe, model.name, f"{model.name} does not fit in memory", room)
    if loaded or is_named or not models:
        return
    router = evidence.config.router
    rooms = {model.name: assess_fit(probe.facts, model, router, free_bytes) for model in models}
    if all(room.ok is False for room in rooms.values()):
        smallest = min(models, key=lambda model: model.size_bytes or 0)
        title = f"none of the {counted(len(models), 'model')} of {probe.config.name} fits in memory"
        if len(models) == 1:
            title = f"{smallest.name}, the only model of {probe.config.name}, does not fit in memory"
        yield _large(probe, smallest.name, title, rooms[smallest.name])


def _large(probe: NodeProbe, model: str, title: str, room: Fit) -> Cause:
    kind = probe.facts.likely_kind
    unload = ", ".join(filter(None, ("`opskit models loaded`", kind.unload_hint("NAME"))))
    smaller = f"install a smaller one: {kind.pull_hint()}" if kind.pull else "start it with a smaller one"
    return Cause(
        id="model-too-large",
        target=f"{probe.config.name}/{model}",
        title=title,
        evidence=(f"{model}: {room.reason}",),
        remedy=f"free memory ({unload}), or {smaller}",
        claims=claims_of(probe.config.name),
        because=("memory-full",),
    )
