"""Requests: prompts that are cut, and clients that make one model reload by asking with different num_ctx."""

from collections.abc import Iterator

from opskit.doctor.cause import Cause, counted, key_of, listing
from opskit.doctor.evidence import Evidence, ExaminedNode
from opskit.result import Status
from opskit.system.network import endpoint

#: A token is at most a word in the prompt of `--deep`, so fewer tokens than this share of it mean a cut.
_READ_SHARE = 0.9


def causes(evidence: Evidence) -> Iterator[Cause]:
    yield from _differing(evidence)
    for node in evidence.nodes:
        if node.likely_kind.context_per_request:
            yield from _cut(node)
    yield from _told_by_log(evidence)


def _cut(node: ExaminedNode) -> Iterator[Cause]:
    told = []
    wanted = node.config.num_ctx
    for one in node.resident:
        limit = next((m.context_length for m in node.models or () if m.name == one.name), None)
        loaded = one.context_length
        if wanted and loaded and loaded < min(wanted, limit or wanted):
            told.append(f"{one.name} is loaded with a context of {loaded}, `num_ctx` is {wanted}")
    sent, read = node.sent_words, node.read_tokens
    if sent is not None and read is not None and read < sent * _READ_SHARE:
        told.append(f"{node.deep_model} was sent {sent} words and read {counted(read, 'token')} of them")
    if told:
        yield Cause(
            "context-truncated",
            node.config.name,
            f"long prompts to {node.config.name} are cut, without an error",
            tuple(told),
            _remedy(node.resident[0].name if node.resident else "NAME"),
            because=tuple(
                key_of("num-ctx-differs", f"{node.config.name}/{one.name}") for one in node.resident
            ),
            status=Status.WARN,
            code="VAL_001",
        )


def _told_by_log(evidence: Evidence) -> Iterator[Cause]:
    if not evidence.cuts:
        return
    worst = max(evidence.cuts, key=lambda one: one.prompt - one.limit)
    yield Cause(
        "context-truncated",
        worst.source,
        "Ollama cut prompts that were longer than its context",
        (
            f"{worst.source}: {counted(len(evidence.cuts), 'prompt')} in the last hour",
            f"one of {worst.prompt} tokens at a limit of {worst.limit}",
        ),
        _remedy("NAME"),
        status=Status.WARN,
        code="VAL_001",
    )


def _remedy(model: str) -> str:
    return (
        f"`ollama stop {model}`, and let all clients ask with one larger `num_ctx` (or set "
        "OLLAMA_CONTEXT_LENGTH where Ollama is started); or send less"
    )


def _differing(evidence: Evidence) -> Iterator[Cause]:
    """A different num_ctx is another runner to Ollama: it unloads and loads the model (wire facts A3)."""
    for node in evidence.nodes:
        if not node.likely_kind.context_per_request:
            continue
        general = dict(_standing(node, evidence))
        by_model: dict[str, dict[str, int]] = {}
        for call in evidence.calls:
            if call.node == node.config.name and call.num_ctx is not None and call.model:
                known = by_model.setdefault(call.model, {})
                # One client that changes its mind is as bad as two that differ.
                name = (
                    call.client
                    if known.get(call.client, call.num_ctx) == call.num_ctx
                    else f"{call.client} again"
                )
                known[name] = call.num_ctx
        found = {model: {**general, **clients} for model, clients in by_model.items()} or {"": general}
        for model, clients in found.items():
            if len(set(clients.values())) < 2:
                continue
            target = f"{node.config.name}/{model}" if model else node.config.name
            yield Cause(
                "num-ctx-differs",
                target,
                f"clients ask {model or 'the models of ' + node.config.name} with different num_ctx: it "
                "reloads at each change",
                tuple(f"{client} asks with {size}" for client, size in sorted(clients.items())),
                f"let {listing(sorted(clients))} use one value: {max(clients.values())}",
                status=Status.WARN,
            )


def _standing(node: ExaminedNode, evidence: Evidence) -> Iterator[tuple[str, int]]:
    """What clients are set up to ask with: the configuration, and variables of containers."""
    if node.config.num_ctx is not None:
        yield f"`nodes.{node.config.name}.num_ctx`", node.config.num_ctx
    for other in evidence.config.nodes:
        if other.name != node.config.name and other.num_ctx is not None and other.url == node.config.url:
            yield f"`nodes.{other.name}.num_ctx`", other.num_ctx
    port = endpoint(node.config.url)[1]
    for one in evidence.containers:
        places = one.environment.places
        if not any(place.port == port for place in places.values()):
            continue
        for name in ("OLLAMA_NUM_CTX", "NUM_CTX"):
            text = one.environment.settings.get(name, "")
            if text.isdigit():
                yield f"container {one.name} ({name})", int(text)
                break
