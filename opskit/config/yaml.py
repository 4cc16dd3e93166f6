"""YAML as opskit reads it: one document of sections, text keys, no surprises, a line for every key.

Stricter than PyYAML's SafeLoader: duplicate keys, keys that are not text, tags, merge keys, further documents
and anything too long or too deep are refused. Plain words follow YAML 1.2's core schema, so `yes`, `010`
and `1:30` are not turned into something else.
"""

import contextlib
import re
from dataclasses import dataclass, field

import yaml

from opskit.config.problems import InvalidConfigError, Path, Problem, dotted, printable

MAX_NODES = 10_000
MAX_DEPTH = 16

_PLAIN = "plain"
_TAG = "tag:yaml.org,2002:"
_NULL = re.compile(r"|~|null|Null|NULL")
_BOOL = re.compile(r"true|True|TRUE|false|False|FALSE")
_INT = re.compile(r"[-+]?[0-9]{1,30}")
_FLOAT = re.compile(
    r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
)

#: PyYAML's wording, by how it begins, in words that help. Wordings that quote the file are all here.
_REWORDED = (
    ("expected <block end>", "the indentation does not fit the lines above"),
    ("mapping values are not allowed", "a `:` is not expected here (check indentation and quotes)"),
    ("could not find expected ':'", "a `:` is missing after this key"),
    ("found character '\\t'", "a tab cannot be used here: use spaces"),
    ("found character", "a value that begins like this needs quotes"),
    ("found undefined alias", "an alias (*name) without its anchor: put the value in quotes"),
    ("found duplicate anchor", "an anchor (&name) is defined twice"),
    ("found undefined tag handle", "tags (!name) are not supported: put the value in quotes"),
    ("found unexpected end of stream", "the quotes are not closed"),
    ("expected '<document start>'", "this text belongs to no key"),
    ("expected ',' or ", "a `,` or the closing bracket is missing"),
    ("but found another document", "only one document is allowed (a second `---`)"),
    ("special characters are not allowed", "a control character is not allowed here"),
)


@dataclass(frozen=True, slots=True)
class Mark:
    """Where a key begins, counted from 1."""

    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Document:
    """The content of one file. `marks` knows every key path, `("nodes", "ollama", "url")`."""

    shown: str
    data: dict[str, object]
    marks: dict[Path, Mark]

    def mark(self, path: Path) -> Mark | None:
        """The mark of `path`, or of the nearest section that holds it; None for an empty document."""
        return next((self.marks[path[:n]] for n in range(len(path), 0, -1) if path[:n] in self.marks), None)


def scalar(text: str) -> str | int | float | bool | None:
    """What an unquoted word means."""
    if _NULL.fullmatch(text):
        return None
    if _BOOL.fullmatch(text):
        return text.lower() == "true"
    if _INT.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text):
        return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
    return text


def parse(content: bytes, shown: str, *, max_nodes: int = MAX_NODES) -> Document:
    """Read `content`; `shown` names the file in messages.

    Raises InvalidConfigError with all problems of form that can be told from one another.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        line = content.count(b"\n", 0, exc.start) + 1
        raise InvalidConfigError([Problem(shown, line, "", "not valid UTF-8 text")]) from exc
    try:
        root = _root(text, max_nodes)
    except yaml.reader.ReaderError as exc:
        line = text.count("\n", 0, exc.position) + 1
        raise InvalidConfigError([Problem(shown, line, "", _reworded(exc.reason))]) from exc
    except yaml.MarkedYAMLError as exc:
        raise InvalidConfigError([_syntax_problem(exc, shown)]) from exc
    return _YamlReader(shown, max_nodes).document(root)


def _root(text: str, max_nodes: int) -> yaml.Node | None:
    """The composed document. libyaml reads it several times faster; what it refuses is worded by PyYAML."""
    if yaml.__with_libyaml__:
        with contextlib.suppress(yaml.YAMLError):
            return _Composer(text, max_nodes).get_single_node()
    return _Loader(text, max_nodes).get_single_node()


class _Bounded(yaml.composer.Composer):
    """Composes nodes only, no more than allowed: nothing is ever constructed by PyYAML."""

    def __init__(self, max_nodes: int) -> None:
        super().__init__()
        self._nodes = 0
        self._depth = 0
        self._max_nodes = max_nodes

    def compose_node(self, parent: yaml.Node | None, index: object) -> yaml.Node | None:
        self._nodes += 1
        self._depth += 1
        mark = self.peek_event().start_mark  # type: ignore[attr-defined]
        if self._nodes > self._max_nodes:
            raise yaml.MarkedYAMLError(problem="too many values", problem_mark=mark)
        if self._depth > MAX_DEPTH:
            raise yaml.MarkedYAMLError(problem="nested too deeply", problem_mark=mark)
        node = super().compose_node(parent, index)  # type: ignore[arg-type]
        self._depth -= 1
        return node

    def descend_resolver(self, _parent: yaml.Node | None, _index: object) -> None:
        """Tags do not depend on where a node stands."""

    def ascend_resolver(self) -> None:
        """See `descend_resolver`."""

    def resolve(self, kind: type[yaml.Node], _value: object, implicit: object) -> str:
        """An unquoted word is told from a quoted one; what it means is decided later."""
        if kind is yaml.ScalarNode:
            plain = isinstance(implicit, tuple) and implicit[0]
            return _PLAIN if plain else _TAG + "str"
        return _TAG + ("seq" if kind is yaml.SequenceNode else "map")


class _Loader(yaml.reader.Reader, yaml.scanner.Scanner, yaml.parser.Parser, _Bounded):
    """PyYAML's own parser, which tells best what is wrong."""

    def __init__(self, text: str, max_nodes: int) -> None:
        yaml.reader.Reader.__init__(self, text)
        yaml.scanner.Scanner.__init__(self)
        yaml.parser.Parser.__init__(self)
        _Bounded.__init__(self, max_nodes)


