"""A target that keeps breaking and getting well is told from one that broke once."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opskit.recovery.memory import FILE_NAME, HIGH, LOW, STATES, History, Memory, load


def _after(states: str) -> History:
    history = History()
    for one in states:
        history = history.after(well=one == "+")
    return history


@pytest.mark.parametrize(
    ("states", "flapping"),
    [("+" * 30, False), ("-" * 30, False), ("+" * 20 + "-", False), ("+-" * 10, True), ("+-+-+", False)],
)
def test_changes_are_what_counts(states, flapping):
    """All well, all broken and broken once are steady; each run otherwise than the last is flapping."""
    assert _after(states).flapping is flapping


def test_a_change_lately_counts_half_as_much_again_as_an_old_one():
    """The weights are those of Nagios, from 0.8 to 1.2."""
    old, new = _after("-" + "+" * 20).share, _after("+" * 20 + "-").share
    assert (old, new) == (pytest.approx(0.8 / 20), pytest.approx(1.2 / 20))


def test_all_changes_are_the_whole():
    """Twenty changes in twenty-one runs are 100 %."""
    assert _after("+-" * 20).share == pytest.approx(1.0)


def test_flapping_ends_lower_than_it_begins():
    """Between 20 and 30 % it stays what it was."""
    history = _after("+-" * 10)
    while history.share >= LOW:
        assert history.flapping
        history = history.after(well=True)
    assert not history.flapping
    assert LOW < HIGH


@given(st.text("+-", max_size=100))
def test_any_history_is_bounded(states):
    """At most 21 states, and a share from 0 to 1."""
    history = _after(states)
    assert history.states == states[-STATES:]
    assert 0 <= history.share <= 1


@pytest.mark.parametrize("states", ["+x", "+" * 22, "\u2028"])
def test_what_is_no_history_is_refused(tmp_path: Path, states):
    """A damaged file must not become one; every history that was written is read back."""
    memory = Memory(tmp_path / FILE_NAME, histories={"a": _after("+-" * 20)})
    memory.save()
    assert load(tmp_path) == (memory, None)
    memory.histories["a"] = History(states)
    memory.save()
    assert load(tmp_path)[1] is not None
