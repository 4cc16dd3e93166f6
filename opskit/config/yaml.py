"""YAML as opskit reads it: one document of sections, text keys, no surprises, a line for every key.

Stricter than PyYAML's SafeLoader: duplicate keys, keys that are not text, tags, merge keys, further documents
and anything too long or too deep are refused. Values are built in one pass over the parser's events, so that
nothing is ever constructed by PyYAML; ruamel.yaml, which knows lines too, takes four times as long.
"""

from collections.abc import Iterator
from typing import Any

import yaml
from yaml import events

from opskit.config.document import (
    Document,
    InvalidConfigError,
    Mark,
    Path,
    Problem,
    dotted,
    printable,
    scalar,
)

MAX_NODES = 10_000
MAX_DEPTH = 16

_TAGS = {
    events.ScalarEvent: "tag:yaml.org,2002:str",
    events.SequenceStartEvent: "tag:yaml.org,2002:seq",
    events.MappingStartEvent: "tag:yaml.org,2002:map",
}
#: PyYAML's wording, by how it begins, in words that help. Wordings that quote the file are all here.
_REWORDED = (
    ("expected <block end>", "the indentation does not fit the lines above"),
    ("mapping values are not allowed", "a `:` is not expected here (check indentation and quotes)"),
    ("could not find expected ':'", "a `:` is missing after this key"),
    ("found character '\\t'", "a tab cannot be used here: use spaces"),
    ("found character", "a value that begins like this needs quotes"),
    ("found undefined tag handle", "tags (!name) are not supported: put the value in quotes"),
    ("found unexpected end of stream", "the quotes are not closed"),
    ("expected '<document start>'", "this text belongs to no key"),
    ("expected ',' or ", "a `,` or the closing bracket is missing"),
    ("special characters are not allowed", "a control character is not allowed here"),
)


