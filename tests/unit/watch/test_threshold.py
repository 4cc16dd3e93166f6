"""Warnings with a margin."""

from hypothesis import given
from hypothesis import strategies as st

from opskit.config.schema import WatchConfig
from opskit.system.host import Gauges
from opskit.watch.machine import CPU_HOLD, MachineLimits

_VALUES = st.lists(st.floats(0, 100), max_size=60)


def changes(*, memory: list[float] | None = None, cpu: list[float] | None = None) -> list[str | None]:
    """What each value changes: limits of 80 % for memory, of 95 % for the processor, margins of 5."""
    limits, told = MachineLimits(WatchConfig(memory_percent=80.0, cpu_percent=95.0)), []
    for used, busy in zip(memory or [0.0] * len(cpu or ()), cpu or [None] * len(memory or ()), strict=True):
        crossings = limits.take(Gauges(used, 1, 1, 0.0, 0, busy, 8, 0.5, ()))
        assert len(crossings) <= 1
        told.append(crossings[0].change if crossings else None)
    return told


@given(_VALUES, st.booleans())
def test_warnings_and_recoveries_take_turns(values: list[float], of_cpu: bool) -> None:
    """The first change is a warning, and none is told twice in a row."""
    told = [change for change in changes(**{"cpu" if of_cpu else "memory": values}) if change is not None]
    assert told == [("warning", "recovered")[number % 2] for number in range(len(told))]


@given(st.lists(st.floats(75, 84.9), min_size=1, max_size=60))
def test_a_value_around_its_limit_warns_once(values: list[float]) -> None:
    """Between limit and margin nothing flaps."""
    assert changes(memory=values).count("recovered") == 0


def test_it_warns_at_the_limit_itself() -> None:
    """80 % is over 80 %, 79.9 % is not."""
    assert changes(memory=[79.9]) == [None]
    assert changes(memory=[80.0]) == ["warning"]


def test_a_full_processor_wants_a_row() -> None:
    """Three high values in a row warn; a low one between begins the row again."""
    assert CPU_HOLD == 3
    assert changes(cpu=[99.0, 99.0, 10.0, 99.0, 99.0, 99.0, 99.0]) == [None] * 5 + ["warning", None]
