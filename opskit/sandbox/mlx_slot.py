"""The one slot for a model in a simulated MLX server: admission in order, one load at a time."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable


class ModelSlot:
    """What the single worker thread of an MLX server has loaded.

    Requests are admitted strictly in order. Requests for the resident model then run together; one for
    another model waits until they are done, and everything behind it waits too. A load is never aborted.
    """

    def __init__(self, default: str, load: Callable[[str], Awaitable[None]], swaps: list[str]) -> None:
        """Begin with the default model resident. `load` takes its time and may raise `LoadFailedError`.

        `swaps` is where models asked for that were not the resident one are noted, loaded or not.
        """
        self.resident: str | None = default
        """None after a load that failed: the old model is dropped before the new one is read."""
        self._default = default
        self._load = load
        self._swaps = swaps
        self._admission = asyncio.Lock()
        self._users = 0
        self._idle = asyncio.Event()
        self._idle.set()

    @contextlib.asynccontextmanager
    async def hold(self, model: str) -> AsyncIterator[None]:
        """Keep this model for the time of the block, loading it first if need be."""
        async with self._admission:
            if model != self.resident:
                await self._idle.wait()
                if self.resident is not None or model != self._default:
                    self._swaps.append(model)
                self.resident = None
                await self._load(model)
                self.resident = model
            self._users += 1
            self._idle.clear()
        try:
            yield
        finally:
            self._users -= 1
            if not self._users:
                self._idle.set()
