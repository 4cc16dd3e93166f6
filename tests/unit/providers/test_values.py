"""Numbers and texts out of foreign JSON never break arithmetic."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opskit.providers.values import count, seconds_of, text

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=4,
)


@given(anything)
def test_whatever_a_server_says_is_a_value_or_nothing(value):
    """Never an exception, and never a number that a division or a format would not take."""
    number, seconds = count(value), seconds_of(value, 1e9)
    assert number is None or (0 <= number < 2**63 and math.isfinite(number / 1))
    assert seconds is None or 0 < seconds < math.inf
    assert text(value) is None or text(value) == value


@pytest.mark.parametrize("value", [True, -1, 10**400, 2**63, math.inf, math.nan, "7", None, [], {}])
def test_what_is_no_count_is_not_told(value):
    """A flag, a negative or absurd number, a text."""
    assert count(value) is None


def test_counts_and_durations_are_read():
    """A float that counts is cut; nanoseconds become seconds; a zero is left out."""
    assert (count(7), count(7.9), count(0)) == (7, 7, 0)
    assert (seconds_of(1_500_000_000, 1e9), seconds_of(0, 1e9)) == (1.5, None)
