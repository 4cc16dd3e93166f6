"""Containers as sources of log lines: what a spec means, and the log of one container by its name.

A spec is a name, an id, a glob, `label:KEY=VALUE` or `compose:PROJECT[/SERVICE]`.
"""

import asyncio
from collections.abc import AsyncGenerator, Coroutine, Iterable, Mapping
from contextlib import aclosing
from fnmatch import fnmatchcase

from opskit.errors import OpskitError
from opskit.logs.following import NO_CONTAINER, NO_DAEMON, Backoff, Follower, docker_events, entries
from opskit.logs.frames import LineJoiner
from opskit.logs.position import ContainerReading, Position, frames_of, newest_message
from opskit.logs.source import Batch, LogSource, Unreadable, Window
from opskit.records import Record
from opskit.system.docker import Docker, no_such
from opskit.system.docker_records import PROJECT, SERVICE, ListedContainer, LoggedContainer, LogQuery

#: The shortest start of an id that is taken for one.
_ID_CHARS = 4
_BATCHES = 8


class ContainerSelector(Record):
    """What a spec asks for. `labels` must all hold (a value of None: the key alone); `glob` is for names."""

    spec: str
    labels: Mapping[str, str | None]
    glob: str | None = None

    def matches(self, name: str, labels: Mapping[str, str]) -> bool:
        if self.glob is not None and not fnmatchcase(name, self.glob):
            return False
        return all(key in labels and value in (None, labels[key]) for key, value in self.labels.items())


async def containers(*specs: str, follow: bool = False, docker: Docker | None = None) -> list[LogSource]:
    """The sources that `specs` mean.

    One ContainerSource for each container; with `follow` a spec that may come to mean further containers
    becomes one ContainerGroup, which takes them in as they appear. Raises OpskitError, DOCKER_002 with near
    names for a spec that means nothing.
    """
    docker = docker or Docker()
    listed = await docker.containers()
    sources: dict[str, LogSource] = {}
    for spec in specs:
        matching, selector = chosen(spec, listed)
        if follow and selector is not None:
            sources[spec] = ContainerGroup(docker, selector, matching)
        else:
            for container in matching:
                sources.setdefault(container.id, ContainerSource(docker, container))
    return list(sources.values())


def chosen(
    spec: str, listed: Iterable[ListedContainer]
) -> tuple[list[ListedContainer], ContainerSelector | None]:
    """The containers that a spec means, and the selector that newcomers must match, if it is one.

    A name is a container's, else a compose service's, else the start of an id. Raises
    OpskitError(DOCKER_002) naming near names when there is none.
    """
    known = list(listed)
    selector = _selector(spec)
    if selector is None:
        named = [container for container in known if spec in (container.name, container.id)]
        if named:
            return named, None
        selector = ContainerSelector(spec, {SERVICE: spec})
    matching = [container for container in known if selector.matches(container.name, container.labels)]
    if matching:
        return matching, selector
    if len(spec) >= _ID_CHARS:
        matching = [container for container in known if container.id.startswith(spec)]
        if len(matching) == 1:
            return matching, None
    raise no_such(spec, _names(spec, known))


def _selector(spec: str) -> ContainerSelector | None:
    """What a spec asks for when it may mean several containers; None for the name of one.

    Raises OpskitError(DOCKER_002) for a prefix without anything behind it.
    """
    kind, _, value = spec.partition(":")
    if kind in ("label", "compose") and _:
        if not value.strip("/="):
            raise OpskitError(
                "DOCKER_002",
                f"{spec!r} names nothing",
                remedy="write label:KEY=VALUE or compose:PROJECT/SERVICE",
            )
        key, given, name = value.partition("=" if kind == "label" else "/")
        if kind == "label":
            return ContainerSelector(spec, {key: name if given else None})
        wanted = {PROJECT: key, SERVICE: name}
        return ContainerSelector(spec, {label: text for label, text in wanted.items() if text})
    if any(char in spec for char in "*?["):
        return ContainerSelector(spec, {}, spec)
    return None


def _names(spec: str, known: list[ListedContainer]) -> set[str]:
    if spec.startswith("compose:"):
        composed = [container for container in known if container.project]
        return {f"compose:{container.project}" for container in composed} | {
            f"compose:{container.project}/{container.service}" for container in composed
        }
    if spec.startswith("label:"):
        return {f"label:{key}={value}" for container in known for key, value in container.labels.items()}
    return {container.name for container in known} | {
        container.service for container in known if container.service
    }


