"""Sources that are read once from their beginning: standard input, and the journal of systemd."""

import asyncio
import contextlib
import shutil
import sys
from collections.abc import AsyncGenerator
from datetime import UTC, datetime

from opskit.errors import OpskitError
from opskit.logs.record import LogEntry, timestamp
from opskit.logs.source import Batch, Window

_READ = 256 * 1024
_LINE_LIMIT = 16 * 1024 * 1024


class StdinSource:
    """Standard input. Following and reading are the same: it ends when it ends."""

    name = "stdin"

    async def read(self, window: Window) -> AsyncGenerator[Batch, None]:
        """Lines as they come; a line above 16 MiB comes in pieces."""
        del window  # a stream has no past to choose from
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=_READ)
        try:
            transport, _ = await loop.connect_read_pipe(
                lambda: asyncio.StreamReaderProtocol(reader), sys.stdin.buffer
            )
        except ValueError:
            # A regular file as standard input is no pipe: it never blocks, so it is simply read.
            async with contextlib.aclosing(self._from_file()) as batches:
                async for batch in batches:
                    yield batch
            return
        rest = b""
        try:
            while text := await reader.read(_READ):
                rest, batch = self._cut(rest + text)
                if batch:
                    yield batch
            if rest:
                yield [LogEntry(self.name, rest, timestamp(rest))]
        finally:
            transport.close()

    async def follow(self, window: Window) -> AsyncGenerator[Batch, None]:
        async with contextlib.aclosing(self.read(window)) as batches:
            async for batch in batches:
                yield batch

    async def _from_file(self) -> AsyncGenerator[Batch, None]:
        rest = b""
        while text := sys.stdin.buffer.read(_READ):
            rest, batch = self._cut(rest + text)
            if batch:
                yield batch
        if rest:
            yield [LogEntry(self.name, rest, timestamp(rest))]

    def _cut(self, text: bytes) -> tuple[bytes, Batch]:
        lines = text.split(b"\n")
        rest = lines.pop()
        if len(rest) > _LINE_LIMIT:
            lines.append(rest)
            rest = b""
        return rest, [LogEntry(self.name, line, timestamp(line)) for line in lines]


class JournalSource:
    """The journal of systemd, of one unit or of all."""

    def __init__(self, unit: str | None) -> None:
        self._unit = unit

    @property
    def name(self) -> str:
        return f"journal:{self._unit or ''}"

    async def read(self, window: Window) -> AsyncGenerator[Batch, None]:
        async with contextlib.aclosing(self._lines(window, follow=False)) as batches:
            async for batch in batches:
                yield batch

    async def follow(self, window: Window) -> AsyncGenerator[Batch, None]:
        async with contextlib.aclosing(self._lines(window, follow=True)) as batches:
            async for batch in batches:
                yield batch

    async def _lines(self, window: Window, *, follow: bool) -> AsyncGenerator[Batch, None]:
        program = shutil.which("journalctl")
        if program is None:
            raise OpskitError(
                "LOG_001", "there is no journalctl here", remedy="name a file, or a container, instead"
            )
        command = [program, "--no-pager", "--quiet", "--output=short-iso-precise"]
        command += ["--unit", self._unit] if self._unit else []
        command += ["--since", _moment(window.since)] if window.since is not None else []
        command += ["--until", _moment(window.until)] if window.until is not None and not follow else []
        command += [f"--lines={window.tail}"] if window.tail is not None else []
        command += ["--follow"] if follow else []
        process = await asyncio.create_subprocess_exec(
            *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, limit=_LINE_LIMIT
        )
        if process.stdout is None or process.stderr is None:
            raise AssertionError("both were asked for as pipes")
        rest = b""
        try:
            while text := await process.stdout.read(_READ):
                lines = (rest + text).split(b"\n")
                rest = lines.pop()
                yield [LogEntry(self.name, line, timestamp(line)) for line in lines]
            trouble = (await process.stderr.read()).decode("utf-8", "replace").strip()
            if await process.wait() != 0 and trouble:
                raise OpskitError("LOG_001", f"journalctl: {trouble.splitlines()[0]}")
        finally:
            if process.returncode is None:
                process.terminate()
                await process.wait()


def _moment(at: float | None) -> str:
    """Journalctl reads local time unless told otherwise."""
    return f"{datetime.fromtimestamp(at or 0.0, UTC):%Y-%m-%d %H:%M:%S} UTC"
