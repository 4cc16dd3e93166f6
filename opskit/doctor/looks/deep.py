"""The one prompt that `--deep` sends: is a prompt read as it was sent? Only a loaded model is asked."""

import asyncio
import contextlib
import secrets
from dataclasses import replace
from datetime import UTC, datetime

from opskit.checks.spec import Scene
from opskit.doctor.evidence import NodeFacts
from opskit.providers.base import CallError, ChatRequest, End, Message, Resident
from opskit.providers.node import Node
from opskit.system.lock import try_lock

#: A token is never longer than a word here, so a prompt of so many words has at least so many tokens.
MOST_WORDS = 6000
_USUAL_CONTEXT = 4096
_SHARE = 0.75
_LIMIT_S = 60.0
_ABOUT_TO_EXPIRE_S = 5.0
_FOR_EVER_S = 365 * 86_400.0


def words_for(num_ctx: int | None, loaded: int | None) -> int:
    """How many words to send: well inside the context that clients count on, and never without bound."""
    wanted = num_ctx or loaded or _USUAL_CONTEXT
    return max(1, min(MOST_WORDS, int(wanted * _SHARE)))


async def asked(facts: NodeFacts, scene: Scene) -> NodeFacts:
    """The facts with what was sent and what was read. A model that is not loaded is not asked.

    The same context and keep_alive as it has keep it from being reloaded or pinned (wire facts A3).
    """
    chosen = min(facts.resident, key=lambda one: one.size_bytes or 0, default=None)
    remaining = _remaining_s(chosen)
    if chosen is None or (remaining is not None and 0 <= remaining < _ABOUT_TO_EXPIRE_S):
        return facts
    count = words_for(facts.config.num_ctx, chosen.context_length)
    # Words that nobody has sent before: what a server has in its cache it does not count.
    prompt = f"{secrets.token_hex(8)} " + " ".join(map(str, range(count - 1)))
    request = ChatRequest(
        (Message("user", prompt),),
        chosen.name,
        max_tokens=1,
        num_ctx=chosen.context_length,
        keep_alive_s=remaining,
    )
    node = Node(facts.config, scene.around.config.budgets)
    read: int | None = None
    try:
        with try_lock(scene.around.locks / f"probe-{facts.config.name}.lock") as mine:
            if not mine:
                return facts
            provider = await node.provider()
            async with (
                asyncio.timeout(min(_LIMIT_S, scene.timeout_s / 2)),
                contextlib.aclosing(provider.stream(request)) as events,
            ):
                async for event in events:
                    if isinstance(event, End):
                        read = event.usage.prompt_tokens
    except (CallError, TimeoutError):
        return facts
    finally:
        await node.aclose()
    return replace(facts, sent_words=count, read_tokens=read, deep_model=chosen.name)


def _remaining_s(chosen: Resident | None) -> float | None:
    if chosen is None or chosen.expires_at is None:
        return None
    left = max(0.0, (chosen.expires_at - datetime.now(UTC)).total_seconds())
    return -1.0 if left > _FOR_EVER_S else left
