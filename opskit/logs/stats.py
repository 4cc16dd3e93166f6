"""Statistics of files and streams: in blocks, in bounded memory, on several processes when it pays."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from itertools import pairwise
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.context import ForkContext, SpawnContext
from multiprocessing.process import BaseProcess
from pathlib import Path

from opskit.logs.events import next_event
from opskit.logs.files import whole_events
from opskit.logs.levels import COMPLAINTS
from opskit.logs.packed import PackedFile, open_log, read_piece, readable
from opskit.logs.record import LogEntry, facts, json_object
from opskit.logs.stats_counts import CountLimits, Counts
from opskit.logs.stats_lines import BlockCounter
from opskit.logs.times import timestamp
from opskit.text import utc

#: Smaller files are not worth a second process.
PARALLEL_FROM = 64 * 1024 * 1024
#: More processes than this would not keep the whole command within 150 MB.
MAX_WORKERS = 4
_CHUNK = 2 * 1024 * 1024
_ENOUGH = 1024 * 1024


class LogTally(Counts):
    """Counts that grow by what is fed.

    Cutting the input between events and merging the parts in any order gives the same as feeding it whole,
    with these exceptions, which are approximate: the minute in which a line that is neither error nor call is
    counted (see `Timeline.spread`; it takes a log's times to be nearly in order), `first` and `last` (of the
    ends of the blocks), shapes beyond `MAX_SHAPES`, requests beyond `MAX_OPEN`. Percentiles are within 1 %.
    """

    def feed(self, block: bytes, source: str = "", at: float | None = None) -> None:
        """Count a block of whole lines; the last LF may be missing.

        A block should end between two events (see `files.whole_events`): a traceback cut in two
        loses its message, one cut off from its error line counts again. `at` is the time of lines that have
        none of their own.
        """
        if not block:
            return
        self.size_bytes += len(block)
        if not block.endswith(b"\n"):
            block += b"\n"
        lines, first, last = self.timeline.spread(block, at)
        self.lines += lines
        self.sources[source] += lines
        for time in (first, last):
            if time is not None:
                self.saw_time(time)
        BlockCounter(self, block, source, at).count()


class Feeder:
    """Feeds whole events of one source to a tally, many at once."""

    def __init__(self, tally: LogTally, source: str = "") -> None:
        self._tally = tally
        self._source = source
        self._events: list[bytes] = []
        self._held = 0

    def push_event(self, event: LogEntry) -> None:
        """Feed a whole event, whose time and level may be its envelope's: its text is given what it lacks."""
        text = event.raw.lstrip(b"\0")
        if event.level in COMPLAINTS and facts(text).level is None:
            text = event.level.upper().encode() + b" " + text
        if event.at is not None and timestamp(text) is None:
            second, thousandths = divmod(round(event.at * 1000), 1000)
            at = b"%b%03dZ" % (_second(second), thousandths)
            is_json = text.startswith(b"{") and json_object(text)
            text = b'{"time":"%b",%b' % (at, text[1:]) if is_json else b"%b %b" % (at, text)
        self._tally.size_bytes -= len(text) - len(event.raw)
        self._events += (text, b"\n")
        self._held += len(text) + 1
        if self._held >= _ENOUGH:
            self.close(event.at)

    def close(self, at: float | None = None) -> None:
        """Feed what is still held back. `at` is the time of lines that have none of their own."""
        self._tally.feed(b"".join(self._events), self._source, at)
        self._events, self._held = [], 0


@lru_cache(4)
def _second(at: int) -> bytes:
    """Write a time up to the point behind its second; many lines share one."""
    return utc(at)[: -len("000Z")].encode()


