"""Reads how recovery stands: the state folder, and the scheduler where it matters. Changes nothing."""

from collections.abc import Callable
from pathlib import Path

from opskit.config.schema import Config
from opskit.errors import StateError
from opskit.recovery import audit, memory, pauses
from opskit.recovery.last_run import last_run
from opskit.recovery.pauses import Pause
from opskit.recovery.status import (
    DEFAULT_INTERVAL_S,
    MISSED,
    Overview,
    Schedule,
    standings,
    undelivered_lately,
)

#: How many repairs are shown.
REPAIRS = 5


def overview(config: Config, folder: Path, now: float, ask: Callable[[], Schedule | None]) -> Overview:
    """How recovery stands at `now`.

    `ask` tells what the scheduler says; it is called only when the last run is so old, or so unknown, that
    the answer matters: whoever looks often gets an answer at once.
    """
    troubles: list[tuple[str, str]] = []
    remembered, damage = memory.load(folder, keep=True)
    if damage is not None:
        troubles.append((damage, "`opskit recover` sets the file aside and begins anew"))
    held: dict[str, Pause] = {}
    try:
        held = pauses.read(folder, now)
    except StateError as error:
        troubles.append((error.message, error.remedy))
    last = last_run(remembered.last_run)
    recent = last is not None and now - last.ended <= MISSED * DEFAULT_INTERVAL_S
    return Overview(
        now,
        last,
        standings(remembered, last, held, config.recovery, now),
        tuple(held.values()),
        undelivered_lately(remembered, now),
        tuple(audit.last_repairs(folder, REPAIRS)),
        None if recent else ask(),
        tuple(troubles),
    )
