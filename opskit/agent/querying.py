"""Answers out of the records of a data file: how many, the largest, a sum, one record. Pure.

A goal is understood when each of its words is one of the question, or one of the file itself: the name of a
field, a value, what its records are called.
"""

import re
from collections.abc import Mapping, Sequence
from decimal import Decimal

from opskit.agent.grounding import NO, YES_OR_NO, is_cyrillic
from opskit.agent.words import means, same_word
from opskit.diagnose.redaction import MASK
from opskit.diagnose.secret_names import promises_secret
from opskit.facts.data_file import DataFile, Records

_WORD = re.compile(r"[\w.@%:-]*\w")
_MAX_ROWS, _MAX_CHARS, _MAX_VALUE_WORDS = 3, 450, 4
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
    """A goal as a question to one kind of records."""

    def __init__(self, goal: str, place: str, records: Records) -> None:
        self._place, self._records, self._russian = place, records, is_cyrillic(goal.replace(place, ""))
        words = _WORD.findall(goal.replace(place, " "))
        self._words, self._conditions = self._found_values(words)
        names = {*re.split(r"[/._-]", place), *re.split(r"[\W_]", records.name)} - {""}
        self._folds = [name for name in _FOLDS if any(means(word, name) for word in self._words)]
        self._counts, self._distinct = (
            any(means(word, kind) for word in self._words) for kind in ("count", "distinct")
        )
        self._fields = self._named_fields()
        names |= {part for name in self._fields for part in _parts(name)}
        self._is_understood = all(
            means(word, *_KNOWN, *_FOLDS) or any(same_word(word, name) for name in names)
            for word in self._words
        )

    def answer(self) -> str | None:
        if not self._is_understood or self._conditions is None or len(self._folds) > 1:
            return None
        rows = [
            (number, row) for number, row in self._records.rows if self._conditions.items() <= row.items()
        ]
        fields = [name for name in self._fields if name not in self._conditions]
        fold = self._folds[0] if self._folds else ""
        dates = [name for name in self._records.fields if _are_dates([row.get(name, "") for _, row in rows])]
        if fold in ("first", "last") and rows and not self._counts:
            # By the date where there is one: the order of the lines may be another.
            if len(dates) > 1 or (fields and fields != dates and dates):
                return None
            ordered = sorted(rows, key=lambda row: row[1][dates[0]]) if dates else list(rows)
            return self._shown([ordered[0 if fold == "first" else -1]])
        if fold and (fields or not self._counts):
            return self._folded(fold, rows, fields)
        if self._counts and (not fields or not self._conditions):
            return self._counted(rows, fields)
        is_lookup = bool(self._conditions) and 0 < len(rows) <= _MAX_ROWS
        is_lookup = is_lookup and all(row.get(name) for _, row in rows for name in fields)
        return self._shown(rows) if is_lookup and (not self._counts or len(rows) == 1) else None

    def _found_values(self, words: list[str]) -> tuple[list[str], dict[str, str] | None]:
        """Return the words that are no values, and the value of each field that must have one.

        None for the values where it is not clear which fields they are of.
        """
        parts = {
            " ".join(words[begin:end]).casefold(): range(begin, end)
            for begin in range(len(words))
            for end in range(begin + 1, min(begin + _MAX_VALUE_WORDS, len(words)) + 1)
        }
        places: dict[str, dict[str, str]] = {}
        for _, row in self._records.rows:
            for name, value in row.items():
                # A Russian name is declined.
                same = (part for part in parts if is_cyrillic(value) and same_word(value, part))
                key = value.casefold() if value.casefold() in parts else next(same, None)
                if key is not None and not means(value, "filling"):
                    places.setdefault(key, {})[name] = value
        conditions, used = dict[str, str](), set[int]()
        for key in sorted(places, key=lambda key: -len(parts[key])):
            if used.isdisjoint(parts[key]):
                named = {
                    name: value
                    for name, value in places[key].items()
                    if any(same_word(word, name) for word in words)
                }
                chosen = named or places[key]
                if len(chosen) > 1 or conditions.keys() & chosen.keys():
                    return words, None
                conditions |= chosen
                used |= set(parts[key])
        return [word for number, word in enumerate(words) if number not in used], conditions

    def _named_fields(self) -> list[str]:
        """Return the fields whose names stand in the goal; of `port` and `admin port` the longer one."""
        named = [
            name
            for name in self._records.fields
            if (parts := _parts(name))
            and all(any(same_word(word, part) for word in self._words) for part in parts)
        ]
        return [name for name in named if not any(set(_parts(name)) < set(_parts(other)) for other in named)]

    def _counted(self, rows: Sequence[Row], fields: list[str]) -> str | None:
        number, what = len(rows), ("records", "записей")
        if len(fields) > 1 or (self._distinct and not fields):
            return None
        if fields:
            number, what = (
                len({row.get(fields[0]) for _, row in rows}),
                (f"different values of {fields[0]}", f"разных {fields[0]}"),
            )
        where = "".join(f", {name} {value}" for name, value in (self._conditions or {}).items())
        return (
            f"{self._place}{where}: {what[1]} — {number}."
            if self._russian
            else f"The number of {what[0]} in {self._place}{where} is {number}."
        )

    def _folded(self, fold: str, rows: Sequence[Row], fields: list[str]) -> str | None:
        values = {
            name: comparable
            for name in fields
            if (comparable := _comparable([row.get(name, "") for _, row in rows]))
        }
        if len(values) != 1:
            return None
        [(name, column)] = values.items()
        shown = _SHOWN[fold][self._russian].format(name)
        if fold in ("most", "least"):
            best = max(column) if fold == "most" else min(column)
            chosen = [row for row, value in zip(rows, column, strict=True) if value == best]
            return self._shown(chosen, f" ({shown})") if len(chosen) <= _MAX_ROWS else None
        numbers = [value for value in column if isinstance(value, Decimal)]
        if len(numbers) != len(column):
            return None
        total = sum(numbers, Decimal())
        result = total if fold == "sum" else round(total / len(numbers), 2)
        where = "".join(f", {key} {value}" for key, value in (self._conditions or {}).items())
        verb = ": " if self._russian else " is "
        return f"{shown}, {self._place}{where}{verb}{result.normalize():f}."

    def _shown(self, rows: Sequence[Row], note: str = "") -> str | None:
        word = "строка" if self._russian else "line"
        text = "\n".join(
            f"{self._place}, {word} {number}{note}: "
            + ", ".join(
                f"{name} {MASK if promises_secret(name) else value}" for name, value in row.items() if value
            )
            for number, row in rows
        )
        return text if len(text) <= _MAX_CHARS else None


def _parts(name: str) -> list[str]:
    """Return the words of a field's name; a unit behind it, such as `_ms`, is none."""
    parts = [part for part in re.split(r"[\W_]+", name) if part]
    return [part for part in parts if len(part) > 2] or parts


def _comparable(values: Sequence[str]) -> list[Decimal] | list[str] | None:
    """Return the values as numbers, or as dates; None where they are neither, or some are missing."""
    numbers = [_NUMBER.fullmatch(value) for value in values]
    if values and all(numbers) and len({match[2] for match in numbers if match}) == 1:
        return [Decimal(match[1]) for match in numbers if match]
    return list(values) if _are_dates(values) else None


def _are_dates(values: Sequence[str]) -> bool:
    return bool(values) and all(map(_DATE.fullmatch, values))
