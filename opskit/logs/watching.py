"""Docker's events of the containers that bear one name, through every loss of the connection."""

import asyncio
from collections.abc import Callable

from opskit.errors import OpskitError
from opskit.logs.lifecycle import ACTIONS
from opskit.logs.outage import back_off_s
from opskit.system.docker import Docker
from opskit.system.docker_records import DockerEvent


async def watch(
    docker: Docker, name: str, *, happened: Callable[[DockerEvent], None], connected: Callable[[], None]
) -> None:
    """Call `happened` for each event of `name`, and `connected` whenever events may have been missed.

    Works until cancelled. What happens while Docker cannot be reached is told afterwards, if it remembers.
    """
    filters = {"container": [name], "event": list(ACTIONS)}
    since_ns: int | None = None
    tries = 0
    while True:
        try:
            async with docker.events(filters, since_ns=since_ns) as events:
                tries = 0
                since_ns = since_ns or events.began_ns
                connected()
                async for event in events:
                    since_ns = event.at_ns + 1
                    # Docker compares only the beginning of a name.
                    if event.name == name:
                        happened(event)
        except OpskitError:
            # Whoever reads the log meets the same trouble, and tells of it.
            await asyncio.sleep(back_off_s(tries))
            tries += 1
