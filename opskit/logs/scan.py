"""Finding the wanted events of a log at speed.

Only lines that the selection's finder finds are looked at in Python. Measured on 0.5 GB (4.8 million lines,
5 % tagged): `re` finds the tags of a buffer at 2.2 GB/s, 3 times faster than RE2 and 3 times faster than
`bytes.find` for each tag; reading lines one by one would be 10 times slower.
"""

import contextlib
import errno
import os
import signal
from collections.abc import Callable, Iterable, Iterator
from typing import NoReturn

from opskit.errors import OpskitError, OutputError
from opskit.logs.events import events_in, may_belong, next_event, span
from opskit.logs.record import LogEntry
from opskit.logs.select import EntryFilter
from opskit.logs.times import last_timed, timestamp
from opskit.system.output import write_all

#: Smaller files are not worth a second process.
PARALLEL_FROM = 48 * 1024 * 1024
_CHUNK = 1024 * 1024
_ANSWER_BYTES = 8
#: Bytes that a continuing line may begin with (see `events.may_continue`).
_MAYBE = bytes((byte < 128 and chr(byte).isalpha()) or byte in b" \t\r\n_\x1b])}\xe2" for byte in range(256))


def hits(block: bytes, selection: EntryFilter) -> list[tuple[int, int]]:
    """Offsets of the events in a block that hold a line found by the finder, each once, in order."""
    finder = selection.finder
    if finder is None:
        return list(events_in(block))
    events: list[tuple[int, int]] = []
    add, find, rfind, done, size = events.append, block.find, block.rfind, 0, len(block)
    for match in finder.finditer(block):
        at = match.start()
        if at < done:
            continue
        start = rfind(b"\n", done, at) + 1 or done
        end = find(b"\n", at) + 1 or size
        # Most events are one line; only where a neighbour may belong to it is the whole event sought.
        if _MAYBE[block[start]] or (end < size and _MAYBE[block[end]]):
            start, end = _whole(block, start, end, done)
        done = end
        add((start, end))
    return events


def plain_lines(block: bytes | bytearray, size: int, selection: EntryFilter) -> bytes:
    """The wanted lines of block[:size] as they stand, each alone; for a selection that is plain."""
    view = memoryview(block)
    if selection.finder is None:
        return bytes(view[:size])
    lines: list[memoryview] = []
    add, find, rfind, done = lines.append, block.find, block.rfind, 0
    for match in selection.matches(block, size):
        at = match.start()
        if at < done:
            continue
        end = find(b"\n", at, size) + 1 or size
        add(view[rfind(b"\n", done, at) + 1 or done : end])
        done = end
    return _ended(b"".join(lines))


def plain_events(block: bytes | bytearray, size: int, selection: EntryFilter) -> bytes:
    """The wanted events of block[:size] as they stand, continued lines included; for a plain selection."""
    whole = bytes(memoryview(block)[:size])
    return _ended(b"".join([whole[start:end] for start, end in hits(whole, selection)]))


def _ended(text: bytes) -> bytes:
    """With a line end, as grep prints a last line that has none."""
    return text + b"\n" if text and not text.endswith(b"\n") else text


def entries(source: str, blocks: Iterable[bytes], selection: EntryFilter) -> Iterator[LogEntry]:
    """The wanted events of one source.

    One without a time gets that of the last timed line before it, at the beginning that of the first one.
    """
    last: float | None = None
    for block in blocks:
        done, is_searched = 0, False
        for start, end in hits(block, selection):
            raw = block[start:end].removesuffix(b"\n")
            at = timestamp(raw)
            before = last_timed(block, done, start) if at is None and start > done else None
            last = at if at is not None else last if before is None else before[1]
            if last is None and not is_searched:
                # Once for a block: a log may hold no time at all.
                last, is_searched = timestamp(block, end, len(block)), True
            entry = LogEntry(source, raw, last)
            done = end
            if selection.accepts(entry):
                yield entry
        if done < len(block) and (after := last_timed(block, done, len(block))) is not None:
            last = after[1]


Find = Callable[[bytes | bytearray, int, EntryFilter], bytes]


