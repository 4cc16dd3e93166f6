"""Values of which only a part was read: what the rest may change is not judged."""

from typing import Any

import pytest

from opskit.checks.check_shape import compile_expectation
from opskit.checks.matchers import NotSeen, PartCount, PartText


def mismatches(expected: Any, value: Any) -> list[str]:
    compiled = compile_expectation({"v": expected}, {"v": ""}, (), lambda at, message: pytest.fail(message))
    return compiled.mismatches({"v": value})


TEXT = PartText("all is well so far")
COUNT = PartCount(1000)


@pytest.mark.parametrize(
    "expected, value",
    [
        ({"contains": "well"}, TEXT),
        ({"prefix": "all"}, TEXT),
        ({"matches": "is.well"}, TEXT),
        ({"not": {"equal": "nothing"}}, TEXT),
        ({"any": [{"contains": "error"}, {"contains": "well"}]}, TEXT),
        ({"len": {"gt": 5}}, TEXT),
        ({"ge": 1000}, COUNT),
        ({"gt": 5}, COUNT),
        ({"not": {"lt": 500}}, COUNT),
    ],
)
def test_what_the_part_shows_passes(expected: Any, value: Any):
    """Nothing behind it can change the answer."""
    assert mismatches(expected, value) == []


@pytest.mark.parametrize(
    "expected, value",
    [
        ({"not": {"contains": "well"}}, TEXT),
        ({"equal": "nothing"}, TEXT),
        ({"len": {"lt": 5}}, TEXT),
        ({"all": [{"not": {"contains": "error"}}, {"not": {"contains": "well"}}]}, TEXT),
        ({"lt": 500}, COUNT),
        ({"equal": 3}, COUNT),
    ],
)
def test_what_the_part_refutes_fails(expected: Any, value: Any):
    """Nothing behind it can change the answer."""
    (reason,) = mismatches(expected, value)
    assert not isinstance(reason, NotSeen)


@pytest.mark.parametrize(
    "expected, value",
    [
        ({"not": {"contains": "error"}}, TEXT),
        ({"contains": "error"}, TEXT),
        ({"suffix": "far"}, PartText("not the end")),
        ({"not": {"matches": "err"}}, TEXT),
        ({"equal": "all is well so far, and on"}, TEXT),
        ({"not": {"not": {"contains": "error"}}}, TEXT),
        ({"any": [{"contains": "error"}, {"contains": "crash"}]}, TEXT),
        ({"lt": 1500}, COUNT),
        ({"gt": 1500}, COUNT),
        ({"equal": 4000}, COUNT),
        ({"not": {"equal": 4000}}, COUNT),
    ],
)
def test_what_the_rest_may_change_is_not_judged(expected: Any, value: Any):
    """Neither a yes nor a no is certain."""
    (reason,) = mismatches(expected, value)
    assert isinstance(reason, NotSeen)
