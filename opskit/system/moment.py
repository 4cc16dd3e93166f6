"""Moments: as they are written (RFC 3339 in UTC, to the millisecond), and as logs count them."""

from datetime import UTC, datetime

#: Seconds since the epoch that a log can mean: up to the year 5138. What is outside is no time.
EARLIEST_S, LATEST_S = 0.0, 1e11
#: Smaller numbers than this (1973) count something else, such as the seconds since a start.
_EARLIEST_NUMBER_S = 1e8
_UNITS = (1, 1e3, 1e6, 1e9)


def epoch_s(number: object) -> float | None:
    """Seconds since the epoch of a number of s, ms, µs or ns since then, told apart by its size.

    None for every other number, and for what is no number.
    """
    if isinstance(number, bool) or not isinstance(number, int | float):
        return None
    for unit in _UNITS:
        if _EARLIEST_NUMBER_S * unit <= number < LATEST_S * unit:
            return number / unit
    return None


def utc(at: float) -> str:
    """`2026-11-21T09:30:00.000Z` of seconds since the epoch."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
