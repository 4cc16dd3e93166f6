"""What can be wrong with a piece of code, and where."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Category(StrEnum):
    """The questions asked of generated code (SPEC C11)."""

    SYNTAX = "syntax"
    DOCSTRINGS = "docstrings"
    TYPE_HINTS = "type hints"
    DANGEROUS = "dangerous calls"
    BUGS = "likely bugs"


@dataclass(frozen=True, slots=True)
class Issue:
    """One place that is wrong; `line` and `column` count from 1, in the text as it was given."""

    source: str
    line: int
    column: int
    category: Category
    rule: str
    message: str

    def as_json(self) -> dict[str, Any]:
        return {
            "file": self.source,
            "line": self.line,
            "column": self.column,
            "category": self.category.value,
            "rule": self.rule,
            "message": self.message,
        }
