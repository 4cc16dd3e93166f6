"""From the bytes of a Docker log to lines: messages with their times, long lines joined again.

Docker logs in *messages*: a line, or 16 KiB of a longer one, or what a dying process left without a line
end. Each comes with its time in front. Without a terminal each stands in a frame of its own (stream, length);
with one the messages follow each other bare. Pieces may be cut anywhere.
"""

import re
import struct
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

from opskit.logs.times import minute_s

#: The longest line that is kept whole.
LINE_BYTES = 1024 * 1024
CUT = b" [cut by opskit: the line is longer than %d bytes]"

_FRAME = struct.Struct(">BxxxL")
#: Docker's own messages are far shorter; a longer one is taken in parts of this size.
_PART_BYTES = 64 * 1024
#: Docker writes nine digits and Z; Podman trims zeros and may name an offset.
_TIME = re.compile(rb"(\d{4}-\d\d-\d\dT\d\d:\d\d):([0-5]\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d) ?")
_FIXED = re.compile(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z ")
_FIXED_BYTES = 31


class StreamMessage(NamedTuple):
    """`stream` is 1 for stdout and for a terminal, 2 for stderr, 3 for the daemon's own complaints.

    `ends` tells whether a line end stood behind it; `text` is without it.
    """

    at_ns: int
    stream: int
    text: bytes
    ends: bool


class StreamLine(NamedTuple):
    """A whole line, without its end, and the time of its first message."""

    at_ns: int
    stream: int
    text: bytes


class FrameError(ValueError):
    """The bytes are no frames: the reader lost its place."""


def split_time(raw: bytes, default_ns: int) -> tuple[int, bytes]:
    """The time in front of a message, in nanoseconds since the epoch, and the rest.

    `default_ns` and all of it when there is no time.
    """
    time = _TIME.match(raw)
    second_ns = None if time is None else _second_ns(time[1], time[2], time[4])
    if time is None or second_ns is None:
        return default_ns, raw
    return second_ns + int((time[3] or b"0").ljust(9, b"0")), raw[time.end() :]


@lru_cache(maxsize=1024)
def _second_ns(minute: bytes, second: bytes, zone: bytes) -> int | None:
    """Consecutive messages mostly share their second."""
    begin_s = minute_s(minute.decode(), zone)
    return None if begin_s is None else (round(begin_s) + int(second)) * 1_000_000_000


class Framed:
    """Messages of a container without a terminal."""

    def __init__(self) -> None:
        self._pending = b""
        self._at_ns = 0
        #: The frame that was begun: its stream, the bytes that are still to come, whether they are its first.
        self._frame: tuple[int, int, bool] | None = None

    def feed(self, piece: bytes) -> list[StreamMessage]:
        """The messages that are complete now. Raises FrameError."""
        data = self._pending + piece if self._pending else piece
        place, size = 0, len(data)
        messages: list[StreamMessage] = []
        while True:
            if self._frame is None:
                if size - place < _FRAME.size:
                    break
                stream, length = _FRAME.unpack_from(data, place)
                if stream > 3:
                    raise FrameError(f"a frame of stream {stream}")
                self._frame, place = (stream, length, True), place + _FRAME.size
            stream, missing, is_first = self._frame
            part_bytes = min(missing, _PART_BYTES)
            if place + part_bytes > size:
                break
            text = data[place : place + part_bytes]
            if is_first:
                self._at_ns, text = split_time(text, self._at_ns)
            self._frame = (stream, missing - part_bytes, False) if missing > part_bytes else None
            ends = self._frame is None and text.endswith(b"\n")
            messages.append(StreamMessage(self._at_ns, stream, text[:-1] if ends else text, ends))
            place += part_bytes
        self._pending = data[place:]
        return messages

    def finish(self) -> list[StreamMessage]:
        """What is left when the log ended properly: half a frame is no message."""
        self._pending = b""
        return []


class Bare:
    """Messages of a container with a terminal: separated by line ends, and by the times in front.

    A time within a line begins a new message when it is not before the one in front of the line: times that
    a program writes itself are older than the moment at which Docker reads them.
    """

    def __init__(self) -> None:
        self._pending = b""
        self._at_ns = 0

    def feed(self, piece: bytes) -> list[StreamMessage]:
        """The messages that are complete now."""
        *lines, pending = (self._pending + piece if self._pending else piece).split(b"\n")
        messages: list[StreamMessage] = []
        for line in lines:
            parts = self._parts(line)
            messages += [self._message(part, ends=False) for part in parts[:-1]]
            messages.append(self._message(parts[-1], ends=True))
        *parts, pending = self._parts(pending)
        messages += [self._message(part, ends=False) for part in parts]
        while len(pending) > _PART_BYTES + _FIXED_BYTES:
            messages.append(self._message(pending[:_PART_BYTES], ends=False))
            pending = pending[_PART_BYTES:]
        self._pending = pending
        return messages

    def finish(self) -> list[StreamMessage]:
        """What is left when the log ended properly."""
        pending, self._pending = self._pending, b""
        return [self._message(pending, ends=False)] if pending else []

    def _message(self, raw: bytes, *, ends: bool) -> StreamMessage:
        self._at_ns, text = split_time(raw, self._at_ns)
        return StreamMessage(self._at_ns, 1, text, ends)

    @staticmethod
    def _parts(line: bytes) -> list[bytes]:
        if len(line) < 2 * _FIXED_BYTES:
            return [line]
        parts, begin = [], 0
        for time in _FIXED.finditer(line, _FIXED_BYTES):
            # Times of one width compare like their text.
            if time[0] >= line[begin : begin + _FIXED_BYTES]:
                parts.append(line[begin : time.start()])
                begin = time.start()
        return [*parts, line[begin:]]


class LineJoiner:
    """Joins the messages of long lines; all messages of one line have the same time.

    A line above `limit_bytes` is given out at once, cut and marked, and the rest of it is dropped.
    """

    def __init__(self, *, tty: bool = False, limit_bytes: int = LINE_BYTES) -> None:
        self._tty = tty
        self._limit_bytes = limit_bytes
        #: The begin of each open line with its time; None once it was given out cut.
        self._open: dict[int, tuple[int, bytearray | None]] = {}

    def feed(self, messages: Iterable[StreamMessage]) -> list[StreamLine]:
        """The lines that are complete now."""
        lines: list[StreamLine] = []
        for at_ns, stream, text, ends in messages:
            if stream in self._open and self._open[stream][0] != at_ns:
                # The process died within a line, and another one began to write.
                lines += self._closed(stream)
            if ends and stream not in self._open and len(text) <= self._limit_bytes:
                lines.append(StreamLine(at_ns, stream, self._text(text)))
                continue
            _, line = self._open.setdefault(stream, (at_ns, bytearray()))
            if line is not None:
                line += text
                if len(line) > self._limit_bytes:
                    cut = bytes(line[: self._limit_bytes]) + CUT % self._limit_bytes
                    lines.append(StreamLine(at_ns, stream, cut))
                    self._open[stream] = (at_ns, None)
            if ends:
                lines += self._closed(stream)
        return lines

    def finish(self) -> list[StreamLine]:
        """The lines whose end will not come."""
        return [line for stream in list(self._open) for line in self._closed(stream)]

    def _closed(self, stream: int) -> list[StreamLine]:
        at_ns, line = self._open.pop(stream)
        return [] if line is None else [StreamLine(at_ns, stream, self._text(bytes(line)))]

    def _text(self, text: bytes) -> bytes:
        """A terminal ends lines with CR LF."""
        return text[:-1] if self._tty and text.endswith(b"\r") else text
