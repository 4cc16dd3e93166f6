"""Which models a simulated Ollama holds in memory: one load at a time, reloads, expiry, busy slots."""

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from opskit.records import MutableRecord, Record, field

FOREVER_S = 9_223_372_036.0
"""What a negative keep_alive becomes: the longest duration a Go program can hold."""
DEFAULT_CONTEXT = 4096
_IDENTITY = ("num_batch", "num_gpu", "main_gpu", "use_mmap", "num_thread")


class SimModel(Record):
    """A model that a simulated Ollama has installed."""

    name: str
    size_bytes: int = 2_200_000_000
    resident: bool = False
    """In memory when the server starts."""
    load_s: float = 0.0
    family: str = "llama"
    parameter_size: str = "3.8B"
    quantization: str = "Q4_K_M"
    context_length: int = 131_072
    capabilities: tuple[str, ...] = ("completion",)
    size_vram: int | None = None
    """Bytes in video memory; None means all of them."""

    @property
    def digest(self) -> str:
        """A stable stand-in for the manifest's SHA-256."""
        return hashlib.sha256(self.name.encode()).hexdigest()


class SlotLostError(asyncio.CancelledError):
    """The client went away at the moment at which the server then waits for it for ever (wire facts A8)."""


class LoadFailedError(Exception):
    """The model could not be loaded; the text is what the server answers."""


class RunnerOptions(Record):
    """The request options that are part of a runner's identity: other ones mean a reload."""

    num_ctx: int = DEFAULT_CONTEXT
    others: tuple[Any, ...] = (None,) * len(_IDENTITY)

    @classmethod
    def of(cls, options: Mapping[str, Any], model: SimModel) -> "RunnerOptions":
        """Read them from a request's `options`; an absent context size is the automatic one."""
        num_ctx = options.get("num_ctx") or DEFAULT_CONTEXT
        others = tuple(options.get(name) for name in _IDENTITY)
        return cls(min(num_ctx, model.context_length), others)


class Runner(MutableRecord):
    """A model in memory. `expires` is on the clock of the residency.

    `stay_s` is how long it stays after a request: what a request said last, for all later ones (wire facts
    A8). `dead`: its process has crashed; it is still listed, and the next request reloads it. `leaving`: a
    reload waits for its requests to end; new ones wait for it. `dismissed`: unloaded by a client while
    busy; it goes with its last request. `blocked`: a request never ends, as its client went before the end.
    """

    model: SimModel
    options: RunnerOptions
    slots: asyncio.Semaphore
    expires: float
    stay_s: float
    users: int = 0
    dead: bool = False
    leaving: bool = False
    dismissed: bool = False
    blocked: bool = False
    idle: asyncio.Event = field(default_factory=asyncio.Event)

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Wait for a place among the requests served at once; one that is lost is never given back."""
        await self.slots.acquire()
        try:
            yield
        except SlotLostError:
            self.users += 1
            self.blocked = True
            raise
        except BaseException:
            self.slots.release()
            raise
        self.slots.release()


class Residency:
    """The memory of one server. Belongs to one event loop.

    A caller that is cancelled during its load aborts that load, and the next one starts from zero. A
    resident model is used at once, whatever else is loading. A model still loading is not listed.
    """

    def __init__(
        self,
        models: Iterable[SimModel],
        *,
        num_parallel: int,
        keep_alive_s: float,
        load_s: Callable[[SimModel], float],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Put the models marked as resident in memory.

        One runner serves `num_parallel` requests at once. `load_s` is how long the load that begins now
        takes; it may raise `LoadFailedError`. `clock` is monotonic.
        """
        self.keep_alive_s = keep_alive_s
        self.loading: str | None = None
        """The model whose load goes on now."""
        self.loads: list[str] = []
        """Names of models whose load was begun, reloads too."""
        self.aborted_loads: list[str] = []
        """Names of models whose load was given up because the caller went away."""
        self._num_parallel = num_parallel
        self._load_s = load_s
        self._clock = clock
        self._loading = asyncio.Lock()
        self._runners = {m.name: self._runner(m, RunnerOptions.of({}, m)) for m in models if m.resident}

    def listed(self) -> list[tuple[Runner, float]]:
        """List what is in memory with the seconds it has left, the longest first."""
        self._expire()
        now = self._clock()
        remaining = [(runner, runner.expires - now) for runner in self._runners.values()]
        return sorted(remaining, key=lambda pair: -pair[1])

    def drop(self, name: str | None = None) -> None:
        for model in [name] if name is not None else list(self._runners):
            self._runners.pop(model, None)

    def unload(self, name: str) -> None:
        """Let a model go: now when idle, else after its requests."""
        runner = self._runners.get(name)
        if runner is not None:
            runner.expires, runner.dismissed = self._clock(), True
            if runner.blocked:
                self.drop(name)
        self._expire()

    @asynccontextmanager
    async def hold(
        self, model: SimModel, options: RunnerOptions, keep_alive_s: float | None
    ) -> AsyncIterator[Runner]:
        """Load the model if need be and keep it for the time of the block; its timer restarts after it.

        Raises LoadFailedError from `load_s`; nothing else is in memory then.
        """
        runner = self._ready(model, options)
        if runner is None:
            async with self._loading:
                runner = self._ready(model, options) or await self._load(model, options)
                runner.users += 1
        else:
            runner.users += 1
        runner.dismissed = False
        runner.idle.clear()
        try:
            yield runner
        finally:
            runner.users -= 1
            if keep_alive_s is not None:
                runner.stay_s = keep_alive_s
            stay_s = 0.0 if runner.dismissed else runner.stay_s
            runner.expires = self._clock() + (FOREVER_S if stay_s < 0 else stay_s)
            if not runner.users:
                runner.idle.set()
            self._expire()

    def _ready(self, model: SimModel, options: RunnerOptions) -> Runner | None:
        self._expire()
        runner = self._runners.get(model.name)
        fit = runner is not None and runner.options == options and not runner.dead and not runner.leaving
        return runner if fit else None

    async def _load(self, model: SimModel, options: RunnerOptions) -> Runner:
        old = self._runners.get(model.name)
        if old is not None:
            await self._see_off(old)
        self.loading = model.name
        self.loads.append(model.name)
        try:
            await asyncio.sleep(self._load_s(model))
        except LoadFailedError:
            self.drop()
            raise
        except asyncio.CancelledError:
            self.aborted_loads.append(model.name)
            raise
        finally:
            self.loading = None
        runner = self._runners[model.name] = self._runner(model, options)
        return runner

    async def _see_off(self, old: Runner) -> None:
        old.leaving = True
        try:
            if not old.dead:
                await old.idle.wait()
        finally:
            old.leaving = False
        self.drop(old.model.name)

    def _runner(self, model: SimModel, options: RunnerOptions) -> Runner:
        stay_s = FOREVER_S if self.keep_alive_s < 0 else self.keep_alive_s
        slots = asyncio.Semaphore(self._num_parallel)
        runner = Runner(model, options, slots, self._clock() + stay_s, self.keep_alive_s)
        runner.idle.set()
        return runner

    def _expire(self) -> None:
        now = self._clock()
        for name, runner in list(self._runners.items()):
            if not runner.users and runner.expires <= now:
                self._runners.pop(name)
