"""The Python to be judged: of files, folders and standard input, whole or in code blocks of an answer.

Nothing is run and no link is followed.
"""

import ast
import io
import os
import re
import stat
import tokenize
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import BinaryIO

from opskit.errors import OpskitError, UsageError
from opskit.records import Record

#: No model writes more in one piece.
LIMIT_BYTES = 2 * 1024 * 1024

STDIN = "-"
_PYTHON = frozenset({".py", ".pyi", ".pyw"})
_MARKDOWN = frozenset({".md", ".markdown"})
_FOREIGN = frozenset({"__pycache__", "node_modules", "site-packages"})
_FENCED = re.compile(r"^[ \t>*+\d.-]*(```|~~~)", re.MULTILINE)
_TAGS = frozenset({"python", "python3", "py", "py3", "pyi"})
_INFO = re.compile(r"[\w+#-]+")
#: How a line of Python begins even when the rest of it is broken; prose does not.
_BEGINS = re.compile(
    r"(?:async[ ]def|def|class)[ ]\w+[ ]?[(:\[]|import[ ][\w.]+\s*(?:$|,|as[ ])|from[ ][\w.]+[ ]import\b|@\w+"
    r"|if[ ]__name__|(?:elif|except|while|for|with|try|else)\b.*:$"
)


class CodeSource(Record):
    """One piece of Python. `name` is where it comes from, as a person may read it.

    `line` and `column` tell how far into the original text the code begins.
    """

    name: str
    code: str
    line: int = 0
    column: int = 0


class ReadSources(Record):
    """The pieces that were read, and in `unread` the files of folders that could not be, with the reason."""

    sources: tuple[CodeSource, ...]
    unread: tuple[tuple[str, str], ...] = ()


class _UnreadableError(Exception):
    """A file cannot be judged; the message says why."""


def read(paths: Sequence[str], stdin: BinaryIO) -> ReadSources:
    """Return the Python of every path, in order; `-` is standard input.

    Raises UsageError for a path that cannot be used and OpskitError GEN_003 for an answer without code. A
    file found in a folder does neither: it is named in `unread`.
    """
    sources: list[CodeSource] = []
    unread: list[tuple[str, str]] = []
    for path in dict.fromkeys(paths):
        if path == STDIN:
            sources.extend(_named("stdin", "", lambda: stdin.read(LIMIT_BYTES + 1)))
        elif os.path.isdir(path):  # noqa: PTH112 - unlike Path's it is no error to be kept out
            inside, problems = _folder(Path(path))
            sources.extend(inside)
            unread.extend(problems)
        else:
            file = Path(path)
            sources.extend(_named(_shown(file), file.suffix.lower(), partial(_bytes, file)))
    return ReadSources(tuple(sources), tuple(unread))


def _named(name: str, suffix: str, read_bytes: Callable[[], bytes]) -> tuple[CodeSource, ...]:
    """Return the code of what a person named: it must be usable."""
    try:
        text = _text(read_bytes())
    except _UnreadableError as exc:
        remedy = "name Python, Markdown with Python in it, a folder, or `-`"
        raise UsageError(f"{name}: {exc}", remedy=remedy) from exc
    if suffix in _PYTHON:
        return (CodeSource(name, text),)
    if not text.strip():
        raise UsageError(f"{name}: there is nothing to judge", remedy="pass Python, or Markdown with code")
    sources = in_markdown(text, name) if suffix in _MARKDOWN else in_answer(text, name)
    if not sources:
        raise OpskitError("GEN_003", f"{name} holds no Python code block")
    return sources


def _folder(folder: Path) -> tuple[list[CodeSource], list[tuple[str, str]]]:
    sources: list[CodeSource] = []
    unread: list[tuple[str, str]] = []
    for path in _python_files(folder, lambda exc: unread.append((_shown(Path(exc.filename)), _reason(exc)))):
        try:
            sources.append(CodeSource(_shown(path), _text(_bytes(path))))
        except _UnreadableError as exc:
            unread.append((_shown(path), str(exc)))
    if not sources and not unread:
        raise UsageError(f"{_shown(folder)} holds no Python file", remedy="name a folder with *.py in it")
    return sources, unread


def _python_files(folder: Path, unreadable: Callable[[OSError], None]) -> Iterator[Path]:
    """Return them in order of names, without hidden folders, virtual environments and links to folders."""
    for where, folders, files in os.walk(folder, onerror=unreadable):
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith(".")
            and name not in _FOREIGN
            and not Path(where, name, "pyvenv.cfg").exists()
        )
        for name in sorted(files):
            if name.endswith(".py") and not name.startswith("."):
                yield Path(where, name)


def _bytes(path: Path) -> bytes:
    try:
        # Not blocking: a pipe without a writer would hold us for ever.
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with os.fdopen(handle, "rb") as file:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise _UnreadableError("it is not a regular file")
            return file.read(LIMIT_BYTES + 1)
    except (OSError, ValueError) as exc:
        raise _UnreadableError(_reason(exc)) from exc


def _reason(exc: OSError | ValueError) -> str:
    return (getattr(exc, "strerror", None) or str(exc)).lower()


def _text(raw: bytes) -> str:
    """Return the text in the encoding that it declares, as Python reads it; UTF-8 when it declares none."""
    if len(raw) > LIMIT_BYTES:
        raise _UnreadableError(f"it is larger than {LIMIT_BYTES} bytes")
    if b"\0" in raw:
        raise _UnreadableError(f"it is binary (a NUL at byte {raw.index(0)})")
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(raw).readline)
        text = raw.decode(encoding)
    except (SyntaxError, UnicodeDecodeError, LookupError) as exc:
        raise _UnreadableError("it is not text in the encoding that it declares, or in UTF-8") from exc
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _shown(path: Path) -> str:
    """Return a path that can be printed, whatever bytes its name is made of."""
    return os.fsencode(path).decode("utf-8", "replace")


def in_answer(text: str, name: str) -> tuple[CodeSource, ...]:
    """Return the Python of a text: the text itself, or its code blocks; nothing when it is prose."""
    tree = _tree(text)
    if tree is not None and _does_something(tree):
        return (CodeSource(name, text),)
    blocks = in_markdown(text, name)
    if blocks:
        return blocks
    return (CodeSource(name, text),) if holds_python(text) else ()


def in_markdown(text: str, name: str) -> tuple[CodeSource, ...]:
    """Return the code blocks marked as Python; without such, unmarked blocks that hold Python.

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
    """Return True when any line could only be Python: a statement of its own, or the beginning of one."""
    for line in text.splitlines():
        stripped = line.strip()
        if _BEGINS.match(stripped):
            return True
        tree = _tree(stripped) if "(" in stripped or "=" in stripped else None
        if tree is not None and _does_something(tree):
            return True
    return False


def _does_something(tree: ast.Module) -> bool:
    """Return False for words that happen to be expressions: `Yes` parses, and so does a heading."""
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
    """Return how far a list or a quotation shifts the code to the right."""
    for number, line in enumerate(content.split("\n"), first):
        if line.strip() and number < len(lines):
            return max(0, len(lines[number]) - len(line))
    return 0
