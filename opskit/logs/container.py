"""Containers as sources of log lines: one by its name, or all that match, newcomers included."""

from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing

from opskit.errors import OpskitError
from opskit.logs.follow_buffer import entries
from opskit.logs.following import Follower
from opskit.logs.frames import LineJoiner
from opskit.logs.multi_follower import MultiFollower
from opskit.logs.reading import ContainerReading, frames_of, newest_message
from opskit.logs.resume import Position
from opskit.logs.selection import ContainerSelector, chosen
from opskit.logs.source import Batch, LogSource, Unreadable, Window
from opskit.system.docker import Docker
from opskit.system.docker_records import ListedContainer, LoggedContainer, LogQuery


async def containers(*specs: str, follow: bool = False, docker: Docker | None = None) -> list[LogSource]:
    """The sources that `specs` mean: names, ids, globs, `label:KEY=VALUE`, `compose:PROJECT[/SERVICE]`.

    One ContainerSource for each container; with `follow` a spec that may come to mean further containers
    becomes one ContainerGroup, which takes them in as they appear. Raises OpskitError, DOCKER_002 with near
    names for a spec that means nothing.
    """
    door = docker or Docker()
    there = await door.containers()
    sources: list[LogSource] = []
    seen: set[str] = set()
    for spec in specs:
        found, wanted = chosen(spec, there)
        if follow and wanted is not None:
            sources.append(ContainerGroup(door, wanted, found))
            continue
        sources += [ContainerSource(door, one) for one in found if one.id not in seen]
        seen.update(one.id for one in found)
    return sources


class ContainerSource:
    """The containers that bear one name: a restart or a recreation does not end what is followed."""

    def __init__(self, docker: Docker, container: ListedContainer, *, shown: str | None = None) -> None:
        self._docker = docker
        self._container = container
        self._shown = shown or container.name

    @property
    def name(self) -> str:
        return self._shown

    @property
    def container(self) -> ListedContainer:
        """The container as it was when it was chosen."""
        return self._container

    async def read(self, window: Window) -> AsyncGenerator[Batch, None]:
        """The lines that are there now. Docker itself looks for `since`, `until` and `tail`."""
        async with self._docker:
            container = await self._look()
            frames = frames_of(container)
            lines = LineJoiner(tty=container.tty)
            query = LogQuery(_ns(window.since), _ns(window.until), window.tail)
            async with self._docker.logs(container.id, query) as stream:
                while piece := await stream.piece():
                    if batch := entries(self._shown, lines.feed(frames.feed(piece))):
                        yield batch
            if batch := entries(self._shown, lines.feed(frames.finish()) + lines.finish()):
                yield batch

    async def follow(self, window: Window, *, stays: bool = True) -> AsyncGenerator[Batch, None]:
        """The lines that are there, then those that come. `until` says nothing here.

        With `stays` false it ends once the container is removed and no other has taken its name.
        """
        async with self._docker:
            container = await self._look()
            reading = await self._reading(container, window)
            follower = Follower(self._docker, self._shown, container, reading, stays=stays)
            try:
                async for batch in follower.batches():
                    yield batch
            finally:
                await follower.aclose()

    async def _reading(self, container: LoggedContainer, window: Window) -> ContainerReading:
        since_ns = _ns(window.since)
        if window.tail == 0:
            # Docker would tell nothing of what it left out; after a break the place must be known.
            newest = await newest_message(self._docker, container)
            floor_ns = newest.at_ns + 1 if newest is not None else None
            return ContainerReading.of(container, None, Position(floor_ns))
        position = Position(since_ns, tailed=window.tail is not None)
        return ContainerReading.of(container, LogQuery(since_ns, tail=window.tail), position)

    async def _look(self) -> LoggedContainer:
        """The container that was chosen, else the one that has its name now."""
        return await self._docker.look(self._container.id) or await self._docker.inspect(self._container.name)


class ContainerGroup:
    """All containers that match a selection; with `follow` also those that appear later.

    Its entries bear the names of their containers.
    """

    def __init__(self, docker: Docker, wanted: ContainerSelector, there: Iterable[ListedContainer]) -> None:
        self._docker = docker
        self._wanted = wanted
        self._there = list(there)

    @property
    def name(self) -> str:
        return self._wanted.spec

    async def read(self, window: Window) -> AsyncGenerator[Batch, None]:
        """The lines of one container after the other; one that cannot be read is an Unreadable among them."""
        async with self._docker:
            for container in self._there:
                try:
                    async with aclosing(ContainerSource(self._docker, container).read(window)) as batches:
                        async for batch in batches:
                            yield batch
                except OpskitError as error:
                    yield [Unreadable.of(container.name, error)]

    async def follow(self, window: Window) -> AsyncGenerator[Batch, None]:
        """The lines that are there, then those that come; of newcomers all that they have written."""
        async with self._docker:
            crowd = MultiFollower(self._docker, self._wanted, self._member)
            try:
                async for batch in crowd.batches(self._there, window):
                    yield batch
            finally:
                await crowd.aclose()

    def _member(self, container: ListedContainer, window: Window) -> AsyncGenerator[Batch, None]:
        return ContainerSource(self._docker, container).follow(window, stays=False)


def _ns(at: float | None) -> int | None:
    return None if at is None else round(at * 1e9)
