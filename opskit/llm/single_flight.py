"""Work in the background that is done once at a time for each key, however many ask for it."""

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
T = TypeVar("T")


class SingleFlight(Generic[Key, T]):
    """The tasks under way, by their keys. Whoever waits for one may leave it: it goes on."""

    def __init__(self) -> None:
        self._tasks: dict[Key, asyncio.Task[T]] = {}

    def __contains__(self, key: Key) -> bool:
        return key in self._tasks

    def start(self, key: Key, name: str, work: Callable[[], Coroutine[Any, Any, T]]) -> asyncio.Task[T]:
        """Return the task of a key, started where none is under way."""
        task = self._tasks.get(key)
        if task is None:
            task = self._tasks[key] = asyncio.create_task(work(), name=name)
            task.add_done_callback(lambda _: self._tasks.pop(key, None))
        return task

    async def aclose(self) -> None:
        """End what is still under way."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
