"""Answers out of the records of a data file: how many, the largest, a sum, one record. Pure.

A goal is understood when each of its words is one of the question, or one of the file itself: the name of a
field, a value, what its records are called.
"""

import re
from collections.abc import Mapping, Sequence
from decimal import Decimal

from opskit.agent.grounding import NO, YES_OR_NO, is_cyrillic, means, same_word
from opskit.diagnose.secret_names import promises_secret
from opskit.diagnose.secret_trees import MASK
from opskit.facts.data_file import DataFile, Records

_WORD = re.compile(r"[\w.@%:-]*\w")
_MAX_ROWS, _MAX_CHARS, _MAX_VALUE_WORDS = 3, 450, 4
#: So many values are compared with declined words; of more only the words as they stand.
_MAX_DECLINED = 2000
#: With a unit, which must be that of all.
_NUMBER = re.compile(r"(-?\d+(?:\.\d+)?) ?([^\d\s]{0,4})")
_DATE = re.compile(r"\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d.*)?|\d\d:\d\d(?::\d\d)?")
_KNOWN = ("filling", "count", "asks_value", "records", "of_records", "distinct")
_FOLDS = ("most", "least", "sum", "average", "first", "last")
_SHOWN = {
    "most": ("the largest {}", "наибольшее: {}"),
    "least": ("the smallest {}", "наименьшее: {}"),
    "sum": ("The sum of {}", "Сумма {}"),
    "average": ("The average of {}", "Среднее {}"),
}

Row = tuple[int, Mapping[str, str]]


def query(goal: str, place: str, data: DataFile) -> str | None:
    """Return the answer that the records of a file give to a goal; None where they give none, or several."""
    if NO.search(goal) or YES_OR_NO.match(goal):
        return None
    words, filled = _WORD.findall(goal), [records for records in data.records if records.rows]
    named = [records for records in filled if any(same_word(word, records.name) for word in words)]
    answers = {_Query(goal, place, records).answer() for records in named or filled} - {None}
    return answers.pop() if len(answers) == 1 else None


class _Query:
    """A goal as a question to one kind of records: its values are conditions, its fields are named."""

    def __init__(self, goal: str, place: str, records: Records) -> None:
        self._place, self._records, self._russian = place, records, is_cyrillic(goal.replace(place, ""))
        words, self._where = _found_values(_WORD.findall(goal.replace(place, " ")), records)
        named = [name for name in records.fields if _names(words, name)]
        # Of `port` and `admin port` the longer one.
        named = [name for name in named if not any(set(_parts(name)) < set(_parts(other)) for other in named)]
        self._fields = [name for name in named if name not in (self._where or {})]
        self._folds = [kind for kind in _FOLDS if any(means(word, kind) for word in words)]
        self._counts, self._distinct = (
            any(means(word, kind) for word in words) for kind in ("count", "distinct")
        )
        names = [part for name in (place, records.name, *named) for part in re.split(r"[\W_]+", name) if part]
        self._by_age = any(means(word, "by_age") for word in words)
        self._is_understood = all(
            means(word, *_KNOWN, *_FOLDS) or any(same_word(word, name) for name in names) for word in words
        )

    def answer(self) -> str | None:
        if not self._is_understood or self._where is None or len(self._folds) > 1:
            return None
        rows = [(number, row) for number, row in self._records.rows if self._where.items() <= row.items()]
        fold, fields = self._folds[0] if self._folds else "", self._fields
        if not rows:
            return None
        if fold in ("first", "last") and not self._counts:
            return self._end(fold, rows)
        if fold and (fields or not self._counts):
            return self._folded(fold, rows)
        if self._counts and (not fields or not self._where):
            return self._counted(rows)
        is_lookup = bool(self._where) and all(row.get(name) for _, row in rows for name in fields)
        return self._shown(rows) if is_lookup and (not self._counts or len(rows) == 1) else None

    def _counted(self, rows: Sequence[Row]) -> str | None:
        if len(self._fields) > 1 or (self._distinct and not self._fields):
            return None
        number, what = len(rows), self._records.plural or ("записей" if self._russian else "records")
        for name in self._fields:
            number = len({row.get(name) for _, row in rows})
            what = f"разных {name}" if self._russian else f"different values of {name}"
        return self._said(f"{what} —" if self._russian else f"The number of {what}", number)

    def _end(self, fold: str, rows: Sequence[Row]) -> str | None:
        """Return the first or the last record, by the date where there is one: lines may be in any order."""
        dates = [name for name in self._records.fields if _are_dates([row.get(name, "") for _, row in rows])]
        if len(dates) > 1 or (dates and self._fields not in ([], dates)) or (self._by_age and not dates):
            return None
        ordered = sorted(rows, key=lambda row: row[1][dates[0]]) if dates else rows
        return self._shown([ordered[0 if fold == "first" else -1]])

    def _folded(self, fold: str, rows: Sequence[Row]) -> str | None:
        columns = {name: _comparable([row.get(name, "") for _, row in rows]) for name in self._fields}
        values = {name: column for name, column in columns.items() if column}
        if len(values) != 1:
            return None
        [(name, column)] = values.items()
        shown = _SHOWN[fold][self._russian].format(name)
        if fold in ("most", "least"):
            best = max(column) if fold == "most" else min(column)
            return self._shown(
                [row for row, value in zip(rows, column, strict=True) if value == best], f" ({shown})"
            )
        if not all(isinstance(value, Decimal) for value in column):
            return None
        total = sum(map(Decimal, column), Decimal())
        return self._said(shown, total if fold == "sum" else round(total / len(column), 2))

    def _said(self, what: str, number: Decimal | int) -> str:
        place = "".join((self._place, *(f", {name} {value}" for name, value in (self._where or {}).items())))
        shown = f"{Decimal(number).normalize():f}"
        return f"{place}: {what} {shown}." if self._russian else f"{what} in {place} is {shown}."

    def _shown(self, rows: Sequence[Row], note: str = "") -> str | None:
        """Quote a few records; values behind a name that promises a secret are masked."""
        head, lines = f"{self._place}, {'строка' if self._russian else 'line'}", list[str]()
        for number, row in rows[: _MAX_ROWS + 1]:
            values = {name: MASK if promises_secret(name) else value for name, value in row.items() if value}
            said = ", ".join(f"{name} {value}" for name, value in values.items())
            lines.append(f"{f'{head} {number}' if number else self._place}{note}: {said}")
        text = "\n".join(lines)
        return text if len(lines) <= _MAX_ROWS and len(text) <= _MAX_CHARS else None


