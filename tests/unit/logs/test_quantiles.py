"""The histogram behind percentiles."""

import math
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opskit.logs.quantiles import ACCURACY, LARGEST, SMALLEST, Sketch

durations = st.floats(min_value=SMALLEST, max_value=LARGEST)


def sketch_of(values):
    made = Sketch()
    for value in values:
        made.add(value)
    return made


@given(values=st.lists(durations, min_size=1, max_size=200), part=st.floats(0, 1))
def test_a_quantile_is_within_one_percent_of_the_value_at_its_rank(values, part):
    """Whatever the values, the answer is at most 1 % away from the one a full sort would give."""
    exact = sorted(values)[math.floor(part * (len(values) - 1))]
    assert sketch_of(values).quantile(part) == pytest.approx(exact, rel=ACCURACY * 1.000001)


@given(values=st.lists(durations, max_size=60), cut=st.integers(0, 60), data=st.data())
def test_merging_parts_gives_the_sketch_of_the_whole(values, cut, data):
    """Order and place of the cut leave no trace, not even in the sum."""
    shuffled = data.draw(st.permutations(values))
    merged = sketch_of(shuffled[cut:])
    merged.merge(sketch_of(shuffled[:cut]))
    assert merged == sketch_of(values)


@given(values=st.lists(durations, min_size=1, max_size=60))
def test_count_mean_and_extremes_are_exact(values):
    """Only the quantiles are approximate."""
    made = sketch_of(values)
    assert (made.count, made.least, made.greatest) == (len(values), min(values), max(values))
    assert made.mean == pytest.approx(sum(values) / len(values), abs=1e-6, rel=1e-9)


@given(values=st.lists(st.floats(0, 1e300), max_size=2000))
def test_the_number_of_buckets_is_bounded(values):
    """Values out of any reason share the outermost buckets."""
    assert all(-700 < index < 1040 for index in sketch_of(values).buckets)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -0.5])
def test_what_is_no_duration_is_ignored(value):
    """A negative or endless duration does not spoil the others."""
    made = sketch_of([1.0, value])
    assert (made.count, made.greatest) == (1, 1.0)


def test_nothing_added_has_no_quantile():
    """There is no median of nothing."""
    empty = Sketch()
    assert (empty.quantile(0.5), empty.mean, empty.as_json()["max_s"]) == (None, None, None)


def test_zero_is_a_duration():
    """A call that took no measurable time counts; its quantile is 0."""
    assert sketch_of([0.0, 0.0]).quantile(0.5) == 0.0


def test_adding_many_at_once_is_adding_one_many_times():
    """`times` is a shorthand."""
    at_once = Sketch()
    at_once.add(0.1234567, 1000)
    assert at_once == sketch_of([0.1234567] * 1000)


def test_a_sketch_travels_between_processes():
    """Pickled and back it is the same."""
    made = sketch_of([0.1, 5, 900])
    assert pickle.loads(pickle.dumps(made)) == made
