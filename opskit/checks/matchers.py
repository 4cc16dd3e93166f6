"""What a value must be like. Pure: a matcher says in words why a value does not match, or nothing.

A matcher that cannot judge a value (an order and a text, anything and a value that is not there) mismatches,
and so does its negation.

Compiled by `opskit.checks.check_shape` from what stands in a checklist. What programs print for a version
(`v1`, `24.04`, `1.2.3.4`) the `semver` library refuses, and it knows no ranges such as `^1.2`.
"""

import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from opskit.checks.jsonpath import MISSING, JsonPath
from opskit.config.document import FromEnvironment, scalar
from opskit.records import Record
from opskit.text import shortened

_SHOWN_CHARS = 80
ORDERS: dict[str, tuple[str, Callable[[Any, Any], bool]]] = {
    "gt": ("more than", operator.gt),
    "ge": ("at least", operator.ge),
    "lt": ("less than", operator.lt),
    "le": ("at most", operator.le),
}
#: How each begins its sentence, the word for the types that it judges, these types, and the test.
TEXT_TESTS: dict[str, tuple[str, str, type, Callable[[Any, str], bool]]] = {
    "prefix": ("a beginning of", "text", str, str.startswith),
    "suffix": ("an end of", "text", str, str.endswith),
    "has_key": ("a key", "section of keys", Mapping, operator.contains),
}
_VERSION = re.compile(r"v?(\d+)(?:\.(\d+))?(?:\.(\d+))?(?:[.\d]*)(?:-([0-9A-Za-z.-]+))?(?:\+[0-9A-Za-z.-]+)?")
_TERM = re.compile(r"(>=|<=|>|<|=|\^|~)?\s*([vV]?\d[^\s,|]*)")
Version = tuple[int, int, int, tuple[tuple[int, int, str], ...]]
#: A release comes after all of its pre-releases.
_RELEASE = ((2, 0, ""),)
_NO_RANGE = "must be a range of versions such as '>=1.2 <2', '^1.2' or '~1.2.3'"
_COMPARE: dict[str, Callable[[Version, Version], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
    "=": operator.eq,
}


class Matcher(Record):
    """`expected` completes the sentence "expected ..."; `mismatch` gives None for a value that matches."""

    expected: str
    mismatch: Callable[[Any], str | None]

    def absent(self) -> str:
        """Return the sentence for a value that is not there."""
        return differs(MISSING, self.expected)


class CannotJudge(str):
    """A mismatch that says nothing of the value, which is not there or of another type: `not` keeps it."""

    __slots__ = ()


class NotSeen(CannotJudge):
    """A mismatch, or a match, that the part of the value which was not read may change."""

    __slots__ = ()


class PartText(str):
    """The beginning of a text, of which more was there than was read."""

    __slots__ = ()


class PartCount(int):
    """A number of which so many were counted, and there are more."""

    __slots__ = ()


def shown(value: Any) -> str:
    """Return a value as it stands in a sentence: short, on one line."""
    text = repr(str(value)) if isinstance(value, str) else str(value)
    if value is None or isinstance(value, bool):
        text = {None: "null", True: "true", False: "false"}[value]
    return shortened(text, _SHOWN_CHARS)


def same(value: Any, wanted: Any) -> bool:
    """Compare without Python's `True == 1`; text out of a variable may stand for a number."""
    if isinstance(wanted, FromEnvironment) and not isinstance(value, str):
        return same(value, scalar(wanted))
    if isinstance(value, bool) is not isinstance(wanted, bool):
        return False
    if isinstance(value, list | tuple) and isinstance(wanted, list | tuple):
        return len(value) == len(wanted) and all(map(same, value, wanted))
    if isinstance(value, Mapping) and isinstance(wanted, Mapping):
        return value.keys() == wanted.keys() and all(same(value[key], wanted[key]) for key in wanted)
    return bool(value == wanted)


def written_alike(value: Any, wanted: Any) -> bool:
    """Whether one is a number or a truth value and the other the text that writes it: `200` and `"200"`."""
    if isinstance(value, str) is isinstance(wanted, str):
        return False
    text, other = (value, wanted) if isinstance(value, str) else (wanted, value)
    read = scalar(text)
    return isinstance(read, bool | int | float) and same(other, read)


def differs(value: Any, expected: str) -> str:
    """Return the sentence for a value that does not match."""
    if value is MISSING:
        return CannotJudge(f"is not there, expected {expected}")
    return f"is {shown(value)}, expected {expected}"


def _is_no(types: str, value: Any, expected: str) -> CannotJudge:
    return CannotJudge(differs(value, expected) + ("" if value is MISSING else f" (it is no {types})"))


def _because(reasons: Iterable[str | None], text: str) -> str:
    """Return `text` as a reason which cannot judge when one of the inner reasons cannot."""
    kinds = {type(reason) for reason in reasons}
    return next((kind(text) for kind in (NotSeen, CannotJudge) if kind in kinds), text)


def _not_seen(value: Any, expected: str) -> NotSeen:
    return NotSeen(f"{differs(value, expected)} (only a part was read)")


def equal(wanted: Any) -> Matcher:
    """Match the same value. A number and the text that writes it are neither equal nor different."""
    expected = shown(wanted)

    def mismatch(value: Any) -> str | None:
        if value is MISSING:
            return None if wanted is None else differs(value, expected)
        if isinstance(value, PartText) and isinstance(wanted, str) and wanted.startswith(value):
            return _not_seen(value, expected)
        if isinstance(value, PartCount) and isinstance(wanted, int) and wanted >= value:
            return _not_seen(value, expected)
        if same(value, wanted):
            return None
        if written_alike(value, wanted):
            return CannotJudge(f"{differs(value, expected)} (one is text, the other is not)")
        if isinstance(wanted, list) and any(same(value, item) for item in wanted):
            return f"{differs(value, expected)} (for one of several write {{any: {shown(wanted)}}})"
        return differs(value, expected)

    return Matcher(expected, mismatch)


def _test(expected: str, types: str, judges: Callable[[Any], bool], holds: Callable[[Any], bool]) -> Matcher:
    """Match values of one type by a test; `types` names the type in the sentence for all others."""

    def mismatch(value: Any) -> str | None:
        if not judges(value):
            return _is_no(types, value, expected)
        if holds(value):
            return None
        return _not_seen(value, expected) if isinstance(value, PartText) else differs(value, expected)

    return Matcher(expected, mismatch)


def ordered(order: str, bound: float, written: str) -> Matcher:
    """Match what is more or less than a number; `written` is how it stands in the checklist."""
    words, compare = ORDERS[order]
    whole = _test(f"{words} {written}", "number", _is_number, lambda value: compare(value, bound))

    def mismatch(value: Any) -> str | None:
        # What is counted further only grows.
        if isinstance(value, PartCount) and compare(value, bound) is (order in ("lt", "le")):
            return _not_seen(value, whole.expected)
        return whole.mismatch(value)

    return Matcher(whole.expected, mismatch)


def _is_number(value: Any) -> bool:
    number = isinstance(value, int | float | Decimal) and not isinstance(value, bool)
    return number and bool(value == value)  # noqa: PLR0124 - NaN


def of_text(test: str, text: str) -> Matcher:
    """Match by one of TEXT_TESTS."""
    words, types, judged, holds = TEXT_TESTS[test]
    expected = f"{words} {shown(text)}"
    return _test(expected, types, lambda value: isinstance(value, judged), lambda value: holds(value, text))


def matching(pattern: str, search: Callable[[bytes], object | None]) -> Matcher:
    """Match a text in which a pattern is somewhere (anchor it with ^ and $)."""

    def holds(value: str) -> bool:
        try:
            return search(value.encode("utf-8", "surrogateescape")) is not None
        except UnicodeEncodeError:
            # Half a surrogate pair, which JSON may hold, has no bytes.
            return search(value.encode("utf-8", "replace")) is not None

    return _test(f"a match of /{pattern}/", "text", lambda value: isinstance(value, str), holds)


def semver(text: str) -> Matcher:
    """Raises ValueError for what is no range of versions."""
    is_in_range = compile_range(text)

    def known(value: Any) -> Version | None:
        return version(value) if isinstance(value, str) else None

    return _test(
        f"a version {text}",
        "version",
        lambda value: known(value) is not None,
        lambda value: (parsed := known(value)) is not None and is_in_range(parsed),
    )


def contains(inner: Matcher, text: str | None = None) -> Matcher:
    """Match a text that holds a text, or a list of which at least one item matches."""
    expected = f"something that contains {inner.expected}"

    def mismatch(value: Any) -> str | None:
        if isinstance(value, str | Mapping):
            if text is None:
                return _is_no("list", value, expected)
            if text in value:
                return None
            return _not_seen(value, expected) if isinstance(value, PartText) else differs(value, expected)
        if not isinstance(value, list | tuple):
            return _is_no("text or list", value, expected)
        reasons = [inner.mismatch(item) for item in value]
        return None if None in reasons else _because(reasons, differs(value, expected))

    return Matcher(expected, mismatch)


def length(inner: Matcher) -> Matcher:
    expected = f"a length of {inner.expected}"

    def mismatch(value: Any) -> str | None:
        if not isinstance(value, str | bytes | list | tuple | Mapping):
            return _is_no("text or list", value, expected)
        reason = inner.mismatch(len(value))
        return None if reason is None else _because([reason], f"has a length that {reason}")

    return Matcher(expected, mismatch)


def at_path(path: JsonPath, inner: Matcher) -> Matcher:
    """Match the value at a path that can mean one place only, or the list of values at any other."""
    expected = f"{path.text} to be {inner.expected}"

    def mismatch(value: Any) -> str | None:
        if value is MISSING:
            return differs(value, expected)
        reason = inner.mismatch(path.value(value))
        return None if reason is None else _because([reason], f"{path.text} {reason}")

    return Matcher(expected, mismatch)


def every(inner: Sequence[Matcher]) -> Matcher:
    if len(inner) == 1:
        return inner[0]

    def mismatch(value: Any) -> str | None:
        reasons = [reason for matcher in inner if (reason := matcher.mismatch(value)) is not None]
        # What was judged tells more than what could not be.
        return min(reasons, key=lambda reason: isinstance(reason, CannotJudge), default=None)

    return Matcher(" and ".join(matcher.expected for matcher in inner), mismatch)


def either(inner: Sequence[Matcher]) -> Matcher:
    expected = " or ".join(matcher.expected for matcher in inner)

    def mismatch(value: Any) -> str | None:
        reasons = [matcher.mismatch(value) for matcher in inner]
        return None if None in reasons else _because(reasons, differs(value, expected))

    return Matcher(expected, mismatch)


def negated(inner: Matcher) -> Matcher:
    """Match what the inner matcher does not, but nothing it cannot judge: a mistyped path must not pass."""
    expected = f"not {inner.expected}"

    def mismatch(value: Any) -> str | None:
        reason = inner.mismatch(value)
        if reason is None:
            # What is not there and may be null was judged.
            return str(differs(value, expected))
        if isinstance(reason, NotSeen):
            return _not_seen(value, expected)
        return reason if isinstance(reason, CannotJudge) else None

    return Matcher(expected, mismatch)


def version(text: str) -> Version | None:
    """None when `text` is no version. Missing parts are 0."""
    match = _VERSION.fullmatch(text.strip())
    if match is None:
        return None
    # Numbers come before words.
    parts = (match[4] or "").split(".")
    pre = tuple((0, int(part), "") if part.isdigit() else (1, 0, part) for part in parts)
    return int(match[1]), int(match[2] or 0), int(match[3] or 0), pre if match[4] else _RELEASE


def compile_range(text: str) -> Callable[[Version], bool]:
    """Return whether a version is in a range. Raises ValueError for what is no range."""
    alternatives = [_terms(part) for part in text.split("||")]
    return lambda known: any(all(_COMPARE[op](known, bound) for op, bound in terms) for terms in alternatives)


def _terms(text: str) -> list[tuple[str, Version]]:
    """Return the conditions of an alternative, which must all hold."""
    terms: list[tuple[str, Version]] = []
    for match in _TERM.finditer(text):
        bound = version(match[2])
        if bound is None:
            raise ValueError(_NO_RANGE)
        major, minor, patch, _ = bound
        if match[1] not in ("^", "~"):
            terms.append((match[1] or "=", bound))
            continue
        # Caret: up to the next change of the first part that is not 0; tilde: of the second.
        above = (major + 1, 0, 0)
        if match[1] == "~" and "." in match[2]:
            above = (major, minor + 1, 0)
        elif match[1] == "^" and not major:
            above = (0, minor + 1, 0) if minor or patch == 0 else (0, 0, patch + 1)
        terms += [(">=", bound), ("<", (*above, ()))]
    if not terms or _TERM.sub("", text).strip(" ,"):
        raise ValueError(_NO_RANGE)
    return terms
