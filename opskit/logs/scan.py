"""Finding the wanted events of a log at speed.

Only lines that the selection's finder finds are looked at in Python. Measured on 0.5 GB (4.8 million lines,
5 % tagged): `re` finds the tags of a buffer at 2.2 GB/s, 3 times faster than RE2 and 3 times faster than
`bytes.find` for each tag; reading lines one by one would be 10 times slower.
"""

import errno
import os
import signal
from collections.abc import Callable, Iterable, Iterator

from opskit.errors import OpskitError, OutputError
from opskit.logs.events import events_in, may_continue, next_event, span
from opskit.logs.record import LogEntry, timestamp
from opskit.logs.select import EntryFilter
from opskit.system.output import write_all

#: Smaller files are not worth a second process.
PARALLEL_FROM = 48 * 1024 * 1024
_CHUNK = 1024 * 1024
_TOKEN_BYTES = 8
#: Bytes that a continuing line may begin with (see `events.continues`): blanks, letters, an empty line.
_MAYBE = bytes(chr(byte).isalpha() or chr(byte) in " \t\r\n_" if byte < 128 else False for byte in range(256))


def hits(block: bytes, selection: EntryFilter) -> list[tuple[int, int]]:
    """Offsets of the events in a block that hold a line found by the finder, each once, in order."""
    finder = selection.finder
    if finder is None:
        return list(events_in(block))
    found: list[tuple[int, int]] = []
    add, find, rfind, done, size = found.append, block.find, block.rfind, 0, len(block)
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
    return found


def plain_lines(block: bytes | bytearray, size: int, selection: EntryFilter) -> bytes:
    """The wanted lines of block[:size] as they stand, each alone; for a selection that is plain."""
    view = memoryview(block)
    if selection.finder is None:
        return bytes(view[:size])
    found: list[memoryview] = []
    add, find, rfind, done = found.append, block.find, block.rfind, 0
    for match in selection.matches(block, size):
        at = match.start()
        if at < done:
            continue
        end = find(b"\n", at, size) + 1 or size
        add(view[rfind(b"\n", done, at) + 1 or done : end])
        done = end
    return _ended(b"".join(found))


def plain_events(block: bytes | bytearray, size: int, selection: EntryFilter) -> bytes:
    """The wanted events of block[:size] as they stand, continued lines included; for a plain selection."""
    whole = bytes(memoryview(block)[:size])
    return _ended(b"".join([whole[start:end] for start, end in hits(whole, selection)]))


def _ended(text: bytes) -> bytes:
    """With a line end, as grep prints a last line that has none."""
    return text + b"\n" if text and not text.endswith(b"\n") else text


def entries(source: str, blocks: Iterable[bytes], selection: EntryFilter) -> Iterator[LogEntry]:
    """The wanted events of one source. One without a time gets that of the last timed line before it."""
    last: float | None = None
    for block in blocks:
        for start, end in hits(block, selection):
            raw = block[start:end].removesuffix(b"\n")
            at = timestamp(raw)
            if at is None:
                at = _time_before(block, start) or last
            else:
                last = at
            entry = LogEntry(source, raw, at)
            if selection.accepts(entry):
                yield entry
        last = _time_before(block, len(block)) or last


Find = Callable[[bytes | bytearray, int, EntryFilter], bytes]
#: Writes every n-th piece of a file, in turn with the others: takes the token and passes it on.
Work = Callable[[int, "Turn"], None]


def write_plain(
    descriptor: int, start: int, size: int, selection: EntryFilter, out: int, *, find: Find, workers: int
) -> int:
    """Write what `find` finds in a file to descriptor `out`, in order; gives its number of bytes.

    The file is cut at events; each worker takes every n-th piece, and a token that goes round lets them write
    in turn, so that nothing is copied between processes and memory stays at a piece for each. Raises
    BrokenPipeError and OutputError whichever worker met them, LOG_001 when a worker was killed.
    """
    if workers <= 1 or size - start < PARALLEL_FROM:
        pieces = _pieces(descriptor, start, size, 0, 1)
        return sum(write_all(out, find(text, length, selection)) for text, length in pieces)

    def work(number: int, turn: Turn) -> None:
        for text, length in _pieces(descriptor, start, size, number, workers):
            found = find(text, length, selection)
            written = turn.wait()
            turn.end(written + write_all(out, found))

    return _in_turn(work, workers, pieces=-(-(size - start) // _CHUNK))


def _whole(block: bytes, start: int, end: int, done: int) -> tuple[int, int]:
    """The event around a line, not reaching back before `done`."""
    alone = not may_continue(block[start : min(end, start + 200)])
    if alone and not may_continue(block[end : end + 200].partition(b"\n")[0]):
        return start, end
    first, last = span(block, start, end)
    return max(first, done), last


def _time_before(block: bytes, at: int) -> float | None:
    for _ in range(200):
        if at <= 0:
            return None
        begin = block.rfind(b"\n", 0, at - 1) + 1
        found = timestamp(block[begin : min(at, begin + 400)])
        if found is not None:
            return found
        at = begin
    return None


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


class Turn:
    """One worker's place in a ring of pipes: from one neighbour comes the token, to the other it goes.

    The token is the number of bytes written so far, or below zero the errno of a worker that could not write.
    Every process holds one writing end only, so a worker that dies leaves its neighbour an end of file.
    """

    def __init__(self, taking: int, giving: int) -> None:
        self._taking = taking
        self._giving = giving

    def wait(self, taking: int | None = None) -> int:
        """The bytes written so far. Raises what befell another: BrokenPipeError, OutputError, LOG_001."""
        text = os.read(self._taking if taking is None else taking, _TOKEN_BYTES)
        if len(text) < _TOKEN_BYTES:
            raise OpskitError("LOG_001", "a process that searched the log was killed", remedy="run it again")
        token = int.from_bytes(text, "big", signed=True)
        if token == -errno.EPIPE:
            raise BrokenPipeError
        if token < 0:
            raise OutputError(OSError(-token, os.strerror(-token)))
        return token

    def end(self, token: int) -> None:
        os.write(self._giving, token.to_bytes(_TOKEN_BYTES, "big", signed=True))


def _in_turn(work: Work, workers: int, *, pieces: int) -> int:
    """Run the workers, the first one here. None of them outlives this call."""
    pipes = [os.pipe() for _ in range(workers)]
    children: list[int] = []
    turns = [Turn(pipes[number][0], pipes[(number + 1) % workers][1]) for number in range(workers)]
    turns[-1].end(0)
    try:
        children.extend(_child(work, number, turns[number], pipes) for number in range(1, workers))
        _close_but(pipes, 1)
        work(0, turns[0])
        # Whose turn it is now has no piece left.
        return turns[0].wait(pipes[pieces % workers][0])
    finally:
        for child in children:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        for read, _ in pipes:
            os.close(read)
        os.close(pipes[1][1])


def _child(work: Work, number: int, turn: Turn, pipes: list[tuple[int, int]]) -> int:
    """The process id of a worker. Ctrl-C is its parent's affair, which ends it."""
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    child = os.fork()
    if child:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        return child
    try:
        _close_but(pipes, (number + 1) % len(pipes))
        work(number, turn)
    except (BrokenPipeError, OutputError) as exc:
        turn.end(-(exc.errno or errno.EPIPE))
    finally:
        os._exit(0)


def _close_but(pipes: list[tuple[int, int]], number: int) -> None:
    """Close every writing end but one."""
    for other, (_, write) in enumerate(pipes):
        if other != number:
            os.close(write)


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
