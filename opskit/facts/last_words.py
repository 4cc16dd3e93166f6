"""The words with which a container ended: the last complaint of its log."""

from collections.abc import Iterable

from opskit.facts.container_survey import read_container_log
from opskit.facts.survey import Survey
from opskit.logs.record import LogEntry, facts, uncoloured

_LINES = 40
_READ_S = 4.0
#: Whoever shows it masks its secrets first, then shortens it: half a secret is not known as one.
_LAST_CHARS = 4000


async def read_last_words(survey: Survey, identifier: str, since: float | None) -> str:
    """Read why a container ended, as its log since then says: empty where it says nothing."""
    log = await read_container_log(await survey.docker(), identifier, _LINES, limit_s=_READ_S, since=since)
    return last_words(log.entries)


def last_words(entries: Iterable[LogEntry]) -> str:
    """Return the last complaint of a log; where none has that level, the last line with no level. Pure.

    Of a traceback that is its last line, of a line in JSON its message.
    """
    from opskit.logs.events import Grouper

    grouper = Grouper()
    events = [event for entry in entries for event in grouper.push(entry)] + grouper.flush()
    read = [(facts(event.raw), event) for event in events if event.raw.strip()]
    complaints = [pair for pair in read if (pair[0].level or pair[1].level) in ("error", "critical")]
    plain = [pair for pair in read if pair[0].level is None]
    for fact, event in reversed(complaints or plain or read):
        text = uncoloured(event.raw).decode("utf-8", "replace").rstrip()
        is_traceback = "Traceback (most recent call last)" in text
        line = text.rpartition("\n")[2] if is_traceback else text.partition("\n")[0]
        return " ".join((fact.message if fact.form == "json" else line).split())[:_LAST_CHARS]
    return ""
