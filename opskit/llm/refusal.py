"""How an honest refusal is worded: which code, what was tried, what to type next."""

import difflib
from collections import Counter
from collections.abc import Sequence

from opskit.config.schema import NodeConfig
from opskit.llm.answer import Attempt, NoAnswer
from opskit.llm.faults import SERVER_IS_WELL, FaultKind, fault_remedy
from opskit.llm.plan import ModelRequest, Plan, SkipReason
from opskit.llm.verdict import Verdict, verdict_remedy
from opskit.providers.kinds import OPENAI, ServerKind, expected_kind
from opskit.text import listing

_TIMEOUTS = {
    FaultKind.FIRST_TOKEN_TIMEOUT,
    FaultKind.IDLE_TIMEOUT,
    FaultKind.TOTAL_TIMEOUT,
    FaultKind.LOAD_TIMEOUT,
    FaultKind.WEDGED,
    FaultKind.LOADING,
}
_ABSENT = {FaultKind.REFUSED, FaultKind.UNREACHABLE, FaultKind.CONNECT_TIMEOUT}
_NOT_THERE = _ABSENT | {FaultKind.UNAUTHORISED, FaultKind.NO_CREDIT}
#: Faults after which one certain thing is to be typed; others say less than the remedy of their code.
_DECISIVE = SERVER_IS_WELL | {
    FaultKind.UNAUTHORISED, FaultKind.NOT_INSTALLED, FaultKind.RATE_LIMITED, FaultKind.BUSY,
    FaultKind.LOADING, FaultKind.NOT_LOADED, FaultKind.IDLE_TIMEOUT, FaultKind.TOTAL_TIMEOUT,
}  # fmt: skip


def refusal(
    choice: Plan,
    request: ModelRequest,
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
        code, message, remedy = _without_attempts(choice, request, nodes)
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
    times = Counter(f"{a.model} on {a.node}: {_reason(a)}" for a in attempts)
    tried = "; ".join(f"{text}, {count} times" if count > 1 else text for text, count in times.items())
    remedy = _decisive(attempts, nodes)
    if partial:
        broken = attempts[-1]
        message = f"the answer broke off after {len(partial)} characters: {_reason(broken)}"
        return "MODEL_004", f"{message} ({broken.model} on {broken.node})", _decisive([broken], nodes)
    if faults <= _TIMEOUTS:
        return "MODEL_002", f"no model answered in time: {tried}", remedy
    if faults <= _NOT_THERE:
        absent = {a.node: "" for a in attempts if a.fault in _ABSENT}
        start = _start([node for node in nodes if node.name in absent], absent) if absent else None
        both = "; ".join(text for text in (remedy, start) if text)
        return "MODEL_001", f"no node can answer: {tried}", both
    if faults == {FaultKind.OUT_OF_MEMORY}:
        return "MODEL_003", f"no model fits in memory: {tried}", None
    return "MODEL_004", f"no model gave a usable answer: {tried}", remedy


def _decisive(attempts: Sequence[Attempt], nodes: Sequence[NodeConfig]) -> str | None:
    """The remedies of the faults that name one, first of all that of the model which was wanted most."""
    servers = {node.name: expected_kind(node.source) for node in nodes}
    remedies = [_remedy(attempt, servers.get(attempt.node, OPENAI)) for attempt in attempts]
    return "; or ".join(list(dict.fromkeys(text for text in remedies if text))[:2]) or None


def _remedy(attempt: Attempt, server: ServerKind) -> str | None:
    if attempt.remedy is not None:
        return attempt.remedy
    if attempt.fault in set(Verdict):
        limited = attempt.finish_reason == "length"
        return verdict_remedy(Verdict(attempt.fault), model=attempt.model, limited=limited)
    if attempt.fault not in _DECISIVE:
        return None
    return fault_remedy(
        FaultKind(attempt.fault), model=attempt.model, node=attempt.node, server=server, again="ask again"
    )


def _reason(attempt: Attempt) -> str:
    return f"{attempt.fault} ({attempt.detail})"


def _without_attempts(
    choice: Plan, request: ModelRequest, nodes: Sequence[NodeConfig]
) -> tuple[str, str, str | None]:
    down = {s.node: s.why for s in choice.skipped if not s.model}
    listed = [s for s in choice.skipped if s.model]
    if request.model is not None and listed:
        same = [s for s in listed if s.reason is not SkipReason.NOT_ASKED_FOR]
        if same:
            why = "; ".join(f"on {s.node} {s.why}" for s in same)
            code = "MODEL_003" if any(s.reason is SkipReason.TOO_LARGE for s in same) else "MODEL_001"
            return code, f"{request.model} cannot be used: {why}", None
        near = difflib.get_close_matches(request.model, sorted({s.model for s in listed}), n=3, cutoff=0.4)
        hint = f"; near names: {', '.join(near)}" if near else ""
        return (
            "MODEL_001",
            f"no node lists a model named {request.model!r}{hint}",
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
    faults = {s.node: s.fault for s in choice.skipped if s.fault is not None}
    steps: list[str | None] = []
    absent, astray = [], []
    for node in nodes:
        fault = faults.get(node.name)
        if fault is None or fault.kind in (FaultKind.REFUSED, FaultKind.CONNECT_TIMEOUT):
            absent.append(node)
        elif fault.remedy_name or fault.kind is FaultKind.UNAUTHORISED:
            server, name = expected_kind(node.source), fault.remedy_name or fault.kind
            steps.append(fault_remedy(name, model="", node=node.name, server=server, again="ask again"))
        else:
            astray.append(node.name)
    if astray:
        wrong = f"what is wrong with the address of {listing(sorted(astray))}, or with the server there"
        steps.append(f"`opskit probe` tells {wrong}")
    steps += [_start(absent, down)] if absent else []
    return "MODEL_001", f"no node can answer: {tried}", "; ".join(filter(None, steps))


def _start(nodes: Sequence[NodeConfig], down: dict[str, str]) -> str:
    """The commands that bring a node up, or fill it."""
    commands = []
    for node in nodes:
        kind = expected_kind(node.source)
        if kind.pull and node.name not in down:
            commands.append(kind.pull_hint())
        elif kind.start:
            commands.append(kind.start_hint(node.url))
    return " or ".join(dict.fromkeys(commands)) or "start one of these nodes, then `opskit probe`"
