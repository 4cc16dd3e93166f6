"""What the scheduler says of recovery, in the words of its status."""

import asyncio
from collections.abc import Mapping

from opskit.config.schema import Config
from opskit.recovery.status import DEFAULT_INTERVAL_S, Schedule
from opskit.schedule.status import status

#: A scheduler answers at once or not at all.
_ANSWER_S = 3.0


async def scheduled(config: Config, environ: Mapping[str, str]) -> Schedule | None:
    """None when the scheduler says nothing in time."""
    try:
        async with asyncio.timeout(_ANSWER_S):
            found = await status(config, environ, inside=False)
    except TimeoutError:
        return None
    return Schedule(
        found.scheduler or "scheduler",
        found.installed,
        DEFAULT_INTERVAL_S if found.every is None else found.every * 60.0,
        None if found.next_run is None else found.next_run.timestamp(),
        found.problem if found.installed else "",
        found.remedy,
    )
