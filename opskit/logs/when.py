"""Moments as people type them: `10m`, `2h30m`, `2026-11-20`, `2026-11-20T08:00`, `08:15`."""

import re
from datetime import datetime

from opskit.errors import UsageError
from opskit.text import EARLIEST_S, LATEST_S, duration_s

_CLOCK = re.compile(r"\d\d?:\d\d(:\d\d)?")


def moment(text: str, now: datetime) -> float:
    """Epoch seconds. A duration is that long before `now`, which must know its zone; so must not the text.

    A time of day is today's, or yesterday's when it is still to come. What is earlier or later than every log
    is the time of the earliest or the latest one. Raises UsageError.
    """
    return min(max(_moment(text, now), EARLIEST_S), LATEST_S)


def _moment(text: str, now: datetime) -> float:
    word = text.strip()
    ago_s = duration_s(word)
    if ago_s is not None:
        return now.timestamp() - ago_s
    try:
        if _CLOCK.fullmatch(word):
            today = datetime.fromisoformat(f"{now:%Y-%m-%d}T{word:0>5}").replace(tzinfo=now.tzinfo)
            return today.timestamp() if today <= now else today.timestamp() - 86_400
        parsed = datetime.fromisoformat(word)
    except (ValueError, OverflowError) as exc:
        raise UsageError(
            f"{text!r} is no time", remedy="write 10m, 2h30m, 2026-11-20, 2026-11-20T08:00 or 08:15"
        ) from exc
    return (parsed if parsed.tzinfo is not None else parsed.replace(tzinfo=now.tzinfo)).timestamp()
