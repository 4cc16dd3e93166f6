"""Follows the containers that bear one name, one after another, through restarts, recreations and outages.

Two tasks work here: one reads the log and decides what comes next, one reads Docker's events. No decision
rests on an event alone: an event only wakes the reader, which then looks at the container itself.
"""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Mapping

from opskit.errors import OpskitError
from opskit.logs.follow_buffer import FollowBuffer
from opskit.logs.frames import FrameError
from opskit.logs.position import ContainerReading, Position, frames_of
from opskit.logs.source import Batch, Note
from opskit.records import replace
from opskit.system.docker import Docker
from opskit.system.docker_records import DockerEvent, LoggedContainer, LogQuery
from opskit.system.docker_streams import LogStream

#: Small pieces are let gather for this long: at many lines a second one wake-up then reads dozens of them.
_GATHER_S = 0.02
_SMALL_BYTES = 16 * 1024
#: How long nothing may come before the connection is tried with a question of its own.
_IDLE_S = 15.0
#: How often a stopped container is looked at even when no event tells of it.
_LOOK_S = 5.0
#: A log that brings nothing for so long was empty: whatever comes after a break is new.
_EMPTY_S = 1.0
_BACK_OFF_S = (0.1, 0.25, 0.5, 1.0, 2.0, 5.0)
NO_DAEMON = "DOCKER_001"
NO_CONTAINER = "DOCKER_002"
#: The events that are listened to, and their notes.
_EVENT_NOTES = {
    "create": "created as {id} from {image}",
    "start": "started",
    "restart": "restarted",
    "kill": "was sent signal {signal}",
    "stop": "stopped",
    "die": "died with exit code {exitCode}",
    "oom": "ran out of memory (OOM)",
    "pause": "paused",
    "unpause": "goes on after a pause",
    "rename": "renamed, was {oldName}",
    "destroy": "removed ({id})",
    "health_status": "health: {detail}",
}


class Backoff:
    """Waits longer with each try in vain, up to 5 s."""

    def __init__(self) -> None:
        self._tries = 0

    def reset(self) -> None:
        self._tries = 0

    async def wait(self) -> None:
        await asyncio.sleep(_BACK_OFF_S[min(self._tries, len(_BACK_OFF_S) - 1)])
        self._tries += 1


