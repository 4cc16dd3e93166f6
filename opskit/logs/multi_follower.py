"""Follows many containers at once, and lets in those that appear while it does."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable
from contextlib import aclosing
from typing import Any

from opskit.errors import OpskitError
from opskit.logs.outage import back_off_s
from opskit.logs.selection import ContainerSelector
from opskit.logs.source import Batch, Unreadable, Window
from opskit.system.docker import Docker
from opskit.system.docker_records import ListedContainer

_BATCHES = 8
_NO_DAEMON = "DOCKER_001"
_NO_CONTAINER = "DOCKER_002"

Follow = Callable[[ListedContainer, Window], AsyncGenerator[Batch, None]]


class MultiFollower:
    """One task for each container and one that watches for newcomers; all give to one short queue.

    `follow` must end when its container is removed and its name is free.
    """

    def __init__(self, docker: Docker, wanted: ContainerSelector, follow: Follow) -> None:
        self._docker = docker
        self._wanted = wanted
        self._follow = follow
        self._queue: asyncio.Queue[Batch] = asyncio.Queue(_BATCHES)
        self._members: dict[str, asyncio.Task[None]] = {}
        self._watcher: asyncio.Task[None] | None = None
        self._broken: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def batches(self, there: Iterable[ListedContainer], window: Window) -> AsyncGenerator[Batch, None]:
        """What `there` say from `window` on, and newcomers from their beginning, without end."""
        for container in there:
            self._admit(container, window)
        self._watcher = self._begin(self._watch())
        while True:
            if self._queue.empty():
                taking = asyncio.create_task(self._queue.get())
                try:
                    ends: list[asyncio.Future[Any]] = [taking, self._broken]
                    await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
                    if self._broken.done():
                        self._broken.result()
                    batch = taking.result()
                finally:
                    taking.cancel()
            else:
                batch = self._queue.get_nowait()
            yield batch

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
        tries = 0
        while True:
            try:
                async with aclosing(self._follow(container, window)) as batches:
                    async for batch in batches:
                        await self._queue.put(batch)
            except OpskitError as error:
                if error.code == _NO_DAEMON:
                    # It never began; the watcher meets the same trouble.
                    await asyncio.sleep(back_off_s(tries))
                    tries += 1
                    continue
                if error.code != _NO_CONTAINER:
                    await self._queue.put([Unreadable.of(container.name, error)])
                    return
            break
        # From here on the watcher lets the name in again; what came before is looked for once.
        del self._members[container.name]
        await self._let_in()

    async def _watch(self) -> None:
        tries = 0
        while True:
            try:
                async with self._docker.events({"event": ["start"]}) as happenings:
                    tries = 0
                    await self._let_in()
                    async for happening in happenings:
                        if self._wanted.matches(happening.name, happening.attributes):
                            await self._let_in()
            except OpskitError:
                # Every member meets the same trouble, and tells of it.
                await asyncio.sleep(back_off_s(tries))
                tries += 1

    async def _let_in(self) -> None:
        try:
            there = await self._docker.containers()
        except OpskitError:
            return  # The watcher will list again once the daemon is back.
        for container in there:
            if container.state != "created" and self._wanted.matches(container.name, container.labels):
                self._admit(container, Window())
