"""The tools over files: files of the workspace, and no others, whatever links lead to."""

import asyncio
import os
import re
import stat
from collections import Counter
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Annotated

from opskit.agent.policy.containment import Containment
from opskit.agent.policy.rules import Decision, Objection, Ruling
from opskit.agent.tools.tool import NeedsApproval, Tool, ToolResult, refused
from opskit.config.fields import text
from opskit.config.schema import ToolLimits
from opskit.config.values import Parameters, Rule
from opskit.text import counted

_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
_MAX_ENTRIES = 20_000
_BINARY = b"\0"
#: Of a larger file only the end is searched.
_MAX_SEARCHED_BYTES = 16 * 1024 * 1024
_LINE_CHARS = 240
_TIME = re.compile(r"[0-2]?\d:[0-5]\d(?::[0-5]\d)?", re.ASCII)
#: The lines of a larger file are not given one by one.
_MAX_LINES_BYTES = 1024 * 1024


def _clock(text: str) -> str:
    if text and not _TIME.fullmatch(text):
        raise ValueError("it is no time such as 10:05")
    return text


RelativePath = Annotated[str, text(1, 1024, description="path in the workspace")]

# No pattern in the schema: not every server can enforce one.
Clock = Annotated[str, text(most=8), Rule(_clock)]


class PathArguments(Parameters):
    """A path in the workspace."""

    path: RelativePath


class SearchFileArguments(Parameters):
    """A file and a text, in which capitals do not count; an empty one finds what tells of an error.

    `after` and `before` are times of a day, of the lines of a log.
    """

    path: RelativePath
    pattern: Annotated[str, text(most=120)] = ""
    after: Clock = ""
    before: Clock = ""


class WorkspaceFiles:
    """Opens what lies in the workspace, step by step below its folder, so that no link leads out."""

    def __init__(self, containment: Containment, limits: ToolLimits) -> None:
        self._containment = containment
        self.limits = limits

    async def use(
        self,
        tool: str,
        path: str,
        approved: tuple[str, ...] | None,
        work: Callable[[int, str], ToolResult],
    ) -> ToolResult:
        """Return what `work` makes of the open file, or the refusal.

        A bare name that is not in the workspace itself stands for the one file below it that is called so.
        Raises NeedsApproval for a name that promises a secret.
        """
        path = await asyncio.to_thread(self._located, path)
        opened = await self._open(tool, path, approved)
        if isinstance(opened, ToolResult):
            return opened
        try:
            return await asyncio.to_thread(work, opened, path)
        except OSError as exc:
            return ToolResult(f"{path}: {exc.strerror}", ok=False, evidence={"path": path})
        finally:
            os.close(opened)

    def _located(self, path: str) -> str:
        root = self._containment.root
        if root is None or "/" in path or not path.isprintable() or os.path.lexists(root / path):
            return path
        walked = ((folder, name) for folder, _, names in os.walk(root) for name in names)
        same = [
            os.path.relpath(folder, root) + "/" + name
            for folder, name in islice(walked, _MAX_ENTRIES)
            if name == path
        ]
        return same[0] if len(same) == 1 else path

    async def _open(self, tool: str, path: str, approved: tuple[str, ...] | None) -> int | ToolResult:
        argv = (tool, path)
        try:
            objection = (
                self._containment.path_objection(path)
                if path.isprintable()
                else Objection("control-character", "the path holds a character that cannot be shown")
            )
            if objection is None or (objection.rule == "secret" and approved == argv):
                return await asyncio.to_thread(self._opened, path)
        except OSError as exc:
            return ToolResult(f"{path}: {exc.strerror}", ok=False, evidence={"argv": list(argv)})
        if objection.rule == "secret":
            raise NeedsApproval(argv, "ask.secret", objection.why, cwd=self._containment.root or Path("/"))
        return refused(Decision(Ruling.DENY, f"deny.{objection.rule}", objection.why, argv))

    def _opened(self, path: str) -> int:
        """Open each folder on the way by its real name; a link that came in between is not followed."""
        root = self._containment.root or Path("/")
        real = Path(os.path.realpath(root / path))
        if not real.is_relative_to(root):
            raise PermissionError(0, "it is outside of the workspace")
        handle = os.open(root, _OPEN | os.O_DIRECTORY)
        try:
            for name in real.relative_to(root).parts:
                # A device may act on being opened.
                _check(os.stat(name, dir_fd=handle, follow_symlinks=False))
                inner = os.open(name, _OPEN, dir_fd=handle)
                os.close(handle)
                handle = inner
                _check(os.fstat(handle))
        except BaseException:
            os.close(handle)
            raise
        return handle


def _check(status: os.stat_result) -> None:
    if not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
        raise PermissionError(0, "it is neither a file nor a folder")


class _FileTool(Tool):
    def __init__(self, files: WorkspaceFiles) -> None:
        self._files = files