def write_plain(
    descriptor: int, start: int, size: int, selection: EntryFilter, out: int, *, find: Find, workers: int
) -> int:
    """Write what `find` finds in a file to descriptor `out`, in order; gives its number of bytes.

    The file is cut at events; of several processes each takes every n-th piece, and writes when it is asked
    to, so that nothing is copied between processes and memory stays at a piece for each. Raises
    BrokenPipeError and OutputError whichever process met them, LOG_001 when one was killed.
    """

    def texts(number: int, count: int) -> Iterator[bytes]:
        for text, length in _pieces(descriptor, start, size, number, count):
            yield find(text, length, selection)

    if workers <= 1 or size - start < PARALLEL_FROM:
        return sum(write_all(out, text) for text in texts(0, 1))
    children: list[_SearchProcess] = []
    pieces = -(-(size - start) // _CHUNK)
    try:
        children.extend(_SearchProcess(texts(number, workers), out) for number in range(workers))
        return sum(children[piece % workers].write() for piece in range(pieces))
    finally:
        for child in children:
            child.close()


def _whole(block: bytes, start: int, end: int, done: int) -> tuple[int, int]:
    """The event around a line, not reaching back before `done`."""
    is_first = start == 0 or not may_belong(block, start)
    if is_first and (end >= len(block) or not may_belong(block, end)):
        return start, end
    first, last = span(block, start, end)
    return max(first, done), last


def _pieces(
    descriptor: int, start: int, size: int, number: int, workers: int
) -> Iterator[tuple[bytearray, int]]:
    """The pieces of a file, whole events each, that fall to one worker: a buffer used again and its length.

    New memory for each piece would cost as much as the search itself: the kernel clears every page of it.
    """
    buffer = bytearray(_CHUNK + 65_536)
    begin = start + number * _CHUNK
    while begin < size:
        first = start if begin == start else next_event(descriptor, begin, size)
        last = next_event(descriptor, begin + _CHUNK, size) if begin + _CHUNK < size else size
        if last - first > len(buffer):
            buffer = bytearray(last - first)
        yield buffer, _read_into(buffer, descriptor, first, last - first)
        begin += _CHUNK * workers


class _SearchProcess:
    """A process that takes texts of its own and writes each of them to `out` when it is asked to.

    Its answer is the number of bytes written, or below zero the errno of a failure.
    """

    def __init__(self, texts: Iterator[bytes], out: int) -> None:
        orders, self._orders = os.pipe()
        self._answers, answers = os.pipe()
        # Ctrl-C is its parent's affair, which ends it.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        self._pid = os.fork()
        if not self._pid:
            _work(texts, out, orders, answers)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        # Only the child holds these ends now: its death is an end of file.
        os.close(orders)
        os.close(answers)

    def write(self) -> int:
        """Let it write its next text. Raises what befell it: BrokenPipeError, OutputError, LOG_001."""
        with contextlib.suppress(BrokenPipeError):
            os.write(self._orders, b"\0")
        answer = os.read(self._answers, _ANSWER_BYTES)
        if len(answer) < _ANSWER_BYTES:
            raise OpskitError("LOG_001", "a process that searched the log was killed", remedy="run it again")
        written = int.from_bytes(answer, "big", signed=True)
        if written == -errno.EPIPE:
            raise BrokenPipeError
        if written < 0:
            raise OutputError(OSError(-written, os.strerror(-written)))
        return written

    def close(self) -> None:
        os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)
        os.close(self._orders)
        os.close(self._answers)


def _work(texts: Iterator[bytes], out: int, orders: int, answers: int) -> NoReturn:
    try:
        for text in texts:
            os.read(orders, 1)
            try:
                written = write_all(out, text)
            except (BrokenPipeError, OutputError) as exc:
                written = -(exc.errno or errno.EPIPE)
            os.write(answers, written.to_bytes(_ANSWER_BYTES, "big", signed=True))
    finally:
        os._exit(0)


def _read_into(buffer: bytearray, descriptor: int, offset: int, length: int) -> int:
    """Bytes read: fewer than `length` when the file has shrunk."""
    view = memoryview(buffer)
    done = 0
    while done < length:
        count = os.preadv(descriptor, [view[done:length]], offset + done)
        if count == 0:
            break
        done += count
    return done
