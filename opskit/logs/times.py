"""Times as log lines write them: ISO 8601 and its relatives, epoch numbers, syslog, klog, access logs."""

import re
import time as clock
from datetime import datetime
from functools import lru_cache
from typing import NamedTuple

from opskit.text import EARLIEST_S, LATEST_S, epoch_s

#: How far into a line its time, level and tag are looked for.
HEAD = 400
#: So many lines without a time are stepped over.
_BACK = 200
#: Clocks of other machines may be ahead by so much.
_AHEAD_S = 86_400.0
#: A written time, or a number under one of the names that JSON lines give it, which may stand in an object:
#: `"t":{"$date":{"$numberLong":"1777890030000"}}`.
_TIME = re.compile(
    rb"(\d{4}[-/]\d\d[-/]\d\d(?:[T ]| - )\d\d:\d\d):([0-5]\d(?:[.,]\d{1,9})?)\d*"
    rb"(?:\s?(Z\b|UTC\b|GMT\b|[+-]\d\d:?\d\d(?!\d)))?"
    rb'|"(?:ts?|time|@?timestamp|instant|(?:observedT|t)imeUnixNano)"\s*:\s*'
    rb'(?:\{\s*"[$\w]{1,12}"\s*:\s*){0,2}"?'
    rb"(\d{10}(?:\d{3}){0,3}(?:\.\d+)?|\d\.\d+[eE]\+?\d\d?)(?![\w.-])"
)
_MONTHS = (b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec")
# Sought only where no other time is: syslog's `May  4 10:20:30` and ctime's with a year behind it, the
# `May 4, 2026 10:20:30 PM` of Java, klog's `E0504 10:20:30.5`, the access logs' `04/May/2026:10:20:30 +0200`
# (Python's http.server: a blank, no zone; Redis: `04 May 2026 10:20:30.5`), rich's `[05/04/26 10:20:30]`,
# Chroma's `[04-05-2026 10:20:30]`, vLLM's `INFO 05-04 10:20:30`, logfmt's `ts=1777890030`, a number that
# begins a line.
_RARE_TIME = re.compile(
    rb"\b(?:(?P<name>%b) (?P<day>[ \d]\d) (?P<clock>\d\d:\d\d:\d\d(?:\.\d{1,9})?)(?: (?P<year>\d{4})\b)?"
    rb"|(?P<java_name>%b) (?P<java_day>\d\d?), (?P<java_year>\d{4}),? "
    rb"(?P<java_clock>\d\d?:\d\d:\d\d) (?P<half>[AP]M)"
    rb"|[DIWEF](?P<klog_month>\d\d)(?P<klog_day>\d\d) (?P<klog_clock>\d\d:\d\d:\d\d\.\d{1,9})"
    rb"|(?P<access_day>\d\d)[/ -](?P<access_name>%b)[/ -](?P<access_year>\d{4})[: ]"
    rb"(?P<access_clock>\d\d:\d\d:\d\d(?:\.\d{1,9})?)(?: (?P<zone>[+-]\d{4}))?"
    rb"|(?:DEBUG|INFO|WARNING|ERROR|CRITICAL) "
    rb"(?P<vllm_month>\d\d)-(?P<vllm_day>\d\d) (?P<vllm_clock>\d\d:\d\d:\d\d))"
    rb"|\[(?P<chroma_day>\d\d)-(?P<chroma_month>\d\d)-(?P<chroma_year>\d{4}) "
    rb"(?P<chroma_clock>\d\d:\d\d:\d\d)\]"
    rb"|\[(?P<rich_month>\d\d)/(?P<rich_day>\d\d)/(?P<rich_year>\d\d) (?P<rich_clock>\d\d:\d\d:\d\d)\]"
    rb'|(?:(?m:^)\[?|\b(?:ts|time|timestamp)="?)'
    rb"(?P<number>1\d{9}(?:\d{3}){0,3}(?:\.\d+)?)(?=[\s\]\"]|$)" % ((b"|".join(_MONTHS),) * 3)
)


def timestamp(text: bytes, start: int = 0, end: int = HEAD) -> float | None:
    """The first time in text[start:end] as epoch seconds; one without a zone is local."""
    time = written_time(text, start, end)
    return None if time is None else time.at


def zoned_timestamp(text: bytes) -> float | None:
    """The first time in a text, if it says its zone or counts from the epoch."""
    time = _TIME.search(text, 0, HEAD)
    return _epoch(time) if time is not None and (time[3] or time[4]) else None


class WrittenTime(NamedTuple):
    """Where a time stands, and its epoch seconds; None for a time that does not exist."""

    start: int
    end: int
    at: float | None


def written_time(text: bytes, start: int = 0, end: int = HEAD) -> WrittenTime | None:
    """The first time in text[start:end]; None when there is none."""
    time, epoch = _TIME.search(text, start, end), _epoch
    if time is None:
        time, epoch = _RARE_TIME.search(text, start, end), _rare_epoch
    return None if time is None else WrittenTime(time.start(), time.end(), epoch(time))


def last_timed(block: bytes, start: int, end: int) -> tuple[int, float] | None:
    """Where the last line of a stretch that has a time begins, and that time; sought not too far back."""
    position = end
    for _ in range(_BACK):
        begin = block.rfind(b"\n", start, position - 1) + 1 or start
        at = timestamp(block, begin, min(begin + HEAD, position))
        if at is not None:
            return begin, at
        if begin <= start:
            break
        position = begin
    return None


def _epoch(time: re.Match[bytes]) -> float | None:
    minute, second, zone, number = time.groups()
    if number is not None:
        return epoch_s(float(number))
    begin_s = minute_s(minute.decode(), zone)
    return None if begin_s is None else begin_s + float(second.replace(b",", b"."))


def _rare_epoch(time: re.Match[bytes]) -> float | None:
    parts = {name.rpartition("_")[2]: text for name, text in time.groupdict().items() if text is not None}
    if "number" in parts:
        return epoch_s(float(parts["number"]))
    month = int(parts["month"]) if "month" in parts else _MONTHS.index(parts["name"]) + 1
    hour, minute, second = parts["clock"].decode().split(":")
    if "half" in parts:
        hour = str(int(hour) % 12 + 12 * (parts["half"] == b"PM"))
    year = int(parts["year"]) if "year" in parts else datetime.now().astimezone().year
    day = f"{month:02d}-{int(parts['day']):02d}T{int(hour):02d}:{minute}"
    begin_s = minute_s(f"{year if year >= 100 else 2000 + year}-{day}", parts.get("zone"))
    if "year" not in parts and (begin_s is None or begin_s > clock.time() + _AHEAD_S):
        # Without a year it is the latest day of that name, which may be in the year before.
        begin_s = minute_s(f"{year - 1}-{day}")
    return None if begin_s is None else begin_s + float(second)


@lru_cache(maxsize=4096)
def minute_s(minute: str, zone: bytes | None = None) -> float | None:
    """The epoch seconds of `2026-03-01T12:30`, local without a zone.

    Lines that follow each other mostly share their minute.
    """
    minute = minute.replace(" - ", "T").replace("/", "-")
    try:
        if not zone:
            begin_s = datetime.fromisoformat(minute).timestamp()
        else:
            begin_s = datetime.fromisoformat(f"{minute}:00+00:00").timestamp()
    except (ValueError, OverflowError, OSError):
        return None
    if zone and zone[:1] in b"+-":
        digits = zone[1:].replace(b":", b"")
        offset_s = int(digits[:2]) * 3600 + int(digits[2:]) * 60
        begin_s -= offset_s if zone[:1] == b"+" else -offset_s
    return begin_s if EARLIEST_S <= begin_s < LATEST_S else None
