"""Expectations as they stand in a checklist, compiled to matchers; every mistake is reported at its place."""

from collections.abc import Mapping
from typing import Any

from opskit.checks import matchers
from opskit.checks.jsonpath import compile_path
from opskit.checks.matchers import Matcher
from opskit.checks.spec import Expectation
from opskit.config.document import Path, Report, retyped, unknown
from opskit.errors import OpskitError
from opskit.text import amount

MATCHERS = (
    "equal", "gt", "ge", "lt", "le", "contains", "matches", "prefix", "suffix", "len", "has_key", "semver",
    "jsonpath", "all", "any", "not",
)  # fmt: skip
#: The value of a kind whose expectations are keyed by JSONPath.
JSON = "json"


def compile_expectation(raw: Any, known: Mapping[str, str], at: Path, report: Report) -> Expectation:
    """Compile an expectation of `known` values; after a reported mistake the result is unusable."""
    if not isinstance(raw, Mapping):
        report(at, "must be a section of `value: matcher` lines")
        return Expectation({})
    if not raw:
        report(at, "is empty: it would pass whatever happens")
    expected: dict[str, Matcher] = {}
    for key, wanted in raw.items():
        if key not in known:
            report((*at, key), unknown(str(key), known))
            continue
        compiled = _at_paths if key == JSON and isinstance(wanted, Mapping) else compile_matcher
        expected[key] = compiled(wanted, (*at, key), report)
    return Expectation(expected)


def compile_matcher(raw: Any, at: Path, report: Report) -> Matcher:
    """Compile a matcher; a bare value means equal. After a reported mistake the result is unusable."""
    if raw == []:
        report(at, "an empty list matches nothing in particular: write {equal: []} or {len: 0}")
    if not isinstance(raw, Mapping):
        return matchers.equal(raw)
    if not raw:
        report(at, "an empty matcher asserts nothing")
    compiled: list[Matcher] = []
    for name, operand in raw.items():
        try:
            compiled.append(_compiled(name, operand, (*at, name), report))
        except ValueError as exc:
            report((*at, name), str(exc))
    return matchers.every(compiled)


def _compiled(name: str, operand: Any, at: Path, report: Report) -> Matcher:
    """Raises ValueError for an operand that cannot be used."""
    match name:
        case "equal":
            return matchers.equal(operand)
        case _ if name in matchers.ORDERS:
            return matchers.ordered(name, _number(operand), str(operand))
        case _ if name in matchers.TEXT_TESTS:
            return matchers.of_text(name, _text(operand))
        case "matches":
            return _matching(_text(operand))
        case "semver":
            return matchers.semver(_text(operand))
        case "jsonpath":
            return _at_paths(operand, at, report)
        case "contains":
            return _contains(operand, at, report)
        case "len":
            return matchers.length(compile_matcher(operand, at, report))
        case "not":
            return matchers.negated(compile_matcher(operand, at, report))
        case "all" | "any":
            if not isinstance(operand, list) or not operand:
                raise ValueError("must be a list of matchers")
            inner = [compile_matcher(raw, (*at, index), report) for index, raw in enumerate(operand)]
            return matchers.every(inner) if name == "all" else matchers.either(inner)
    raise ValueError(unknown(str(name), MATCHERS, "matcher"))


def _contains(operand: Any, at: Path, report: Report) -> Matcher:
    """Compile a matcher for what contains the operand, or each item of a list."""
    if operand == "" or (isinstance(operand, list) and "" in operand):
        raise ValueError("everything contains an empty text")
    is_list = isinstance(operand, list) and bool(operand)
    items = [((*at, index), raw) for index, raw in enumerate(operand)] if is_list else [(at, operand)]
    return matchers.every(
        [
            matchers.contains(compile_matcher(raw, place, report), raw if isinstance(raw, str) else None)
            for place, raw in items
        ]
    )


def _at_paths(raw: Any, at: Path, report: Report) -> Matcher:
    """Compile a section of `JSONPath: matcher`."""
    if not isinstance(raw, Mapping) or not raw:
        report(at, "must be a section of `JSONPath: matcher` lines")
        return matchers.every([])
    compiled: list[Matcher] = []
    for text, wanted in raw.items():
        try:
            path = compile_path(str(text))
        except ValueError as exc:
            report((*at, text), str(exc))
        else:
            compiled.append(matchers.at_path(path, compile_matcher(wanted, (*at, text), report)))
    return matchers.every(compiled)


def _matching(pattern: str) -> Matcher:
    from opskit.logs.select import compiled

    try:
        return matchers.matching(pattern, compiled(pattern).search)
    except OpskitError as exc:
        raise ValueError(exc.message) from exc


def _number(operand: Any) -> float:
    """Return a number, or the number of an amount such as 500ms or 10GiB."""
    value = retyped(operand)
    if isinstance(value, str):
        value = amount(value)
    if not isinstance(value, int | float) or isinstance(value, bool) or value != value:  # noqa: PLR0124 - NaN
        raise ValueError("must be a number, a duration such as 500ms or a size such as 10GiB")
    return value


def _text(operand: Any) -> str:
    if not isinstance(operand, str) or not operand:
        raise ValueError("must be text: put it in quotes")
    return str(operand)
