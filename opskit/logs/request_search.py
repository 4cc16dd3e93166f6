"""Which lines belong to one request: those that carry its id, and those that continue them."""

import re
from dataclasses import dataclass, replace

from opskit.errors import UsageError
from opskit.logs.events import continues, opens_traceback
from opskit.logs.record import UUID, LogEntry, facts, without_prefix

_MAX_CANDIDATES = 20


@dataclass(slots=True)
class RequestEvent:
    """A line of the story with the lines that continue it."""

    number: int
    entries: list[LogEntry]
    in_traceback: bool

    def joined(self) -> LogEntry:
        raw = b"\n".join(entry.raw for entry in self.entries)
        return replace(self.entries[0], raw=raw)


class Search:
    """Gathers events by id, for every id that begins as wanted.

    `mentions` are lines that hold what is wanted as a word of its own, as logs that shorten ids do.
    """

    def __init__(self, identifier: str) -> None:
        self.wanted = identifier.lower()
        self._spellings = {text.encode() for text in (identifier, self.wanted, identifier.upper())}
        word = re.escape(self.wanted.encode())
        self._word = re.compile(rb"(?<![\w-])" + word + rb"(?![\w-])", re.IGNORECASE)
        self._found: dict[str, list[RequestEvent]] = {}
        self._mentions: list[RequestEvent] = []
        #: The last event of each source and compose service, while it may go on.
        self._open: dict[tuple[str, str | None], RequestEvent] = {}
        self._count = 0

    def look_at(self, entry: LogEntry) -> None:
        if any(spelling in entry.raw for spelling in self._spellings):
            self._take(entry)
        elif self._open:
            self._continue(entry)

    def chosen(self) -> tuple[str, list[LogEntry]]:
        """The one id that fits and its events. Raises UsageError when there is none, or more than one."""
        names = sorted(self._found)
        if self.wanted in self._found:
            names = [self.wanted]
        if len(names) > 1:
            more = ", ..." if len(names) > _MAX_CANDIDATES else ""
            raise UsageError(
                f"several requests begin with {self.wanted}: {', '.join(names[:_MAX_CANDIDATES])}{more}",
                remedy="give more characters of the id",
            )
        name = names[0] if names else self.wanted
        events = [*self._found.get(name, ()), *self._mentions]
        if not events:
            raise UsageError(
                f"no line carries an id that begins with {self.wanted}",
                remedy="`opskit logs --tag REQUEST` shows the requests with their ids",
            )
        return name, [event.joined() for event in sorted(events, key=lambda event: event.number)]

    def _take(self, entry: LogEntry) -> None:
        service, line = without_prefix(entry.raw)
        place = (entry.source, service)
        self._open.pop(place, None)
        self._count += 1
        event = RequestEvent(self._count, [entry], b"Traceback (most recent call last)" in line)
        names = self._names(entry.raw)
        for name in names:
            # Of more ids than can be told only the names matter, and those of the exact one.
            if name in self._found or len(self._found) <= _MAX_CANDIDATES or name == self.wanted:
                self._found.setdefault(name, []).append(event)
                self._open[place] = event
        if not names and self._word.search(entry.raw):
            self._mentions.append(event)
            self._open[place] = event

    def _names(self, raw: bytes) -> set[str]:
        """The ids in a line that begin as wanted: what a field says, and every UUID."""
        names = {found.lower().decode() for found in UUID.findall(raw)}
        said = facts(raw).correlation_id
        if said is not None:
            names.add(said.lower())
        return {name for name in names if name.startswith(self.wanted)}

    def _continue(self, entry: LogEntry) -> None:
        """A line without the id joins the event that it continues, or closes it."""
        service, line = without_prefix(entry.raw)
        event = self._open.get((entry.source, service))
        if event is None:
            return
        if continues(line, in_traceback=event.in_traceback):
            event.in_traceback = event.in_traceback or opens_traceback(line)
            event.entries.append(entry)
        else:
            del self._open[entry.source, service]
