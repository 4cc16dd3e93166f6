"""What Python's own parser says of a piece of code."""

import ast
import warnings
from dataclasses import dataclass

from opskit.quality.issue import Category, Issue
from opskit.quality.source import CodeSource

#: Python's own door to any module by name; none of ruff's rules looks at it.
_IMPORT = "__import__"
_LOADS = "`__import__` loads any module by name"


@dataclass(frozen=True, slots=True)
class Parsed:
    """One source after parsing, with what the parser and its tree show."""

    source: CodeSource
    issues: tuple[Issue, ...] = ()

    @property
    def parses(self) -> bool:
        return not any(issue.category is Category.SYNTAX for issue in self.issues)


def parse(source: CodeSource) -> Parsed:
    """Never raises: code that cannot be parsed is an issue with its place and a reason on one line."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            tree = ast.parse(source.code)
        except SyntaxError as exc:
            return Parsed(source, (_broken(source, exc.lineno, exc.offset, exc.msg),))
        except ValueError as exc:
            return Parsed(source, (_broken(source, 1, 1, str(exc)),))
        except (RecursionError, MemoryError):
            return Parsed(source, (_broken(source, 1, 1, "nested too deeply for Python"),))
    if source.code.isascii() and _IMPORT not in source.code:
        return Parsed(source)
    calls = (node for node in ast.walk(tree) if isinstance(node, ast.Call) and _opens_any_module(node.func))
    return Parsed(
        source,
        tuple(
            _place(source, call.lineno, _column(source, call), Category.DANGEROUS, _IMPORT, _LOADS)
            for call in calls
        ),
    )


def _place(source: CodeSource, line: int, column: int, category: Category, rule: str, message: str) -> Issue:
    """An issue at a place of the source, told in lines and columns of the original text."""
    return Issue(source.name, line + source.line, column + source.column, category, rule, message)


def _column(source: CodeSource, node: ast.expr) -> int:
    """Python counts bytes, people count characters."""
    line = source.code.split("\n")[node.lineno - 1]
    return len(line.encode()[: node.col_offset].decode("utf-8", "replace")) + 1


def _opens_any_module(called: ast.expr) -> bool:
    return (isinstance(called, ast.Name) and called.id == _IMPORT) or (
        isinstance(called, ast.Attribute) and called.attr == _IMPORT
    )


def _broken(source: CodeSource, line: int | None, column: int | None, reason: str) -> Issue:
    reason = " ".join(reason.split())[:200]
    return _place(source, max(1, line or 1), max(1, column or 1), Category.SYNTAX, "syntax-error", reason)
