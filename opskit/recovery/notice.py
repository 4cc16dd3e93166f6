"""A notice to people that recovery gave up, helped, or needs them; and notices that reached nobody."""

import contextlib
import socket
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from opskit.records import Record, asdict, replace
from opskit.recovery.budget import Level, Moment
from opskit.recovery.memory import understood
from opskit.result import SCHEMA_VERSION
from opskit.text import utc

#: The fact of the memory that keeps what reached nobody, and how many of them.
_FACT, _KEPT = "notices_failed", 20
_TITLES = {
    Level.CRITICAL: "opskit has given up on {}",
    Level.REMINDER: "{} is still broken, and opskit has given up on it",
    Level.ESCALATION: "{} needs a person",
    Level.RECOVERED: "{} is well again",
    Level.REPAIRED: "{} was repaired",
    Level.TEST: "this is a test",
}


class Notice(Record):
    """One message. `text` is whole sentences, `remedy` what a person types next; `at` is RFC 3339 in UTC."""

    level: Level
    target: str
    title: str
    text: str
    at: str
    host: str
    run: str
    remedy: str | None = None

    @classmethod
    def of(cls, level: Level, target: str, text: str, remedy: str | None, *, at: float, run: str) -> "Notice":
        """Return a notice of this machine; `at` is in seconds since the epoch."""
        title = _TITLES[level].format(target)
        return cls(level, target, title, text, utc(at), socket.gethostname(), run, remedy)

    @property
    def subject(self) -> str:
        """The notice in two words: the same subject twice is the same news."""
        return f"{self.level.value} {self.target}"

    def as_json(self) -> dict[str, Any]:
        return {"schema_version": SCHEMA_VERSION, **asdict(self)}


#: Sends a notice wherever the configuration says. Never raises, and ends in bounded time.
Tell = Callable[[Notice], Awaitable[None]]


class Undelivered(Record):
    """A notice that reached nobody; `first` and `last` are seconds since the epoch."""

    channel: str
    about: str
    why: str
    first: Moment
    last: Moment
    times: int = 1


def recorded(facts: Mapping[str, Any]) -> list[Undelivered]:
    """Return what the memory keeps, oldest first; what cannot be understood is left out."""
    content = facts.get(_FACT)
    notices = []
    for entry in content if isinstance(content, list) else ():
        with contextlib.suppress(ValueError):
            notices.append(understood(entry, Undelivered))
    return notices


def record(facts: dict[str, Any], failure: Undelivered) -> None:
    """Add a failure to the memory; the same one again counts, and the newest are kept."""
    others = []
    for notice in recorded(facts):
        if (notice.channel, notice.about, notice.why) == (failure.channel, failure.about, failure.why):
            first, times = min(notice.first, failure.first), notice.times + failure.times
            failure = replace(failure, first=first, times=times)
        else:
            others.append(notice)
    facts[_FACT] = [asdict(notice) for notice in [*others, failure][-_KEPT:]]
