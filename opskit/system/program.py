"""Runs programs: output up to a bound, no shell, and nothing that outlives the caller."""

import asyncio
import contextlib
import os
import shlex
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path

from opskit.errors import OpskitError
from opskit.records import Record
from opskit.text import last_lines

MAX_OUTPUT = 4 * 1024 * 1024
#: A child that a program leaves behind may keep its output open.
_AFTER_EXIT_S = 0.2
#: A fork takes milliseconds; on a machine that is out of memory it may take its time.
_START_S = 5.0
#: Even a killed process may take its time, on a dead disk for ever.
_AFTER_KILL_S = 0.5


class ProgramResult(Record):
    """How a program ended. `exit` is negative for a signal; `cut`: there was more output than kept.

    `timed_out`: it was killed at its deadline, with everything it started.
    """

    exit: int
    out: str
    err: str
    cut: bool = False
    timed_out: bool = False

    @property
    def complaint(self) -> str:
        """The last lines of its output, as one line; without warnings, where more than these is there."""
        lines = (self.err.strip() or self.out).splitlines()
        plain = [line for line in lines if not (line.startswith("time=") and " level=warning " in line)]
        return last_lines("\n".join(plain or lines)) or f"exit {self.exit}"


class NotStarted(OpskitError):  # noqa: N818 - it reads as what it is
    """The program cannot be started: it is missing, or may not be run."""

    def __init__(self, message: str) -> None:
        super().__init__("HOST_001", message)


def unusable_program(name: str, path: str | None) -> str:
    """Say why a program cannot be started that `shutil.which` does not find, or that has no interpreter."""
    folders = [""] if "/" in name else (path or "").split(os.pathsep)
    for file in (Path(folder, name) for folder in folders):
        if file.is_symlink() and not file.exists():
            return f"{file} is a link to {file.readlink()}, which is not there"
        if file.is_dir():
            return f"{file} is a folder"
        if file.is_file() and not os.access(file, os.X_OK):
            return f"{file} is not executable (`chmod +x {shlex.quote(str(file))}` makes it so)"
        if file.is_file():
            with contextlib.suppress(OSError), file.open("rb") as stream:
                line = stream.readline(200).decode("utf-8", "replace")
                needs = line[2:].split()[:1] if line.startswith("#!") else []
                return f"{file} needs {needs[0] if needs else 'a loader'}, which is not there"
    return f"{name} is not found"


def not_started(error: Exception, command: Sequence[str]) -> NotStarted:
    """Translate what the start of a program raised; a missing working folder names itself."""
    name, why = getattr(error, "filename", None) or command[0], getattr(error, "strerror", None)
    if isinstance(error, FileNotFoundError) and Path(str(name)).is_file():
        return NotStarted(unusable_program(str(name), None))
    return NotStarted(f"{name}: {why or 'it cannot be started'}")


class _Output(asyncio.SubprocessProtocol):
    """Keeps the first and the last bytes and drops the others, so that the writer is not blocked."""

    def __init__(self, limit: int, tail_limit: int) -> None:
        loop = asyncio.get_running_loop()
        self._limit = limit
        self._tail_limit = tail_limit
        self._tail = {1: bytearray(), 2: bytearray()}
        self._dropped = {1: 0, 2: 0}
        self._open = {1, 2}
        self.kept = {1: bytearray(), 2: bytearray()}
        self.cut = False
        self.exited: asyncio.Future[None] = loop.create_future()
        self.closed: asyncio.Future[None] = loop.create_future()

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        room = self._limit - len(self.kept[fd])
        self.kept[fd] += data[:room]
        if len(data) > room:
            tail = self._tail[fd]
            tail += data[room:]
            over = max(0, len(tail) - self._tail_limit)
            del tail[:over]
            self._dropped[fd] += over
            self.cut = self.cut or over > 0

    def text(self, fd: int) -> str:
        """Return what was kept; between beginning and end a line says how much is missing."""
        head, tail = (bytes(part[fd]).decode("utf-8", "replace") for part in (self.kept, self._tail))
        if not self._dropped[fd] or not self._tail_limit:
            return head + tail
        return f"{head}\n[... {self._dropped[fd]} bytes left out ...]\n{tail}"

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        del exc
        self._open.discard(fd)
        if not self._open and not self.closed.done():
            self.closed.set_result(None)

    def process_exited(self) -> None:
        if not self.exited.done():
            self.exited.set_result(None)


_Process = tuple[asyncio.SubprocessTransport, _Output]


async def run(
    command: Sequence[str],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    stdin: bytes = b"",
    max_output: int = MAX_OUTPUT,
    max_tail: int = 0,
    timeout_s: float | None = None,
) -> ProgramResult:
    """Run a program to its end or its deadline. Cancelled, it kills the program with everything it started.

    Of each output stream the first `max_output` and the last `max_tail` bytes are kept. Raises NotStarted.
    """
    loop = asyncio.get_running_loop()
    starting = loop.create_task(
        loop.subprocess_exec(
            lambda: _Output(max_output, max_tail),
            *command,
            cwd=cwd,
            env=env,
            stdin=asyncio.subprocess.PIPE if stdin else asyncio.subprocess.DEVNULL,
            start_new_session=True,
        )
    )
    try:
        transport, output = await _start(starting)
    except (OSError, ValueError) as exc:
        raise not_started(exc, command) from exc
    try:
        if stdin and (pipe := transport.get_pipe_transport(0)) is not None:
            # Only a reading pipe lacks these two.
            pipe.write(stdin)  # type: ignore[attr-defined]
            pipe.write_eof()  # type: ignore[attr-defined]
        # Not the future itself: who is cancelled would cancel it, and no end could be waited for below.
        await asyncio.wait({output.exited}, timeout=timeout_s)
        timed_out = not output.exited.done()
        if not timed_out:
            await asyncio.wait({output.closed}, timeout=_AFTER_EXIT_S)
    finally:
        await _end(transport, output)
    return ProgramResult(
        transport.get_returncode() or 0, output.text(1), output.text(2), output.cut, timed_out
    )


async def output_of(
    command: Sequence[str], *, timeout_s: float, env: Mapping[str, str] | None = None
) -> str | None:
    """Return what a program writes that ends well and in time; None for any other."""
    try:
        done = await run(command, env=env, timeout_s=timeout_s)
    except NotStarted:
        return None
    return done.out if done.exit == 0 and not done.timed_out else None


async def _start(starting: "asyncio.Task[_Process]") -> _Process:
    """Return the process once it is started; the start is never cut off in the middle.

    Cancelled between the fork and the pipes, asyncio would kill the program alone and wait for what the
    program started: for ever, if that keeps the output open.
    """
    try:
        await asyncio.wait({starting})
    except asyncio.CancelledError:
        await asyncio.wait({starting}, timeout=_START_S)
        if starting.done() and starting.exception() is None:
            await _end(*starting.result())
        raise
    return starting.result()


async def _end(transport: asyncio.SubprocessTransport, output: _Output) -> None:
    """Kill what still runs, with everything it started."""
    if transport.get_returncode() is None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(transport.get_pid(), signal.SIGKILL)
        await asyncio.wait({output.exited}, timeout=_AFTER_KILL_S)
    transport.close()
