"""Follows the containers that bear one name, one after another, through restarts, recreations and outages.

The caller reads the log, piece by piece, so nothing piles up; a task beside it reads Docker's events. No
decision rests on an event alone: an event is noted, and wakes the reader, which then looks at the container.
"""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import AsyncGenerator, Mapping, Sequence

from opskit.errors import OpskitError
from opskit.logs.frames import FrameError, StreamLine, StreamMessage
from opskit.logs.position import ContainerReading, Position, frames_of
from opskit.logs.record import LogEntry
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
#: How long the log must be silent before a note is given out that may stand behind lines still to come.
_QUIET_S = 0.25
#: How long it waits for that, since a log may never be silent and its clock may be behind ours.
_LATEST_S = 1.0
#: Stream 3 is where the daemon itself complains.
_COMPLAINTS = 3
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


def entries(shown: str, lines: Sequence[StreamLine]) -> Batch:
    """Lines as entries of a source; complaints of the daemon become notes."""
    return [
        Note(shown, at_ns / 1e9, f"Docker: {text.decode('utf-8', 'replace')}")
        if stream == _COMPLAINTS
        else LogEntry(shown, text, at_ns / 1e9)
        for at_ns, stream, text in lines
    ]


class Follower:
    """One follow of one name. Notes are put between the lines by their time.

    `_deaths` counts the ends of runs that were noted, `_passed` the ends behind which the log went on: until
    then its silence is no sign that the lines before a note are out.
    """

    def __init__(
        self,
        docker: Docker,
        shown: str,
        container: LoggedContainer,
        reading: ContainerReading,
        *,
        stays: bool = True,
    ) -> None:
        self._docker = docker
        self._shown = shown
        self._name = container.name
        self._container = container
        self._readings = {container.id: reading}
        self._stays = stays
        self._notes: list[Note] = []
        self._deaths = self._passed = 0
        self._silence: asyncio.Timeout | None = None
        self._noted_at: float | None = None
        self._others: deque[str] = deque()
        self._wake = asyncio.Event()
        self._backoff = Backoff()
        self._had_connection = False
        self._outage = False

    async def batches(self) -> AsyncGenerator[Batch, None]:
        """Lines and notes in Docker's order. Raises OpskitError when the log cannot be read at all.

        Ends only with `stays` false, when the container is removed and no other has taken its name.
        """
        watching = asyncio.create_task(self._watch())
        try:
            async with contextlib.aclosing(self._runs()) as batches:
                async for batch in batches:
                    if watching.done():
                        watching.result()
                    if batch:
                        yield batch
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)

    async def _watch(self) -> None:
        filters = {"container": [self._name], "event": list(_EVENT_NOTES)}
        async with contextlib.aclosing(docker_events(self._docker, filters)) as events:
            async for event in events:
                # Docker compares only the beginning of a name.
                if event is not None and event.name == self._name:
                    self._take(event)
                if event is None or event.name == self._name:
                    self._wake.set()

    async def _runs(self) -> AsyncGenerator[Batch, None]:
        """The log of one run after the other, of whichever container has the name."""
        while True:
            async with contextlib.aclosing(self._run(self._container)) as batches:
                async for batch in batches:
                    yield batch
            ended = self._container
            while self._container is ended:
                self._wake.clear()
                deaths = self._deaths
                try:
                    container, gone = await self._successor(ended)
                except OpskitError as error:
                    yield self._problem(error.message)
                    await self._backoff.wait()
                    continue
                self._connected()
                if container is not None:
                    self._passed = deaths if container.running else self._passed
                    self._container = container
                elif not self._wake.is_set():
                    self._passed = self._deaths
                    yield self._due()
                    if gone and not self._stays:
                        return
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(_LOOK_S):
                            await self._wake.wait()

    async def _run(self, container: LoggedContainer) -> AsyncGenerator[Batch, None]:
        """The log of a container until it stopped and all of it is out."""
        reading = self._readings[container.id]
        follow = True
        while True:
            try:
                async with contextlib.aclosing(self._log(container, reading, follow=follow)) as batches:
                    async for batch in batches:
                        yield batch
                now = await self._docker.look(container.id)
            except OpskitError as error:
                if not self._had_connection:
                    raise
                if error.code == NO_CONTAINER:
                    break
                if error.code != NO_DAEMON:
                    self._note(error.message)
                    break
                yield self._problem(error.message)
                await self._backoff.wait()
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
        yield self._between(reading.lines.finish())

    async def _log(
        self, container: LoggedContainer, reading: ContainerReading, *, follow: bool
    ) -> AsyncGenerator[Batch, None]:
        """What is new in the log, to its end or, with `follow`, to that of the container."""
        for query in reading.queries():
            reading.position.reopened()
            began, reaches = time.monotonic(), query.tail is None
            asked = replace(query, follow=follow)
            try:
                async with contextlib.aclosing(self._messages(container, reading, asked)) as pieces:
                    async for messages in pieces:
                        if messages is None:
                            yield self._due()
                            continue
                        if messages and not reaches:
                            reaches = reading.reaches(query, messages[0].at_ns)
                            if not reaches:
                                break
                        news = reading.position.news(messages)
                        if news:
                            self._backoff.reset()
                        yield self._between(reading.lines.feed(news))
                if reaches:
                    return
            finally:
                if reaches or not reading.position.is_new or time.monotonic() - began > _EMPTY_S:
                    reading.query = None

    async def _messages(
        self, container: LoggedContainer, reading: ContainerReading, query: LogQuery
    ) -> AsyncGenerator[list[StreamMessage] | None, None]:
        """The messages of each piece of a log; None when it is silent and notes wait."""
        frames = frames_of(container)
        async with self._docker.logs(container.id, query) as stream:
            self._connected()
            while True:
                piece = await self._piece(stream)
                if piece is None and self._has_note:
                    yield None
                    continue
                if piece is None:
                    deaths = self._deaths
                    if await self._has_ended(container):
                        return
                    self._passed = deaths
                    await reading.verify(self._docker, container)
                    continue
                try:
                    messages = frames.feed(piece) if piece else frames.finish()
                except FrameError as exc:
                    raise OpskitError(NO_DAEMON, f"the log stream makes no sense: {exc}") from exc
                yield messages
                if not piece or (self._others and await self._has_ended(container)):
                    return
                if len(piece) < _SMALL_BYTES:
                    await asyncio.sleep(_GATHER_S)

    async def _piece(self, stream: LogStream) -> bytes | None:
        """The next bytes, none at the end; None after _IDLE_S without any, and after _QUIET_S for a note."""
        try:
            async with asyncio.timeout(_IDLE_S) as self._silence:
                self._hurry()
                return await stream.piece()
        except TimeoutError:
            return None
        finally:
            self._silence = None

    @property
    def _has_note(self) -> bool:
        """Whether a note waits for nothing but silence."""
        return bool(self._notes) and self._passed == self._deaths

    def _hurry(self) -> None:
        """Wait no longer for the next bytes than a note may."""
        if not self._has_note:
            self._noted_at = None
            return
        now = asyncio.get_running_loop().time()
        self._noted_at = now if self._noted_at is None else self._noted_at
        if self._silence is not None and not self._silence.expired():
            self._silence.reschedule(min(now + _QUIET_S, self._noted_at + _LATEST_S))

    async def _has_ended(self, container: LoggedContainer) -> bool:
        """Whether a run is over, whatever its log says, or has lost its name to another container."""
        now = await self._docker.look(container.id)
        if now is None:
            # Docker still sends what it holds of a removed container.
            return False
        if not now.running or now.started_at != container.started_at:
            return True
        return bool(self._others) and now.name != self._name

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
        self._deaths += event.action == "die"
        self._add(Note(self._shown, event.at_ns / 1e9, _event_note(event)))
        if event.action == "start" and event.id != self._container.id:
            self._others.append(event.id)

    def _connected(self) -> None:
        self._had_connection = True
        if self._outage:
            self._outage = False
            self._note("connected to Docker again")

    def _problem(self, why: str) -> Batch:
        """What can be given out now that Docker cannot be reached; an outage is noted once."""
        if not self._outage:
            self._outage = True
            self._note(why)
        return self._due() if self._has_note else []

    def _note(self, text: str) -> None:
        self._add(Note(self._shown, time.time(), text))

    def _add(self, note: Note) -> None:
        self._notes.append(note)
        self._notes.sort(key=lambda note: note.at or 0.0)
        self._hurry()

    def _due(self) -> Batch:
        """Every note: no older line will come."""
        notes, self._notes = self._notes, []
        return [*notes]

    def _between(self, lines: Sequence[StreamLine]) -> Batch:
        """Lines, and before each the notes that are older."""
        batch: Batch = []
        for entry in entries(self._shown, lines):
            while self._notes and (self._notes[0].at or 0.0) <= (entry.at or 0.0):
                batch.append(self._notes.pop(0))
            batch.append(entry)
        return batch


def _event_note(event: DockerEvent) -> str:
    unknown = {"image": "an unnamed image", "signal": "?", "exitCode": "?", "oldName": "?"}
    facts = {**unknown, **event.attributes, "id": event.id[:12], "detail": event.detail or "?"}
    facts["oldName"] = facts["oldName"].lstrip("/")
    return _EVENT_NOTES.get(event.action, event.action).format_map(facts)
