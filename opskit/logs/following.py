"""Follows the containers that bear one name, one after another, through restarts, recreations and outages.

Two tasks work here: one reads the log and decides what comes next, one reads Docker's events. No decision
rests on an event alone: an event only wakes the reader, which then looks at the container itself.
"""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable
from dataclasses import replace

from opskit.errors import OpskitError
from opskit.logs.follow_buffer import FollowBuffer
from opskit.logs.frames import FrameError
from opskit.logs.lifecycle import note
from opskit.logs.outage import Outage
from opskit.logs.reading import ContainerReading, frames_of, try_out
from opskit.logs.resume import Position
from opskit.logs.source import Batch, Note
from opskit.logs.watching import watch
from opskit.system.docker import Docker, LogStream
from opskit.system.docker_records import DockerEvent, LoggedContainer, LogQuery

#: Small pieces are let gather for this long: at many lines a second one wake-up then reads dozens of them.
_GATHER_S = 0.02
_SMALL_BYTES = 16 * 1024
#: How long nothing may come before the connection is tried with a question of its own.
_IDLE_S = 15.0
#: How often a stopped container is looked at even when no event tells of it.
_LOOK_S = 5.0
#: A log that brings nothing for so long was empty: whatever comes after a break is new.
_EMPTY_S = 1.0
_NO_DAEMON = "DOCKER_001"
_NO_CONTAINER = "DOCKER_002"


