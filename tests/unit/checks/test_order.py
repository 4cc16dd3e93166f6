"""Work in the order of what it waits for."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opskit.checks.attempt import in_order

GRAPHS = st.integers(1, 8).flatmap(
    lambda size: st.fixed_dictionaries(
        {
            str(name): st.sets(st.sampled_from([str(one) for one in range(name)] or ["other"]))
            for name in range(size)
        }
    )
)


@given(GRAPHS, st.integers(1, 4))
def test_every_turn_comes_once_and_after_those_before_it(before: dict[str, set[str]], at_once: int):
    """Whatever the graph, nothing is left out, taken twice or too early, and never too many at once."""
    ended: list[str] = []
    running, most = 0, 0

    async def turn(name: str) -> None:
        nonlocal running, most
        assert before[name] & before.keys() <= set(ended)
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        ended.append(name)

    asyncio.run(in_order(before, turn, max_concurrent=at_once))
    assert sorted(ended) == sorted(before)
    assert most <= at_once


async def test_a_turn_that_raises_ends_no_other():
    """The others go on, also those that come after it; the exception is raised at the end."""
    ended: list[str] = []

    async def turn(name: str) -> None:
        if name == "a":
            raise ZeroDivisionError
        ended.append(name)

    with pytest.raises(ZeroDivisionError):
        await in_order({"a": (), "b": ("a",), "c": ()}, turn, max_concurrent=1)
    assert sorted(ended) == ["b", "c"]


async def test_what_has_not_ended_in_time_is_cancelled():
    """The deadline of the whole ends what hangs and what waits for it."""
    ended: list[str] = []

    async def turn(name: str) -> None:
        if name == "hangs":
            await asyncio.Event().wait()
        ended.append(name)

    await in_order({"hangs": (), "waits": ("hangs",), "quick": ()}, turn, max_concurrent=9, limit_s=0.05)
    assert ended == ["quick"]
