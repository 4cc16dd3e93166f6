"""Where code is read from: files, folders, standard input. Nothing is run and no link is followed."""

import io
import os
import stat
import tokenize
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from opskit.errors import OpskitError, UsageError
from opskit.quality.source import CodeSource, in_answer, in_markdown

#: No model writes more in one piece.
LIMIT_BYTES = 2 * 1024 * 1024

STDIN = "-"
_PYTHON = frozenset({".py", ".pyi", ".pyw"})
_MARKDOWN = frozenset({".md", ".markdown"})
_FOREIGN = frozenset({"__pycache__", "node_modules", "site-packages"})


@dataclass(frozen=True, slots=True)
class ReadSources:
    """What was found. `unread` names the files of folders that could not be judged, each with the reason."""

    sources: tuple[CodeSource, ...]
    unread: tuple[tuple[str, str], ...] = ()


class _Unreadable(Exception):  # noqa: N818 - a reason, turned into an error or a finding
    """Why a file cannot be judged."""


def read(paths: Sequence[str], stdin: BinaryIO) -> ReadSources:
    """The Python of every path, in order; `-` is standard input.

    Raises UsageError for a path that cannot be used and OpskitError GEN_003 for an answer without code. A
    file found in a folder does neither: it is named in `unread`.
    """
    sources: list[CodeSource] = []
    unread: list[tuple[str, str]] = []
    for path in dict.fromkeys(paths):
        if path == STDIN:
            sources.extend(_named(stdin.read(LIMIT_BYTES + 1), "stdin", ""))
        elif os.path.isdir(path):  # noqa: PTH112 - unlike Path's it is no error to be kept out
            inside, problems = _folder(Path(path))
            sources.extend(inside)
            unread.extend(problems)
        else:
            sources.extend(_file(Path(path)))
    return ReadSources(tuple(sources), tuple(unread))


def _file(path: Path) -> tuple[CodeSource, ...]:
    name = shown(path)
    try:
        raw = _bytes(path)
    except _Unreadable as exc:
        raise UsageError(f"{name}: {exc}", remedy="name a file, a folder, or `-`") from exc
    return _named(raw, name, path.suffix.lower())


def _named(raw: bytes, name: str, suffix: str) -> tuple[CodeSource, ...]:
    """What somebody asked for by name must be usable."""
    try:
        text = _text(raw)
    except _Unreadable as exc:
        raise UsageError(f"{name}: {exc}", remedy="pass Python, or Markdown with Python in it") from exc
    if suffix in _PYTHON:
        return (CodeSource(name, text),)
    if not text.strip():
        raise UsageError(f"{name}: there is nothing to judge", remedy="pass Python, or Markdown with code")
    found = in_markdown(text, name) if suffix in _MARKDOWN else in_answer(text, name)
    if not found:
        raise OpskitError("GEN_003", f"{name} holds no Python code block")
    return found


def _folder(folder: Path) -> tuple[list[CodeSource], list[tuple[str, str]]]:
    sources: list[CodeSource] = []
    unread: list[tuple[str, str]] = []
    for path in _python_files(folder, lambda exc: unread.append((shown(Path(exc.filename)), _reason(exc)))):
        try:
            sources.append(CodeSource(shown(path), _text(_bytes(path))))
        except _Unreadable as exc:
            unread.append((shown(path), str(exc)))
    if not sources and not unread:
        raise UsageError(f"{shown(folder)} holds no Python file", remedy="name a folder with *.py in it")
    return sources, unread


def _python_files(folder: Path, unreadable: Callable[[OSError], None]) -> Iterator[Path]:
    """In order of names, without hidden folders, virtual environments and links to folders."""
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
                raise _Unreadable("it is not a regular file")
            return file.read(LIMIT_BYTES + 1)
    except (OSError, ValueError) as exc:
        raise _Unreadable(_reason(exc)) from exc


def _reason(exc: OSError | ValueError) -> str:
    return (getattr(exc, "strerror", None) or str(exc)).lower()


def _text(raw: bytes) -> str:
    """The text in the encoding that it declares, as Python reads it; UTF-8 when it declares none."""
    if len(raw) > LIMIT_BYTES:
        raise _Unreadable(f"it is larger than {LIMIT_BYTES} bytes")
    if b"\0" in raw:
        raise _Unreadable(f"it is binary (a NUL at byte {raw.index(0)})")
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(raw).readline)
        text = raw.decode(encoding)
    except (SyntaxError, UnicodeDecodeError, LookupError) as exc:
        raise _Unreadable("it is not text in the encoding that it declares, or in UTF-8") from exc
    return text.replace("\r\n", "\n").replace("\r", "\n")


def shown(path: Path) -> str:
    """A path that can be printed, whatever bytes its name is made of."""
    return os.fsencode(path).decode("utf-8", "replace")
