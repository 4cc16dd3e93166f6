"""Standard output as a descriptor: a failure to write is kept apart from every other failure."""

import contextlib
import io
import os
import select

TYPE_CHECKING = False  # as `typing` has it, which is 3 ms that a plain search does not need
if TYPE_CHECKING:
    from typing_extensions import Buffer


class OutputFile(io.FileIO):
    """A descriptor to write to that stays open when this file is closed.

    Raises BrokenPipeError when the reader has gone, OutputError for everything else that cannot be written.
    """

    def __init__(self, descriptor: int) -> None:
        super().__init__(descriptor, "wb", closefd=False)

    def write(self, data: "Buffer", /) -> int:
        return write_all(self.fileno(), data)


class NarrationFile(OutputFile):
    """Standard error: what cannot be written there is lost, and the command goes on."""

    def write(self, data: "Buffer", /) -> int:
        with contextlib.suppress(OSError):
            _write(self.fileno(), data)
        return memoryview(data).nbytes


def write_all(descriptor: int, data: "Buffer") -> int:
    """Write all bytes and return their number. Raises BrokenPipeError and OutputError."""
    try:
        return _write(descriptor, data)
    except BrokenPipeError:
        raise
    except OSError as exc:
        from opskit.errors import OutputError  # 5 ms that a plain search does not need

        raise OutputError(exc) from exc


def reader_has_left(descriptor: int) -> bool:
    """Whether the reader of this pipe has left; False for what is no pipe."""
    poll = select.poll()
    poll.register(descriptor, 0)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))


def _write(descriptor: int, data: "Buffer") -> int:
    """Write all bytes; a descriptor that does not block is waited for."""
    view = memoryview(data).cast("B")
    done = 0
    while done < len(view):
        try:
            done += os.write(descriptor, view[done:])
        except BlockingIOError:
            select.select([], [descriptor], [])
    return len(view)
