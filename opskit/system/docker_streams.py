"""Replies of Docker that go on: a log, and the events."""

import asyncio
import json
import time
from collections import deque
from collections.abc import Awaitable, Callable
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Self

from opskit.errors import OpskitError
from opskit.system.docker_records import DockerEvent, happening

#: Gives the next bytes, none of them at the end; raises OpskitError(DOCKER_001) for a lost connection.
Read = Callable[[], Awaitable[bytes]]

#: Clocks nearer than this cannot be told apart by a time in whole seconds.
_SAME_S = 1.5


class LogStream:
    """The bytes of a log as they come in."""

    def __init__(self, read: Read) -> None:
        self._read = read

    async def piece(self, timeout_s: float | None = None) -> bytes | None:
        """The next bytes, none of them at the end; None when nothing came in time, which loses nothing.

        Raises OpskitError(DOCKER_001) for a lost connection.
        """
        try:
            async with asyncio.timeout(timeout_s):
                return await self._read()
        except TimeoutError:
            return None


class EventStream:
    """Events, one after another. `began_ns` is the time on the daemon's clock since which they are complete.

    Raises OpskitError(DOCKER_001) when the connection is lost or the daemon ends.
    """

    def __init__(self, read: Read, began_ns: int) -> None:
        self.began_ns = began_ns
        self._read = read
        self._rest = b""
        self._ready: deque[DockerEvent] = deque()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> DockerEvent:
        while not self._ready:
            piece = await self._read()
            if not piece:
                raise OpskitError("DOCKER_001", "the Docker daemon ended its events")
            *lines, self._rest = (self._rest + piece).split(b"\n")
            try:
                self._ready.extend(happening(json.loads(line)) for line in lines if line.strip())
            except (ValueError, KeyError, TypeError, AttributeError) as exc:
                raise OpskitError("DOCKER_001", "an event from Docker makes no sense") from exc
        return self._ready.popleft()


def daemon_clock_ns(date: str | None, now: float | None = None) -> int:
    """The time on the daemon's clock, not later than it is: our own unless its `Date` header contradicts.

    In a virtual machine that slept it may be far behind.
    """
    ours = time.time() if now is None else now
    try:
        theirs = parsedate_to_datetime(date or "").replace(tzinfo=UTC).timestamp()
    except ValueError:
        return int(ours * 1e9)
    return int((ours if abs(ours - theirs) < _SAME_S else theirs) * 1e9)
