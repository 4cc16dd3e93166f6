"""Tallies of whole files and of streams: in blocks, in bounded memory, on several processes when it pays."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from gzip import GzipFile
from itertools import pairwise
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.context import ForkContext, SpawnContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import BinaryIO, cast

from opskit.logs.blocks import blocks, event_cut, next_event, open_log, readable
from opskit.logs.stats import LogTally
from opskit.logs.stats_counts import CountLimits
from opskit.logs.stats_lines import MAX_LINE

#: Smaller files are not worth a second process.
PARALLEL_FROM = 64 * 1024 * 1024
#: More processes than this would not keep the whole command within 150 MB.
MAX_WORKERS = 4
_CHUNK = 2 * 1024 * 1024
_ENOUGH = 1024 * 1024
_MAX_EVENT = 8 * 1024 * 1024


class Feeder:
    """Feeds one source to a tally in pieces of any size, cut anywhere.

    Holds back what is no whole event yet. Of a line longer than MAX_LINE only the head is kept; its rest is
    counted in bytes and forgotten.
    """

    def __init__(self, tally: LogTally, source: str = "") -> None:
        self._tally = tally
        self._source = source
        self._pieces: list[bytes] = []
        self._held = 0
        self._in_long_line = False

    def push(self, piece: bytes, at: float | None = None) -> None:
        """`at` is the time of lines that have none of their own."""
        if self._in_long_line:
            end = piece.find(b"\n")
            self._tally.size_bytes += len(piece) if end < 0 else end
            if end < 0:
                return
            self._in_long_line = False
            piece = piece[end:]
        self._pieces.append(piece)
        self._held += len(piece)
        if self._held >= _ENOUGH:
            self._feed(at)

    def close(self, at: float | None = None) -> None:
        """Feed what is still held back."""
        text = b"".join(self._pieces)
        self._hold(b"")
        self._tally.feed(text, self._source, at)

    def _feed(self, at: float | None) -> None:
        text = b"".join(self._pieces)
        whole = text.rfind(b"\n") + 1
        if len(text) - whole > MAX_LINE:
            self._tally.feed(text[:whole], self._source, at)
            self._tally.size_bytes += len(text) - whole - MAX_LINE
            self._hold(text[whole : whole + MAX_LINE])
            self._in_long_line = True
            return
        cut = event_cut(text)
        if cut == 0 and len(text) > _MAX_EVENT:
            cut = whole
        self._tally.feed(text[:cut], self._source, at)
        self._hold(text[cut:])

    def _hold(self, rest: bytes) -> None:
        self._pieces = [rest] if rest else []
        self._held = len(rest)


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
        if isinstance(stream, GzipFile):
            # A GzipFile does not close the file that it was given.
            with contextlib.closing(cast("BinaryIO", stream.fileobj)):
                return _unpacked(stream, name, limits, on_torn)
        descriptor = stream.fileno()
        size = os.fstat(descriptor).st_size
        wanted = workers or min(_processors(), MAX_WORKERS)
        parts = _parts(descriptor, size, wanted if size >= PARALLEL_FROM else 1)
        return _together(descriptor, path, parts, name, limits)


def _unpacked(stream: GzipFile, source: str, limits: CountLimits, on_torn: Callable[[], None]) -> LogTally:
    tally = LogTally(limits)
    feeder = Feeder(tally, source)
    for block in blocks(stream, on_torn=on_torn):
        feeder.push(block)
    feeder.close()
    return tally


def _processors() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _parts(descriptor: int, size: int, count: int) -> list[tuple[int, int]]:
    """Offsets of about equal parts, cut between events."""
    cuts = [0, *(_cut(descriptor, size * number // count, size) for number in range(1, count)), size]
    return [(begin, end) for begin, end in pairwise(cuts) if begin < end]


def _cut(descriptor: int, at: int, size: int) -> int:
    """The first event at or after `at`; in a line too long for that, its end."""
    at = next_event(descriptor, at, size)
    while 0 < at < size and os.pread(descriptor, 1, at - 1) != b"\n":
        piece = os.pread(descriptor, _CHUNK, at)
        found = piece.find(b"\n")
        if found >= 0:
            return at + found + 1
        at += len(piece) or size
    return min(at, size)


def _part(descriptor: int, begin: int, end: int, source: str, limits: CountLimits) -> LogTally:
    tally = LogTally(limits)
    feeder = Feeder(tally, source)
    while begin < end:
        piece = os.pread(descriptor, min(_CHUNK, end - begin), begin)
        if not piece:
            break
        feeder.push(piece)
        begin += len(piece)
    feeder.close()
    return tally


def _together(
    descriptor: int, path: Path, parts: Sequence[tuple[int, int]], source: str, limits: CountLimits
) -> LogTally:
    """The first part here, each other one in a process of its own; what a process loses is made up here."""
    running: list[tuple[BaseProcess, Connection, tuple[int, int]]] = []
    try:
        for begin, end in parts[1:]:
            running.append(_start(path, begin, end, source, limits))
        begin, end = parts[0] if parts else (0, 0)
        tally = _part(descriptor, begin, end, source, limits)
        for _, connection, (begin, end) in running:
            try:
                other = connection.recv()
            except (EOFError, OSError):
                other = _part(descriptor, begin, end, source, limits)
            tally.merge(other)
    finally:
        for process, connection, _ in running:
            process.terminate()
            process.join()
            connection.close()
    return tally


def _start(
    path: Path, begin: int, end: int, source: str, limits: CountLimits
) -> tuple[BaseProcess, Connection, tuple[int, int]]:
    # Forking is quick, but only safe without other threads, and never on a Mac.
    safe = sys.platform == "linux" and threading.active_count() == 1
    context: ForkContext | SpawnContext = get_context("fork") if safe else get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(theirs, str(path), begin, end, source, limits), daemon=True)
    # A child that Ctrl-C met before it leaves interrupts to its parent would say so.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    theirs.close()
    return process, ours, (begin, end)


def _work(connection: Connection, path: str, begin: int, end: int, source: str, limits: CountLimits) -> None:
    """A child sends its tally; when it cannot, the parent notices. An interrupt is the parent's affair."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY)
        connection.send(_part(descriptor, begin, end, source, limits))
