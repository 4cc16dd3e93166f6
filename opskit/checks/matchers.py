"""What a value must be like. Pure: a matcher says in words why a value does not match, or nothing.

Compiled by `opskit.checks.expectation` from what stands in a checklist.
"""

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from opskit.checks.comparison import MISSING, same, shown
from opskit.checks.jsonpath import JsonPath
from opskit.checks.versions import Range, version


class Matcher(Protocol):
    """`wish` completes the sentence "expected ..."; `mismatch` is None for a value that matches."""

    @property
    def wish(self) -> str: ...
    def mismatch(self, value: Any) -> str | None: ...


class Regex(Protocol):
    """A compiled byte pattern."""

    def search(self, text: bytes, /) -> object | None: ...


def _differs(value: Any, wish: str) -> str:
    return f"is {shown(value)}, expected {wish}" if value is not MISSING else f"is not there, expected {wish}"


@dataclass(frozen=True, slots=True)
class Equal:
    wanted: Any

    @property
    def wish(self) -> str:
        return shown(self.wanted)

    def mismatch(self, value: Any) -> str | None:
        if value is MISSING:
            value = None if self.wanted is None else MISSING
        return None if value is not MISSING and same(value, self.wanted) else _differs(value, self.wish)


_ORDERS: dict[str, tuple[str, Callable[[Any, Any], bool]]] = {
    "gt": ("more than", operator.gt),
    "ge": ("at least", operator.ge),
    "lt": ("less than", operator.lt),
    "le": ("at most", operator.le),
}


@dataclass(frozen=True, slots=True)
class Ordered:
    """`bound` is a number; `written` is how it stands in the checklist."""

    order: str
    bound: float
    written: str

    @property
    def wish(self) -> str:
        return f"{_ORDERS[self.order][0]} {self.written}"

    def mismatch(self, value: Any) -> str | None:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if number and _ORDERS[self.order][1](value, self.bound):
            return None
        return _differs(value, self.wish) + ("" if number or value is MISSING else " (it is no number)")


@dataclass(frozen=True, slots=True)
class Contains:
    """A text that holds a text, or a list of which at least one item matches."""

    inner: Matcher
    text: str | None = None

    @property
    def wish(self) -> str:
        return f"something that contains {self.inner.wish}"

    def mismatch(self, value: Any) -> str | None:
        if isinstance(value, str | Mapping):
            found = self.text is not None and self.text in value
        else:
            found = isinstance(value, Sequence) and any(self.inner.mismatch(one) is None for one in value)
        return None if found else _differs(value, self.wish)


@dataclass(frozen=True, slots=True)
class Edge:
    """How a text begins or ends."""

    where: str
    text: str

    @property
    def wish(self) -> str:
        return f"{'a beginning' if self.where == 'prefix' else 'an end'} of {shown(self.text)}"

    def mismatch(self, value: Any) -> str | None:
        test = str.startswith if self.where == "prefix" else str.endswith
        return None if isinstance(value, str) and test(value, self.text) else _differs(value, self.wish)


@dataclass(frozen=True, slots=True)
class Matches:
    """A pattern that is found somewhere in a text (anchor it with ^ and $)."""

    pattern: str
    regex: Regex

    @property
    def wish(self) -> str:
        return f"a match of /{self.pattern}/"

    def mismatch(self, value: Any) -> str | None:
        if isinstance(value, str) and self.regex.search(value.encode("utf-8", "surrogateescape")):
            return None
        return _differs(value, self.wish)


@dataclass(frozen=True, slots=True)
class Length:
    inner: Matcher

    @property
    def wish(self) -> str:
        return f"a length of {self.inner.wish}"

    def mismatch(self, value: Any) -> str | None:
        if not isinstance(value, str | Sequence | Mapping):
            return _differs(value, self.wish)
        reason = self.inner.mismatch(len(value))
        return None if reason is None else f"has a length that {reason}"


@dataclass(frozen=True, slots=True)
class HasKey:
    key: str

    @property
    def wish(self) -> str:
        return f"a key {shown(self.key)}"

    def mismatch(self, value: Any) -> str | None:
        return None if isinstance(value, Mapping) and self.key in value else _differs(value, self.wish)


@dataclass(frozen=True, slots=True)
class Semver:
    range: Range

    @property
    def wish(self) -> str:
        return f"a version {self.range.text}"

    def mismatch(self, value: Any) -> str | None:
        found = version(value) if isinstance(value, str) else None
        return None if found is not None and self.range.holds(found) else _differs(value, self.wish)


@dataclass(frozen=True, slots=True)
class AtPath:
    """A path that can mean one place is matched against its value, any other against the list of values."""

    path: JsonPath
    inner: Matcher

    @property
    def wish(self) -> str:
        return f"{self.path.text} to be {self.inner.wish}"

    def mismatch(self, value: Any) -> str | None:
        if value is MISSING:
            return _differs(value, self.wish)
        found: Any = self.path.find(value)
        if self.path.single:
            found = found[0] if found else MISSING
        reason = self.inner.mismatch(found)
        return None if reason is None else f"{self.path.text} {reason}"


@dataclass(frozen=True, slots=True)
class Every:
    inner: tuple[Matcher, ...]

    @property
    def wish(self) -> str:
        return " and ".join(one.wish for one in self.inner)

    def mismatch(self, value: Any) -> str | None:
        return next((reason for one in self.inner if (reason := one.mismatch(value)) is not None), None)


@dataclass(frozen=True, slots=True)
class Either:
    inner: tuple[Matcher, ...]

    @property
    def wish(self) -> str:
        return " or ".join(one.wish for one in self.inner)

    def mismatch(self, value: Any) -> str | None:
        return None if any(one.mismatch(value) is None for one in self.inner) else _differs(value, self.wish)


@dataclass(frozen=True, slots=True)
class Negated:
    """Something that is not there matches no `not` either: a mistyped path must not pass."""

    inner: Matcher

    @property
    def wish(self) -> str:
        return f"not {self.inner.wish}"

    def mismatch(self, value: Any) -> str | None:
        good = value is not MISSING and self.inner.mismatch(value) is not None
        return None if good else _differs(value, self.wish)
