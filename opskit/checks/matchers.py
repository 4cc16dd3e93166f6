"""What a value must be like. Pure: a matcher says in words why a value does not match, or nothing.

A matcher that cannot judge a value (an order and a text, anything and a value that is not there) mismatches,
and so does its negation.

Compiled by `opskit.checks.expectation` from what stands in a checklist.
"""

import operator
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Protocol

from opskit.checks.comparison import MISSING, same, shown, written_alike
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


class CannotJudge(str):
    """A mismatch that says nothing of the value, which is not there or of another type: `not` keeps it."""

    __slots__ = ()


def differs(value: Any, wish: str) -> str:
    """The sentence for a value that is not what was wished for."""
    if value is MISSING:
        return CannotJudge(f"is not there, expected {wish}")
    return f"is {shown(value)}, expected {wish}"


def _no(types: str, value: Any, wish: str) -> CannotJudge:
    return CannotJudge(differs(value, wish) + ("" if value is MISSING else f" (it is no {types})"))


def _like(reason: str, text: str) -> str:
    """The text as a reason of the same kind."""
    return CannotJudge(text) if isinstance(reason, CannotJudge) else text


def _any_like(reasons: Iterable[str | None], text: str) -> str:
    """The text as a reason why none of several matches; it cannot be judged when one of them cannot."""
    return CannotJudge(text) if any(isinstance(reason, CannotJudge) for reason in reasons) else text


@dataclass(frozen=True, slots=True)
class Equal:
    """The same value. A number and the text that writes it are neither equal nor told apart."""

    wanted: Any

    @property
    def wish(self) -> str:
        return shown(self.wanted)

    def mismatch(self, value: Any) -> str | None:
        if value is MISSING:
            return None if self.wanted is None else differs(value, self.wish)
        if same(value, self.wanted):
            return None
        if written_alike(value, self.wanted):
            return CannotJudge(f"{differs(value, self.wish)} (one is text, the other is not)")
        return differs(value, self.wish)


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
        number = isinstance(value, int | float | Decimal) and not isinstance(value, bool)
        if not number or value != value:  # noqa: PLR0124 - NaN
            return _no("number", value, self.wish)
        return None if _ORDERS[self.order][1](value, self.bound) else differs(value, self.wish)


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
            if self.text is None:
                return _no("list", value, self.wish)
            return None if self.text in value else differs(value, self.wish)
        if not isinstance(value, list | tuple):
            return _no("text or list", value, self.wish)
        reasons = [self.inner.mismatch(item) for item in value]
        return None if None in reasons else _any_like(reasons, differs(value, self.wish))


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
        if not isinstance(value, str):
            return _no("text", value, self.wish)
        return None if test(value, self.text) else differs(value, self.wish)


def _bytes(text: str) -> bytes:
    """Text for a byte pattern; half a surrogate pair, which JSON may hold, has no bytes of its own."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace")


@dataclass(frozen=True, slots=True)
class Matches:
    """A pattern that is found somewhere in a text (anchor it with ^ and $)."""

    pattern: str
    regex: Regex

    @property
    def wish(self) -> str:
        return f"a match of /{self.pattern}/"

    def mismatch(self, value: Any) -> str | None:
        if not isinstance(value, str):
            return _no("text", value, self.wish)
        return None if self.regex.search(_bytes(value)) else differs(value, self.wish)


@dataclass(frozen=True, slots=True)
class Length:
    inner: Matcher

    @property
    def wish(self) -> str:
        return f"a length of {self.inner.wish}"

    def mismatch(self, value: Any) -> str | None:
        if not isinstance(value, str | bytes | list | tuple | Mapping):
            return _no("text or list", value, self.wish)
        reason = self.inner.mismatch(len(value))
        return None if reason is None else _like(reason, f"has a length that {reason}")


@dataclass(frozen=True, slots=True)
class HasKey:
    key: str

    @property
    def wish(self) -> str:
        return f"a key {shown(self.key)}"

    def mismatch(self, value: Any) -> str | None:
        if not isinstance(value, Mapping):
            return _no("section of keys", value, self.wish)
        return None if self.key in value else differs(value, self.wish)


@dataclass(frozen=True, slots=True)
class Semver:
    range: Range

    @property
    def wish(self) -> str:
        return f"a version {self.range.text}"

    def mismatch(self, value: Any) -> str | None:
        found = version(value) if isinstance(value, str) else None
        if found is None:
            return _no("version", value, self.wish)
        return None if self.range.holds(found) else differs(value, self.wish)


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
            return differs(value, self.wish)
        reason = self.inner.mismatch(self.path.value(value))
        return None if reason is None else _like(reason, f"{self.path.text} {reason}")


@dataclass(frozen=True, slots=True)
class Every:
    inner: tuple[Matcher, ...]

    @property
    def wish(self) -> str:
        return " and ".join(one.wish for one in self.inner)

    def mismatch(self, value: Any) -> str | None:
        reasons = [reason for one in self.inner if (reason := one.mismatch(value)) is not None]
        return next((one for one in reasons if not isinstance(one, CannotJudge)), next(iter(reasons), None))


@dataclass(frozen=True, slots=True)
class Either:
    inner: tuple[Matcher, ...]

    @property
    def wish(self) -> str:
        return " or ".join(one.wish for one in self.inner)

    def mismatch(self, value: Any) -> str | None:
        reasons = [one.mismatch(value) for one in self.inner]
        return None if None in reasons else _any_like(reasons, differs(value, self.wish))


@dataclass(frozen=True, slots=True)
class Negated:
    """What its matcher cannot judge matches no `not` either: a mistyped path must not pass."""

    inner: Matcher

    @property
    def wish(self) -> str:
        return f"not {self.inner.wish}"

    def mismatch(self, value: Any) -> str | None:
        reason = self.inner.mismatch(value)
        if reason is None:
            # What is not there and may be null was judged.
            return str(differs(value, self.wish))
        return reason if isinstance(reason, CannotJudge) else None
