"""How often the job runs: so that every hour looks the same, in whole minutes that divide one. Pure."""

from datetime import datetime, timedelta

from opskit.errors import UsageError
from opskit.quantity import duration_s

#: Only calendar times survive the sleep of a Mac (ops facts 10), so an hour is cut into equal parts.
MINUTES = tuple(minutes for minutes in range(1, 61) if 60 % minutes == 0)
DEFAULT = 5


def minutes_of(text: str) -> int:
    """`5m`, `300s` and `1h` as minutes. Raises UsageError, with the list, for what divides no hour."""
    seconds = duration_s(text)
    if seconds is None or seconds % 60 or int(seconds) // 60 not in MINUTES:
        listed = ", ".join("1h" if minutes == 60 else f"{minutes}m" for minutes in MINUTES)
        raise UsageError(
            f"--every {text!r} does not divide an hour into equal parts", remedy=f"use one of: {listed}"
        )
    return int(seconds) // 60


def slots(every: int) -> tuple[int, ...]:
    """The minutes of each hour at which the job starts."""
    return tuple(range(0, 60, every))


def next_slot(every: int, now: datetime) -> datetime:
    """The first start after `now`, whose zone decides: some zones are half an hour off the others."""
    begun = now.replace(second=0, microsecond=0)
    return begun + timedelta(minutes=every - begun.minute % every)
