"""The one model slot of a simulated MLX server: requests enter in order, another model means a swap."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class StoppedError(Exception):
    """The server stops: whatever was waiting ends without an answer."""


class ModelLoadError(Exception):
    """The model could not be loaded; the text is what the server answers."""


class ModelSlot:
    """What the single worker thread of an MLX server has loaded. Thread-safe.

    Requests are admitted strictly in order. Those for the resident model then run together; one for
    another model waits until they are done, and everything behind it waits too. A load is never aborted.
    """

    def __init__(
        self,
        default: str,
        *,
        load: Callable[[str], None],
        stopping: threading.Event,
        swaps: list[str],
    ) -> None:
        """Begin with the default model resident.

        Args:
            default: the model the server was started with.
            load: blocks for as long as loading this model takes; may raise.
            stopping: set when the server stops; `wake` must follow.
            swaps: where models asked for that were not the resident one are noted, loaded or not.
        """
        self.resident: str | None = default
        """None after a load that failed: the old model is dropped before the new one is read."""
        self._default = default
        self._load = load
        self._stopping = stopping
        self._swaps = swaps
        self._changed = threading.Condition()
        self._users = 0
        self._next_ticket = 0
        self._serving = 0

    @contextmanager
    def hold(self, model: str) -> Iterator[None]:
        """Keep this model for the time of the block, loading it first if need be.

        Raises:
            StoppedError: the server stopped meanwhile.
        """
        self._enter(model)
        try:
            yield
        finally:
            with self._changed:
                self._users -= 1
                self._changed.notify_all()

    def evict(self) -> None:
        """Forget the resident model, so that the next request has to load."""
        with self._changed:
            self.resident = None

    def wake(self) -> None:
        """Make every waiting request look whether the server stops."""
        with self._changed:
            self._changed.notify_all()

    def _enter(self, model: str) -> None:
        with self._changed:
            ticket = self._next_ticket
            self._next_ticket += 1
            self._wait(lambda: self._serving == ticket)
            if model != self.resident:
                self._wait(lambda: not self._users)
                if self.resident is not None or model != self._default:
                    self._swaps.append(model)
                self.resident = None
        try:
            if self.resident != model:
                self._load(model)
            with self._changed:
                self.resident = model
                self._users += 1
        finally:
            with self._changed:
                self._serving += 1
                self._changed.notify_all()

    def _wait(self, ready: Callable[[], bool]) -> None:
        self._changed.wait_for(lambda: ready() or self._stopping.is_set())
        if self._stopping.is_set():
            raise StoppedError