async def docker_events(
    docker: Docker, filters: Mapping[str, list[str]]
) -> AsyncGenerator[DockerEvent | None, None]:
    """Docker's events without end; None whenever a connection begins, as events may have been missed.

    What happens while Docker cannot be reached comes afterwards, if it remembers. That it cannot be reached
    is reported by the reader of a log at the same time.
    """
    since_ns: int | None = None
    backoff = Backoff()
    while True:
        try:
            async with docker.events(filters, since_ns=since_ns) as events:
                backoff.reset()
                since_ns = since_ns or events.began_ns
                yield None
                async for event in events:
                    since_ns = event.at_ns + 1
                    yield event
        except OpskitError:
            await backoff.wait()


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
        self._buffer = FollowBuffer(shown)
        self._others: deque[str] = deque()
        self._wake = asyncio.Event()
        self._backoff = Backoff()
        self._had_connection = False
        self._outage = False
        self._tasks: list[asyncio.Task[None]] = []

    async def batches(self) -> AsyncGenerator[Batch, None]:
        """Lines and notes in Docker's order. Raises OpskitError when the log cannot be read at all.

        Ends only with `stays` false, when the container is removed and no other has taken its name.
        """
        self._tasks = [asyncio.create_task(self._follow()), asyncio.create_task(self._watch())]
        for task in self._tasks:
            task.add_done_callback(lambda _: self._buffer.end())
        while await self._buffer.filled():
            yield self._buffer.take()
        for task in self._tasks:
            if task.done():
                task.result()

    async def aclose(self) -> None:
        """End both tasks and with them every connection."""
        self._buffer.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _follow(self) -> None:
        current: LoggedContainer | None = self._container
        while current is not None:
            self._container = current
            await self._read(current)
            current = await self._next(current)

    async def _watch(self) -> None:
        filters = {"container": [self._name], "event": list(_EVENT_NOTES)}
        async with contextlib.aclosing(docker_events(self._docker, filters)) as events:
            async for event in events:
                # Docker compares only the beginning of a name.
                if event is not None and event.name == self._name:
                    self._take(event)
                if event is None or event.name == self._name:
                    self._wake.set()

    async def _read(self, container: LoggedContainer) -> None:
        """Read a container's log until it stopped and all of it is out."""
        reading = self._readings[container.id]
        follow = True
        while True:
            try:
                await self._pass(container, reading, follow=follow)
                now = await self._docker.look(container.id)
            except OpskitError as error:
                if not self._had_connection:
                    raise
                if error.code == NO_CONTAINER:
                    break
                if error.code != NO_DAEMON:
                    self._note(error.message)
                    break
                await self._wait(error.message)
                continue
            if now is None or not follow or (self._others and now.name != self._name):
                break
            if now.running and now.started_at == container.started_at:
                # The daemon let go of the log, the container goes on.
                await self._backoff.wait()
            elif now.running:
                return
            else:
                follow = False
        await self._buffer.lines(reading.lines.finish())

    async def _pass(self, container: LoggedContainer, reading: ContainerReading, *, follow: bool) -> None:
        """One look at the log, to its end or, with `follow`, to that of the container."""
        for query in reading.queries():
            async with self._docker.logs(container.id, replace(query, follow=follow)) as stream:
                self._connected()
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
            self._buffer.quiet = True
            piece = await stream.piece(_IDLE_S)
            self._buffer.quiet = False
            if piece is None:
                ends = self._buffer.ends
                if await self._has_ended(container):
                    return True
                self._buffer.release(ends)
                await reading.verify(self._docker, container)
                continue
            try:
                messages = frames.feed(piece) if piece else frames.finish()
            except FrameError as exc:
                raise OpskitError(NO_DAEMON, f"the log stream makes no sense: {exc}") from exc
            if messages and not reaches:
                reaches = reading.reaches(query, messages[0].at_ns)
                if not reaches:
                    return False
            news = reading.position.news(messages)
            await self._buffer.lines(reading.lines.feed(news))
            if not piece:
                return reaches or query.tail is None
            if news:
                self._backoff.reset()
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

    async def _next(self, ended: LoggedContainer) -> LoggedContainer | None:
        """Wait until this container has started again or another one has started under its name."""
        while True:
            self._wake.clear()
            ends = self._buffer.ends
            try:
                container, gone = await self._successor(ended)
            except OpskitError as error:
                await self._wait(error.message)
                continue
            self._connected()
            if container is not None:
                if container.running:
                    self._buffer.release(ends)
                return container
            if self._wake.is_set():
                continue
            self._buffer.flush()
            if gone and not self._stays:
                return None
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_S):
                    await self._wake.wait()

    async def _successor(self, ended: LoggedContainer) -> tuple[LoggedContainer | None, bool]:
        """What is to be read next, and whether nothing bears the name any more."""
        now = await self._docker.look(ended.id)
        if now is not None and now.name == self._name:
            return (now, False) if now.started_at != ended.started_at else (None, False)
        while self._others:
            other = await self._docker.look(self._others[0])
            identifier = self._others.popleft()
            if other is not None and other.id != ended.id:
                return self._taken(other), False
            if other is None and identifier != ended.id:
                self._note(f"{identifier[:12]} was removed before its log could be read")
        heir = await self._docker.look(self._name)
        if heir is None or heir.name != self._name:
            return None, True
        return (self._taken(heir), False) if heir.id != ended.id and heir.was_started else (None, False)

    def _taken(self, container: LoggedContainer) -> LoggedContainer:
        """Another container has the name now: it is read from its start."""
        while container.id in self._others:
            self._others.remove(container.id)
        if container.id not in self._readings:
            self._readings[container.id] = ContainerReading.of(container, LogQuery(), Position())
        return container

    def _take(self, event: DockerEvent) -> None:
        note = Note(self._shown, event.at_ns / 1e9, _event_note(event))
        self._buffer.note(note, last=event.action == "die")
        if event.action == "start" and event.id != self._container.id:
            self._others.append(event.id)

    def _connected(self) -> None:
        self._had_connection = True
        if self._outage:
            self._outage = False
            self._note("connected to Docker again")

    async def _wait(self, why: str) -> None:
        """Wait until the next try; an outage is noted once, at its beginning."""
        if not self._outage:
            self._outage = True
            self._note(why)
        await self._backoff.wait()

    def _note(self, text: str) -> None:
        self._buffer.note(Note(self._shown, self._now(), text))


def _event_note(event: DockerEvent) -> str:
    unknown = {"image": "an unnamed image", "signal": "?", "exitCode": "?", "oldName": "?"}
    facts = {**unknown, **event.attributes, "id": event.id[:12], "detail": event.detail or "?"}
    facts["oldName"] = facts["oldName"].lstrip("/")
    return _EVENT_NOTES.get(event.action, event.action).format_map(facts)
