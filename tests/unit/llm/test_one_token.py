"""What a question of one token leaves behind, and what its own end is not taken for."""

from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta

from opskit.llm.one_token import one_token
from opskit.providers.base import ChatRequest, End, Event, Resident
from opskit.records import replace
from tests.parts.scripted import Pause, Scripted

EXPIRES = datetime(2126, 1, 1, tzinfo=UTC)
LATER = timedelta(minutes=5)


class Renewing(Scripted):
    """Renews the expiry of its model when a request ends, however it ends, as Ollama does (wire facts A8)."""

    def __init__(self, *script: Event | Pause, others: bool = False) -> None:
        super().__init__({"a": [script]}, loads_on_demand=False)
        self.expires_at = EXPIRES
        self.others = others

    async def resident(self) -> tuple[Resident, ...] | None:
        return tuple(
            replace(model, expires_at=self.expires_at + LATER * self.others)
            for model in await super().resident() or ()
        )

    async def stream(self, request: ChatRequest) -> AsyncGenerator[Event, None]:
        try:
            async for event in super().stream(request):
                yield event
        finally:
            self.expires_at += LATER


async def test_our_own_abandoned_question_is_no_request_of_others() -> None:
    """It renews the expiry when it is left: that is looked at before."""
    server = Renewing(Pause(None))
    got = await one_token(server, Resident("a", expires_at=EXPIRES), limit_s=5.0, load_s=5.0)
    assert (got.first_s, got.ended, got.others_served) == (None, False, False)
    assert server.expires_at > EXPIRES


async def test_a_request_of_others_that_ends_meanwhile_is_seen() -> None:
    """Then the server works, though it has not answered us."""
    server = Renewing(Pause(None), others=True)
    got = await one_token(server, Resident("a", expires_at=EXPIRES), limit_s=5.0, load_s=5.0)
    assert got.others_served


async def test_an_end_without_content_is_no_token() -> None:
    """Ollama ends an answer of control tokens with nothing in it (wire facts A8)."""
    got = await one_token(Renewing(End("length")), Resident("a"), limit_s=5.0, load_s=5.0)
    assert (got.first_s, got.ended) == (None, True)
