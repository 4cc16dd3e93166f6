"""Files and streams in blocks of whole events, in bounded memory.

A block ends in front of a line that begins an event, so what belongs together is never apart. A line longer
than MAX_LINE is taken in pieces of that size, each as a line of its own: memory stays bounded whatever a log
holds.
"""

import contextlib
import gzip
import io
import os
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from opskit.errors import OpskitError
from opskit.logs.events import may_continue

BLOCK = 4 * 1024 * 1024
MAX_LINE = 16 * 1024 * 1024
Log = io.RawIOBase | BinaryIO | gzip.GzipFile
_GZIP = b"\x1f\x8b"


def open_log(path: Path) -> Log:
    """The bytes of a log, unpacked when it is gzip (by its content, not by its name).

    Raises OpskitError LOG_001 with the reason.
    """
    with readable(path):
        raw = io.FileIO(path, opener=_at_once)
    if not raw.seekable():
        raw.close()
        raise OpskitError("LOG_001", f"{path} is no file that can be read from its beginning")
    try:
        with readable(path):
            packed = raw.read(2) == _GZIP
            raw.seek(0)
    except OpskitError:
        raw.close()
        raise
    if not packed:
        return raw
    inner = io.BufferedReader(raw)
    unpacked = gzip.GzipFile(fileobj=inner)
    # GzipFile closes what it opened itself; this makes it close ours too.
    unpacked.myfileobj = inner  # type: ignore[assignment]  # typeshed knows only what it opens itself
    return unpacked


@contextlib.contextmanager
def readable(path: Path) -> Iterator[None]:
    """Raises OpskitError LOG_001 where reading the file raises OSError."""
    try:
        yield
    except OSError as exc:
        raise OpskitError("LOG_001", f"{path}: {(exc.strerror or str(exc)).lower()}") from exc


def blocks(stream: Log, size: int = BLOCK, on_torn: Callable[[], None] = lambda: None) -> Iterator[bytes]:
    """The stream in blocks of whole events.

    What a torn gzip holds before its tear is given; then `on_torn` is called.
    """
    rest = b""
    while True:
        piece = _read(stream, size, on_torn)
        if not piece:
            break
        text = rest + piece if rest else piece
        cut = event_cut(text)
        if cut == 0 and len(text) < MAX_LINE:
            rest = text
            continue
        if cut == 0:
            cut = text.rfind(b"\n") + 1 or MAX_LINE
        yield text[:cut]
        rest = text[cut:]
    while len(rest) > MAX_LINE and b"\n" not in rest[:MAX_LINE]:
        yield rest[:MAX_LINE]
        rest = rest[MAX_LINE:]
    if rest:
        yield rest


def torn(path: Path) -> OpskitError:
    """What is wrong with a packed file that was read as far as it goes."""
    return OpskitError(
        "LOG_001",
        f"{path}: the packed file ends in the middle: the rest is lost",
        remedy="pack it again, if it is still there unpacked",
    )


def event_cut(text: bytes) -> int:
    """Where the last event in `text` begins: 0 when it is the first."""
    at = text.rfind(b"\n") + 1
    if len(text) - at < 200:
        # Nothing, or too little of the next line is here to tell whether it continues the one before.
        at = text.rfind(b"\n", 0, at - 1) + 1 if at else 0
    while at > 0 and may_continue(text[at : at + 200].partition(b"\n")[0]):
        at = text.rfind(b"\n", 0, at - 1) + 1
    return at


def next_event(descriptor: int, at: int, size: int) -> int:
    """The offset of the first event that begins at or after `at`, at most `size`, the end of the file."""
    if at <= 0:
        return 0
    position, step = at - 1, 4096
    text = b""
    start = position
    while position < size:
        piece = os.pread(descriptor, step, position)
        if not piece:
            return size
        text += piece
        position += len(piece)
        line = text.find(b"\n")
        while line >= 0:
            begin = line + 1
            end = text.find(b"\n", begin)
            whole = end >= 0 or len(text) - begin >= 200 or position >= size
            if not whole:
                break
            if begin < len(text) and not may_continue(text[begin : end if end >= 0 else begin + 200]):
                return start + begin
            if end < 0:
                break
            line = end
        if len(text) > MAX_LINE:
            return min(size, start + len(text))
        step *= 2
    return size


def tail_offset(descriptor: int, size: int, lines: int) -> int:
    """Where the last `lines` lines of a file begin, read from its end."""
    if lines <= 0:
        return size
    at, found = size, -1
    while at > 0:
        begin = max(0, at - 256 * 1024)
        piece = os.pread(descriptor, at - begin, begin)
        if at == size and not piece.endswith(b"\n"):
            found += 1
        position = len(piece)
        while (position := piece.rfind(b"\n", 0, position)) >= 0:
            found += 1
            if found == lines:
                return begin + position + 1
        at = begin
    return 0


def _at_once(path: str, flags: int) -> int:
    """Open without waiting for the other end of a named pipe."""
    return os.open(path, flags | os.O_NONBLOCK)


def _read(stream: Log, size: int, on_torn: Callable[[], None]) -> bytes:
    if not isinstance(stream, gzip.GzipFile):
        return stream.read(size) or b""
    try:
        # read1 gives what is unpacked so far; read would lose it at a tear.
        return stream.read1(size)
    except (EOFError, zlib.error, gzip.BadGzipFile):
        on_torn()
        return b""
