"""Times as people say them."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opskit.recovery.status import moment
from opskit.text import span


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (-5, "0 s"), (0.9, "0 s"), (59, "59 s"), (60, "1 min"), (90, "1 min 30 s"), (119, "1 min 59 s"),
        (121, "2 min"), (3599, "59 min"), (3600, "1 h"), (3660, "1 h 1 min"), (86_399, "23 h 59 min"),
        (86_400, "1 d"), (90_000, "1 d 1 h"), (40 * 86_400, "40 d"),
    ],
)  # fmt: skip
def test_a_span_has_two_units_at_most(seconds: float, told: str):
    """Rounded down."""
    assert span(seconds) == told


@given(st.floats(0, 1e9), st.floats(0, 1e9))
def test_longer_is_never_told_shorter(one: float, other: float):
    """The first unit grows with the time."""
    units = {"s": 1, "min": 60, "h": 3600, "d": 86_400}
    first, second = (
        int(text.split()[0]) * units[text.split()[1]] for text in map(span, sorted((one, other)))
    )
    assert first <= second


def test_a_moment_of_another_day_has_its_date():
    """Today's has none; what no calendar has is said in words."""
    now = 1_750_000_000.0
    assert len(moment(now, now)) == len("09:30:00")
    assert len(moment(now + 5 * 86_400, now)) == len("2026-11-21 09:30:00")
    assert "calendar" in moment(1e18, now)
    assert "calendar" in moment(math.inf, now)