class Follower:
    """One follow of one name. Use `batches`, and `aclose` whatever happens."""

    def __init__(
        self,
        docker: Docker,
        shown: str,
        container: LoggedContainer,
        reading: ContainerReading,
        *,
        stays: bool = True,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._docker = docker
        self._shown = shown
        self._name = container.name
        self._container = container
        self._readings = {container.id: reading}
        self._stays = stays
        self._now = now
        self._outbox = FollowBuffer(shown)
        self._others: deque[str] = deque()
        self._wake = asyncio.Event()
        self._outage = Outage(self._tell)
        self._tasks: list[asyncio.Task[None]] = []

    async def batches(self) -> AsyncGenerator[Batch, None]:
        """What is found, in Docker's order. Raises OpskitError when the log cannot be read at all.

        Ends only with `stays` false, when the container is removed and no other has taken its name.
        """
        self._tasks = [
            asyncio.create_task(self._follow()),
            asyncio.create_task(
                watch(self._docker, self._name, happened=self._happened, connected=self._wake.set)
            ),
        ]
        while not self._outbox.empty or await self._filled():
            yield self._outbox.take()

    async def _filled(self) -> bool:
        """Wait for something to take; False when nothing will come any more."""
        taking = asyncio.create_task(self._outbox.filled())
        try:
            await asyncio.wait([taking, *self._tasks], return_when=asyncio.FIRST_COMPLETED)
        finally:
            taking.cancel()
        for task in self._tasks:
            if task.done():
                task.result()
        return not self._outbox.empty

    async def aclose(self) -> None:
        """End both tasks and with them every connection."""
        self._outbox.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _follow(self) -> None:
        current: LoggedContainer | None = self._container
        while current is not None:
            self._container = current
            await self._read(current)
            current = await self._next(current)

    async def _read(self, container: LoggedContainer) -> None:
        """Read a container's log until it stopped and all of it is out."""
        reading = self._readings[container.id]
        follow = True
        while True:
            try:
                await self._pass(container, reading, follow=follow)
                now = await self._docker.look(container.id)
            except OpskitError as error:
                if not self._outage.had_connection:
                    raise
                if error.code == _NO_CONTAINER:
                    break
                if error.code != _NO_DAEMON:
                    self._tell(error.message)
                    break
                await self._outage.wait(error.message)
                continue
            if now is None or not follow or (self._others and now.name != self._name):
                break
            if now.running and now.started_at == container.started_at:
                # The daemon let go of the log, the container goes on.
                await self._outage.wait()
            elif now.running:
                return
            else:
                follow = False
        await self._outbox.lines(reading.lines.finish())

    async def _pass(self, container: LoggedContainer, reading: ContainerReading, *, follow: bool) -> None:
        """One look at the log, to its end or, with `follow`, to that of the container."""
        for query in reading.queries():
            async with self._docker.logs(container.id, replace(query, follow=follow)) as stream:
                self._outage.connected()
                began = time.monotonic()
                try:
                    if await self._pump(stream, container, reading, query):
                        reading.query = None
                        return
                finally:
                    if not reading.position.is_new or time.monotonic() - began > _EMPTY_S:
                        reading.query = None

    async def _pump(
        self, stream: LogStream, container: LoggedContainer, reading: ContainerReading, query: LogQuery
    ) -> bool:
        """Pass on what the stream brings until it ends; False when it does not reach back far enough."""
        frames = frames_of(container)
        reaches = False
        reading.position.reopened()
        while True:
            self._outbox.quiet = True
            piece = await stream.piece(_IDLE_S)
            self._outbox.quiet = False
            if piece is None:
                ends = self._outbox.ends
                if await self._has_ended(container):
                    return True
                self._outbox.release(ends)
                await try_out(self._docker, container, reading)
                continue
            try:
                messages = frames.feed(piece) if piece else frames.finish()
            except FrameError as exc:
                raise OpskitError(_NO_DAEMON, f"the log stream makes no sense: {exc}") from exc
            if messages and not reaches:
                reaches = reading.reaches(query, messages[0].at_ns)
                if not reaches:
                    return False
            news = reading.position.news(messages)
            await self._outbox.lines(reading.lines.feed(news))
            if not piece:
                return reaches or query.tail is None
            if news:
                self._outage.progressed()
            if self._others and await self._has_ended(container):
                return True
            if len(piece) < _SMALL_BYTES:
                await asyncio.sleep(_GATHER_S)

    async def _has_ended(self, container: LoggedContainer) -> bool:
        """Whether a run is over, whatever its log says, or has lost its name to another container."""
        now = await self._docker.look(container.id)
        if now is None:
            # Docker still sends what it holds of a removed container.
            return False
        if not now.running or now.started_at != container.started_at:
            return True
        return bool(self._others) and now.name != self._name

    async def _next(self, seen: LoggedContainer) -> LoggedContainer | None:
        """Wait until this container has started again or another one has started under its name."""
        while True:
            self._wake.clear()
            ends = self._outbox.ends
            try:
                found, gone = await self._found(seen)
            except OpskitError as error:
                await self._outage.wait(error.message)
                continue
            self._outage.connected()
            if found is not None:
                if found.running:
                    self._outbox.release(ends)
                return found
            if self._wake.is_set():
                continue
            self._outbox.flush()
            if gone and not self._stays:
                return None
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_S):
                    await self._wake.wait()

    async def _found(self, seen: LoggedContainer) -> tuple[LoggedContainer | None, bool]:
        """What is to be read next, and whether nothing bears the name any more."""
        now = await self._docker.look(seen.id)
        if now is not None and now.name == self._name:
            return (now, False) if now.started_at != seen.started_at else (None, False)
        while self._others:
            other = await self._docker.look(self._others[0])
            gone = self._others.popleft()
            if other is not None and other.id != seen.id:
                return self._taken(other), False
            if other is None and gone != seen.id:
                self._tell(f"{gone[:12]} was removed before its log could be read")
        heir = await self._docker.look(self._name)
        if heir is None or heir.name != self._name:
            return None, True
        return (self._taken(heir), False) if heir.id != seen.id and heir.was_started else (None, False)

    def _taken(self, container: LoggedContainer) -> LoggedContainer:
        """Another container has the name now: it is read from its start."""
        while container.id in self._others:
            self._others.remove(container.id)
        if container.id not in self._readings:
            self._readings[container.id] = ContainerReading.of(container, LogQuery(), Position())
        return container

    def _happened(self, happening: DockerEvent) -> None:
        self._outbox.note(note(self._shown, happening), last=happening.action == "die")
        if happening.action == "start" and happening.id != self._container.id:
            self._others.append(happening.id)
        self._wake.set()

    def _tell(self, text: str) -> None:
        self._outbox.note(Note(self._shown, self._now(), text))
