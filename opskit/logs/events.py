"""Which lines belong together: a traceback stays with the line that it follows.

The same rules (`EventLines`) work forward over a stream and both ways inside a block.
"""

import os
import re
from collections import deque
from collections.abc import Iterator, Sequence
from functools import cached_property

from opskit.logs.levels import COMPLAINTS, EXCEPTION, TRACEBACK, is_padded_level, line_level
from opskit.logs.record import LogEntry, uncoloured
from opskit.records import replace

#: More continuation lines than this are not one event.
MAX_LINES = 2000
#: So many lines of other services may stand within an event.
MAX_APART = 200
#: A longer line is taken in pieces of that size, each as a line of its own: memory stays bounded.
MAX_LINE = 16 * 1024 * 1024
#: So many bytes of a line tell whether it continues another.
_ENOUGH = 200
_OPENS = (
    TRACEBACK,
    b"During handling of the above exception",
    b"The above exception was the direct cause",
    b"Caused by: ",
)
#: The last line of a traceback: an exception by its name, or one with its module (`requests.Timeout: no`).
ENDS = re.compile(
    rb"[A-Za-z_][\w.$]*(?:Error|Exception|Warning|Exit|Interrupt|Iteration|Group)\b"
    rb"|[A-Za-z_]\w*(?:\.\w+)+(?=:\s|\s*$)"
)
#: What else explains a complaint: an object that asyncio and aiohttp name (`future: <Task finished ...>`).
_OBJECT = re.compile(rb"[a-z_]{3,30}: <")
#: Rust writes the place of a panic on one line and what it says on the next, whatever that is.
_PANIC = re.compile(rb"panicked at \S+:\d+:\d+:\r?\n?$")
_OF_PANIC = (b"note: run with `RUST_BACKTRACE", b"stack backtrace:")
#: Where rich draws a traceback in a box, each line begins with a part of it (U+2500 to U+257F).
_BOX = (b"\xe2\x94", b"\xe2\x95")
#: JSON over several lines ends so.
_CLOSING = re.compile(rb"[\]})]+[,;]?\s*$")
#: What a process of Go writes when it ends: its goroutines, and a function with the place behind it.
_GO_FRAME = re.compile(
    rb"goroutine \d+ \[|created by \S|exit status \d|\[signal |[\w./*()-]+\(.*\)\r?$"
    rb"|[\w./-]+\.(?:\(\*\w+\)\.)?\w+\r?$"
)
#: The frame that loguru points at.
_MARKED = b'> File "'
_GO_CRASH = (b"panic: ", b"fatal error: ")


def may_continue(line: bytes) -> bool:
    """Whether a line, seen alone, could continue another: a block is never cut in front of it."""
    if line[:1] == b"\x1b":
        line = uncoloured(line)
    if line[:1] in (b" ", b"\t"):
        return not is_padded_level(line)
    return (
        not line.strip()
        or line.startswith((*_OPENS, _MARKED, *_OF_PANIC, *_BOX))
        or any(pattern.match(line) for pattern in (ENDS, _GO_FRAME, _OBJECT, _CLOSING))
    )


def goes_on(line: bytes) -> bool:
    """Whether the next line belongs to this one, whatever it is."""
    return b"panicked at " in line and _PANIC.search(line) is not None


class EventLines:
    """The lines of one event, from its first one on; forward over a stream or a block.

    A line continues the one before it when it is indented, when it opens a traceback, or when it belongs to
    one: its last line, or a frame of Go. A line that complains is also continued by an exception, as loggers
    of Java and JavaScript write it, by a stack of Go, by a box, and by the objects that it is about.
    """

    def __init__(self, first: bytes) -> None:
        self._first = first[:_ENOUGH]
        self._in_traceback = TRACEBACK in self._first or uncoloured(self._first).startswith(_OPENS)
        self._in_go = self._first.startswith(_GO_CRASH)
        self._in_panic = self._awaits = goes_on(first)
        self._is_bare = True
        self._count = 1

    def take(self, line: bytes) -> bool:
        """Whether the next line belongs to the event."""
        if self._count >= MAX_LINES or not (self._awaits or may_continue(line)):
            return False
        line = uncoloured(line)
        if not self._awaits and line[:1] not in (b" ", b"\t"):
            opens = line.startswith(_OPENS) or (line.startswith(_BOX) and TRACEBACK in line)
            if not (opens or self._belongs(line)):
                return False
            self._in_traceback = self._in_traceback or opens
        self._awaits = False
        self._is_bare = self._is_bare and not line.strip()
        self._count += 1
        return True

    def _belongs(self, line: bytes) -> bool:
        if not line.strip():
            return self._in_traceback or self._in_go or self._complains
        if line.startswith(_OF_PANIC):
            return self._in_panic
        if line.startswith(_BOX):
            return self._in_traceback or self._complains
        if line.startswith(_MARKED):
            return self._in_traceback
        if self._in_traceback and ENDS.match(line):
            return True
        if _CLOSING.match(line):
            return b"{" in self._first or b"[" in self._first
        if self._complains and self._is_bare and _GO_FRAME.match(line):
            self._in_go = True
        return self._in_go or (self._complains and (self._is_bare or _OBJECT.match(line) is not None))

    @cached_property
    def _complains(self) -> bool:
        """Whether an exception behind the first line is what it complains of, and not another complaint."""
        line = uncoloured(self._first)
        said = None if EXCEPTION.match(line) else line_level(line)
        return said is not None and said.is_word and said.level in COMPLAINTS


