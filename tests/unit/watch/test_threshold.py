"""Warnings with a margin."""

from hypothesis import given
from hypothesis import strategies as st

from opskit.watch.machine import Threshold

_VALUES = st.lists(st.floats(0, 100), max_size=60)


@given(_VALUES, st.integers(1, 4))
def test_warnings_and_recoveries_take_turns(values: list[float], hold: int) -> None:
    """The first change is a warning, and none is told twice in a row."""
    threshold = Threshold(80.0, 5.0, hold)
    changes = [change for value in values if (change := threshold.take(value)) is not None]
    assert changes == [("warning", "recovered")[number % 2] for number in range(len(changes))]


@given(st.lists(st.floats(75, 84.9), min_size=1, max_size=60))
def test_a_value_around_its_limit_warns_once(values: list[float]) -> None:
    """Between limit and margin nothing flaps."""
    threshold = Threshold(80.0, 5.0)
    assert [threshold.take(value) for value in values].count("recovered") == 0


def test_it_warns_at_the_limit_itself() -> None:
    """80 % is over 80 %, 79.9 % is not."""
    assert Threshold(80.0, 5.0).take(79.9) is None
    assert Threshold(80.0, 5.0).take(80.0) == "warning"


def test_a_held_threshold_wants_a_row() -> None:
    """Three high values in a row warn; a low one between begins the row anew."""
    threshold = Threshold(95.0, 5.0, hold=3)
    assert [threshold.take(v) for v in (99, 99, 10, 99, 99, 99, 99)] == [None] * 5 + ["warning", None]
