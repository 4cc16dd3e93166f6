"""Times as people say them: `45 s`, `12 min`, `3 h 5 min`, `2 d 4 h`. Pure."""

from datetime import datetime
from itertools import pairwise

_UNITS = (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1))


def span(seconds: float) -> str:
    """At most two units, rounded down; what is negative is nothing."""
    left = max(0, int(seconds))
    for (name, size), (smaller, part) in pairwise(_UNITS):
        if left >= size:
            more = left % size // part
            # Seconds are news only within the first two minutes.
            told = more and (smaller != "s" or left < 120)
            return f"{left // size} {name} {more} {smaller}" if told else f"{left // size} {name}"
    return f"{left} s"


def moment(at: float, now: float) -> str:
    """The time of day here, with its date unless that is today's; words for what no calendar has."""
    try:
        there, here = datetime.fromtimestamp(at).astimezone(), datetime.fromtimestamp(now).astimezone()
    except (ValueError, OverflowError, OSError):
        return "a time out of the calendar"
    return there.strftime("%H:%M:%S" if there.date() == here.date() else "%Y-%m-%d %H:%M:%S")
