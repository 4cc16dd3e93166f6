"""What matchers accept, what they refuse, and what they say."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opskit.checks.comparison import MISSING
from opskit.checks.expectation import compile_expectation, compile_matcher
from opskit.checks.jsonpath import compile_path
from opskit.checks.matchers import Matcher
from opskit.checks.quantity import duration_s, size_bytes
from opskit.checks.versions import compile_range, version
from opskit.config.substitute import FromEnvironment

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
NUMBERS = st.integers(-1000, 1000) | st.floats(-1e6, 1e6)


def compiled(raw: Any) -> Matcher:
    problems: list[str] = []
    matcher = compile_matcher(raw, (), lambda _at, message: problems.append(message))
    assert not problems
    assert matcher is not None
    return matcher


def matches(raw: Any, value: Any) -> bool:
    return compiled(raw).mismatch(value) is None


@given(JSON)
def test_every_value_equals_itself(value: Any):
    """Equality is reflexive for whatever JSON can hold."""
    assert matches({"equal": value}, value)


@given(NUMBERS, NUMBERS)
def test_orders_are_those_of_numbers(bound: float, value: float):
    """gt, ge, lt and le say what Python says."""
    assert matches({"gt": bound}, value) == (value > bound)
    assert matches({"ge": bound}, value) == (value >= bound)
    assert matches({"lt": bound}, value) == (value < bound)
    assert matches({"le": bound}, value) == (value <= bound)


@given(JSON, JSON)
def test_not_turns_a_matcher_round(wanted: Any, value: Any):
    """Whatever is there matches either a matcher or its negation."""
    raw = {"equal": wanted}
    assert matches(raw, value) != matches({"not": raw}, value)


@given(JSON, st.lists(JSON, min_size=1, max_size=3))
def test_any_and_all_are_those_of_logic(value: Any, wanted: list[Any]):
    """`any` needs one of its matchers, `all` needs each."""
    each = [{"equal": one} for one in wanted]
    assert matches({"any": each}, value) == any(matches(one, value) for one in each)
    assert matches({"all": each}, value) == all(matches(one, value) for one in each)


@given(st.text(), st.text(min_size=1), st.text())
def test_texts_are_found_where_they_are(before: str, text: str, after: str):
    """prefix, suffix and contains find what was put there."""
    assert matches({"prefix": text}, text + after)
    assert matches({"suffix": text}, before + text)
    assert matches({"contains": text}, before + text + after)


@given(JSON)
def test_what_is_not_there_matches_nothing_but_null(wanted: Any):
    """A value that is missing never passes by accident, not even under `not`."""
    assert matches({"equal": wanted}, MISSING) == (wanted is None)
    assert not matches({"not": {"equal": wanted}}, MISSING)


@given(st.dictionaries(st.from_regex(r"[a-z]{1,4}", fullmatch=True), JSON, min_size=1, max_size=4))
def test_a_path_finds_what_indexing_finds(document: dict[str, Any]):
    """`$.key` and `$['key']` are the value under the key, `$[*]` all of them, `$..key` at least that one."""
    for key, value in document.items():
        assert compile_path(f"$.{key}").find(document) == [value]
        assert compile_path(f"$['{key}']").find(document) == [value]
        assert value in compile_path(f"$..{key}").find(document)
    assert compile_path("$[*]").find(document) == list(document.values())


@given(st.tuples(*[st.integers(0, 50)] * 3), st.tuples(*[st.integers(0, 50)] * 3))
def test_versions_are_ordered_by_their_parts(first: tuple[int, ...], second: tuple[int, ...]):
    """`>=` of versions is `>=` of their parts."""
    found = version(".".join(map(str, first)))
    assert found is not None
    assert compile_range(">=" + ".".join(map(str, second))).holds(found) == (first >= second)


@pytest.mark.parametrize(
    "span, held, not_held",
    [
        ("^1.2", "1.9.0", "2.0.0"),
        ("^0.5.1", "0.5.9", "0.6.0"),
        ("~1.2.3", "1.2.9", "1.3.0"),
        (">=0.5 <1", "0.14.2", "1.0"),
        ("=1.4 || ^2", "2.3.1", "1.5"),
        (">=1.0.0", "v1.0.0", "1.0.0-rc.1"),
        (">1.0.0-alpha", "1.0.0-beta", "1.0.0-alpha"),
    ],
)
def test_ranges_hold_what_they_should(span: str, held: str, not_held: str):
    """Carets, tildes, bounds, alternatives and pre-releases follow semantic versioning."""
    assert matches({"semver": span}, held)
    assert not matches({"semver": span}, not_held)


@pytest.mark.parametrize(
    "raw, value, said",
    [
        (200, 503, "is 503, expected 200"),
        (200, True, "is true, expected 200"),
        ({"lt": "500ms"}, 0.7, "is 0.7, expected less than 500ms"),
        ({"gt": "1GiB"}, 5, "is 5, expected more than 1GiB"),
        ({"any": ["healthy", "none"]}, "starting", "is 'starting', expected 'healthy' or 'none'"),
        ({"matches": "^0\\."}, "1.0", "is '1.0', expected a match of /^0\\./"),
        ({"len": {"ge": 2}}, [1], "has a length that is 1, expected at least 2"),
        ({"has_key": "a"}, {}, "is {}, expected a key 'a'"),
        ({"contains": ["a", "b"]}, ["a"], "is ['a'], expected something that contains 'b'"),
        ({"jsonpath": {"$.a[0]": 1}}, {"a": [2]}, "$.a[0] is 2, expected 1"),
        ({"jsonpath": {"$.b": 1}}, {"a": 1}, "$.b is not there, expected 1"),
        ({"gt": 1}, "text", "is 'text', expected more than 1 (it is no number)"),
    ],
)
def test_a_mismatch_is_said_in_words(raw: Any, value: Any, said: str):
    """Value and expectation stand in one sentence."""
    assert compiled(raw).mismatch(value) == said


def test_a_variable_may_stand_for_a_number():
    """Text that came out of a variable equals the number it writes."""
    assert matches(FromEnvironment("200"), 200)
    assert matches({"lt": FromEnvironment("2")}, 1)


@pytest.mark.parametrize(
    "raw, part",
    [
        ({}, "empty matcher"),
        ([], "empty list"),
        ({"equals": 1}, "did you mean `equal`?"),
        ({"lt": "soon"}, "must be a number"),
        ({"any": []}, "list of matchers"),
        ({"matches": "("}, "cannot be used"),
        ({"matches": "(?=x)"}, "cannot be used"),
        ({"semver": "new"}, "range of versions"),
        ({"contains": ""}, "empty text"),
        ({"jsonpath": {"a.b": 1}}, "begins with $"),
        ({"jsonpath": {"$.a[?(@.b)]": 1}}, "cannot be read from"),
        ({"jsonpath": {}}, "JSONPath: matcher"),
    ],
)
def test_a_matcher_that_asserts_nothing_is_refused(raw: Any, part: str):
    """Empty and mistyped matchers are problems, never passes."""
    problems: list[str] = []
    compile_matcher(raw, (), lambda _at, message: problems.append(message))
    assert any(part in problem for problem in problems), problems


def test_an_expectation_of_a_value_that_no_kind_yields_is_refused():
    """A mistyped value is told with the near one."""
    problems: list[str] = []
    compile_expectation({"staus": 200}, {"status": ""}, (), lambda _at, message: problems.append(message))
    assert problems == ["unknown key; did you mean `status`?"]


@pytest.mark.parametrize(
    "text, seconds",
    [("500ms", 0.5), ("2s", 2.0), ("1m", 60.0), ("1h30m", 5400.0), ("2", None), ("fast", None)],
)
def test_durations(text: str, seconds: float | None):
    """Durations have units; a bare number has none."""
    assert duration_s(text) == seconds


@pytest.mark.parametrize(
    "text, size", [("1KiB", 1024), ("10 MB", 10_000_000), ("7b", 7), ("1.5GiB", 1610612736), ("1iB", None)]
)
def test_sizes(text: str, size: int | None):
    """KiB is 1024 and kB is 1000."""
    assert size_bytes(text) == size
