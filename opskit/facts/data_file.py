"""A data file as it is: its records and its settings. CSV and its relatives, JSON, YAML, INI, TOML. Pure."""

import contextlib
import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePath

import yaml

from opskit.records import MutableRecord, Record, field

_DELIMITERS = ",;\t|"
_DELIMITED = frozenset({".csv", ".tsv", ".psv"})
_NAME = re.compile(r"[^\W\d][\w.%()/-]*")
_SECTION = re.compile(r"\s*\[+\s*([\w.:\" -]+?)\s*\]+\s*")
#: `port: 80`, `port = 80`, `"port": 80`, `export PORT=80`.
_SETTING = re.compile(r"\s*(?:[-*]\s+|export\s+)?[\"']?(\w[\w .-]{0,60}?)[\"']?\s*[:=]\s*(\S.*)")
#: An alias may stand for a tree that is as large as one likes.
_MAX_VALUES = 200_000


class NamedValue(Record):
    """A value with the names that lead to it, the outermost first; a place in a list is a number."""

    line: int
    names: tuple[str, ...]
    value: str


class Records(Record):
    """Records of one kind, each with its line, 0 where it has none. They are called as their list or file.

    `plural` is what a number of them is called, where that is known.
    """

    name: str
    rows: tuple[tuple[int, Mapping[str, str]], ...]
    plural: str = ""

    @property
    def fields(self) -> list[str]:
        return list(dict.fromkeys(name for _, row in self.rows for name in row))


class DataFile(MutableRecord):
    """What a file holds; a setting or a record may be missing, and then the list is empty."""

    settings: list[NamedValue] = field(default_factory=list)
    records: list[Records] = field(default_factory=list)


def data_file(path: str, text: str) -> DataFile:
    """Read what a file holds; nothing where it has none of the forms."""
    name, suffix = PurePath(path).stem, PurePath(path).suffix.lower()
    lines = text.splitlines()
    if (rows := _delimited(lines, by_name=suffix in _DELIMITED)) is not None:
        return DataFile(records=[Records(name, rows)])
    if suffix in (".yaml", ".yml") or text.lstrip()[:1] in ("{", "["):
        filled = [line for line in lines if line.strip()]
        if len(filled) > 1 and all(line[:1] == "{" and line.rstrip()[-1:] == "}" for line in filled):
            text = "\n".join(f"--- {line}" if line.strip() else "" for line in lines)  # JSON lines
        with contextlib.suppress(yaml.YAMLError, RecursionError):
            data = DataFile()
            documents = list(yaml.compose_all(text.expandtabs(2), yaml.CSafeLoader))
            for _ in zip(range(_MAX_VALUES), _read(documents, name, data), strict=False):
                pass
            return data
    return DataFile(_settings(lines))


def _settings(lines: Sequence[str]) -> list[NamedValue]:
    section, settings = tuple[str, ...](), list[NamedValue]()
    for number, line in enumerate(lines, 1):
        if match := _SECTION.fullmatch(line):
            section = (match[1].strip('"'),)
        elif match := _SETTING.fullmatch(line):
            settings.append(NamedValue(number, (*section, match[1]), match[2]))
    return settings


def _delimited(lines: list[str], *, by_name: bool) -> tuple[tuple[int, Mapping[str, str]], ...] | None:
    """Return the rows below a header; None where the lines are no table."""
    filled = [(number, line) for number, line in enumerate(lines, 1) if line.strip()]
    if len(filled) < 2:
        return None
    delimiter = max(_DELIMITERS, key=filled[0][1].count)
    try:
        header, *rows = csv.reader((line for _, line in filled), delimiter=delimiter)
    except csv.Error:
        return None
    names = [name.strip() for name in header]
    is_table = (
        len(header) > 1
        and len(set(names)) == len(names)
        and all(len(row) == len(names) for row in rows)
        and all(name and (by_name or _NAME.fullmatch(name)) for name in names)
    )
    if not is_table or len(rows) != len(filled) - 1:
        return None
    values = ([value.strip() for value in row] for row in rows)
    return tuple(
        (number, dict(zip(names, row, strict=True)))
        for (number, _), row in zip(filled[1:], values, strict=True)
    )


def _read(documents: Sequence[yaml.Node | None], name: str, data: DataFile) -> Iterator[None]:
    """Add what the nodes hold, the whole file first; yields for each, so that a reader may stop."""
    nodes = [node for node in documents if node is not None]
    if len(nodes) > 1:
        # JSON lines, and several documents of YAML.
        data.records.append(Records(name, tuple(map(_row, nodes))))
    waiting: list[tuple[tuple[str, ...], yaml.Node]] = [((), node) for node in reversed(nodes)]
    while waiting:
        yield
        names, node = waiting.pop()
        line = node.start_mark.line + 1
        if isinstance(node, yaml.ScalarNode):
            data.settings.append(NamedValue(line, names, node.value))
        elif isinstance(node, yaml.SequenceNode):
            rows = [_row(item) for item in node.value]
            waiting += [((*names, str(number)), item) for number, item in enumerate(node.value)][::-1]
            data.records.append(Records(names[-1] if names else name, tuple(rows)))
        elif isinstance(node, yaml.MappingNode):
            named = [(str(key.value), value) for key, value in node.value]
            waiting += [((*names, key), value) for key, value in reversed(named)]
            if named and all(isinstance(value, yaml.MappingNode) for _, value in named):
                rows = [_row(value, key) for key, value in named]
                data.records.append(Records(names[-1] if names else name, tuple(rows)))


def _row(node: yaml.Node, key: str | None = None) -> tuple[int, Mapping[str, str]]:
    """Return the plain values of a record; the key of its mapping is its name."""
    values = {} if key is None else {"name": key}
    if isinstance(node, yaml.MappingNode):
        values |= {
            str(name.value): item.value for name, item in node.value if isinstance(item, yaml.ScalarNode)
        }
    elif isinstance(node, yaml.ScalarNode):
        values["value"] = node.value
    return node.start_mark.line + 1, values
