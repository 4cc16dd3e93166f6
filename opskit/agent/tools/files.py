"""`read_file` and `list_directory`: the files of the workspace, and no others, whatever links lead to."""

import asyncio
import os
import stat
from itertools import islice
from pathlib import Path
from typing import Annotated

from pydantic import Field

from opskit.agent.policy.containment import Containment
from opskit.agent.policy.decision import Decision, Objection, Ruling
from opskit.agent.tools.tool import NeedsApproval, ToolResult, refused
from opskit.config.fields import parameters
from opskit.config.schema import ToolLimits

_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
_MAX_ENTRIES = 20_000
_BINARY = b"\0"

RelativePath = Annotated[
    str, Field(strict=True, min_length=1, max_length=1024, description="path in the workspace")
]


@parameters
class PathArguments:
    """A path in the workspace."""

    path: RelativePath


class WorkspaceFiles:
    """Opens what lies in the workspace, step by step below its folder, so that no link leads out."""

    def __init__(self, containment: Containment, limits: ToolLimits) -> None:
        self._containment = containment
        self.limits = limits

    async def open(self, tool: str, path: str, approved: tuple[str, ...] | None) -> int | ToolResult:
        """Return a descriptor, or the refusal. Raises NeedsApproval for a name that promises a secret."""
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


class ReadFile:
    """Reads a text file: all of it, or its beginning and its end."""

    name = "read_file"
    description = "Read a text file of the workspace. A large file is shown by its beginning and its end."
    arguments = PathArguments

    def __init__(self, files: WorkspaceFiles) -> None:
        self._files = files

    async def run(self, arguments: PathArguments, approved: tuple[str, ...] | None) -> ToolResult:
        opened = await self._files.open(self.name, arguments.path, approved)
        if isinstance(opened, ToolResult):
            return opened
        try:
            return await asyncio.to_thread(self._read, opened, arguments.path)
        finally:
            os.close(opened)

    def _read(self, handle: int, path: str) -> ToolResult:
        status, limit = os.fstat(handle), self._files.limits.output_bytes
        evidence = {"path": path, "bytes": status.st_size}
        if stat.S_ISDIR(status.st_mode):
            return ToolResult(f"{path} is a folder: use list_directory", ok=False, evidence=evidence)
        try:
            head = os.pread(handle, limit + 1, 0)
            if _BINARY in head:
                return ToolResult(f"{path} is a binary file of {status.st_size} bytes", evidence=evidence)
            if len(head) <= limit:
                return ToolResult(head.decode("utf-8", "replace"), evidence=evidence)
            half = limit // 2
            size = max(status.st_size, len(head))
            tail = os.pread(handle, half, size - half)
        except OSError as exc:
            return ToolResult(f"{path}: {exc.strerror}", ok=False, evidence=evidence)
        text = (
            f"{head[:half].decode('utf-8', 'replace')}\n[... {size - 2 * half} bytes left out ...]\n"
            f"{tail.decode('utf-8', 'replace')}"
        )
        return ToolResult(text, truncated=True, evidence=evidence)


class ListDirectory:
    """Lists a folder: kind, size and name of each entry."""

    name = "list_directory"
    description = (
        "List a folder of the workspace: kind, size in bytes and name of each entry. `.` is the workspace."
    )
    arguments = PathArguments

    def __init__(self, files: WorkspaceFiles) -> None:
        self._files = files

    async def run(self, arguments: PathArguments, approved: tuple[str, ...] | None) -> ToolResult:
        opened = await self._files.open(self.name, arguments.path, approved)
        if isinstance(opened, ToolResult):
            return opened
        try:
            return await asyncio.to_thread(self._list, opened, arguments.path)
        except OSError as exc:
            return ToolResult(f"{arguments.path}: {exc.strerror}", ok=False)
        finally:
            os.close(opened)

    def _list(self, handle: int, path: str) -> ToolResult:
        with os.scandir(handle) as entries:
            names = sorted(islice((entry.name for entry in entries), _MAX_ENTRIES))
        shown = names[: self._files.limits.entries]
        lines = [_described(handle, name) for name in shown]
        if len(shown) < len(names):
            lines.append(f"[... {len(names) - len(shown)} entries left out ...]")
        return ToolResult(
            "\n".join(lines) or f"{path} is empty",
            truncated=len(shown) < len(names),
            evidence={"path": path, "entries": len(names)},
        )


def _described(handle: int, name: str) -> str:
    shown = "".join(char if char.isprintable() else "?" for char in name)
    try:
        status = os.stat(name, dir_fd=handle, follow_symlinks=False)
    except OSError as exc:
        return f"?  {shown}  ({exc.strerror})"
    kinds = {stat.S_IFDIR: "folder", stat.S_IFREG: "file", stat.S_IFLNK: "link"}
    return f"{kinds.get(stat.S_IFMT(status.st_mode), 'special'):7} {status.st_size:>12}  {shown}"
