"""The survey of one run: what was read, each fact once, and the connections with which it is read."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Hashable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar, TypeVarTuple, cast

from opskit.config.schema import Config, NodeConfig
from opskit.records import replace
from opskit.system.lock import try_lock
from opskit.system.threads import use_abandonable_threads

if TYPE_CHECKING:
    from opskit.providers.node import Node
    from opskit.system.docker import Docker
    from opskit.system.sockets import SocketTable

T = TypeVar("T")
Ts = TypeVarTuple("Ts")
#: A collector reads one fact: `async def read_thing(survey, *arguments) -> Thing`.
Collector = Callable[["Survey", *Ts], Awaitable[T]]
#: Since when (monotonic seconds) the facts must be fresh on which the reading under way stands.
_FRESH_SINCE: ContextVar[float] = ContextVar("fresh_since", default=0.0)


@dataclass(eq=False)
class Survey:
    """Reads each fact once in a run; an async context manager that closes every connection it opened.

    Facts are kept by their collector and its arguments, which must be hashable. `state_folder` holds the
    locks of probes, and `remembered` returns what recovery keeps of the stack. Entering it makes the running
    loop use threads that may be left behind.
    """

    config: Config
    environ: Mapping[str, str]
    _: KW_ONLY
    state_folder: Path
    cwd: Path
    config_path: str | None = None
    remembered: Callable[[], Mapping[str, Any]] = dict
    _stack: contextlib.AsyncExitStack = field(default_factory=contextlib.AsyncExitStack, init=False)
    _nodes: "dict[NodeConfig, Node]" = field(default_factory=dict, init=False)
    _docker: "Docker | None" = field(default=None, init=False)
    _readings: "dict[Hashable, _KeptFact]" = field(default_factory=dict, init=False)

    def open(self) -> None:
        """Prepare the running loop; entering the survey does this too."""
        use_abandonable_threads()

    async def aclose(self) -> None:
        await self._stack.aclose()

    async def __aenter__(self) -> Self:
        self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    @contextlib.contextmanager
    def probe_lock(self, node: str) -> Iterator[bool]:
        """Take the lock under which a model is asked: False when another probe asks this node just now.

        A state folder that cannot be written keeps nobody from asking.
        """
        with contextlib.ExitStack() as stack:
            is_ours = True
            with contextlib.suppress(OSError):
                is_ours = stack.enter_context(try_lock(self.state_folder / f"probe-{node}.lock"))
            yield is_ours

    def note_left(self, node: NodeConfig, model: str, seconds: float) -> None:
        """Log a question of a probe that was left before its end; a state folder may keep us from it."""
        from opskit.llm.one_token import note_left
        from opskit.system.logfile import LOG_NAME, RotatingLog
        from opskit.tags import TagLog

        limits = self.config.log
        with contextlib.suppress(OSError):
            file = RotatingLog(
                self.state_folder / LOG_NAME, max_bytes=limits.max_bytes, backups=limits.backups
            )
            note_left(TagLog(file), node, model, seconds)
            file.close()

    async def get(self, collector: Collector[*Ts, T], *args: *Ts, not_before: float = 0.0) -> T:
        """Return a fact: read now, or what this run read at `not_before` (monotonic seconds) or later.

        Facts that a collector itself asks for are as fresh. Whoever asks while it is being read waits for
        that reading. Raises what the collector raises; a reading that failed, or was cut off, is not kept.
        """
        not_before = max(not_before, _FRESH_SINCE.get())
        key = (collector, *args)
        reading = self._readings.setdefault(key, _KeptFact())
        async with reading.lock:
            if not reading.known or reading.began < not_before:
                began = time.monotonic()
                outer = _FRESH_SINCE.set(not_before)
                try:
                    reading.fact = await collector(self, *args)
                finally:
                    _FRESH_SINCE.reset(outer)
                reading.began, reading.known = began, True
            return cast("T", reading.fact)

    def known(self, collector: Collector[*Ts, T]) -> dict[tuple[*Ts], T]:
        """Return what this run has read with a collector, by its arguments. Reads nothing."""
        return {
            key[1:]: reading.fact
            for key, reading in self._readings.items()
            if reading.known and isinstance(key, tuple) and key[0] is collector
        }

    def node(self, config: NodeConfig) -> "Node":
        """Return the client of a model server, one for each address; its metadata has `probe.http_s`."""
        from opskit.providers.node import Node

        if config not in self._nodes:
            budgets = replace(self.config.budgets, metadata_s=self.config.probe.http_s)
            self._nodes[config] = node = Node(config, budgets)
            self._stack.push_async_callback(node.aclose)
        return self._nodes[config]

    async def docker(self) -> "Docker":
        """Return the client of Docker; its questions raise OpskitError DOCKER_*."""
        if self._docker is None:
            from opskit.system.docker import Docker

            docker = Docker(self.environ)
            self._docker = docker
            await self._stack.enter_async_context(docker)
        return self._docker


class _KeptFact:
    """One fact that is read, or will be. `began` is monotonic."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.known = False
        self.began = 0.0
        self.fact: Any = None


async def read_sockets(_: Survey) -> "SocketTable":
    from opskit.system.sockets import SocketTable

    return await asyncio.to_thread(SocketTable.read, time.monotonic())
