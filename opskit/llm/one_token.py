"""One token of a loaded model: what every probe asks for, and the rules by which it may ask.

A question of opskit must leave the server as it was for everybody else (wire facts A8): it is not put to a
model that is about to be unloaded or that has a request in flight past its expiry; it carries no
`keep_alive`; its answer is read to its end; and a server that may be loading is not left, because that would
end the load.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable
from datetime import UTC, datetime

from opskit.config.schema import NodeConfig
from opskit.providers.base import (
    CallCause,
    CallError,
    ChatRequest,
    End,
    Message,
    Progress,
    Provider,
    Reasoning,
    Resident,
    Token,
    Usage,
)
from opskit.records import MutableRecord, field
from opskit.tags import Tag, TagLog

#: A model with less than this left is not asked: it would be gone, or loaded again, before it answers.
SPARE_S = 10.0
#: A model whose expiry has just passed is being unloaded.
_UNLOADING_S = 1.0
#: How long the end of an answer of one token may take after the token.
_END_S = 10.0
#: How often a server that may be loading is looked at.
_LOOK_S = 1.0
_QUESTION = (Message("user", "hi"),)


def remaining_s(model: Resident) -> float | None:
    """Return the seconds until a model is unloaded: None when that is unknown, negative when overdue."""
    return None if model.expires_at is None else (model.expires_at - datetime.now(UTC)).total_seconds()


def may_be_asked(model: Resident) -> bool:
    """Whether a question leaves the model's life as it is: it neither goes soon nor is overdue."""
    left_s = remaining_s(model)
    return left_s is None or left_s >= SPARE_S


def is_overdue(model: Resident) -> bool:
    """Whether a request has been in flight since before the model's expiry: busy, or wedged."""
    return (remaining_s(model) or 0.0) < -_UNLOADING_S


class OneToken(MutableRecord):
    """What came of a question.

    `first_s` is None without a token (text or reasoning). `ended` is False when the answer was left before
    its end. `loading` is the evidence for which the server was waited for longer than the limit,
    `others_served` tells that requests of others ended meanwhile. Times are in seconds since the question.
    """

    seconds: float = 0.0
    first_s: float | None = None
    ended: bool = False
    progress: bool = False
    loading: str = ""
    others_served: bool = False
    usage: Usage = field(default_factory=Usage)


def note_left(log: TagLog, node: NodeConfig, model: str, seconds: float) -> None:
    """Log a question that was left: what its server logs of it is nobody else's failure."""
    log.write(Tag.PROBE_LEFT, node=node.name, url=node.url, model=model, seconds=round(seconds, 3))


async def one_token(
    provider: Provider,
    model: Resident,
    *,
    limit_s: float,
    load_s: float,
    messages: tuple[Message, ...] = _QUESTION,
    max_tokens: int = 1,
    on_left: Callable[[float], None] = lambda _seconds: None,
) -> OneToken:
    """Ask for one token, or a few, and read the answer to its end.

    The token may take `limit_s`; while there is evidence that the server loads the model (again), `load_s`
    more. Raises CallError when the call fails. Cancelling leaves the answer as gently as it can be left.
    `on_left` is called with the seconds since the question where it is left before its end.
    """
    request = ChatRequest(
        messages,
        model.name,
        max_tokens=max_tokens,
        num_ctx=model.context_length,
        load_options=model.load_options,
    )
    result = OneToken()
    began = time.monotonic()
    begun = asyncio.Event()
    reading = asyncio.create_task(_read(provider, request, result, begun, began), name="one token")
    reading.add_done_callback(lambda _: begun.set())
    try:
        if not await _happens(begun, limit_s):
            result.loading = await _loaded_meanwhile(provider, model, begun, load_s)
            if result.loading:
                await _happens(begun, limit_s)
        if begun.is_set():
            await asyncio.wait({reading}, timeout=_END_S)
        else:
            # Looked at before the question is left, which itself moves the expiry (wire facts A8).
            result.others_served = await _others_served(provider, model)
    finally:
        result.seconds = time.monotonic() - began
        if not reading.done():
            on_left(result.seconds)
        reading.cancel()
        await asyncio.wait({reading})
    if not reading.cancelled():
        reading.result()
    return result


async def _read(
    provider: Provider, request: ChatRequest, result: OneToken, begun: asyncio.Event, began: float
) -> None:
    async with contextlib.aclosing(provider.stream(request)) as events:
        async for event in events:
            if isinstance(event, Progress):
                result.progress = True
            elif isinstance(event, End):
                result.ended, result.usage = True, event.usage
            elif result.first_s is None:
                assert isinstance(event, Token | Reasoning)  # noqa: S101 - tells mypy what is left
                result.first_s = time.monotonic() - began
                begun.set()


async def _loaded_meanwhile(provider: Provider, model: Resident, begun: asyncio.Event, load_s: float) -> str:
    """Wait for the token while the server may be loading, `load_s` at most; return the evidence for that."""
    evidence = ""
    until = time.monotonic() + load_s
    while provider.kind.loads_on_demand and not begun.is_set() and time.monotonic() < until:
        why = await loading_evidence(provider, model)
        if not why:
            break
        evidence = why
        await _happens(begun, _LOOK_S)
    return evidence


async def loading_evidence(provider: Provider, model: Resident) -> str:
    """Why a server may be loading a model that it had listed as loaded; empty when it does not.

    A model that is being loaded is not listed (wire facts A2); older servers list it with an expiry that
    moves with the clock. While an MLX-engine runner is loaded, or a runner that hangs is about to be
    replaced, the list itself is silent, though the server answers its version.
    """
    try:
        first = await _listed(provider, model)
        if first is None:
            return f"{model.name} is not listed as loaded any more"
        began = datetime.now(UTC)
        await asyncio.sleep(_LOOK_S / 2)
        second = await _listed(provider, model)
    except CallError as error:
        if error.cause is not CallCause.TIMEOUT:
            return ""
        try:
            await provider.version()
        except CallError:
            return ""
        return "its list of loaded models is silent"
    if second is None:
        return f"{model.name} is not listed as loaded any more"
    if first.expires_at is None or second.expires_at is None:
        return ""
    moved, passed = second.expires_at - first.expires_at, datetime.now(UTC) - began
    if abs(moved - passed) <= passed * 0.2:
        return f"the expiry of {model.name} moves with the clock, as while it is loaded"
    return ""


async def _others_served(provider: Provider, model: Resident) -> bool:
    """Whether the model's expiry moved since it was read: the last request that ends renews it (A3)."""
    if model.expires_at is None:
        return False
    try:
        listed = await _listed(provider, model)
    except CallError:
        return False
    return listed is not None and listed.expires_at is not None and listed.expires_at > model.expires_at


async def _listed(provider: Provider, model: Resident) -> Resident | None:
    listed = await provider.resident() or ()
    return next((resident for resident in listed if resident.name == model.name), None)


async def _happens(event: asyncio.Event, seconds: float) -> bool:
    """Whether the event comes within so many seconds."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
    return event.is_set()
