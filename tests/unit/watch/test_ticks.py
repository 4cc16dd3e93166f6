"""The beat of a watch."""

from hypothesis import given
from hypothesis import strategies as st

from opskit.watch.watching import next_tick

_TIMES = st.floats(0, 1e7, allow_nan=False)
_EVERY = st.floats(0.5, 86_400, allow_nan=False)


@given(_TIMES, _EVERY, st.floats(0, 1e6))
def test_the_next_look_is_the_first_one_later_than_now(began: float, every: float, passed: float) -> None:
    """It lies in the future, on the beat, and no look before it does."""
    now = began + passed
    number, due = next_tick(began, every, now)
    assert due > now
    assert due == began + number * every
    assert began + (number - 1) * every <= now


@given(_EVERY, st.lists(st.floats(0, 0.9), min_size=1, max_size=50))
def test_late_looks_do_not_drift(every: float, delays: list[float]) -> None:
    """However late within its beat each look was, the next one is on the beat."""
    due = 0.0
    for expected, delay in enumerate(delays, 1):
        number, due = next_tick(0.0, every, due + delay * every)
        assert number == expected


def test_a_long_sleep_is_followed_by_one_look() -> None:
    """After an hour without a look one is due next, not 720."""
    assert next_tick(0.0, 5.0, 3600.0) == (721, 3605.0)
