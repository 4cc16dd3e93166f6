"""Sources that are read once from their beginning: standard input, and the journal of systemd."""

import asyncio
import contextlib
import shutil
import sys
from collections.abc import AsyncGenerator
from datetime import UTC, datetime

from opskit.errors import OpskitError
from opskit.logs.events import MAX_LINE
from opskit.logs.source import Batch, LineSplitter, Window

_READ = 256 * 1024


class StdinSource:
    """Standard input. Following and reading are the same: it ends when it ends."""

    name = "stdin"

    async def read(self, window: Window) -> AsyncGenerator[Batch, None]:
        """Lines as they come. A stream has no past to choose from: the window says nothing."""
        del window
        lines = LineSplitter(self.name)
        async with contextlib.aclosing(_pieces()) as pieces:
            async for piece in pieces:
                if batch := lines.feed(piece):
                    yield batch
        if last := lines.finish():
            yield last

    follow = read


async def _pieces() -> AsyncGenerator[bytes, None]:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=_READ)
    try:
        transport, _ = await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), sys.stdin.buffer
        )
    except ValueError:
        # A regular file as standard input is no pipe: it never blocks, so it is simply read.
        while piece := sys.stdin.buffer.read(_READ):
            yield piece
        return
    try:
        while piece := await reader.read(_READ):
            yield piece
    finally:
        transport.close()


class JournalSource:
    """The journal of systemd, of one unit or of all."""

    def __init__(self, unit: str | None) -> None:
        self._unit = unit
        self.name = f"journal:{unit or ''}"

    def read(self, window: Window) -> AsyncGenerator[Batch, None]:
        return self._lines(window, follow=False)

    def follow(self, window: Window) -> AsyncGenerator[Batch, None]:
        return self._lines(window, follow=True)

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
            *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, limit=MAX_LINE
        )
        if process.stdout is None or process.stderr is None:
            raise AssertionError("both were asked for as pipes")
        lines = LineSplitter(self.name)
        try:
            while piece := await process.stdout.read(_READ):
                yield lines.feed(piece)
            message = (await process.stderr.read()).decode("utf-8", "replace").strip()
            if await process.wait() != 0 and message:
                raise OpskitError("LOG_001", f"journalctl: {message.splitlines()[0]}")
        finally:
            if process.returncode is None:
                process.terminate()
                await process.wait()


def _moment(at: float) -> str:
    """Journalctl reads local time unless told otherwise."""
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%S} UTC"