def tally_file(
    path: Path,
    *,
    source: str | None = None,
    workers: int | None = None,
    limits: CountLimits | None = None,
    on_torn: Callable[[], None] = lambda: None,
) -> LogTally:
    """The tally of one file, packed or not. `source` is its name in the result (the path when None).

    `workers` None: one process for each processor, at most MAX_WORKERS, for files from PARALLEL_FROM. What is
    appended meanwhile is not seen. `on_torn` is called for a packed file that ends in the middle. Raises
    OpskitError LOG_001 when the file cannot be read.
    """
    name = str(path) if source is None else source
    limits = limits or CountLimits()
    with open_log(path) as stream, readable(path):
        if isinstance(stream, PackedFile):
            packed = iter(lambda: read_piece(stream, _CHUNK, on_torn), b"")
            return tally_pieces(packed, name, limits)
        descriptor = stream.fileno()
        size = os.fstat(descriptor).st_size
        processes = workers or min(_processors(), MAX_WORKERS)
        parts = _parts(descriptor, size, processes if size >= PARALLEL_FROM else 1)
        return _together(descriptor, path, parts, name, limits)


def tally_pieces(pieces: Iterable[bytes], source: str, limits: CountLimits) -> LogTally:
    """Count what is cut anywhere; of a line that is too long to be held only the head is looked at."""
    tally, in_line = LogTally(limits), False
    for block in whole_events(pieces):
        rest = 0 if not in_line else block.find(b"\n") + 1 or len(block)
        tally.size_bytes += rest
        tally.feed(block[rest:], source)
        in_line = not block.endswith(b"\n")
    return tally


def _pieces(descriptor: int, begin: int, end: int) -> Iterator[bytes]:
    while begin < end and (piece := os.pread(descriptor, min(_CHUNK, end - begin), begin)):
        yield piece
        begin += len(piece)


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _parts(descriptor: int, size: int, count: int) -> list[tuple[int, int]]:
    """Offsets of about equal parts, cut between events."""
    cuts = [0, *(_cut(descriptor, size * number // count, size) for number in range(1, count)), size]
    return [(begin, end) for begin, end in pairwise(cuts) if begin < end]


def _cut(descriptor: int, at: int, size: int) -> int:
    """The first event at or after `at`; in a line too long for that, its end."""
    at = next_event(descriptor, at, size)
    while 0 < at < size and os.pread(descriptor, 1, at - 1) != b"\n":
        piece = os.pread(descriptor, _CHUNK, at)
        line_end = piece.find(b"\n")
        if line_end >= 0:
            return at + line_end + 1
        at += len(piece) or size
    return min(at, size)


def _together(
    descriptor: int, path: Path, parts: list[tuple[int, int]], source: str, limits: CountLimits
) -> LogTally:
    """The first part here, each other one in a process of its own; what a process loses is made up here.

    `concurrent.futures` cannot end its processes before they are done, as Ctrl-C must.
    """
    children: list[tuple[BaseProcess, Connection]] = []
    try:
        for begin, end in parts[1:]:
            children.append(_start(str(path), begin, end, source, limits))
        tally = tally_pieces(_pieces(descriptor, *parts[0]) if parts else (), source, limits)
        for (_, connection), part in zip(children, parts[1:], strict=True):
            try:
                other = connection.recv()
            except (EOFError, OSError):
                other = tally_pieces(_pieces(descriptor, *part), source, limits)
            tally.merge(other)
    finally:
        for process, connection in children:
            process.terminate()
            process.join()
            connection.close()
    return tally


def _start(*task: object) -> tuple[BaseProcess, Connection]:
    # Forking is quick, but only safe without other threads, and never on a Mac.
    safe = sys.platform == "linux" and threading.active_count() == 1
    context: ForkContext | SpawnContext = get_context("fork") if safe else get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(theirs, *task), daemon=True)
    # A child that Ctrl-C met before it leaves interrupts to its parent would say so.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    theirs.close()
    return process, ours


def _work(connection: Connection, path: str, begin: int, end: int, source: str, limits: CountLimits) -> None:
    """A child sends its tally; when it cannot, the parent notices. An interrupt is the parent's affair."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY)
        connection.send(tally_pieces(_pieces(descriptor, begin, end), source, limits))
