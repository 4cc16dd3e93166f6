"""Lines of a file: how many there are, which contain a text, and which tell of an error. Pure."""

import errno
import os
import re
import time
from collections import Counter

from opskit.logs.record import facts
from opskit.records import Record

_ERRORS = frozenset({"error", "critical"})
#: `KeyError: 'x'`, the last line of a traceback, is what went wrong; what stands above is where.
_EXCEPTION = re.compile(r"(?:\w+\.)*\w*(?:Error|Exception|Interrupt)\b(?::|$)")
#: What the system says of a call that failed: "No space left on device", "Connection refused", ...
_SYSTEM = re.compile(
    "|".join(re.escape(os.strerror(code)) for code in errno.errorcode if " " in os.strerror(code))
    + r"|unexpectedly (?:closed|ended|stopped|terminated|exited)",
    re.IGNORECASE,
)
_HEADING = "Traceback (most recent call last):"
_CLOCK = re.compile(r"(?<!\d)\d\d:\d\d(?::\d\d)?(?!\d)")
_FAILING = re.compile(
    r"\b(?:error|fail(?:ed|ure|s)?|fatal|panic|exception|cannot|can't|could not|unable to|denied|refused|"
    r"timed out|aborted|killed|ошибк\w*|не удалось|отказ\w*|сбой)\b",
    re.IGNORECASE,
)


class LineCounts(Record):
    """`found` are the lines with the text, by number; `times` counts it, also twice in a line.

    `levels` are the levels that the lines name, `one_day`: they have a time, all of one day.
    """

    lines: int
    found: tuple[tuple[int, str], ...]
    times: int
    levels: Counter[str]
    one_day: bool = False


def count_lines(data: bytes, pattern: str = "", after: str = "", before: str = "") -> LineCounts:
    """Search for a text, in which capitals do not count; without one for what tells most of an error.

    Only lines from `after` until `before` are counted, times of a day; a line without a time has that of the
    line before it.
    """
    numbered = list(enumerate((line.decode("utf-8", "replace") for line in data.splitlines()), 1))
    clock = [""]
    if after or before:
        span = [text.zfill(8 if text.count(":") > 1 else 5) for text in (after, before or "24:00")]
        numbered = [item for item in numbered if _is_within(clock, item[1], *span)]
    lines = [line for _, line in numbered]
    read = [facts(line.encode()) for line in lines]
    levels = [line_facts.level for line_facts in read]
    days = {time.localtime(line_facts.at)[:3] for line_facts in read if line_facts.at is not None}
    wanted = pattern.casefold()
    if wanted:
        weights = [line.casefold().count(wanted) for line in lines]
        least = 1
    else:
        weights = [error_weight(line, level) for line, level in zip(lines, levels, strict=True)]
        least = max(weights, default=0) or 1
    found = tuple(item for item, weight in zip(numbered, weights, strict=True) if weight >= least)
    named = Counter(level for level in levels if level is not None)
    return LineCounts(
        len(lines),
        found,
        sum(weights) if wanted else len(found),
        Counter(named),
        bool(clock[0]) and len(days) < 2,
    )


def _is_within(clock: list[str], line: str, after: str, before: str) -> bool:
    """Tell whether a line is of a time; `clock` holds the time of the line before, and gets that of this."""
    if match := _CLOCK.search(line):
        clock[0] = match[0]
    return bool(clock[0]) and after <= clock[0] and clock[0][: len(before)] <= before


def error_weight(line: str, level: str | None) -> int:
    """Return 2 for a line that is an error, 1 for one that only tells of one, else 0."""
    if line.endswith(_HEADING):
        return 1
    if level in _ERRORS or _EXCEPTION.match(line) or (level is None and _SYSTEM.search(line)):
        return 2
    return int(level in (None, "warning") and _FAILING.search(line) is not None)
