"""What matchers accept, what they refuse, and what they say."""

import math
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from opskit.checks.check_shape import compile_expectation, compile_matcher
from opskit.checks.jsonpath import MISSING, compile_path
from opskit.checks.matchers import CannotJudge, Matcher, compile_range, version, written_alike
from opskit.config.document import FromEnvironment
from opskit.text import duration_s, size_bytes

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
NUMBERS = st.integers(-1000, 1000) | st.floats(-1e6, 1e6)
TEXT = st.text(min_size=1, max_size=2)
KEYS = st.sampled_from("abc")
PATHS = st.sampled_from(["$.a", "$.a.b", "$[0]", "$[*]", "$.a[*]", "$..a", "$.a..b"])


def compiled(raw: Any) -> Matcher:
    problems: list[str] = []
    matcher = compile_matcher(raw, (), lambda _at, message: problems.append(message))
    assert not problems
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


RAW = st.recursive(
    st.builds(lambda wanted: {"equal": wanted}, JSON)
    | st.builds(lambda order, bound: {order: bound}, st.sampled_from(["gt", "ge", "lt", "le"]), NUMBERS)
    | st.builds(lambda name, text: {name: text}, st.sampled_from(["contains", "prefix", "suffix"]), TEXT)
    | st.builds(lambda name, text: {name: text}, st.sampled_from(["has_key", "matches"]), KEYS)
    | st.just({"semver": ">=1"}),
    lambda inner: (
        st.builds(lambda one: {"not": one}, inner)
        | st.builds(lambda one: {"len": one}, inner)
        | st.builds(lambda one: {"contains": one}, inner)
        | st.builds(lambda path, one: {"jsonpath": {path: one}}, PATHS, inner)
        | st.builds(
            lambda name, each: {name: each}, st.sampled_from(["all", "any"]), st.lists(inner, min_size=1)
        )
    ),
    max_leaves=5,
)


@given(RAW, JSON | st.just(MISSING))
@example({"equal": None}, MISSING)
def test_a_matcher_and_its_negation_never_both_match(raw: Any, value: Any):
    """Whatever a matcher is made of, a value that it cannot judge matches neither it nor its negation."""
    reason, negated = compiled(raw).mismatch(value), compiled({"not": raw}).mismatch(value)
    assert reason is not None or negated is not None
    assert isinstance(reason, CannotJudge) == isinstance(negated, CannotJudge)
    if not isinstance(reason, CannotJudge):
        assert (reason is None) != (negated is None)


@given(RAW, JSON | st.just(MISSING))
@example({"equal": None}, MISSING)
def test_not_twice_is_the_matcher_itself(raw: Any, value: Any):
    """`not` of `not` passes where the matcher passes, and nowhere else."""
    assert matches({"not": {"not": raw}}, value) == matches(raw, value)


@given(JSON, JSON)
def test_not_turns_equality_round(wanted: Any, value: Any):
    """Whatever is there is either equal or not, but for a number and the text that writes it."""
    raw = {"equal": wanted}
    either = matches(raw, value) != matches({"not": raw}, value)
    assert either != written_alike(value, wanted)


@pytest.mark.parametrize(
    "raw, values",
    [
        ({"gt": 0}, [True, None, "5", "text", [5], {}, math.nan]),
        ({"ge": 0}, [True, False]),
        ({"lt": 2}, [True, None, "", [], math.nan]),
        ({"le": 1}, [True, False, "1"]),
        ({"len": 0}, [0, 5, None, True, 0.0]),
        ({"len": {"gt": 0}}, [5, None, True]),
        ({"len": {"matches": "3"}}, ["abc"]),
        ({"contains": "a"}, [None, 5, True]),
        ({"contains": 5}, ["text 5", None, {"5": 5}]),
        ({"contains": {"gt": 5}}, [["a"], [1, None], "9"]),
        ({"matches": "5"}, [5, None, True, ["5"]]),
        ({"prefix": "5"}, [5, None, ["5"]]),
        ({"suffix": "5"}, [5, None, ["5"]]),
        ({"has_key": "a"}, [None, "a", ["a"]]),
        ({"semver": ">=1"}, [None, 1.2, "unknown", ""]),
        ({"jsonpath": {"$.a": 1}}, [{}, {"b": 1}, [1], None, "a", MISSING]),
        ({"jsonpath": {"$.a[0].b": {"len": 0}}}, [{"a": []}, {"a": [{}]}, {"a": [{"b": None}]}]),
        ({"jsonpath": {"$.a[*]": {"len": 0}}}, [{"b": []}, {"a": 5}, {"a": "text"}]),
        ({"jsonpath": {"$.a..b": {"contains": 1}}}, [{"b": 1}, {"c": {"a": {}}}]),
        ({"any": [{"gt": 5}, {"matches": "x"}]}, [None, 3, "y"]),
        ({"all": [{"gt": 5}, {"matches": "x"}]}, [None, 7, "x"]),
        ({"equal": "200"}, [200, MISSING]),
        ({"equal": 200}, ["200", MISSING]),
        ({"equal": True}, ["true"]),
    ],
)
def test_what_cannot_be_judged_matches_neither_way(raw: Any, values: list[Any]):
    """Another type, NaN, or a value that is not there passes neither a matcher nor its `not`."""
    for value in values:
        assert not matches(raw, value), value
        assert not matches({"not": raw}, value), value