class ContainerSource:
    """The containers that bear one name: a restart or a recreation does not end what is followed."""

    def __init__(self, docker: Docker, container: ListedContainer) -> None:
        self._docker = docker
        self._container = container
        self.name = container.name

    async def read(self, window: Window) -> AsyncGenerator[Batch, None]:
        """The lines that are there now. Docker itself looks for `since`, `until` and `tail`."""
        async with self._docker:
            container = await self._current()
            frames = frames_of(container)
            lines = LineJoiner(tty=container.tty)
            query = LogQuery(_ns(window.since), _ns(window.until), window.tail)
            async with self._docker.logs(container.id, query) as stream:
                while piece := await stream.piece():
                    if batch := entries(self.name, lines.feed(frames.feed(piece))):
                        yield batch
            if batch := entries(self.name, lines.feed(frames.finish()) + lines.finish()):
                yield batch

    async def follow(self, window: Window, *, stays: bool = True) -> AsyncGenerator[Batch, None]:
        """The lines that are there, then the lines that come. `until` says nothing here.

        With `stays` false it ends once the container is removed and no other has taken its name.
        """
        async with self._docker:
            container = await self._current()
            reading = await self._reading(container, window)
            follower = Follower(self._docker, self.name, container, reading, stays=stays)
            async with aclosing(follower.batches()) as batches:
                async for batch in batches:
                    yield batch

    async def _reading(self, container: LoggedContainer, window: Window) -> ContainerReading:
        since_ns = _ns(window.since)
        if window.tail == 0:
            # Docker would tell nothing of what it left out; after a break the place must be known.
            newest = await newest_message(self._docker, container)
            floor_ns = newest.at_ns + 1 if newest is not None else None
            return ContainerReading.of(container, None, Position(floor_ns))
        position = Position(since_ns, tailed=window.tail is not None)
        return ContainerReading.of(container, LogQuery(since_ns, tail=window.tail), position)

    async def _current(self) -> LoggedContainer:
        """The container that was chosen, else the one that has its name now."""
        return await self._docker.look(self._container.id) or await self._docker.inspect(self._container.name)


class ContainerGroup:
    """All containers that match a selection; with `follow` also containers that appear later.

    Its entries bear the names of their containers.
    """

    def __init__(
        self, docker: Docker, selector: ContainerSelector, containers: Iterable[ListedContainer]
    ) -> None:
        self._docker = docker
        self._selector = selector
        self.name = selector.spec
        self._containers = list(containers)
        self._queue: asyncio.Queue[Batch] = asyncio.Queue(_BATCHES)
        self._members: dict[str, asyncio.Task[None]] = {}
        self._fault: BaseException | None = None

    async def read(self, window: Window) -> AsyncGenerator[Batch, None]:
        """The lines of one container after the other; one that cannot be read is an Unreadable among them."""
        async with self._docker:
            for container in self._containers:
                try:
                    async with aclosing(ContainerSource(self._docker, container).read(window)) as batches:
                        async for batch in batches:
                            yield batch
                except OpskitError as error:
                    yield [Unreadable.of(container.name, error)]

    async def follow(self, window: Window) -> AsyncGenerator[Batch, None]:
        """The lines that are there, then the lines that come; of newcomers every line. To be called once.

        One task for each container and one that watches for newcomers give to one short queue.
        """
        async with self._docker:
            watcher = self._begin(self._watch())
            try:
                for container in self._containers:
                    self._admit(container, window)
                while True:
                    batch = await self._queue.get()
                    if self._fault is not None:
                        raise self._fault
                    yield batch
            finally:
                tasks = [watcher, *self._members.values()]
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    def _begin(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        """A fault of our own in one task must not pass for a container that says nothing."""
        fault = None if task.cancelled() else task.exception()
        if fault is not None:
            self._fault = fault
            if self._queue.empty():
                self._queue.put_nowait([])

    def _admit(self, container: ListedContainer, window: Window) -> None:
        if container.name not in self._members:
            self._members[container.name] = self._begin(self._member(container, window))

    async def _member(self, container: ListedContainer, window: Window) -> None:
        source, backoff = ContainerSource(self._docker, container), Backoff()
        while True:
            try:
                async with aclosing(source.follow(window, stays=False)) as batches:
                    async for batch in batches:
                        await self._queue.put(batch)
            except OpskitError as error:
                if error.code == NO_DAEMON:
                    # It never began; the watcher meets the same trouble.
                    await backoff.wait()
                    continue
                if error.code != NO_CONTAINER:
                    await self._queue.put([Unreadable.of(container.name, error)])
                    return
            break
        # From here on the watcher lets the name in again; what came before is looked for once.
        del self._members[container.name]
        await self._let_in()

    async def _watch(self) -> None:
        async with aclosing(docker_events(self._docker, {"event": ["start"]})) as events:
            async for event in events:
                if event is None or self._selector.matches(event.name, event.attributes):
                    await self._let_in()

    async def _let_in(self) -> None:
        try:
            containers = await self._docker.containers()
        except OpskitError:
            return  # The watcher will list again once the daemon is back.
        for container in containers:
            if container.state != "created" and self._selector.matches(container.name, container.labels):
                self._admit(container, Window())


def _ns(at: float | None) -> int | None:
    return None if at is None else round(at * 1e9)
