"""A model that does not stop: a real server that writes until its client goes away."""

import itertools
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from opskit.config.schema import Budgets, NodeConfig
from opskit.llm.answer import Answer, Ask, AttemptOutcome, NoAnswer
from opskit.llm.plan import ModelRequest
from opskit.providers.node import Node
from tests.bench.routing import routed
from tests.parts.model_server import MODEL, Chunks, model_server

LIMIT = 100
#: The whole of what is read of it stays far below a megabyte.
MOST_CHARS = 64_000


async def asked(chunk: Any, *, length_is_fine: bool) -> tuple[Answer, bool]:
    """Return the answer, and whether the server was left."""
    left = threading.Event()

    def endless(body: dict[str, Any]) -> Chunks:
        def chunks() -> Iterator[Any]:
            try:
                for number in itertools.count():
                    yield chunk(number)
            finally:
                left.set()

        return chunks()

    with model_server(endless) as server:
        node = Node(NodeConfig("here", server.url, "openai"), Budgets(total_s=20))
        ask = Ask.of(
            "Tell me a story.",
            request=ModelRequest(model=MODEL),
            max_tokens=LIMIT,
            length_is_fine=length_is_fine,
            max_fallbacks=0,
        )
        async with routed(node) as router:
            answer = await router.chat(ask)
        return answer, left.wait(5)


def words(number: int) -> str:
    return " ".join(f"word{number}-{part}" for part in range(200))


async def test_a_text_without_an_end_is_cut():
    """At a length that the tokens it was allowed never have."""
    answer, left = await asked(words, length_is_fine=True)
    assert LIMIT < len(answer.text) < MOST_CHARS
    assert answer.finish_reason == "length"
    assert left


async def test_a_cut_text_is_told_as_cut():
    """It is no answer where the whole was wanted."""
    with pytest.raises(NoAnswer) as refused:
        await asked(words, length_is_fine=False)
    attempt = refused.value.attempts[-1]
    assert (attempt.outcome, attempt.fault) == (AttemptOutcome.REJECTED, "cut_off")


async def test_a_call_without_an_end_is_cut():
    """The arguments of one call grow for ever."""
    with pytest.raises(NoAnswer) as refused:
        await asked(lambda number: ("tool", words(number)), length_is_fine=True)
    assert refused.value.attempts[-1].fault == "bad_payload"
