"""A simulated server on loopback that can be refused, silenced, reset, cut and restarted at will."""

import asyncio
import json
import socket
import struct
import time
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn, Self

from aiohttp import web
from aiohttp.typedefs import Handler

from opskit.sandbox.faults import FaultBoard, SandboxFault
from opskit.sandbox.faults import SandboxFaultKind as K

GARBAGE = "<html><body>upstream</body>"
SLOW_LOAD_S = 5.0
SLOW_TOKEN_S = 2.0
MAX_BODY_BYTES = 64 * 2**20
BACKLOG = 128
CLEANUP_S = 0.05
"""How long a stop waits for handlers that were already cancelled."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """One request as it arrived. `at` is `time.monotonic()`.

    `path` is without the query, `model` as sent. `body` is None when it was absent or no JSON object.
    """

    at: float
    method: str
    path: str
    model: str | None
    body: dict[str, Any] | None
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Names in lower case."""


class SimulatedServer(ABC):
    """What all simulated servers have in common: a port, a fault board, and a record of the requests.

    `refuse` closes the listener and every connection, as a dead process does, and keeps the port bound
    meanwhile. Not safe to share between event loops; the fault board may be changed from any thread.
    """

    def __init__(
        self, name: str, shows: Collection[K], faults: FaultBoard | None, host: str, port: int
    ) -> None:
        """Raises ValueError when the board holds a fault that is not among `shows`. Port 0 is a free one."""
        self.name = name
        self.host = host
        self.port = port
        self.requests: list[Recorded] = []
        self.faults = FaultBoard() if faults is None else faults
        self.faults.restrict(shows, name)
        self._running = False
        self._listening = False
        self._socket: socket.socket | None = None
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[object]] = set()
        self._board_changed = asyncio.Event()

    @property
    def url(self) -> str:
        """Base URL without a trailing slash; known once started."""
        return f"http://[{self.host}]:{self.port}" if ":" in self.host else f"http://{self.host}:{self.port}"

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Listen on the port, a free one at first and the same one ever after.

        Raises OSError when another process has taken the port meanwhile.
        """
        if self._running:
            return
        self._loop = asyncio.get_running_loop()
        self._board_changed = asyncio.Event()
        self._socket = _bound_socket(self.host, self.port)
        self.port = self._socket.getsockname()[1]
        self._begin()
        self._runner = self._make_runner()
        await self._runner.setup()
        self._running = True
        self._unsubscribe = self.faults.subscribe(self._on_board_change)
        for model, fault in self.faults.active():
            self._fault_set(model, fault)
        if not self._refused:
            self._socket.listen(BACKLOG)
            self._listening = True
            await self._accept(self._socket)

    async def stop(self) -> None:
        """Drop every connection, cancel every handler, give the port back; again is harmless."""
        if not self._running:
            return
        self._running = False
        self._unsubscribe()
        self._close_listener()
        tasks = self._break_off()
        await self._runner.cleanup()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)

    @abstractmethod
    def _begin(self) -> None:
        """Be as a process that has just started."""

    @abstractmethod
    def _make_runner(self) -> web.BaseRunner:
        """Return what answers the requests of all connections."""

    @property
    def connections(self) -> int:
        return len(self._handlers)

    @property
    def _handlers(self) -> list[web.RequestHandler]:
        return self._runner.server.connections if self._runner.server is not None else []

    def _fault_set(self, model: str | None, fault: SandboxFault) -> None:
        """React to a fault that changes the server's state at once; called in the event loop."""
        del model, fault

    async def receive(self, request: web.BaseRequest, raw: bytes) -> None:
        """Record a request; under `silence` nothing more happens."""
        self._spawn(asyncio.current_task())
        body = json_object(raw)
        # Older clients of Ollama send `name`.
        named = [value for key in ("model", "name") if isinstance(value := (body or {}).get(key), str)]
        headers = {name.lower(): value for name, value in request.headers.items()}
        model = named[0] if named else None
        self.requests.append(Recorded(time.monotonic(), request.method, request.path, model, body, headers))
        if self.faults.take(None, {K.SILENCE}) is not None:
            await self.hang()

    def _spawn(self, task: asyncio.Task[object] | None) -> None:
        """Keep a task of this server so that `stop` ends it."""
        if task is not None:
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def hang(self) -> NoReturn:
        """Wait until the server stops, or breaks the connection off."""
        await asyncio.Event().wait()
        raise AssertionError

    def _on_board_change(self, model: str | None, fault: SandboxFault | None) -> None:
        try:
            same_loop = asyncio.get_running_loop() is self._loop
        except RuntimeError:
            same_loop = False
        if same_loop:
            self._follow_board(model, fault)
        else:
            self._loop.call_soon_threadsafe(self._follow_board, model, fault)

    def _follow_board(self, model: str | None, fault: SandboxFault | None) -> None:
        if not self._running:
            return
        self._board_changed.set()
        self._board_changed = asyncio.Event()
        if fault is not None:
            self._fault_set(model, fault)
        if self._refused and self._listening:
            self._close_listener()
            self._break_off()
            self._begin()
            self._socket = _bound_socket(self.host, self.port)
        elif not self._refused and not self._listening and self._socket is not None:
            # A client that connects before the task runs waits in the backlog.
            self._socket.listen(BACKLOG)
            self._listening = True
            self._spawn(self._loop.create_task(self._accept(self._socket)))

    @property
    def _refused(self) -> bool:
        return self.faults.peek(None, {K.REFUSE}) is not None

    async def _accept(self, sock: socket.socket) -> None:
        if self._running and sock is self._socket:
            server = self._runner.server
            assert server is not None  # noqa: S101
            self._server = await self._loop.create_server(server, sock=sock, start_serving=False)
            await self._server.start_serving()

    def _close_listener(self) -> None:
        self._listening = False
        if self._server is not None:
            self._server.close()
            self._server = None
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _break_off(self) -> list[asyncio.Task[object]]:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        for handler in self._handlers:
            if handler.transport is not None:
                handler.transport.abort()
        return tasks


