"""The context that a model is loaded with: from the prompt, the model and the memory."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opskit.llm.fit import USUAL_TOKENS, fitting_context, wanted_context
from opskit.providers.base import Message

GIB = 1024**3


def words(count: int, word: str = "word ") -> tuple[Message, ...]:
    return (Message("user", word * count),)


@pytest.mark.parametrize(
    ("messages", "max_tokens", "longest", "wanted"),
    [
        (words(20), 4096, 131_072, None),
        (words(9000), 4096, 131_072, 16_384),
        (words(9000), 4096, 8192, 8192),
        (words(9000), 4096, None, 16_384),
        (words(4000, "слово "), 64, None, 16_384),
        (words(5000, "1 "), 64, None, 6144),
    ],
)
def test_a_long_prompt_wants_room(
    messages: tuple[Message, ...], max_tokens: int, longest: int | None, wanted: int | None
):
    """As much as the prompt may have tokens, with room for an answer, and no more than the model can use."""
    assert wanted_context(messages, max_tokens, longest) == wanted


@pytest.mark.parametrize(
    ("token_bytes", "free_bytes", "fitting"),
    [
        (131_072, 8 * GIB, 32_768),
        (131_072, 2 * GIB, 16_384),
        (131_072, GIB // 4, None),
        (131_072, -GIB, None),
        (None, GIB, 32_768),
        (131_072, None, 32_768),
    ],
)
def test_the_memory_bounds_it(token_bytes: int | None, free_bytes: int | None, fitting: int | None):
    """What does not fit is left out; where no more than the usual fits, nothing is asked for."""
    assert fitting_context(32_768, token_bytes=token_bytes, free_bytes=free_bytes) == fitting


@given(st.integers(USUAL_TOKENS + 1, 10**6), st.integers(1, 10**7), st.integers(-(10**12), 10**12))
def test_it_never_takes_more_than_there_is(wanted: int, token_bytes: int, free_bytes: int):
    """Whatever the numbers, the cache of what is chosen fits, and it is never below the usual."""
    chosen = fitting_context(wanted, token_bytes=token_bytes, free_bytes=free_bytes)
    assert chosen is None or (USUAL_TOKENS < chosen <= wanted and chosen * token_bytes <= free_bytes)
