"""Waiting out the times at which Docker cannot be reached."""

import asyncio
from collections.abc import Callable

_BACK_OFF_S = (0.1, 0.25, 0.5, 1.0, 2.0, 5.0)


def back_off_s(tries: int) -> float:
    """How long to wait after so many tries in vain."""
    return _BACK_OFF_S[min(tries, len(_BACK_OFF_S) - 1)]


class Outage:
    """Tells of the beginning and of the end of an outage, once each, and waits longer with each try."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self.had_connection = False
        self._tell = tell
        self._lasts = False
        self._tries = 0

    def connected(self) -> None:
        """Docker answers."""
        self.had_connection = True
        if self._lasts:
            self._lasts = False
            self._tell("connected to Docker again")

    def progressed(self) -> None:
        """Docker brought something new: the next wait is short again."""
        self._tries = 0

    async def wait(self, why: str | None = None) -> None:
        """Wait until the next try; with `why` Docker was lost."""
        if why is not None and not self._lasts:
            self._lasts = True
            self._tell(why)
        await asyncio.sleep(back_off_s(self._tries))
        self._tries += 1
