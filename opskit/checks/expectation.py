"""Expectations as they stand in a checklist, compiled to matchers; every mistake is told with its place."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from opskit.checks.comparison import MISSING
from opskit.checks.jsonpath import compile_path
from opskit.checks.matchers import (
    AtPath,
    Contains,
    Edge,
    Either,
    Equal,
    Every,
    HasKey,
    Length,
    Matcher,
    Matches,
    Negated,
    Ordered,
    Semver,
    differs,
)
from opskit.checks.quantity import amount
from opskit.checks.versions import compile_range
from opskit.config.problems import Path
from opskit.config.shape import unknown
from opskit.config.substitute import FromEnvironment
from opskit.config.yaml import scalar
from opskit.errors import OpskitError

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
        found = []
        for key, matcher in self.matchers.items():
            # A value that was not seen is not null.
            reason = matcher.mismatch(values[key]) if key in values else differs(MISSING, matcher.wish)
            if reason is not None:
                found.append(f"{key} {reason}")
        return found


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
            report((*at, key), unknown(str(key), list(known)))
            continue
        compiled = _paths if key == JSON and isinstance(wanted, Mapping) else compile_matcher
        matcher = compiled(wanted, (*at, key), report)
        if matcher is not None:
            matchers[key] = matcher
    return Expectation(matchers)


def compile_matcher(raw: Any, at: Path, report: Report) -> Matcher | None:
    """A bare value means equal; None after a mistake, which was reported."""
    if isinstance(raw, Mapping):
        return _section(raw, at, report)
    if isinstance(raw, list) and not raw:
        report(at, "an empty list matches nothing in particular: write {equal: []} or {len: 0}")
        return None
    return Equal(raw)


def _section(raw: Mapping[str, Any], at: Path, report: Report) -> Matcher | None:
    if not raw:
        report(at, "an empty matcher asserts nothing")
        return None
    found = []
    for name, operand in raw.items():
        place = (*at, name)
        if name not in MATCHERS:
            report(place, unknown(str(name), list(MATCHERS)).replace("unknown key", "unknown matcher"))
            continue
        try:
            matcher = _one(name, operand, place, report)
        except ValueError as exc:
            report(place, str(exc))
            continue
        if matcher is not None:
            found.append(matcher)
    if not found:
        return None
    return found[0] if len(found) == 1 else Every(tuple(found))


def _one(name: str, operand: Any, at: Path, report: Report) -> Matcher | None:
    """Raises ValueError for an operand that cannot be used."""
    match name:
        case "equal":
            return Equal(operand)
        case "gt" | "ge" | "lt" | "le":
            return Ordered(name, _number(operand), str(operand))
        case "prefix" | "suffix":
            return Edge(name, _text(operand))
        case "matches":
            return _matches(_text(operand))
        case "has_key":
            return HasKey(_text(operand))
        case "semver":
            return Semver(compile_range(_text(operand)))
        case "jsonpath":
            return _paths(operand, at, report)
        case "all" | "any":
            return _group(name, operand, at, report)
    inner = compile_matcher(operand, at, report)
    if inner is None:
        return None
    if name == "len":
        return Length(inner)
    if name == "not":
        return Negated(inner)
    return _contains(operand, inner, at, report)


def _contains(operand: Any, inner: Matcher, at: Path, report: Report) -> Matcher | None:
    if operand == "" or (isinstance(operand, list) and "" in operand):
        raise ValueError("everything contains an empty text")
    if isinstance(operand, list):
        each = [compile_matcher(one, (*at, n), report) for n, one in enumerate(operand)]
        pairs = zip(each, operand, strict=True)
        return Every(tuple(Contains(one, _plain(raw)) for one, raw in pairs if one is not None))
    return Contains(inner, _plain(operand))


def _plain(operand: Any) -> str | None:
    return operand if isinstance(operand, str) else None


def _group(name: str, operand: Any, at: Path, report: Report) -> Matcher | None:
    if not isinstance(operand, list) or not operand:
        raise ValueError("must be a list of matchers")
    inner = [compile_matcher(one, (*at, n), report) for n, one in enumerate(operand)]
    whole = tuple(one for one in inner if one is not None)
    if len(whole) != len(inner):
        return None
    return Every(whole) if name == "all" else Either(whole)


def _paths(raw: Any, at: Path, report: Report) -> Matcher | None:
    """A section of `JSONPath: matcher`; anything that is no path is reported."""
    if not isinstance(raw, Mapping) or not raw:
        report(at, "must be a section of `JSONPath: matcher` lines")
        return None
    found = []
    for text, wanted in raw.items():
        try:
            path = compile_path(str(text))
        except ValueError as exc:
            report((*at, text), str(exc))
            continue
        inner = compile_matcher(wanted, (*at, text), report)
        if inner is not None:
            found.append(AtPath(path, inner))
    return Every(tuple(found)) if found else None


def _matches(pattern: str) -> Matcher:
    from opskit.logs.select import compiled

    try:
        return Matches(pattern, compiled(pattern))
    except OpskitError as exc:
        raise ValueError(exc.message) from exc


def _number(operand: Any) -> float:
    """A number, or an amount such as 500ms or 10GiB."""
    value = scalar(operand) if isinstance(operand, FromEnvironment) else operand
    if isinstance(value, str):
        value = amount(value)
    if not isinstance(value, int | float) or isinstance(value, bool) or value != value:  # noqa: PLR0124 - NaN
        raise ValueError("must be a number, a duration such as 500ms or a size such as 10GiB")
    return value


def _text(operand: Any) -> str:
    if not isinstance(operand, str) or not operand:
        raise ValueError("must be text: put it in quotes")
    return str(operand)