@pytest.mark.parametrize(
    "raw, good, bad",
    [
        ({"gt": 1}, Decimal("1.5"), Decimal(1)),
        ({"len": 0}, [], [1]),
        ({"len": {"ge": 2}}, {"a": 1, "b": 2}, ""),
        ({"contains": 5}, [1, 5], []),
        ({"contains": "a"}, {"a": 1}, {"b": 1}),
        ({"matches": "^$"}, "", "x"),
        ({"matches": "b"}, "\ud800b", "\ud800"),
        ({"semver": "<1"}, "0.9", "1.0"),
        ({"any": [None, {"lt": 5}]}, None, 7),
        ({"all": [{"has_key": "a"}, {"jsonpath": {"$.a": 1}}]}, {"a": 1}, {}),
        ({"jsonpath": {"$.a[*].b": {"contains": 1}}}, {"a": [{"b": 1}]}, {"a": []}),
        ({"jsonpath": {"$..error": {"len": 0}}}, {"a": [1]}, {"a": {"error": 1}}),
        ({"not": None}, "", None),
        ({"not": "x"}, None, "x"),
    ],
)
def test_what_can_be_judged_matches_exactly_one_way(raw: Any, good: Any, bad: Any):
    """A good value passes the matcher alone, a bad one its negation alone."""
    assert matches(raw, good)
    assert not matches({"not": raw}, good)
    assert not matches(raw, bad)
    assert matches({"not": raw}, bad)


def test_a_value_that_was_not_seen_is_not_null():
    """`null` is a value: what a kind did not yield is not equal to it."""
    problems: list[str] = []
    expectation = compile_expectation({"a": None}, {"a": ""}, (), lambda _at, said: problems.append(said))
    assert not problems
    assert expectation.mismatches({"a": None}) == []
    assert expectation.mismatches({}) == ["a is not there, expected null"]


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
        assert compile_path(f"$.{key}").value(document) == value
        assert compile_path(f"$['{key}']").value(document) == value
        assert value in compile_path(f"$..{key}").value(document)
    assert compile_path("$[*]").value(document) == list(document.values())


@given(st.tuples(*[st.integers(0, 50)] * 3), st.tuples(*[st.integers(0, 50)] * 3))
def test_versions_are_ordered_by_their_parts(first: tuple[int, ...], second: tuple[int, ...]):
    """`>=` of versions is `>=` of their parts."""
    found = version(".".join(map(str, first)))
    assert found is not None
    assert compile_range(">=" + ".".join(map(str, second)))(found) == (first >= second)


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
        ({"contains": ["a", ""]}, "empty text"),
        ({"contains": []}, "empty list"),
        ({"all": []}, "list of matchers"),
        ({"not": {}}, "empty matcher"),
        ({"not": []}, "empty list"),
        ({"len": {}}, "empty matcher"),
        ({"gt": True}, "must be a number"),
        ({"lt": None}, "must be a number"),
        ({"jsonpath": {"a.b": 1}}, "begins with $"),
        ({"jsonpath": {"$.a[?(@.b)": 1}}, "cannot be read"),
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
    [
        ("500ms", 0.5),
        ("2s", 2.0),
        ("1m", 60.0),
        ("1h30m", 5400.0),
        ("1w", 604_800.0),
        ("2", None),
        ("fast", None),
    ],
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
