"""An HTTP/1.1 server on loopback that can be refused, silenced, reset, cut and restarted at will."""

import asyncio
import socket
import time
from abc import ABC, abstractmethod
from collections.abc import Collection
from types import TracebackType
from typing import NoReturn, Self

from aiohttp import web
from aiohttp.typedefs import Handler

from opskit.sandbox.faults import FaultBoard, SandboxFault, SandboxFaultKind
from opskit.sandbox.records import Recorded, json_object, model_named
from opskit.sandbox.sockets import bound_socket, reset_on_close, url_of

MAX_BODY_BYTES = 64 * 2**20
BACKLOG = 128
CLEANUP_S = 0.05
"""How long a stop waits for handlers that were already cancelled."""


class SimulatedServer(ABC):
    """What the simulated Ollama and the simulated agents have in common.

    A client that goes away cancels its handler. `refuse` closes the listener and every connection, as a
    dead process does, and keeps the port bound meanwhile. Not safe to share between event loops; the fault
    board may be changed from any thread.
    """

    def __init__(
        self,
        name: str,
        *,
        shows: Collection[SandboxFaultKind],
        faults: FaultBoard | None,
        host: str,
        port: int,
    ) -> None:
        self.name = name
        self.host = host
        self.port = port
        self.requests: list[Recorded] = []
        self.faults = FaultBoard() if faults is None else faults
        self.faults.restrict(shows, name)
        self._runner: web.AppRunner | None = None
        self._server: asyncio.Server | None = None
        self._socket: socket.socket | None = None
        self._listening = False
        self._tasks: set[asyncio.Task[object]] = set()
        self._board_changed = asyncio.Event()

    @property
    def url(self) -> str:
        """Base URL without a trailing slash; known once started."""
        return url_of(self.host, self.port)

    @property
    def running(self) -> bool:
        """Whether it was started and not stopped; also true while it refuses connections."""
        return self._runner is not None

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
        """Listen on the port, a free one at first and the same one ever after.

        Raises:
            OSError: another process has taken the port meanwhile.

        """
        if self._runner is not None:
            return
        self._loop = asyncio.get_running_loop()
        self._board_changed = asyncio.Event()
        app = web.Application(middlewares=[self._front], client_max_size=MAX_BODY_BYTES)
        app.on_response_prepare.append(_sign_off)
        self._add_routes(app.router)
        runner = web.AppRunner(
            app, access_log=None, handle_signals=False, handler_cancellation=True, shutdown_timeout=CLEANUP_S
        )
        self._socket = bound_socket(self.host, self.port)
        self.port = self._socket.getsockname()[1]
        await runner.setup()
        self._runner = runner
        self._unsubscribe = self.faults.subscribe(self._on_board_change)
        for model, fault in self.faults.active():
            self._fault_hung(model, fault)
        if self.faults.peek(None, {SandboxFaultKind.REFUSE}) is None:
            self._socket.listen(BACKLOG)
            self._listening = True
            await self._accept(self._socket)

    async def stop(self) -> None:
        """Drop every connection, cancel every handler, give the port back; again is harmless."""
        runner, self._runner = self._runner, None
        if runner is None:
            return
        self._unsubscribe()
        self._close_listener()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        self._drop_connections(runner)
        await runner.cleanup()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)

    @abstractmethod
    def _add_routes(self, router: web.UrlDispatcher) -> None:
        """Add the endpoints of this kind of server."""

    @abstractmethod
    def _fault_hung(self, model: str | None, fault: SandboxFault) -> None:
        """React to a fault that changes the server's state at once; called in the event loop."""

    def _screen(self, request: web.Request) -> web.Response | None:  # noqa: ARG002
        """Turn a request away before it is routed; None lets it in."""
        return None

    def _not_routed(self, problem: web.HTTPException) -> web.Response:
        """Answer a request that met no endpoint, or one too large."""
        return web.Response(status=problem.status, text=problem.text, headers=_allow(problem))

    async def _hang(self) -> NoReturn:
        """Wait until the client goes away or the server stops."""
        await asyncio.Event().wait()
        raise AssertionError

    async def _hang_while(self, kind: SandboxFaultKind) -> None:
        """Wait until no fault of this kind hangs on the whole node."""
        while self.faults.peek(None, {kind}) is not None:
            await self._board_changed.wait()

    async def _reset(self, request: web.Request) -> NoReturn:
        """End the connection by RST."""
        if request.transport is not None:
            reset_on_close(request.transport.get_extra_info("socket"))
            request.transport.abort()
        await self._hang()

    async def _cut(self, request: web.Request) -> NoReturn:
        """Send what was written so far, then end the connection in the middle of the answer."""
        if request.transport is not None:
            request.transport.close()
        await self._hang()

    async def _cut_body(self, request: web.Request, whole: web.Response, sent: float) -> NoReturn:
        """Send the headers of an answer and this share of its body, then drop the connection."""
        body = whole.body if isinstance(whole.body, bytes) else b""
        part = web.StreamResponse(status=whole.status)
        part.content_type = whole.content_type
        part.content_length = len(body)
        await part.prepare(request)
        await part.write(body[: int(len(body) * sent)])
        await self._cut(request)

    def _spawn(self, task: asyncio.Task[object]) -> None:
        """Keep a task of this server so that `stop` ends it."""
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    @web.middleware
    async def _front(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        task = asyncio.current_task()
        if task is not None:
            self._spawn(task)
        body = json_object(await request.read())
        self.requests.append(
            Recorded(
                time.monotonic(),
                request.method,
                request.path,
                model_named(body),
                body,
                {name.lower(): value for name, value in request.headers.items()},
            )
        )
        if self.faults.take(None, {SandboxFaultKind.SILENCE}) is not None:
            await self._hang()
        if turned_away := self._screen(request):
            return turned_away
        try:
            return await handler(request)
        except web.HTTPException as problem:
            return self._not_routed(problem)

    def _on_board_change(self, model: str | None, fault: SandboxFault | None) -> None:
        try:
            here = asyncio.get_running_loop() is self._loop
        except RuntimeError:
            here = False
        if here:
            self._follow_board(model, fault)
        else:
            self._loop.call_soon_threadsafe(self._follow_board, model, fault)

    def _follow_board(self, model: str | None, fault: SandboxFault | None) -> None:
        if self._runner is None:
            return
        self._board_changed.set()
        self._board_changed = asyncio.Event()
        if fault is not None:
            self._fault_hung(model, fault)
        refused = self.faults.peek(None, {SandboxFaultKind.REFUSE}) is not None
        if refused and self._listening:
            self._close_listener()
            self._drop_connections(self._runner)
            self._socket = bound_socket(self.host, self.port)
        elif not refused and not self._listening and self._socket is not None:
            self._socket.listen(BACKLOG)
            self._listening = True
            self._spawn(self._loop.create_task(self._accept(self._socket)))

    async def _accept(self, sock: socket.socket) -> None:
        if self._runner is None or sock is not self._socket:
            return
        factory = self._runner.server
        assert factory is not None  # noqa: S101
        self._server = await self._loop.create_server(factory, sock=sock, start_serving=False)
        await self._server.start_serving()

    def _close_listener(self) -> None:
        self._listening = False
        if self._server is not None:
            self._server.close()
            self._server = None
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    @staticmethod
    def _drop_connections(runner: web.AppRunner) -> None:
        for connection in runner.server.connections if runner.server else ():
            if connection.transport is not None:
                connection.transport.abort()


async def _sign_off(request: web.Request, response: web.StreamResponse) -> None:  # noqa: ARG001
    """Send no Server header, as the servers simulated here send none."""
    response.headers.pop("Server", None)


def _allow(problem: web.HTTPException) -> dict[str, str]:
    allow = problem.headers.get("Allow")
    return {} if allow is None else {"Allow": allow}