class SimulatedWebServer(SimulatedServer):
    """A server that speaks HTTP/1.1. A client that goes away cancels its handler."""

    @abstractmethod
    def _add_routes(self, router: web.UrlDispatcher) -> None:
        """Add the endpoints of this kind of server."""

    def _screen(self, request: web.Request) -> web.Response | None:  # noqa: ARG002
        """Turn a request away before it is routed; None lets it in."""
        return None

    def _not_routed(self, problem: web.HTTPException) -> web.Response:
        """Answer a request that met no endpoint, or one too large."""
        allow = problem.headers.get("Allow")
        headers = {} if allow is None else {"Allow": allow}
        return web.Response(status=problem.status, text=problem.text, headers=headers)

    def _make_runner(self) -> web.BaseRunner:
        app = web.Application(middlewares=[self._front], client_max_size=MAX_BODY_BYTES)
        app.on_response_prepare.append(_sign_off)
        self._add_routes(app.router)
        return web.AppRunner(
            app, access_log=None, handle_signals=False, handler_cancellation=True, shutdown_timeout=CLEANUP_S
        )

    @web.middleware
    async def _front(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        await self.receive(request, await request.read())
        if turned_away := self._screen(request):
            return turned_away
        try:
            return await handler(request)
        except web.HTTPException as problem:
            return self._not_routed(problem)

    async def _hang_while(self, kind: K) -> None:
        """Wait until no fault of this kind is set for the whole node."""
        while self.faults.peek(None, {kind}) is not None:
            await self._board_changed.wait()

    async def _reset(self, request: web.Request) -> NoReturn:
        reset(request)
        await self.hang()

    async def _cut(self, request: web.Request) -> NoReturn:
        """Send what was written so far, then end the connection in the middle of the answer."""
        if request.transport is not None:
            request.transport.close()
        await self.hang()

    async def _cut_body(self, request: web.Request, whole: web.Response, sent: float) -> NoReturn:
        """Send the headers of an answer and this share of its body, then drop the connection."""
        body = whole.body if isinstance(whole.body, bytes) else b""
        part = web.StreamResponse(status=whole.status)
        part.content_type = whole.content_type
        part.content_length = len(body)
        await part.prepare(request)
        await part.write(body[: int(len(body) * sent)])
        await self._cut(request)


def json_object(raw: bytes) -> dict[str, Any] | None:
    """Read a JSON object; None for anything else."""
    try:
        value = json.loads(raw)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def reset(request: web.BaseRequest) -> None:
    """End the connection of a request by RST, so that the peer sees a connection reset."""
    if request.transport is not None:
        on_close = struct.pack("ii", 1, 0)
        request.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, on_close)
        request.transport.abort()


def _bound_socket(host: str, port: int) -> socket.socket:
    """Bind without listening: the port is taken, and a client that connects is refused."""
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setblocking(False)
        sock.bind((host, port))
    except BaseException:
        sock.close()
        raise
    return sock


async def _sign_off(request: web.Request, response: web.StreamResponse) -> None:  # noqa: ARG001
    """Send no Server header, as the servers simulated here send none."""
    response.headers.pop("Server", None)