def _found_values(words: list[str], records: Records) -> tuple[list[str], dict[str, str] | None]:
    """Return the words that are no values, and the value of each field that must have one.

    None for the values where it is not clear which fields they are of.
    """
    parts = {
        " ".join(words[begin:end]).casefold(): range(begin, end)
        for begin in range(len(words))
        for end in range(begin + 1, min(begin + _MAX_VALUE_WORDS, len(words)) + 1)
    }
    items, fields = {item for _, row in records.rows for item in row.items()}, dict[str, dict[str, str]]()
    is_small = len(items) <= _MAX_DECLINED
    declined = [part for part in parts if is_small and " " not in part and is_cyrillic(part)]
    for name, value in items:
        key = value.casefold()
        if declined and key not in parts and value.isalpha():
            key = next((part for part in declined if same_word(value, part)), key)
        if key in parts and not means(value, "filling"):
            fields.setdefault(key, {})[name] = value
    where, used = dict[str, str](), set[int]()
    for key in sorted(fields, key=lambda key: -len(parts[key])):
        if used.isdisjoint(parts[key]):
            matched = {name: value for name, value in fields[key].items() if _names(words, name)} or fields[
                key
            ]
            if len(matched) > 1 or where.keys() & matched.keys():
                return words, None
            where |= matched
            used |= set(parts[key])
    return [word for number, word in enumerate(words) if number not in used], where


def _names(words: Sequence[str], name: str) -> bool:
    """Tell whether all words of a field's name are among these."""
    parts = _parts(name)
    return bool(parts) and all(any(same_word(word, part) for word in words) for part in parts)


def _parts(name: str) -> list[str]:
    """Return the words of a field's name; a unit behind it, such as `_ms`, is none."""
    parts = [part for part in re.split(r"[\W_]+", name) if part]
    return [part for part in parts if len(part) > 2] or parts


def _comparable(values: Sequence[str]) -> Sequence[Decimal] | Sequence[str]:
    """Return the values as numbers, or as dates; none where they are neither, or some are missing."""
    numbers = [match for value in values if (match := _NUMBER.fullmatch(value))]
    if len(numbers) == len(values) and len({match[2] for match in numbers}) == 1:
        return [Decimal(match[1]) for match in numbers]
    return values if _are_dates(values) else ()


def _are_dates(values: Sequence[str]) -> bool:
    return bool(values) and all(map(_DATE.fullmatch, values))