def parse(content: bytes, shown: str, *, max_nodes: int = MAX_NODES) -> Document:
    """Read `content`; `shown` names the file in messages.

    Raises InvalidConfigError with all problems of form that can be distinguished.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        line = content.count(b"\n", 0, exc.start) + 1
        raise InvalidConfigError([Problem(shown, line, "", "not valid UTF-8 text")]) from exc
    if yaml.__with_libyaml__:
        try:
            return _EventReader(text, shown, max_nodes, yaml.CSafeLoader).document()
        except yaml.YAMLError:
            pass  # libyaml reads several times faster; PyYAML's own parser tells best what is wrong
    reader = _EventReader(text, shown, max_nodes, yaml.SafeLoader)
    try:
        return reader.document()
    except yaml.reader.ReaderError as exc:
        line = text.count("\n", 0, exc.position) + 1
        raise InvalidConfigError([Problem(shown, line, "", _reworded(exc.reason))]) from exc
    except yaml.MarkedYAMLError as exc:
        mark = exc.problem_mark or exc.context_mark
        position = (mark.line + 1, mark.column + 1) if mark else (None, None)
        problem = Problem(shown, position[0], "", _reworded(exc.problem or ""), column=position[1])
        raise InvalidConfigError([*reader.problems, problem]) from exc


def _reworded(problem: str) -> str:
    known = next((words for start, words in _REWORDED if problem.startswith(start)), None)
    return known or printable(problem or "not valid YAML")


class _EventReader:
    """Turns events into plain values; aliases become copies, which count for the limits as well."""

    def __init__(self, text: str, shown: str, max_nodes: int, loader: Any) -> None:
        self.shown = shown
        self.max_nodes = max_nodes
        self.problems: list[Problem] = []
        self._events: Iterator[events.Event] = yaml.parse(text, Loader=loader)
        self._marks: dict[Path, Mark] = {}
        self._nodes = 0
        #: Path and value of each anchor; the value of one that is still being read is missing.
        self._anchors: dict[str, tuple[Path, object] | None] = {}

    def document(self) -> Document:
        documents: list[object] = []
        for event in self._events:
            if isinstance(event, events.DocumentStartEvent):
                if documents:
                    self._problem(event, (), "only one document is allowed (a second `---`)")
                    break
                documents.append(self._value(next(self._events), ()))
        data = documents[0] if documents and documents[0] is not None else {}
        if not isinstance(data, dict) and not self.problems:
            self.problems.append(Problem(self.shown, 1, "", "must hold `key: value` lines"))
        if self.problems or not isinstance(data, dict):
            raise InvalidConfigError(self.problems)
        return Document(self.shown, data, self._marks)

    def _value(self, event: Any, path: Path) -> object:
        self._count(event, path)
        if isinstance(event, events.AliasEvent):
            return self._aliased(event, path)
        if event.anchor is not None:
            if event.anchor in self._anchors:
                self._problem(event, path, "an anchor (&name) is defined twice")
            self._anchors[event.anchor] = None
        if event.tag not in (None, "!", _TAGS[type(event)]):
            self._problem(event, path, "tags (!name) are not supported: put the value in quotes")
        if isinstance(event, events.ScalarEvent):
            value: object = scalar(event.value) if event.implicit[0] else event.value
        elif isinstance(event, events.SequenceStartEvent):
            value = self._items(path)
        else:
            value = self._members(path)
        if event.anchor is not None:
            self._anchors[event.anchor] = path, value
        return value

    def _items(self, path: Path) -> list[object]:
        items: list[object] = []
        while not isinstance(event := next(self._events), events.SequenceEndEvent):
            at = (*path, len(items))
            self._marks[at] = _mark(event)
            items.append(self._value(event, at))
        return items

    def _members(self, path: Path) -> dict[str, object]:
        members: dict[str, object] = {}
        while not isinstance(event := next(self._events), events.MappingEndEvent):
            key = self._key(event, path)
            at = (*path, key)
            if key in members:
                first = self._marks[at].line
                self._problem(event, at, f"appears twice (first on line {first})")
            else:
                self._marks[at] = _mark(event)
            value = self._value(next(self._events), at)
            members.setdefault(key, value)
        return members

    def _key(self, event: events.Event, path: Path) -> str:
        """Return the key; an unusable key is reported, and a collection is read to its end."""
        if not isinstance(event, events.ScalarEvent):
            self._problem(event, path, "a key must be text: put it in quotes")
            if not isinstance(event, events.AliasEvent):
                self._value(event, (*path, "?"))
            return "?"
        text = str(event.value)
        if event.implicit[0] and text == "<<":
            self._problem(event, path, "merge keys (<<) are not supported: write the keys")
        elif event.implicit[0] and not isinstance(scalar(text), str):
            self._problem(event, path, "a key must be text: put it in quotes")
        return text

    def _aliased(self, event: events.AliasEvent, path: Path) -> object:
        if event.anchor not in self._anchors:
            self._problem(event, (), "an alias (*name) without its anchor: put the value in quotes")
            return None
        anchored = self._anchors[event.anchor]
        if anchored is None:
            raise self._too_much(event, path)
        return self._copied(anchored[1], anchored[0], path, event)

    def _copied(self, value: object, source: Path, path: Path, event: events.NodeEvent) -> object:
        """Return a copy whose keys have the marks of the original."""
        if not isinstance(value, dict | list):
            return value
        pairs: Any = value.items() if isinstance(value, dict) else enumerate(value)
        copies = {}
        for key, item in pairs:
            self._count(event, (*path, key))
            self._marks[*path, key] = self._marks[*source, key]
            copies[key] = self._copied(item, (*source, key), (*path, key), event)
        return copies if isinstance(value, dict) else list(copies.values())

    def _count(self, event: events.Event, path: Path) -> None:
        self._nodes += 1
        if self._nodes > self.max_nodes or len(path) > MAX_DEPTH:
            raise self._too_much(event, path)

    def _too_much(self, event: events.Event, path: Path) -> InvalidConfigError:
        self._problem(event, path, "too many values, or nested too deeply (aliases?)")
        return InvalidConfigError(self.problems)

    def _problem(self, event: events.Event, path: Path, message: str) -> None:
        mark = _mark(event)
        self.problems.append(Problem(self.shown, mark.line, dotted(path), message, column=mark.column))


def _mark(event: Any) -> Mark:
    return Mark(event.start_mark.line + 1, event.start_mark.column + 1)
