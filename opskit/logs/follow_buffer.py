"""Where the lines and the notes of one source meet and wait, briefly, for their reader."""

import asyncio
from collections.abc import Sequence

from opskit.logs.frames import StreamLine
from opskit.logs.record import LogEntry
from opskit.logs.source import Batch, Note

_ROOM_BYTES = 512 * 1024
#: What an entry costs beside its text.
_ENTRY_BYTES = 150
#: How long the log must be silent before a note is given out that may stand behind lines still to come.
_QUIET_S = 0.25
#: Stream 3 is where the daemon itself complains.
_COMPLAINTS = 3


def entries(shown: str, lines: Sequence[StreamLine]) -> Batch:
    """Lines as entries of a source; complaints of the daemon become notes."""
    return [
        Note(shown, at_ns / 1e9, f"Docker: {text.decode('utf-8', 'replace')}")
        if stream == _COMPLAINTS
        else LogEntry(shown, text, at_ns / 1e9)
        for at_ns, stream, text in lines
    ]


class FollowBuffer:
    """One batch that grows until it is taken. When it is full the writer waits.

    Notes are put between the lines by their time; the writer sets `quiet` while it waits for more lines.
    """

    def __init__(self, shown: str) -> None:
        self.quiet = False
        self._shown = shown
        self._batch: Batch = []
        self._bytes = 0
        self._filled = asyncio.Event()
        self._taken = asyncio.Event()
        self._over = False
        self._notes: list[Note] = []
        self._ends = 0
        self._released = 0
        self._timer: asyncio.TimerHandle | None = None

    @property
    def ends(self) -> int:
        """How many notes so far reported an end of the log."""
        return self._ends

    def note(self, note: Note, *, last: bool = False) -> None:
        """Keep a note until the lines before it are out.

        With `last` it tells of an end of the log: then silence is no sign that they are, until `release`.
        """
        self._ends += last
        self._notes.append(note)
        self._notes.sort(key=lambda note: note.at or 0.0)
        if self._timer is None:
            self._later()

    async def lines(self, lines: Sequence[StreamLine]) -> None:
        """Give out lines, and before each the notes that are older."""
        if not lines:
            return
        while self._bytes >= _ROOM_BYTES:
            self._taken.clear()
            await self._taken.wait()
        for entry in entries(self._shown, lines):
            while self._notes and (self._notes[0].at or 0.0) <= (entry.at or 0.0):
                self._batch.append(self._notes.pop(0))
            self._batch.append(entry)
        self._bytes += sum(len(line.text) + _ENTRY_BYTES for line in lines)
        self._filled.set()

    def release(self, ends: int) -> None:
        """The log went on after so many ends: silence counts again, unless there was one more."""
        self._released = max(self._released, ends)

    def flush(self) -> None:
        """Give out every note: no older line will come."""
        self._released = self._ends
        if self._notes:
            self._batch += self._notes
            self._notes = []
            self._filled.set()

    async def filled(self) -> bool:
        """Wait for something to take; False when nothing will come any more."""
        await self._filled.wait()
        return bool(self._batch)

    def take(self) -> Batch:
        batch, self._batch, self._bytes = self._batch, [], 0
        if not self._over:
            self._filled.clear()
        self._taken.set()
        return batch

    def end(self) -> None:
        """Nothing more is written: waiting tasks go on."""
        self._over = True
        self._filled.set()

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _later(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(_QUIET_S, self._when_quiet)

    def _when_quiet(self) -> None:
        self._timer = None
        if self.quiet and self._ends == self._released:
            self.flush()
        elif self._notes:
            self._later()
