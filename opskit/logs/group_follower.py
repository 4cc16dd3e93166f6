"""Follows many containers at once, and lets in those that appear while it does."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Mapping
from contextlib import aclosing
from typing import Any

from opskit.errors import OpskitError
from opskit.logs.following import NO_CONTAINER, NO_DAEMON, Backoff, docker_events
from opskit.logs.source import Batch, Unreadable, Window
from opskit.system.docker import Docker
from opskit.system.docker_records import ListedContainer

_BATCHES = 8

Matches = Callable[[str, Mapping[str, str]], bool]
Follow = Callable[[ListedContainer, Window], AsyncGenerator[Batch, None]]


class GroupFollower:
    """One task for each container and one that watches for newcomers; all give to one short queue.

    `matches` says of a name and labels whether the container is wanted; `follow` must end when its container
    is removed and its name is free.
    """

    def __init__(self, docker: Docker, matches: Matches, follow: Follow) -> None:
        self._docker = docker
        self._matches = matches
        self._follow = follow
        self._queue: asyncio.Queue[Batch] = asyncio.Queue(_BATCHES)
        self._members: dict[str, asyncio.Task[None]] = {}
        self._watcher: asyncio.Task[None] | None = None
        self._broken: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def batches(
        self, containers: Iterable[ListedContainer], window: Window
    ) -> AsyncGenerator[Batch, None]:
        """What `containers` say from `window` on, and newcomers from their beginning, without end."""
        for container in containers:
            self._admit(container, window)
        self._watcher = self._begin(self._watch())
        while True:
            taking = asyncio.create_task(self._queue.get())
            try:
                ends: list[asyncio.Future[Any]] = [taking, self._broken]
                await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
                if self._broken.done():
                    self._broken.result()
                batch = taking.result()
            finally:
                taking.cancel()
            yield batch
            while not self._queue.empty():
                yield self._queue.get_nowait()

    async def aclose(self) -> None:
        """End every task, and with it every connection."""
        tasks = [task for task in (self._watcher, *self._members.values()) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._broken.cancel()

    def _begin(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        """A fault of our own in one task must not pass for a container that says nothing."""
        fault = None if task.cancelled() else task.exception()
        if fault is not None and not self._broken.done():
            self._broken.set_exception(fault)

    def _admit(self, container: ListedContainer, window: Window) -> None:
        if container.name not in self._members:
            self._members[container.name] = self._begin(self._member(container, window))

    async def _member(self, container: ListedContainer, window: Window) -> None:
        backoff = Backoff()
        while True:
            try:
                async with aclosing(self._follow(container, window)) as batches:
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
                if event is None or self._matches(event.name, event.attributes):
                    await self._let_in()

    async def _let_in(self) -> None:
        try:
            containers = await self._docker.containers()
        except OpskitError:
            return  # The watcher will list again once the daemon is back.
        for container in containers:
            if container.state != "created" and self._matches(container.name, container.labels):
                self._admit(container, Window())
