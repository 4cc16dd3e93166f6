"""One event at a time: a line that may be an error, a warning or tagged is read and counted.

A level is read as in `record.facts`: of JSON from its fields, of text the first level word. Beyond that
logfmt's `level=warn` is understood, and a traceback is an error of its own unless it follows one.
"""

import json
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from opskit.logs.events import continues, opens_traceback
from opskit.logs.record import (
    LEVEL_KEYS,
    MESSAGE_KEYS,
    TIME_KEYS,
    Level,
    facts,
    first_of,
    json_time,
    level_of,
    without_prefix,
)
from opskit.logs.stats_counts import Counts
from opskit.logs.stats_tagged import Tagged
from opskit.logs.stats_timeline import ERRORS, Clock

#: Of a longer line only the head is looked at.
MAX_LINE = 1024 * 1024
MAX_TAGGED = 64 * 1024
HEAD = 400
#: `2026-03-01T12:30:15.250Z ` in front of our own tags.
_OUR_TIME = 25
TAGS = re.compile(rb"\[(LLM_(?:CALL|RESPONSE|ERROR|PARSE|CRASH)|REQUEST(?:_END)?|FALLBACK|EXECUTOR_INIT)\]")
TRACEBACK = b"Traceback (most recent call last)"
_LEVEL = re.compile(
    rb"(?:^|[\s\[|:\"=<(])(TRACE|DEBUG|INFO|NOTICE|WARN|WARNING|ERR|ERROR|FATAL|CRITICAL|CRIT|PANIC)"
    rb"(?=$|[\s\]|:,;\">)!-])|(?:^|[\s{,])(?:level|lvl|severity)=\"?(\w+)"
)
_LOGFMT_MESSAGE = re.compile(rb'\b(?:msg|message|error|err)=("(?:[^"\\]|\\.)*"|\S+)')
_EXCEPTION = re.compile(rb"[A-Za-z_][\w.]*(?::|\s*$)")
_GROUPED = re.compile(rb"[ |+]+([A-Za-z_][\w.]*: .*)")
#: What a line that continues an error can begin with.
_MAY_FOLLOW = (b" ", b"\t", b"T", b"D", b"C")
_AROUND = b" \t-:|]>)[\r"
_TRACE_LINES = 2000
_SHOWN = 500


