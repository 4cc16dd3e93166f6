"""The histogram behind percentiles."""

import math
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opskit.logs.stats_counts import ACCURACY, LARGEST_S, SMALLEST_S, Durations

seconds = st.floats(min_value=SMALLEST_S, max_value=LARGEST_S)


def durations_of(values):
    made = Durations()
    for value in values:
        made.add(value)
    return made


def known(durations):
    """All that durations tell."""
    return durations.as_json(), [durations.quantile(part / 100) for part in range(101)]


@given(values=st.lists(seconds, min_size=1, max_size=200), part=st.floats(0, 1))
def test_a_quantile_is_within_one_percent_of_the_value_at_its_rank(values, part):
    """Whatever the values, the answer is at most 1 % away from the one a full sort would give."""
    exact = sorted(values)[math.floor(part * (len(values) - 1))]
    assert durations_of(values).quantile(part) == pytest.approx(exact, rel=ACCURACY * 1.000001)


@given(values=st.lists(seconds, max_size=60), cut=st.integers(0, 60), data=st.data())
def test_merging_parts_gives_the_sketch_of_the_whole(values, cut, data):
    """Order and place of the cut leave no trace, not even in the sum."""
    shuffled = data.draw(st.permutations(values))
    merged = durations_of(shuffled[cut:])
    merged.merge(durations_of(shuffled[:cut]))
    assert known(merged) == known(durations_of(values))


@given(values=st.lists(seconds, min_size=1, max_size=60))
def test_count_mean_and_extremes_are_exact(values):
    """Only the quantiles are approximate."""
    made = durations_of(values)
    assert (made.count, made.least, made.greatest) == (len(values), min(values), max(values))
    assert made.mean == pytest.approx(sum(values) / len(values), abs=1e-6, rel=1e-9)


@given(values=st.lists(st.floats(0, 1e308), max_size=2000))
def test_memory_is_bounded(values):
    """Values out of any reason share the outermost buckets."""
    assert len(pickle.dumps(durations_of(values))) < 20_000


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -0.5])
def test_what_is_no_duration_is_ignored(value):
    """A negative or endless duration does not spoil the others."""
    made = durations_of([1.0, value])
    assert (made.count, made.greatest) == (1, 1.0)


def test_nothing_added_has_no_quantile():
    """There is no median of nothing."""
    empty = Durations()
    assert (empty.quantile(0.5), empty.mean, empty.as_json()["max_s"]) == (None, None, None)


def test_zero_is_a_duration():
    """A call that took no measurable time counts; its quantile is 0."""
    assert durations_of([0.0, 0.0]).quantile(0.5) == 0.0


def test_adding_many_at_once_is_adding_one_many_times():
    """`times` is a shorthand."""
    at_once = Durations()
    at_once.add(0.1234567, 1000)
    assert known(at_once) == known(durations_of([0.1234567] * 1000))


def test_a_sketch_travels_between_processes():
    """Pickled and back it is the same."""
    made = durations_of([0.1, 5, 900])
    assert known(pickle.loads(pickle.dumps(made))) == known(made)
