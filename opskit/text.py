"""Amounts, times, lists and names in the words of people, one way for each. Pure."""

import re
from collections.abc import Collection, Iterable, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any, cast


class _LazyPattern:
    def __init__(self, pattern: str, flags: re.RegexFlag) -> None:
        self._source = pattern, flags

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(re.compile(*self._source), name)
        setattr(self, name, attribute)
        return attribute


def lazy_pattern(pattern: str, flags: re.RegexFlag = re.NOFLAG) -> re.Pattern[str]:
    """Return a regular expression that is compiled when it is first used.

    The long ones of answers and error texts take 20 ms, which a command that needs none does not pay.
    """
    return cast("re.Pattern[str]", _LazyPattern(pattern, flags))


_SIZE_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")
#: How much of the last lines of a program is shown.
_LAST_CHARS = 400
_SPAN_UNITS = (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1))

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}
_DURATION_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?(ms|[smhdw])", re.ASCII)
_DURATION = re.compile(rf"(?:{_DURATION_PART.pattern} ?)+", re.ASCII)
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?(?:([kmgt])(i?))?b", re.IGNORECASE | re.ASCII)

#: What Markdown takes for markup.
_MARKS = frozenset("\\`*_{}[]()<>#|~!&$")
#: Seconds since the epoch that a log can mean: up to the year 5138. What is outside is no time.
EARLIEST_S, LATEST_S = 0.0, 1e11
#: Smaller numbers than this (1973) count something else, such as the seconds since a start.
_EARLIEST_NUMBER_S = 1e8
_EPOCH_UNITS = (1, 1e3, 1e6, 1e9)


def size(size_bytes: float | None, *, precise: bool = False) -> str:
    """Write a size in three digits: `812 B`, `1.5 KiB`, `324 MiB`; `?` for None.

    `precise` writes one decimal above bytes whatever the size is, for amounts that are compared: `964.4 GiB`.
    """
    if size_bytes is None:
        return "?"
    value, unit = float(size_bytes), 0
    while value >= 1000 and unit < len(_SIZE_UNITS) - 1:
        value, unit = value / 1024, unit + 1
    decimals = 1 if unit and (precise or value < 100) else 0
    return f"{value:.{decimals}f} {_SIZE_UNITS[unit]}"


def size_bytes(text: str) -> int | None:
    """Read a size: `KiB` is 1024 bytes, `kB` is 1000. None when `text` is no size."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        return None
    factor: int = (1024 if match[3] else 1000) ** _POWERS[(match[2] or "").lower()]
    return round(float(match[1]) * factor)


def amount(text: str) -> float | None:
    """Return the number of a duration or a size, to compare with; None when `text` is neither."""
    seconds = duration_s(text)
    return seconds if seconds is not None else size_bytes(text)


def span(seconds: float, *, rounded: bool = False) -> str:
    """Write a duration in at most two units, rounded down: `45 s`, `1 min 30 s`, `3 h 5 min`, `2 d 4 h`.

    A negative duration is `0 s`. `rounded` writes one unit, to the nearest, of which there are at least two:
    `90 s`, `3 min`, `30 h`.
    """
    if rounded:
        name, unit = next((unit for unit in _SPAN_UNITS if seconds >= 2 * unit[1]), _SPAN_UNITS[-1])
        return f"{max(0.0, seconds) / unit:.0f} {name}"
    whole = max(0, int(seconds))
    for (name, unit), (smaller_name, smaller_unit) in pairwise(_SPAN_UNITS):
        if whole >= unit:
            smaller = whole % unit // smaller_unit
            # Seconds tell something only within the first two minutes.
            shows_smaller = smaller and (smaller_name != "s" or whole < 120)
            return f"{whole // unit} {name}" + (f" {smaller} {smaller_name}" if shows_smaller else "")
    return f"{whole} s"


def duration_s(text: str) -> float | None:
    """Read a duration: `500ms`, `2s`, `1m30s`, `2 h`, `1w`. None for a bare number and for other text."""
    word = text.strip()
    if not _DURATION.fullmatch(word):
        return None
    return sum(float(number) * _SECONDS[unit] for number, unit in _DURATION_PART.findall(word))


def epoch_s(number: object) -> float | None:
    """Seconds since the epoch of a number of s, ms, µs or ns since then, told apart by its size.

    None for every other number, and for what is no number.
    """
    if isinstance(number, bool) or not isinstance(number, int | float):
        return None
    for unit in _EPOCH_UNITS:
        if _EARLIEST_NUMBER_S * unit <= number < LATEST_S * unit:
            return number / unit
    return None


def utc(at: float) -> str:
    """`2026-11-21T09:30:00.000Z` of seconds since the epoch."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """Write `1 check`, `2 checks`; `plural` is for a noun that does not take an s."""
    return f"{number} {noun if number == 1 else plural or f'{noun}s'}"


def last_lines(text: str) -> str:
    """Return the last lines as one line, whole ones as far as they fit; of a longer one its two ends."""
    lines: list[str] = []
    for line in reversed([" ".join(line.split()) for line in text.splitlines() if line.strip()]):
        room = _LAST_CHARS - sum(len(other) + 1 for other in lines)
        if lines and len(line) > room:
            break
        half = (_LAST_CHARS - 3) // 2
        lines.insert(0, line if len(line) <= room else f"{line[:half]} … {line[-half:]}")
    return " ".join(lines)


def shortened(text: str, limit: int) -> str:
    """Return the beginning of a text, with `…` where more follows."""
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def listing(items: Collection[str], limit: int = 4, *, separator: str = ", ") -> str:
    """Join the first items and count the others: `a, b, c, d and 2 more`."""
    hidden = len(items) - limit
    shown = separator.join(list(items)[:limit])
    return f"{shown} and {hidden} more" if hidden > 0 else shown


def and_more(hidden: int, hint: str = "") -> str:
    """Write ` (and 3 more)` behind the first of several problems; nothing when it is the only one.

    `hint` names what shows the others: ` (and 3 more: opskit config check)`.
    """
    return f" (and {hidden} more{f': {hint}' if hint else ''})" if hidden > 0 else ""


def markdown_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return the lines of a table of Markdown; foreign text in its cells cannot become markup."""
    lines = [columns, ["---"] * len(columns), *([markdown_text(cell) for cell in row] for row in rows)]
    return [f"| {' | '.join(line)} |" for line in lines]


def markdown_text(text: str) -> str:
    """Return foreign text as plain text on one line of Markdown, inside a table too."""
    return "".join(f"\\{char}" if char in _MARKS else char for char in printable(text))


def printable(text: str) -> str:
    """Return foreign text on one line without control characters: a terminal obeys them."""
    return "".join(char if char.isprintable() else " " for char in text)


def near_names(name: str, known: Iterable[str]) -> list[str]:
    """Return the known names that look most like a mistyped one, the nearest first."""
    import difflib

    return difflib.get_close_matches(name, sorted(set(known)), 3, 0.5)


def did_you_mean(name: str, known: Collection[str], *, limit: int = 3, quote: str = "") -> str:
    """Write `did you mean a or b?`; `known: a, b, c` when no known name is near."""
    near = near_names(name, known)[:limit]
    if not near:
        return f"known: {', '.join(sorted(known)) or 'none'}"
    return f"did you mean {' or '.join(f'{quote}{known_name}{quote}' for known_name in near)}?"
