"""How often the job runs."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opskit.errors import UsageError
from opskit.schedule.job import MINUTES, minutes_of, next_start


@pytest.mark.parametrize(
    "text, minutes", [("5m", 5), ("300s", 5), ("1h", 60), ("1m", 1), ("60m", 60), ("20 m", 20)]
)
def test_what_divides_an_hour_is_taken(text: str, minutes: int) -> None:
    """Every way to write a divisor of an hour means the same number of minutes."""
    assert minutes_of(text) == minutes


@pytest.mark.parametrize(
    "text", ["7m", "5", "0m", "2h", "90s", "-5m", "", "5m\x00", "1d", "NaN", "9" * 400 + "m"]
)
def test_anything_else_is_refused_with_the_list(text: str) -> None:
    """An interval that would drift over the hour is a usage error that lists those that do not."""
    with pytest.raises(UsageError) as raised:
        minutes_of(text)
    assert "1m, 2m, 3m, 4m, 5m, 6m, 10m, 12m, 15m, 20m, 30m, 1h" in raised.value.remedy


@given(st.sampled_from(MINUTES), st.integers(0, 4_000_000_000))
def test_the_next_start_is_a_slot_within_one_interval(every: int, second: int) -> None:
    """The next start lies ahead, at most one interval, and in a minute of the list."""
    now = datetime.fromtimestamp(second, UTC)
    found = next_start(every, now)
    assert now < found <= now + timedelta(minutes=every)
    assert found.minute % every == 0
    assert (found.second, found.microsecond) == (0, 0)
