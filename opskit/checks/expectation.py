"""Expectations as they stand in a checklist, compiled to matchers; every mistake is told with its place."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from opskit.checks.jsonpath import MISSING, compile_path
from opskit.checks.matchers import (
    AtPath,
    Contains,
    Either,
    Equal,
    Every,
    Length,
    Matcher,
    Negated,
    differs,
    has_key,
    matching,
    ordered,
    prefix,
    semver,
    suffix,
)
from opskit.config.document import Path, retyped, unknown
from opskit.errors import OpskitError
from opskit.quantity import amount

Report = Callable[[Path, str], None]
MATCHERS = (
    "equal", "gt", "ge", "lt", "le", "contains", "matches", "prefix", "suffix", "len", "has_key", "semver",
    "jsonpath", "all", "any", "not",
)  # fmt: skip
#: The value of a kind whose expectations are keyed by JSONPath.
JSON = "json"


@dataclass(frozen=True, slots=True)
class Expectation:
    """What the values of one check must be like."""

    matchers: Mapping[str, Matcher]

    def mismatches(self, values: Mapping[str, Any]) -> list[str]:
        """A sentence for each value that does not match."""
        sentences = []
        for key, matcher in self.matchers.items():
            # A value that was not seen is not null.
            reason = matcher.mismatch(values[key]) if key in values else differs(MISSING, matcher.wish)
            if reason is not None:
                sentences.append(f"{key} {reason}")
        return sentences


def compile_expectation(raw: Any, known: Mapping[str, str], at: Path, report: Report) -> Expectation:
    """`known` are the values that the kind yields."""
    matchers: dict[str, Matcher] = {}
    if not isinstance(raw, Mapping):
        report(at, "must be a section of `value: matcher` lines")
        return Expectation({})
    if not raw:
        report(at, "is empty: it would pass whatever happens")
    for key, wanted in raw.items():
        if key not in known:
            report((*at, key), unknown(str(key), known))
            continue
        compiled = _at_paths if key == JSON and isinstance(wanted, Mapping) else compile_matcher
        matcher = compiled(wanted, (*at, key), report)
        if matcher is not None:
            matchers[key] = matcher
    return Expectation(matchers)


def compile_matcher(raw: Any, at: Path, report: Report) -> Matcher | None:
    """A bare value means equal; None after a mistake, which was reported."""
    if raw == []:
        report(at, "an empty list matches nothing in particular: write {equal: []} or {len: 0}")
        return None
    if not isinstance(raw, Mapping):
        return Equal(raw)
    if not raw:
        report(at, "an empty matcher asserts nothing")
        return None
    matchers = []
    for name, operand in raw.items():
        place = (*at, name)
        if name not in MATCHERS:
            report(place, unknown(str(name), MATCHERS, "matcher"))
            continue
        try:
            matcher = _compiled(name, operand, place, report)
        except ValueError as exc:
            report(place, str(exc))
            continue
        if matcher is not None:
            matchers.append(matcher)
    return _every(matchers)


def _every(matchers: list[Matcher]) -> Matcher | None:
    if len(matchers) > 1:
        return Every(tuple(matchers))
    return matchers[0] if matchers else None


def _compiled(name: str, operand: Any, at: Path, report: Report) -> Matcher | None:
    """None after a problem, which was reported. Raises ValueError for an operand that cannot be used."""
    match name:
        case "equal":
            return Equal(operand)
        case "gt" | "ge" | "lt" | "le":
            return ordered(name, _number(operand), str(operand))
        case "prefix" | "suffix" | "matches" | "has_key" | "semver":
            return _OF_TEXT[name](_text(operand))
        case "jsonpath":
            return _at_paths(operand, at, report)
        case "all" | "any":
            if not isinstance(operand, list) or not operand:
                raise ValueError("must be a list of matchers")
            each = [compile_matcher(raw, (*at, index), report) for index, raw in enumerate(operand)]
            matchers = tuple(matcher for matcher in each if matcher is not None)
            if len(matchers) != len(each):
                return None
            return Every(matchers) if name == "all" else Either(matchers)
        case "contains":
            return _contains(operand, at, report)
    inner = compile_matcher(operand, at, report)
    if inner is None:
        return None
    return Length(inner) if name == "len" else Negated(inner)


def _contains(operand: Any, at: Path, report: Report) -> Matcher | None:
    if operand == "" or (isinstance(operand, list) and "" in operand):
        raise ValueError("everything contains an empty text")
    listed = isinstance(operand, list) and bool(operand)
    matchers: list[Matcher] = []
    for index, raw in enumerate(operand if listed else [operand]):
        inner = compile_matcher(raw, (*at, index) if listed else at, report)
        if inner is not None:
            matchers.append(Contains(inner, raw if isinstance(raw, str) else None))
    return _every(matchers)


def _at_paths(raw: Any, at: Path, report: Report) -> Matcher | None:
    """A section of `JSONPath: matcher`; anything that is no path is reported."""
    if not isinstance(raw, Mapping) or not raw:
        report(at, "must be a section of `JSONPath: matcher` lines")
        return None
    matchers: list[Matcher] = []
    for text, wanted in raw.items():
        place = (*at, text)
        try:
            path = compile_path(str(text))
        except ValueError as exc:
            report(place, str(exc))
            continue
        inner = compile_matcher(wanted, place, report)
        if inner is not None:
            matchers.append(AtPath(path, inner))
    return _every(matchers)


def _matching(pattern: str) -> Matcher:
    from opskit.logs.select import compiled

    try:
        return matching(pattern, compiled(pattern))
    except OpskitError as exc:
        raise ValueError(exc.message) from exc


def _number(operand: Any) -> float:
    """A number, or an amount such as 500ms or 10GiB."""
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


_OF_TEXT: dict[str, Callable[[str], Matcher]] = {
    "prefix": prefix,
    "suffix": suffix,
    "matches": _matching,
    "has_key": has_key,
    "semver": semver,
}