class ReadFile(_FileTool):
    """Reads a text file: all of it, or its beginning and its end."""

    name = "read_file"
    description = "Read a text file of the workspace. A large file is shown by its beginning and its end."
    arguments = PathArguments

    async def run(self, arguments: PathArguments, approved: tuple[str, ...] | None) -> ToolResult:
        return await self._files.use(self.name, arguments.path, approved, self._read)

    def _read(self, handle: int, path: str) -> ToolResult:
        status, limit = os.fstat(handle), self._files.limits.output_bytes
        evidence = {"path": path, "bytes": status.st_size}
        if stat.S_ISDIR(status.st_mode):
            return ToolResult(f"{path} is a folder: use list_directory", ok=False, evidence=evidence)
        head = os.pread(handle, _MAX_LINES_BYTES + 1, 0)
        if _BINARY in head:
            return ToolResult(f"{path} is a binary file of {status.st_size} bytes", evidence=evidence)
        text = head.decode("utf-8", "replace")
        lines = tuple(enumerate(text.splitlines(), 1)) if len(head) <= _MAX_LINES_BYTES else ()
        if len(head) <= limit:
            return ToolResult(text, evidence=evidence, lines=lines)
        half = limit // 2
        size = max(status.st_size, len(head))
        tail = os.pread(handle, half, size - half)
        text = (
            f"{head[:half].decode('utf-8', 'replace')}\n[... {size - 2 * half} bytes left out ...]\n"
            f"{tail.decode('utf-8', 'replace')}"
        )
        return ToolResult(text, truncated=True, evidence=evidence, lines=lines)


class SearchFile(_FileTool):
    """Counts the lines of a file, and finds lines with a text, or lines that tell of an error."""

    name = "search_file"
    description = "Count and find the lines of a file with a text; an empty pattern finds those of errors."
    arguments = SearchFileArguments

    async def run(self, arguments: SearchFileArguments, approved: tuple[str, ...] | None) -> ToolResult:
        def search(handle: int, path: str) -> ToolResult:
            status = os.fstat(handle)
            if stat.S_ISDIR(status.st_mode):
                why = f"{path} is a folder: use list_directory"
                return ToolResult(why, ok=False, evidence={"path": path})
            with open(handle, "rb", closefd=False) as file:
                file.seek(max(0, status.st_size - _MAX_SEARCHED_BYTES))
                data = file.read(_MAX_SEARCHED_BYTES)
            cut = status.st_size > _MAX_SEARCHED_BYTES
            return searched(data, path, arguments, self._files.limits.entries, cut=cut)

        return await self._files.use(self.name, arguments.path, approved, search)


def searched(
    data: bytes, path: str, arguments: SearchFileArguments, entries: int, *, cut: bool = False
) -> ToolResult:
    """Return what a search in these bytes finds, at most `entries` lines; `cut`: there was more before."""
    from opskit.agent.tools.log_lines import count_lines

    pattern = arguments.pattern
    counts = count_lines(data, pattern, arguments.after, arguments.before)
    shown = [(number, line[:_LINE_CHARS]) for number, line in counts.found[-entries:]]
    what = f"contain {pattern!r}" if pattern else "tell of an error"
    head = f"{path}: {len(counts.found)} of {counted(counts.lines, 'line')} {what}"
    if cut:
        head += f" (only the last {_MAX_SEARCHED_BYTES} bytes were searched)"
    return ToolResult(
        "\n".join((head, *(f"{number}: {line}" for number, line in shown))),
        truncated=cut or len(shown) < len(counts.found),
        evidence={
            "path": path,
            "lines": counts.lines,
            "matches": len(counts.found),
            "times": counts.times,
            "levels": dict(counts.levels),
            "one_day": counts.one_day,
            "cut": cut,
        },
        lines=tuple(shown),
    )


class ListDirectory(_FileTool):
    """Lists a folder: kind, size and name of each entry."""

    name = "list_directory"
    description = (
        "List a folder of the workspace: kind, size in bytes and name of each entry. `.` is the workspace."
    )
    arguments = PathArguments

    async def run(self, arguments: PathArguments, approved: tuple[str, ...] | None) -> ToolResult:
        return await self._files.use(self.name, arguments.path, approved, self._list)

    def _list(self, handle: int, path: str) -> ToolResult:
        with os.scandir(handle) as entries:
            names = sorted(islice((entry.name for entry in entries), _MAX_ENTRIES))
        kinds = Counter(_kind(handle, name) for name in names)
        shown = names[: self._files.limits.entries]
        lines = [_described(handle, name) for name in shown]
        if len(shown) < len(names):
            lines.append(f"[... {len(names) - len(shown)} entries left out ...]")
        return ToolResult(
            "\n".join(lines) or f"{path} is empty",
            truncated=len(shown) < len(names),
            evidence={"path": path, "entries": len(names), "kinds": dict(kinds)},
        )


def _kind(handle: int, name: str) -> str:
    try:
        mode = os.stat(name, dir_fd=handle, follow_symlinks=False).st_mode
    except OSError:
        return "?"
    return {stat.S_IFDIR: "folder", stat.S_IFREG: "file", stat.S_IFLNK: "link"}.get(
        stat.S_IFMT(mode), "special"
    )


def _described(handle: int, name: str) -> str:
    shown = "".join(char if char.isprintable() else "?" for char in name)
    try:
        size = os.stat(name, dir_fd=handle, follow_symlinks=False).st_size
    except OSError as exc:
        return f"?  {shown}  ({exc.strerror})"
    return f"{_kind(handle, name):7} {size:>12}  {shown}"
