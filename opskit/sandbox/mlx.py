"""A simulated MLX server (`mlx_lm.server`)."""

import asyncio
import platform
import re
import threading
import time
from collections.abc import Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import Self

from opskit.sandbox.faults import FaultBoard, SandboxFault, SandboxFaultKind
from opskit.sandbox.kinds import MLX_FAULTS
from opskit.sandbox.mlx_handler import MlxHandler
from opskit.sandbox.mlx_slot import ModelLoadError, ModelSlot, StoppedError
from opskit.sandbox.mlx_wire import OUT_OF_MEMORY, repository_not_found
from opskit.sandbox.records import Recorded
from opskit.sandbox.replies import Reply, default_reply
from opskit.sandbox.sockets import bound_socket, url_of
from opskit.sandbox.threaded import TrackedServer

SLOW_LOAD_S = 5.0
STOP_S = 0.4
"""How long a stop waits for connection threads; they have nothing left to wait for by then."""
JOIN_POLL_S = 0.002
FIRST_WITH_400 = (0, 32, 2)
"""The release that answers 400 to an invalid parameter; before it the connection just closed."""


class SimulatedMlx:
    """The MLX server as far as a client can tell: HTTP/1.0, one model slot, errors as 404 or as nothing.

    It runs in threads of its own, since the real one does; `start` and `stop` belong to an event loop.
    """

    def __init__(
        self,
        *,
        listed: Sequence[str],
        default_model: str,
        sizes: Mapping[str, int] | None = None,
        reply: Reply | None = None,
        faults: FaultBoard | None = None,
        load_s: float = 0.0,
        token_s: float = 0.0,
        version: str = "0.32.0",
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        """Describe the server; nothing listens before `start`.

        Args:
            listed: repositories in the cache: what `/v1/models` shows and what can be swapped in.
            default_model: what it was started with; it is loaded, whether or not it is listed.
            sizes: bytes of each model, for whoever asks this object; nothing on the wire tells them.
            reply: what the models say.
            faults: shared from outside, or a board of its own.
            load_s: how long a swap takes.
            token_s: pause between tokens.
            version: of mlx-lm; from 0.32.2 an invalid parameter is answered by 400, earlier by nothing.
            host: loopback address to bind.
            port: 0 for a free one.

        Raises:
            ValueError: the board holds a fault that an MLX server cannot show.
        """
        self.name = "mlx"
        self.host = host
        self.port = port
        self.requests: list[Recorded] = []
        self.swaps: list[str] = []
        """Models asked for that were not the resident one, in order, whether or not they could be loaded."""
        self.faults = FaultBoard() if faults is None else faults
        self.faults.restrict(MLX_FAULTS, self.name)
        self.listed = list(listed)
        self.default_model = default_model
        self.sizes = dict(sizes or {})
        self.reply = reply or default_reply
        self.load_s = load_s
        self.token_s = token_s
        self.fingerprint = f"{version}-0.32.0-{platform.platform()}-applegpu_g16s"
        numbers = tuple(int(part) for part in re.findall(r"\d+", version)[:3])
        self.answers_invalid = numbers >= FIRST_WITH_400
        self._lock = threading.Lock()
        self._server: TrackedServer | None = None
        self._ended: list[TrackedServer] = []
        self._started = False
        self._begin_cold()

    @property
    def url(self) -> str:
        """Base URL without a trailing slash; known once started."""
        return url_of(self.host, self.port)

    @property
    def resident(self) -> str | None:
        """The loaded model; None while one loads and after a load that failed."""
        return self.slot.resident

    async def __aenter__(self) -> Self:
        """Start."""
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop."""
        await self.stop()

    async def start(self) -> None:
        """Listen on the port, a free one at first and the same one ever after; the default model is loaded.

        Raises:
            OSError: another process has taken the port meanwhile.
        """
        if self._started:
            return
        self._begin_cold()
        self._reserved = bound_socket(self.host, self.port)
        self.port = self._reserved.getsockname()[1]
        self._started = True
        self._unsubscribe = self.faults.subscribe(self._on_board_change)
        for model, fault in self.faults.active():
            self._fault_hung(model, fault)
        self._follow_refusal()

    async def stop(self) -> None:
        """Break every connection, end every thread, give the port back; again is harmless."""
        if not self._started:
            return
        self._started = False
        self._unsubscribe()
        with self._lock:
            self._end_waits()
            if self._server is not None:
                self._close(self._server)
            else:
                self._reserved.close()
        deadline = time.monotonic() + STOP_S
        while any(server.alive() for server in self._ended) and time.monotonic() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(JOIN_POLL_S)
        self._ended.clear()

    def pause(self, seconds: float | None) -> None:
        """Sleep in a connection's thread, for ever when None.

        Raises:
            StoppedError: the server stops.
        """
        if self._stopping.wait(seconds):
            raise StoppedError

    def _begin_cold(self) -> None:
        """Be as a process that has just started and loaded its default model."""
        self._stopping = threading.Event()
        self.slot = ModelSlot(self.default_model, load=self._load, stopping=self._stopping, swaps=self.swaps)

    def _end_waits(self) -> None:
        self._stopping.set()
        self.slot.wake()

    def _load(self, model: str) -> None:
        if fault := self.faults.take(model, {SandboxFaultKind.OOM}):
            raise ModelLoadError(OUT_OF_MEMORY if fault.text is None else fault.text)
        if model != self.default_model and model not in self.listed:
            raise ModelLoadError(repository_not_found(model))
        fault = self.faults.take(model, {SandboxFaultKind.SLOW_LOAD})
        if fault is None:
            self.pause(self.load_s)
        else:
            self.pause(SLOW_LOAD_S if fault.seconds is None else fault.seconds)

    def _fault_hung(self, model: str | None, fault: SandboxFault) -> None:
        load_faults = {SandboxFaultKind.SLOW_LOAD, SandboxFaultKind.OOM}
        if fault.kind in load_faults and model in {None, self.slot.resident}:
            self.slot.evict()

    def _on_board_change(self, model: str | None, fault: SandboxFault | None) -> None:
        if fault is not None:
            self._fault_hung(model, fault)
        self._follow_refusal()

    def _follow_refusal(self) -> None:
        """Close or open the listener as the board says; the port stays bound either way."""
        with self._lock:
            refused = self.faults.peek(None, {SandboxFaultKind.REFUSE}) is not None
            if refused and self._server is not None:
                self._end_waits()
                self._close(self._server)
                self._reserved = bound_socket(self.host, self.port)
            elif not refused and self._server is None and self._started:
                if self._stopping.is_set():
                    self._begin_cold()
                self._server = TrackedServer(self._reserved, partial(MlxHandler, self))

    def _close(self, server: TrackedServer) -> None:
        server.close()
        self._ended.append(server)
        self._server = None
