"""Lines of a file: how many there are, which contain a text, and which tell of an error. Pure."""

import errno
import os
import re
from collections import Counter

from opskit.logs.record import facts
from opskit.records import Record

_ERRORS = frozenset({"error", "critical"})
#: `KeyError: 'x'`, the last line of a traceback, is what went wrong; what stands above is where.
_EXCEPTION = re.compile(r"(?:\w+\.)*\w*(?:Error|Exception|Interrupt)\b(?::|$)")
#: What the system says of a call that failed: "No space left on device", "Connection refused", ...
_SYSTEM = re.compile(
    "|".join(re.escape(os.strerror(code)) for code in errno.errorcode if " " in os.strerror(code)),
    re.IGNORECASE,
)
_FAILING = re.compile(
    r"\b(?:error|fail(?:ed|ure|s)?|fatal|panic|exception|cannot|can't|could not|unable to|denied|refused|"
    r"timed out|aborted|killed|ошибк\w*|не удалось|отказ\w*|сбой)\b",
    re.IGNORECASE,
)


class LineCounts(Record):
    """`found` are the lines with the text, by number; `times` counts it, also twice in a line.

    `levels` are those that the lines name.
    """

    lines: int
    found: tuple[tuple[int, str], ...]
    times: int
    levels: Counter[str]


def count_lines(data: bytes, pattern: str = "") -> LineCounts:
    """Search for a text, in which capitals do not count; without one for what tells most of an error."""
    lines = [line.decode("utf-8", "replace") for line in data.splitlines()]
    levels = [facts(line.encode()).level for line in lines]
    wanted = pattern.casefold()
    if wanted:
        weights = [line.casefold().count(wanted) for line in lines]
        least = 1
    else:
        weights = [error_weight(line, level) for line, level in zip(lines, levels, strict=True)]
        least = max(weights, default=0) or 1
    found = tuple(
        (number, line)
        for number, (line, weight) in enumerate(zip(lines, weights, strict=True), 1)
        if weight >= least
    )
    named = Counter(level for level in levels if level is not None)
    return LineCounts(len(lines), found, sum(weights) if wanted else len(found), Counter(named))


def error_weight(line: str, level: str | None) -> int:
    """Return 2 for a line that is an error, 1 for one that only tells of one, else 0."""
    if level in _ERRORS or _EXCEPTION.match(line) or (level is None and _SYSTEM.search(line)):
        return 2
    return int(level is None and _FAILING.search(line) is not None)