class LineCounter:
    """Reads the lines that a scan has found in a block. `at` of `read` is for lines without a time."""

    def __init__(self, counts: Counts) -> None:
        self._counts = counts
        self._tagged = Tagged(counts)
        self.clock = Clock()

    def read(self, block: bytes, start: int, end: int, sign: int, at: float | None, source: str) -> int:
        """Count the line at block[start:end], `end` at its LF; `sign` is the first place that tells of it.

        Gives the offset behind the lines read: a traceback is read together with the error that it follows.
        """
        tag = TAGS.search(block, sign, min(end, start + HEAD))
        if tag is not None:
            self._read_tagged(block, start, tag.start(), min(end, start + MAX_TAGGED), at, source)
            return end
        return self._read_plain(block, start, end, sign, at, source)

    def read_ours(self, block: bytes, start: int, tag: int, end: int, source: str) -> bool:
        """Count a line of our own form, the most frequent one; False when it is another."""
        if tag - start != _OUR_TIME:
            return False
        when = self.clock.stamp(block, start)
        return when is not None and self._tagged.read_ours(block, tag, end, when, source)

    def _read_tagged(
        self, block: bytes, start: int, tag: int, end: int, at: float | None, source: str
    ) -> None:
        said = facts(block[start:end])
        text = block[tag:end]
        when = at if said.at is None else said.at
        level, message = self._tagged.read(said, text, when, source)
        if level is not None:
            self._count(level, when, source, b"[%b] %b" % ((said.tag or "").encode(), message.strip()))

    def _read_plain(
        self, block: bytes, start: int, end: int, sign: int, at: float | None, source: str
    ) -> int:
        line, prefix = block[start : min(end, start + MAX_LINE)], b""
        if b"|" in line[:80]:
            whole = line
            line = without_prefix(whole)[1]
            prefix = whole[: len(whole) - len(line)]
        if TRACEBACK in line[:80] and line.lstrip(b" +|").startswith((TRACEBACK, b"Exception Group")):
            return self._read_event(block, start, end, prefix, ("error", b"", at), source)
        if line[:1] in (b" ", b"\t"):
            return end
        found = self._judged(line, max(0, sign - start - len(prefix)))
        if found is None:
            return end
        level, message, when = found
        head = (level, message, at if when is None else when)
        return self._read_event(block, end + 1, end, prefix, head, source)

    def _judged(self, line: bytes, sign: int) -> tuple[str, bytes, float | None] | None:
        """Level, message and time of an error or a warning, else None."""
        if line.startswith(b"{"):
            body = _object(line)
            if body is not None:
                level = level_of(_string(body, LEVEL_KEYS))
                if level not in ("warning", "error", "critical"):
                    return None
                return (
                    level,
                    _string(body, MESSAGE_KEYS).encode("utf-8", "replace"),
                    _json_time(body, self.clock),
                )
        # Nothing in front of the sign can be a level unless one of these words stands there.
        before = line[:sign]
        quiet = b"INFO" in before or b"DEBUG" in before or b"=" in before
        begin = 0 if quiet or b"TRACE" in before or b"NOTICE" in before else max(0, sign - 1)
        found = _LEVEL.search(line, begin, HEAD)
        if found is None:
            return None
        level = _word_level(found[1] or found[2])
        if level not in ("warning", "error", "critical"):
            return None
        if found[2]:
            said = _LOGFMT_MESSAGE.search(line)
            message = line[found.end() :] if said is None else said[1].strip(b'"')
        elif found.start() < 120:
            message = line[found.end() : found.end() + _SHOWN]
        else:
            message = line[:_SHOWN]
        return level, message.lstrip(_AROUND).rstrip(), self.clock(line)

    def _read_event(
        self,
        block: bytes,
        start: int,
        end: int,
        prefix: bytes,
        head: tuple[str, bytes, float | None],
        source: str,
    ) -> int:
        """Count an event; when a traceback follows at `start`, what it raised is the message."""
        level, message, at = head
        stop, raised = _trace(block, start, end, prefix, in_traceback=TRACEBACK in message[:100])
        self._count(level, at, source, raised or message or TRACEBACK)
        return stop

    def _count(self, level: str, at: float | None, source: str, message: bytes) -> None:
        counts = self._counts
        if level == "warning":
            counts.warnings.add(at, source, message)
        elif level in ("error", "critical"):
            counts.errors.add(at, source, message)
            if at is not None:
                counts.timeline.add(at, ERRORS)


def _json_time(body: Mapping[str, Any], clock: Clock) -> float | None:
    return json_time(first_of(body, TIME_KEYS), clock)


def _trace(block: bytes, start: int, end: int, prefix: bytes, *, in_traceback: bool) -> tuple[int, bytes]:
    """Where the lines that continue an event end, and the last line of the last traceback among them."""
    raised = b""
    after_frame = False
    at = start
    if block[at + len(prefix) : at + len(prefix) + 1] not in _MAY_FOLLOW:
        return end, raised
    for _ in range(_TRACE_LINES):
        stop = block.find(b"\n", at)
        stop = len(block) if stop < 0 else stop
        line = block[at : min(stop, at + _SHOWN)]
        if at >= len(block) or not line.startswith(prefix):
            break
        line = line[len(prefix) :]
        opens = opens_traceback(line) or line.lstrip(b" +|").startswith((TRACEBACK, b"Exception Group"))
        raises = in_traceback and after_frame and _EXCEPTION.match(line) is not None
        if not (opens or raises or continues(line, in_traceback=in_traceback)):
            break
        in_traceback = in_traceback or opens
        after_frame = line[:1] in (b" ", b"\t")
        if raises:
            raised = line.strip()
        elif in_traceback and not raised and (grouped := _GROUPED.match(line)) and b"|" in line[:6]:
            raised = grouped[1].strip()
        end, at = stop, stop + 1
    return end, raised


@lru_cache(maxsize=256)
def _word_level(word: bytes) -> Level | None:
    return level_of(word.decode())


def _object(line: bytes) -> Mapping[str, Any] | None:
    try:
        body = json.loads(line.decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return None
    return body if isinstance(body, dict) else None


def _string(body: Mapping[str, Any], keys: tuple[str, ...]) -> str:
    value = first_of(body, keys)
    return value if isinstance(value, str) else "" if value is None else str(value)
