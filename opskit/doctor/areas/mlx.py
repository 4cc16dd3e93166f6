"""MLX idle while Ollama works (SPEC B13): with its cause, or nothing is said."""

from collections.abc import Iterator
from dataclasses import replace

from opskit.checks.state import NodeState
from opskit.doctor.areas.models import keys_of
from opskit.doctor.cause import Cause, counted, listing
from opskit.doctor.evidence import Call, Evidence, ExaminedContainer, ExaminedNode
from opskit.result import Status

#: So many requests in the last hour are work, and a share that never reaches MLX is no accident.
_WORK = 5
_GONE = (NodeState.REFUSED, NodeState.UNREACHABLE)


def causes(evidence: Evidence) -> Iterator[Cause]:
    node = next((one for one in evidence.nodes if one.config.is_mlx), None)
    mac = evidence.platform == "darwin"
    if node is None or not (node.config.explicit or node.config.required or mac):
        return
    others = [one for one in evidence.calls if _source(one, evidence) == "ollama"]
    tried = [one for one in evidence.calls if _source(one, evidence) == "mlx"]
    answered = [one for one in tried if one.fault is None]
    if answered or len(others) < _WORK:
        return
    base = Cause(
        "mlx-idle",
        node.config.name,
        "",
        (f"in the last hour {counted(len(others), 'request')} went to Ollama, none was answered by MLX",),
        "",
        frozenset({"requests"}),
        keys_of(node.config.name),
        status=Status.WARN,
    )
    cause = _why(base, node, tried, evidence)
    if cause is not None:
        yield cause


def _why(base: Cause, node: ExaminedNode, tried: list[Call], evidence: Evidence) -> Cause | None:
    idle = "MLX is idle while Ollama works: "
    if node.state in _GONE:
        remedy = f"start it: {node.likely_kind.start_hint(node.config.url)}"
        return replace(base, title=idle + "it is not running", remedy=remedy)
    if tried:
        faults = listing(sorted({one.fault or "failed" for one in tried}))
        told = (*base.evidence, f"{counted(len(tried), 'request')} to MLX failed: {faults}")
        remedy = "`opskit probe --use-mlx` tests it; its circuit closes by itself once it answers"
        return replace(base, title=idle + "every request to it failed", evidence=told, remedy=remedy)
    if not evidence.config.router.use_mlx_fallback:
        remedy = "set USE_MLX_FALLBACK=true (or `router.use_mlx_fallback: true`)"
        return replace(base, title=idle + "USE_MLX_FALLBACK is false", remedy=remedy)
    off = [one for one in _workers(evidence) if _forbids(one)]
    if off:
        told = (*base.evidence, f"container {off[0].name} has USE_MLX_FALLBACK=false")
        remedy = f"set USE_MLX_FALLBACK=true for {off[0].name}, then `docker compose up -d`"
        return replace(base, title=idle + f"{off[0].name} may not use it", evidence=told, remedy=remedy)
    blind = [one for one in _workers(evidence) if "MLX_API_URL" not in one.environment.names]
    if blind:
        names = listing([one.name for one in blind])
        told = (*base.evidence, f"{names}: OLLAMA_* is set, MLX_API_URL is not")
        remedy = f"set MLX_API_URL=http://host.docker.internal:11435 for {names}, then `docker compose up -d`"
        return replace(base, title=idle + f"{names} does not know of it", evidence=told, remedy=remedy)
    return None


def _forbids(one: ExaminedContainer) -> bool:
    return one.environment.settings.get("USE_MLX_FALLBACK", "").lower() in ("false", "0", "no")


def _workers(evidence: Evidence) -> list[ExaminedContainer]:
    """The clients of Ollama in containers."""
    names = ("OLLAMA_API_URL", "OLLAMA_BASE_URL")
    return [one for one in evidence.containers if any(name in one.environment.names for name in names)]


def _source(call: Call, evidence: Evidence) -> str:
    """The kind of back end that a request went to: by the node's name here, else by the name itself."""
    known = next((one.source for one in evidence.config.nodes if one.name == call.node), None)
    return known or call.node
