"""Pieces of Python to be judged: whole texts, or the code blocks of a Markdown answer."""

import ast
import re
import warnings
from dataclasses import dataclass

_FENCED = re.compile(r"^[ \t>*+\d.-]*(```|~~~)", re.MULTILINE)
_TAGS = frozenset({"python", "python3", "py", "py3", "pyi"})
_INFO = re.compile(r"[\w+#-]+")
#: How a line of Python begins even when the rest of it is broken; prose does not.
_BEGINS = re.compile(
    r"(?:async[ ]def|def|class)[ ]\w+[ ]?[(:\[]|import[ ][\w.]+\s*(?:$|,|as[ ])|from[ ][\w.]+[ ]import\b|@\w+"
    r"|if[ ]__name__|(?:elif|except|while|for|with|try|else)\b.*:$"
)


@dataclass(frozen=True, slots=True)
class CodeSource:
    """One piece of Python. `name` is where it comes from, as a person may read it.

    `line` and `column` tell how far into the original text the code begins.
    """

    name: str
    code: str
    line: int = 0
    column: int = 0


def in_answer(text: str, name: str) -> tuple[CodeSource, ...]:
    """The Python of a text of unknown sort: the text itself, or its code blocks; nothing when it is prose."""
    tree = _tree(text)
    if tree is not None and _does_something(tree):
        return (CodeSource(name, text),)
    blocks = in_markdown(text, name)
    if blocks:
        return blocks
    return (CodeSource(name, text),) if holds_python(text) else ()


def in_markdown(text: str, name: str) -> tuple[CodeSource, ...]:
    """The code blocks marked as Python; without such, those without any mark that hold Python.

    A block that is still open at the end of the text counts: the answer was cut off.
    """
    if not _FENCED.search(text):
        return ()
    from markdown_it import MarkdownIt

    parser = MarkdownIt("zero").enable(["fence", "list", "blockquote"])
    lines = text.split("\n")
    marked: list[CodeSource] = []
    bare: list[CodeSource] = []
    for token in parser.parse(text):
        if token.type != "fence" or token.map is None or not token.content.strip():
            continue
        first = token.map[0] + 1
        source = CodeSource(name, token.content, first, _indent(lines, first, token.content))
        language = _INFO.search(token.info)
        if language is None:
            bare.append(source)
        elif language[0].lower() in _TAGS:
            marked.append(source)
    return tuple(marked or (source for source in bare if holds_python(source.code)))


def holds_python(text: str) -> bool:
    """Whether any line could only be Python: a statement of its own, or the beginning of one."""
    for line in text.splitlines():
        stripped = line.strip()
        if _BEGINS.match(stripped):
            return True
        tree = _tree(stripped) if "(" in stripped or "=" in stripped else None
        if tree is not None and _does_something(tree):
            return True
    return False


def _does_something(tree: ast.Module) -> bool:
    """More than words that happen to be expressions: `Yes` parses, and so does a heading."""
    return any(
        not isinstance(node, ast.Expr) or isinstance(node.value, ast.Call | ast.Await | ast.Yield)
        for node in tree.body
    )


def _tree(text: str) -> ast.Module | None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return ast.parse(text)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return None


def _indent(lines: list[str], first: int, content: str) -> int:
    """How far a list or a quotation shifts the code to the right."""
    for number, line in enumerate(content.split("\n"), first):
        if line.strip() and number < len(lines):
            return max(0, len(lines[number]) - len(line))
    return 0
