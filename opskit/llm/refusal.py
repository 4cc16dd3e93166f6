"""How an honest refusal is worded: which code, what was tried, what to type next."""

import difflib
from collections.abc import Sequence

from opskit.config.schema import NodeConfig
from opskit.llm.answer import Attempt, NoAnswer
from opskit.llm.faults import FaultKind
from opskit.llm.plan import Plan, Wish, same_model

_TIMEOUTS = {
    FaultKind.FIRST_TOKEN_TIMEOUT.value,
    FaultKind.IDLE_TIMEOUT.value,
    FaultKind.TOTAL_TIMEOUT.value,
    FaultKind.LOAD_TIMEOUT.value,
    FaultKind.WEDGED.value,
    FaultKind.LOADING.value,
}
_NOT_THERE = {
    FaultKind.REFUSED.value,
    FaultKind.UNREACHABLE.value,
    FaultKind.CONNECT_TIMEOUT.value,
    FaultKind.UNAUTHORISED.value,
}


def refusal(
    choice: Plan,
    wish: Wish,
    attempts: Sequence[Attempt],
    *,
    seconds: float,
    partial: str,
    nodes: Sequence[NodeConfig],
) -> NoAnswer:
    """The exception for a request that got no answer."""
    if attempts:
        code, message, remedy = _after_attempts(attempts, partial, nodes)
    else:
        code, message, remedy = _without_attempts(choice, wish, nodes)
    return NoAnswer(
        code,
        message,
        attempts=attempts,
        skipped=choice.skipped,
        seconds=seconds,
        partial=partial,
        remedy=remedy,
    )


def _after_attempts(
    attempts: Sequence[Attempt], partial: str, nodes: Sequence[NodeConfig]
) -> tuple[str, str, str | None]:
    faults = {attempt.fault for attempt in attempts}
    tried = "; ".join(f"{a.model} on {a.node}: {_reason(a)}" for a in attempts)
    if partial:
        broken = attempts[-1]
        message = f"the answer broke off after {len(partial)} characters: {_reason(broken)}"
        return "MODEL_004", f"{message} ({broken.model} on {broken.node})", None
    if faults <= _TIMEOUTS:
        return "MODEL_002", f"no model answered in time: {tried}", None
    if faults <= _NOT_THERE:
        return "MODEL_001", f"no node can answer: {tried}", _start(nodes, {a.node: "" for a in attempts})
    if faults == {FaultKind.OUT_OF_MEMORY.value}:
        return "MODEL_003", f"no model fits in memory: {tried}", None
    return "MODEL_004", f"no model gave a usable answer: {tried}", None


def _reason(attempt: Attempt) -> str:
    return f"{attempt.fault} ({attempt.detail})"


def _without_attempts(choice: Plan, wish: Wish, nodes: Sequence[NodeConfig]) -> tuple[str, str, str | None]:
    down = {s.node: s.why for s in choice.skipped if not s.model}
    listed = [s for s in choice.skipped if s.model]
    if wish.model is not None and listed:
        same = [s for s in listed if same_model(wish.model, s.model)]
        if same:
            why = "; ".join(f"on {s.node} {s.why}" for s in same)
            code = "MODEL_003" if any("does not fit" in s.why for s in same) else "MODEL_001"
            return code, f"{wish.model} cannot be used: {why}", None
        near = difflib.get_close_matches(wish.model, sorted({s.model for s in listed}), n=3, cutoff=0.4)
        hint = f"; near names: {', '.join(near)}" if near else ""
        return (
            "MODEL_001",
            f"no node lists a model named {wish.model!r}{hint}",
            "`opskit models list` shows the names; `ollama pull NAME` installs one",
        )
    if listed:
        why = "; ".join(f"{s.model} on {s.node}: {s.why}" for s in listed[:4])
        return "MODEL_001", f"no model can be used: {why}", None
    if not nodes:
        return (
            "MODEL_001",
            "no node is configured",
            "`opskit config init`, or set OLLAMA_API_URL or MLX_API_URL",
        )
    tried = "; ".join(
        f"{node.name} at {node.url}: {down.get(node.name, 'it lists no model')}" for node in nodes
    )
    return "MODEL_001", f"no node can answer: {tried}", _start(nodes, down)


def _start(nodes: Sequence[NodeConfig], down: dict[str, str]) -> str:
    """The commands that bring a node up, or fill it."""
    commands = []
    for node in nodes:
        if node.source == "ollama":
            commands.append("`ollama serve`" if node.name in down else "`ollama pull phi3.5:3.8b`")
        elif node.source == "mlx":
            commands.append(f"`mlx_lm.server --model DIR --port {node.url.rpartition(':')[2]}`")
    return " or ".join(dict.fromkeys(commands)) or "start one of these nodes, then `opskit probe`"