class _OpenEvent(EventLines):
    """An event with its lines so far, and the number of the last of them among all lines."""

    def __init__(self, first: LogEntry, number: int) -> None:
        super().__init__(first.raw)
        self.entries = [first]
        self.last = number
        self.complete = False


class Grouper:
    """Joins lines into events, each source and service apart, in the order of their first lines.

    `push` gives the events that are complete. Of services whose lines alternate an event is complete, at the
    latest, when MAX_APART lines of others have followed it.
    """

    def __init__(self) -> None:
        self._latest: dict[tuple[str, str | None], _OpenEvent] = {}
        self._waiting: deque[_OpenEvent] = deque()
        self._count = 0

    @property
    def open(self) -> bool:
        return bool(self._waiting)

    def push(self, line: LogEntry) -> list[LogEntry]:
        """The events that are complete with this line."""
        self._count += 1
        writer = line.source, line.service
        event = self._latest.get(writer)
        if event is not None and event.take(line.raw):
            event.entries.append(line)
            event.last = self._count
        else:
            if event is not None:
                event.complete = True
            event = self._latest[writer] = _OpenEvent(line, self._count)
            self._waiting.append(event)
        events = []
        while self._waiting and (
            self._waiting[0].complete or self._count - self._waiting[0].last > MAX_APART
        ):
            events.append(self._taken())
        return events

    def flush(self) -> list[LogEntry]:
        return [self._taken() for _ in range(len(self._waiting))]

    def _taken(self) -> LogEntry:
        event = self._waiting.popleft()
        first = event.entries[0]
        writer = first.source, first.service
        if self._latest.get(writer) is event:
            del self._latest[writer]
        return joined(event.entries)


def joined(lines: Sequence[LogEntry]) -> LogEntry:
    """One entry of the lines of an event, with the time of the first."""
    if len(lines) == 1:
        return lines[0]
    written = None
    if any(line.written is not None for line in lines):
        written = b"\n".join(line.bytes_in_source for line in lines)
    return replace(lines[0], raw=b"\n".join(line.raw for line in lines), written=written)


def events_in(block: bytes, start: int = 0) -> Iterator[tuple[int, int]]:
    """The events of a block as offsets, behind their last LF; `start` is where one begins."""
    begin, end = start, _line_end(block, start)
    event = EventLines(block[begin : min(end, begin + _ENOUGH)])
    while end < len(block):
        after = _line_end(block, end)
        line = block[end : min(after, end + _ENOUGH)]
        if not event.take(line):
            yield begin, end
            begin, event = end, EventLines(line)
        end = after
    if begin < end:
        yield begin, end


def span(block: bytes, start: int, end: int) -> tuple[int, int]:
    """The event around the line at block[start:end], as offsets; `end` is behind its LF.

    `block` must begin at the beginning of a line. Looks back to a line that surely begins an event, at most
    MAX_LINES, and from there forward: what continues an event depends on what came before.
    """
    return next(event for event in events_in(block, _head(block, start)) if event[1] >= end)


def event_cut(text: bytes) -> int:
    """Where the last event in `text` begins: 0 when it is the first."""
    at = text.rfind(b"\n") + 1
    if len(text) - at < _ENOUGH:
        # Nothing, or too little of the next line is here to tell whether it continues the one before.
        at = text.rfind(b"\n", 0, at - 1) + 1 if at else 0
    return _head(text, at, len(text))


def _head(block: bytes, at: int, most: int = MAX_LINES) -> int:
    """Where the event of the line at `at` begins at the earliest, sought back over at most so many lines."""
    while at > 0 and most > 0 and may_belong(block, at):
        at, most = block.rfind(b"\n", 0, at - 1) + 1, most - 1
    return at


def may_belong(block: bytes, at: int) -> bool:
    """Whether the line at `at`, not the first one, could belong to the line before it."""
    before = block[max(block.rfind(b"\n", 0, at - 1) + 1, at - _ENOUGH) : at]
    return goes_on(before) or may_continue(block[at : at + _ENOUGH].partition(b"\n")[0])


def next_event(descriptor: int, at: int, size: int) -> int:
    """The offset of the first event that begins at or after `at`, at most `size`, the end of the file."""
    if at <= 0:
        return 0
    start, step = max(0, at - 1 - _ENOUGH), 4096
    while True:
        text = os.pread(descriptor, step, start)
        is_all = len(text) < step or start + step >= size
        begin = text.find(b"\n", at - 1 - start) + 1
        while 0 < begin < len(text):
            end = text.find(b"\n", begin)
            if end < 0 and len(text) - begin < _ENOUGH and not is_all:
                break
            if not may_belong(text, begin):
                return start + begin
            begin = end + 1
        if is_all or step > MAX_LINE:
            return size if is_all else start + step
        step *= 2


def _line_end(block: bytes, start: int) -> int:
    """Behind the LF of the line at `start`, or the end of the block."""
    return block.find(b"\n", start) + 1 or len(block)
