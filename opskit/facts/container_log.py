"""The last lines of a container's log."""

import asyncio
from collections import deque

from opskit.errors import OpskitError
from opskit.logs.record import LogEntry
from opskit.records import Record
from opskit.system.docker import Docker
from opskit.system.docker_records import ListedContainer


class ContainerLog(Record):
    """The last lines that were read. `problem` is why there are none, or not all."""

    entries: tuple[LogEntry, ...] = ()
    problem: str | None = None
    is_cut: bool = False

    @property
    def size_bytes(self) -> int:
        return sum(len(entry.raw) for entry in self.entries)

    def lines(self, max_chars: int) -> list[str]:
        """Return each line as text, shortened; the problem is the last one."""
        texts = (entry.raw.decode("utf-8", "replace") for entry in self.entries)
        shown = [text if len(text) <= max_chars else f"{text[:max_chars]}..." for text in texts]
        return shown if self.problem is None else [*shown, f"({self.problem})"]


async def read_container_log(
    docker: Docker, name: str, lines: int, *, limit_s: float, limit_bytes: int = 1024 * 1024
) -> ContainerLog:
    """Read the last lines of a container's log. Never raises for what Docker does."""
    from opskit.logs.container import ContainerSource
    from opskit.logs.source import Window

    entries: deque[LogEntry] = deque()
    held_bytes, is_cut, problem = 0, False, None
    source = ContainerSource(docker, ListedContainer(name, name, "", "running"))
    try:
        async with asyncio.timeout(limit_s):
            async for batch in source.read(Window(tail=lines)):
                for entry in batch:
                    if not isinstance(entry, LogEntry):
                        continue
                    entries.append(entry)
                    held_bytes += len(entry.raw)
                    while held_bytes > limit_bytes and len(entries) > 1:
                        held_bytes -= len(entries.popleft().raw)
                        is_cut = True
    except OpskitError as error:
        problem = f"its log cannot be read: {error.message}"
    except TimeoutError:
        problem = f"its log did not end within {limit_s:g} s"
    return ContainerLog(tuple(entries), problem, is_cut)