class _Composer(_Bounded):
    """The same nodes from the events of libyaml."""

    def __init__(self, text: str, max_nodes: int) -> None:
        super().__init__(max_nodes)
        events = yaml.CSafeLoader(text)
        self.check_event = events.check_event
        self.peek_event = events.peek_event
        self.get_event = events.get_event


@dataclass(slots=True)
class _YamlReader:
    """Turns composed nodes into plain values, an alias into a copy, within the same limits."""

    shown: str
    max_nodes: int
    marks: dict[Path, Mark] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    values: int = 0

    def document(self, root: yaml.Node | None) -> Document:
        data: object = {}
        if root is not None:
            data = self.value(root, ())
        if data is None:
            data = {}
        if not isinstance(data, dict) and not self.problems:
            self.problems.append(Problem(self.shown, 1, "", "must hold `key: value` lines"))
        if self.problems or not isinstance(data, dict):
            raise InvalidConfigError(self.problems)
        return Document(self.shown, data, self.marks)

    def value(self, node: yaml.Node, path: Path) -> object:
        self.values += 1
        if self.values > self.max_nodes or len(path) > MAX_DEPTH:
            self.problem(node, path, "too many values, or nested too deeply (aliases?)")
            raise InvalidConfigError(self.problems)
        match node:
            case yaml.ScalarNode(tag=tag, value=text) if tag == _PLAIN:
                return scalar(text)
            case yaml.ScalarNode(tag=tag, value=text) if tag == _TAG + "str":
                return text
            case yaml.SequenceNode(tag=tag) if tag == _TAG + "seq":
                return self.items(node, path)
            case yaml.MappingNode(tag=tag) if tag == _TAG + "map":
                return self.mapping(node, path)
        self.problem(node, path, "tags (!name) are not supported: put the value in quotes")
        return None

    def items(self, node: yaml.SequenceNode, path: Path) -> list[object]:
        items = []
        for index, item in enumerate(node.value):
            self.marks[*path, index] = _mark(item)
            items.append(self.value(item, (*path, index)))
        return items

    def mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, object]:
        members: dict[str, object] = {}
        for key_node, value_node in node.value:
            key = self.key(key_node, path)
            if key is None:
                continue
            if key in members:
                first = self.marks[*path, key].line
                self.problem(key_node, (*path, key), f"appears twice (first on line {first})")
                continue
            self.marks[*path, key] = _mark(key_node)
            members[key] = self.value(value_node, (*path, key))
        return members

    def key(self, node: yaml.Node, path: Path) -> str | None:
        text = node.value if isinstance(node, yaml.ScalarNode) else None
        if text == "<<" and node.tag == _PLAIN:
            self.problem(node, path, "merge keys (<<) are not supported: write the keys")
            return None
        if text is None or (node.tag == _PLAIN and not isinstance(scalar(text), str)):
            self.problem(node, path, "a key must be text: put it in quotes")
            return None
        return str(text)

    def problem(self, node: yaml.Node, path: Path, message: str) -> None:
        mark = _mark(node)
        self.problems.append(Problem(self.shown, mark.line, dotted(path), message, column=mark.column))


def _mark(node: yaml.Node) -> Mark:
    return Mark(node.start_mark.line + 1, node.start_mark.column + 1)


def _syntax_problem(exc: yaml.MarkedYAMLError, shown: str) -> Problem:
    mark = exc.problem_mark or exc.context_mark
    line, column = (mark.line + 1, mark.column + 1) if mark else (None, None)
    return Problem(shown, line, "", _reworded(exc.problem or ""), column=column)


def _reworded(problem: str) -> str:
    known = next((words for start, words in _REWORDED if problem.startswith(start)), None)
    return known or printable(problem or "not valid YAML")
