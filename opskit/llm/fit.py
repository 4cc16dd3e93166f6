"""Does a model fit in memory, and with which context? Pure; the numbers come from its node and the host.

Only a model that must be loaded anyway gets a context for a prompt that its server would cut: another context
would reload one that is in memory, under everybody else who uses it (wire facts A3).
"""

from collections.abc import Sequence

from opskit.llm.prompt import least_tokens
from opskit.providers.base import Message
from opskit.records import Record

GIB = 1024**3
#: What Ollama takes by itself on a machine without a GPU (wire facts A8); a shorter prompt needs no more.
USUAL_TOKENS = 4096
#: Bytes of UTF-8 a token, at least, in what people write; a message has some tokens around it.
_BYTES_PER_TOKEN = 3
_TOKENS_AROUND = 8
#: An answer needs room too, but not for all that it may grow to.
_ANSWER_TOKENS = 1024
_STEP_TOKENS = 2048


class Fit(Record):
    """`ok` None means that it is unknown (a remote node, or a size that the server does not give)."""

    ok: bool | None
    reason: str
    need_bytes: int | None = None
    have_bytes: int | None = None


LOADED = Fit(True, "it is loaded")


def fit(
    size_bytes: int | None,
    *,
    resident: bool | None,
    local: bool,
    available_bytes: int | None,
    resident_bytes: Sequence[int] = (),
    factor: float = 1.15,
    reserve_bytes: int = 0,
) -> Fit:
    """Weights times `factor` (context and buffers) plus a reserve, against what is free or may be freed.

    Other resident models of the same node count as free: the server unloads them to make place (wire facts
    A6).
    """
    if resident:
        return LOADED
    if not local:
        return Fit(None, "the node is on another machine, its memory is not known")
    if size_bytes is None:
        return Fit(None, "the server does not tell its size")
    if available_bytes is None:
        return Fit(None, "the free memory is not known")
    need = round(size_bytes * factor) + reserve_bytes
    have = available_bytes + sum(resident_bytes)
    numbers = f"needs about {gib(need)}, {gib(have)} can be had"
    if need > have:
        return Fit(False, f"it does not fit: {numbers}", need, have)
    return Fit(True, f"it fits: {numbers}", need, have)


def gib(size_bytes: float) -> str:
    value = size_bytes / GIB
    return f"{value:.1f} GiB" if value >= 0.95 else f"{size_bytes / 1024**2:.0f} MiB"


def wanted_context(messages: Sequence[Message], max_tokens: int | None, longest: int | None) -> int | None:
    """Return the context that a prompt and its answer need; None where the usual one is enough.

    `longest` is what the model was trained for, None where nobody tells it.
    """
    size = sum(len(message.content.encode("utf-8", "replace")) for message in messages)
    prompt = max(least_tokens(messages), size // _BYTES_PER_TOKEN) + _TOKENS_AROUND * len(messages)
    needed = prompt + min(max_tokens or _ANSWER_TOKENS, _ANSWER_TOKENS)
    if needed <= USUAL_TOKENS:
        return None
    stepped = -(-needed // _STEP_TOKENS) * _STEP_TOKENS
    return stepped if longest is None else min(stepped, longest)


def fitting_context(wanted: int, *, token_bytes: int | None, free_bytes: int | None) -> int | None:
    """Return as much of a wanted context as the memory holds; None where that is not more than the usual.

    `free_bytes` are the bytes beside the weights; None, like `token_bytes`, where unknown.
    """
    tokens = wanted
    if token_bytes is not None and free_bytes is not None:
        tokens = min(wanted, max(0, free_bytes) // token_bytes // _STEP_TOKENS * _STEP_TOKENS)
    return tokens if tokens > USUAL_TOKENS else None
