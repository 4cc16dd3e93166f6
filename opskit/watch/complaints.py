"""Errors as the logs tell of them: bounded, and equal ones gathered, however fast they come."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from opskit.logs.record import Facts, Level, LogEntry
from opskit.logs.shape import shape
from opskit.text import utc

#: How many are told one by one between two looks; the rest is counted.
EACH_ROUND = 100
KEPT = 200
#: So far back an equal complaint is looked for, to be counted instead of shown again.
_NEAR = 8
_TEXT_CHARS = 1000


@dataclass(frozen=True, slots=True)
class Complaint:
    """One error of one source. `count` tells how many equal ones it stands for; `at` is of the latest.

    `logged_at` is the time that the log itself gives, which may be of another clock or zone.
    """

    at: float
    logged_at: float | None
    source: str
    level: Level | None
    tag: str | None
    correlation_id: str | None
    text: str
    shape: str
    count: int = 1

    def as_json(self) -> dict[str, Any]:
        return {
            "source": self.source,
            "logged_at": None if self.logged_at is None else utc(self.logged_at),
            "level": self.level,
            "tag": self.tag,
            "correlation_id": self.correlation_id,
            "message": self.text,
        }


class Complaints:
    """The latest ones, and how many there were."""

    def __init__(self) -> None:
        self._kept: deque[Complaint] = deque(maxlen=KEPT)
        self._room = EACH_ROUND
        self.total = 0
        self.not_shown = 0

    def take(self, entry: LogEntry, said: Facts, at: float) -> Complaint | None:
        """One error; None when it is only counted because too many came since the last round."""
        self.total += 1
        if self._room == 0:
            self.not_shown += 1
            return None
        self._room -= 1
        text = complaint_text(entry, said)
        folded = shape(text.encode("utf-8", "replace"))
        logged_at = said.at if said.at is not None else entry.at
        new = Complaint(at, logged_at, entry.source, said.level, said.tag, said.correlation_id, text, folded)
        self._keep(new)
        return new

    def next_round(self) -> None:
        """Another so many may be told one by one."""
        self._room = EACH_ROUND

    def latest(self) -> Iterator[Complaint]:
        """The newest first."""
        return reversed(self._kept)

    def _keep(self, new: Complaint) -> None:
        for back in range(1, min(_NEAR, len(self._kept)) + 1):
            old = self._kept[-back]
            if (old.source, old.tag, old.shape) == (new.source, new.tag, new.shape):
                del self._kept[-back]
                self._kept.append(replace(new, count=old.count + 1))
                return
        self._kept.append(new)


def complaint_text(entry: LogEntry, said: Facts) -> str:
    """One line: what was said, and of a traceback its last line, which names the error."""
    fields = said.fields if said.tag is not None else {}
    text = said.message
    if said.tag == "FALLBACK":
        origin, goal = (_place(fields, end) for end in ("from", "to"))
        text = f"{origin} > {goal}: {fields.get('why') or '?'}" if origin and goal else text
    elif fields:
        where = _place(fields, "")
        what = [fields.get("fault") or fields.get("verdict"), fields.get("detail")]
        text = ": ".join(str(part) for part in (where, *what) if part) or text
    last = entry.raw.rpartition(b"\n")[2] if b"Traceback (most recent" in entry.raw else b""
    if last:
        text = f"{text}: {last.decode('utf-8', 'replace').strip()}"
    return " ".join(text[: _TEXT_CHARS * 2].split())[:_TEXT_CHARS]


def _place(fields: Any, end: str) -> str:
    prefix = f"{end}_" if end else ""
    model, node = fields.get(f"{prefix}model"), fields.get(f"{prefix}node")
    return " on ".join(str(part) for part in (model, node) if part)
