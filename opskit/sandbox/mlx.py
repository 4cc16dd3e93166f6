"""A simulated MLX server (`mlx_lm.server`): HTTP/1.0, one model slot, errors as 404 or as nothing."""

import asyncio
import contextlib
import json
import platform
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from email.utils import formatdate
from types import MappingProxyType
from typing import Any

from aiohttp import HttpVersion10, web

from opskit.sandbox import mlx_wire as wire
from opskit.sandbox.faults import SHOWN_BY, FaultBoard, SandboxFault, refusals
from opskit.sandbox.faults import SandboxFaultKind as K
from opskit.sandbox.generation import (
    GENERATION,
    Ending,
    Reply,
    Script,
    count_tokens,
    default_reply,
    write_script,
)
from opskit.sandbox.mlx_wire import InvalidRequestError, MlxPackets
from opskit.sandbox.ollama_memory import LoadFailedError
from opskit.sandbox.server import (
    CLEANUP_S,
    GARBAGE,
    MAX_BODY_BYTES,
    SLOW_LOAD_S,
    SLOW_TOKEN_S,
    SimulatedServer,
    reset,
)

RETRY_AFTER_S = 5.0
PREFILL_STEPS = 4
FIRST_WITH_400 = (0, 32, 2)
"""The release that answers 400 to an invalid parameter; before it the connection just closed."""

#: How the real server, a bare http.server of Python, names itself.
_SERVER = f"BaseHTTP/0.6 Python/{platform.python_version()}"
Headers = Mapping[str, str]
_NO_HEADERS: Headers = MappingProxyType({})
_JSON = {"Content-type": "application/json"}
_EVENTS = {"Content-type": "text/event-stream"}
_BROWSERS = {f"Access-Control-Allow-{name}": "*" for name in ("Origin", "Methods", "Headers")}
_GENERATING = {*wire.CHAT_PATHS, wire.TEXT_PATH}
_BEFORE_LOAD = frozenset({K.RESET, K.EMPTY_REPLY, K.ZOMBIE, K.GARBAGE})


class EmptyReplyError(Exception):
    """The connection ends here, with nothing more written."""


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


class SimulatedMlx(SimulatedServer):
    """The MLX server as far as a client can tell.

    As in the real one a client that has left is noticed at the next write only.
    """

    slot: ModelSlot

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
        """Nothing listens before `start`.

        `listed` are the repositories in the cache: what `/v1/models` shows and what can be swapped in;
        `default_model` is loaded at the start, whether or not it is listed. `sizes` are bytes of each model,
        for tests that ask this object: nothing on the wire says them. `load_s` is how long a swap takes,
        `token_s` the pause between tokens. Raises ValueError for a fault that an MLX server cannot show.
        """
        super().__init__("mlx", SHOWN_BY["mlx"], faults, host, port)
        self.swaps: list[str] = []
        """Models asked for that were not the resident one, in order, whether or not they could be loaded."""
        self.listed = list(listed)
        self.default_model = default_model
        self.sizes = dict(sizes or {})
        self.reply = reply or default_reply
        self.load_s = load_s
        self.token_s = token_s
        self.fingerprint = f"{version}-0.32.0-{platform.platform()}-applegpu_g16s"
        numbers = tuple(int(part) for part in re.findall(r"\d+", version)[:3])
        self.answers_invalid = numbers >= FIRST_WITH_400
        self._begin()

    @property
    def resident(self) -> str | None:
        """The loaded model; None while one loads and after a load that failed."""
        return self.slot.resident

    def _begin(self) -> None:
        self.slot = ModelSlot(self.default_model, self._load, self.swaps)

    def _make_runner(self) -> web.BaseRunner:
        server = web.Server(self._answer, request_factory=_as_http_1_0, access_log=None, lingering_time=0)
        return web.ServerRunner(server, handle_signals=False, shutdown_timeout=CLEANUP_S)

    def _fault_set(self, model: str | None, fault: SandboxFault) -> None:
        loading = {K.SLOW_LOAD, K.OOM}
        if fault.kind in loading and model in {None, self.slot.resident}:
            self.slot.resident = None

    async def _load(self, model: str) -> None:
        if fault := self.faults.take(model, {K.OOM}):
            raise LoadFailedError(fault.text_or(refusals("mlx")[K.NOTFOUND_ALL][1]))
        if model != self.default_model and model not in self.listed:
            raise LoadFailedError(refusals("mlx")[K.NOT_INSTALLED][1].replace("{model}", model))
        fault = self.faults.take(model, {K.SLOW_LOAD})
        await asyncio.sleep(fault.seconds_or(SLOW_LOAD_S) if fault else self.load_s)

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request; the connection ends with the answer."""
        exchange = MlxExchange(self, request)
        try:
            return await exchange.answer()
        except (EmptyReplyError, ConnectionError):
            if request.transport is not None:
                request.transport.close()
            return web.Response()


class MlxExchange:
    """One request and its answer."""

    def __init__(self, node: SimulatedMlx, request: web.BaseRequest) -> None:
        self.node = node
        self.request = request
        #: With its query: nothing but the exact paths is known.
        self.path = request.raw_path
        self.created = int(time.time())
        self.generates = request.method == "POST" and self.path in _GENERATING
        self.length = request.headers.get("Content-Length")

    async def answer(self) -> web.StreamResponse:
        """Record the request and answer it."""
        reads_body = self.generates and self.length is not None and self.length.isdigit()
        raw = await self.request.read() if reads_body else b""
        await self.node.receive(self.request, raw)
        return await self._respond(raw)

    async def _respond(self, raw: bytes) -> web.StreamResponse:
        match self.request.method:
            case "OPTIONS":
                return await self._head(204)
            case "GET" if self.path == "/health":
                return await self._send(200, {"status": "ok"})
            case "GET" if self.path.startswith("/v1/models"):
                return await self._send_models()
            case "POST" if self.generates:
                return await self._post(raw)
            case "GET" | "POST":
                return await self._send(404, "Not Found")
            case method:
                reason = f"Unsupported method ({method!r})"
                return web.Response(status=501, reason=reason, headers={"Server": _SERVER})

    async def _post(self, raw: bytes) -> web.StreamResponse:
        """Check the request in the order of the real server, then generate."""
        if self.length is None:
            return await self._refuse(411, "Content-Length header is required")
        if not self.length.isdigit():
            return await self._refuse(400, "Invalid Content-Length header")
        try:
            body = json.loads(raw)
        except json.JSONDecodeError as exc:
            return await self._refuse(400, f"Invalid JSON in request body: {exc}")
        if not isinstance(body, dict):
            return await self._refuse(400, "Request should be a JSON dictionary")
        try:
            wire.check_request(self.path, body)
        except InvalidRequestError as exc:
            if not self.node.answers_invalid:
                raise EmptyReplyError from exc
            return await self._refuse(400, str(exc))
        sent = body.get("model", "default_model")
        model = self.node.default_model if sent == "default_model" else sent
        if fault := self.node.faults.take(model, {*_BEFORE_LOAD, *refusals("mlx")}):
            return await self._turn_away(fault, model)
        try:
            async with self.node.slot.hold(model):
                return await self._generate(body, sent, model)
        except LoadFailedError as exc:
            return await self._refuse(404, str(exc))

    async def _turn_away(self, fault: SandboxFault, model: str) -> web.StreamResponse:
        """Show a fault that comes before any model is touched."""
        if fault.kind is K.ZOMBIE:
            await self.node.hang()
        if fault.kind is K.RESET:
            reset(self.request)
        if fault.kind in {K.RESET, K.EMPTY_REPLY}:
            raise EmptyReplyError
        if fault.kind is K.GARBAGE:
            return await self._send(200, fault.text_or(GARBAGE))
        status, body = wire.refusal(fault, model)
        if status == 200:
            # An answer that llama.cpp's server cannot parse is an error in the stream.
            answer = await self._head(status, _EVENTS)
            await answer.write(wire.event(body))
            return answer
        retry_after = {"Retry-After": fault.retry_after(RETRY_AFTER_S)} if status in {429, 503} else {}
        return await self._send(status, body, retry_after)

    async def _generate(self, body: dict[str, Any], sent: str, model: str) -> web.StreamResponse:
        messages = wire.messages_of(self.path, body)
        fault = self.node.faults.take(model, GENERATION)
        script = write_script(fault, messages, model, self.node.reply, wire.token_limit(body))
        packets = MlxPackets(
            self.path,
            sent,
            stream=body.get("stream") is True,
            fingerprint=self.node.fingerprint,
            prompt_tokens=max(1, count_tokens(messages)),
            created=self.created,
        )
        slow = self.node.faults.take(model, {K.SLOW_TOKEN})
        prefill_s = slow.seconds_or(SLOW_TOKEN_S) if slow else 0.0
        if packets.stream:
            return await self._stream(body, packets, script, prefill_s)
        await asyncio.sleep(prefill_s)
        return await self._whole(packets, script)

    async def _stream(
        self, body: dict[str, Any], packets: MlxPackets, script: Script, prefill_s: float
    ) -> web.StreamResponse:
        """Tell the progress of the prompt, then the tokens one by one."""
        answer = await self._head(200, {**_EVENTS, "Cache-Control": "no-cache"})
        total = packets.prompt_tokens
        for step in range(PREFILL_STEPS if prefill_s else 1):
            await answer.write(wire.keepalive(total * step // PREFILL_STEPS if prefill_s else total, total))
            await asyncio.sleep(prefill_s / PREFILL_STEPS)
        for token in script.tokens[: script.sent]:
            await asyncio.sleep(self.node.token_s)
            await answer.write(packets.event(token, None))
        if script.ending is Ending.HANG:
            await self.node.hang()
        if script.ending is Ending.CUT:
            raise EmptyReplyError
        await answer.write(packets.event("", script.reason))
        options = body.get("stream_options")
        if options is not None:
            if not isinstance(options, dict) or "include_usage" not in options:
                raise EmptyReplyError
            if options["include_usage"]:
                await answer.write(packets.usage_event(_counted(script)))
        await answer.write(wire.DONE)
        return answer

    async def _whole(self, packets: MlxPackets, script: Script) -> web.StreamResponse:
        if script.ending is Ending.HANG:
            await self.node.hang()
        await asyncio.sleep(self.node.token_s * script.sent)
        raw = json.dumps(packets.packet(script.text, script.reason, _counted(script))).encode()
        answer = await self._head(200, more={"Content-Length": str(len(raw))})
        if script.ending is Ending.CUT:
            await answer.write(raw[: len(raw) * script.sent // (len(script.tokens) + 1)])
            raise EmptyReplyError
        await answer.write(raw)
        return answer

    async def _send_models(self) -> web.StreamResponse:
        if self.node.faults.peek(None, {K.UNAUTHORISED}):
            return await self._refuse(401, {"message": "invalid API key", "type": "invalid_request_error"})
        if fault := self.node.faults.take(None, {K.GARBAGE_TAGS}):
            return await self._send(200, fault.text_or('{"object": "list", "data": ['))
        parts = self.path.split("/")
        only = "/".join(parts[3:]) if len(parts) > 3 else None
        names = [name for name in self.node.listed if only is None or name == only]
        return await self._send(200, wire.models_body(names, self.created))

    async def _refuse(self, status: int, error: str | dict[str, Any]) -> web.StreamResponse:
        return await self._send(status, {"error": error})

    async def _send(
        self, status: int, body: str | dict[str, Any], more: Headers = _NO_HEADERS
    ) -> web.StreamResponse:
        """Send a body without its length; a text, too, as if it were JSON."""
        answer = await self._head(status, more=more)
        await answer.write((body if isinstance(body, str) else json.dumps(body)).encode())
        return answer

    async def _head(
        self, status: int, kind: Headers = _JSON, more: Headers = _NO_HEADERS
    ) -> web.StreamResponse:
        """Send the headers, `more` of them behind the headers for browsers."""
        named = {"Server": _SERVER, "Date": formatdate(usegmt=True)}
        answer = web.StreamResponse(status=status, headers={**named, **kind, **_BROWSERS, **more})
        await answer.prepare(self.request)
        return answer


def _as_http_1_0(message: Any, payload: Any, protocol: Any, writer: Any, task: Any) -> web.BaseRequest:
    """Return a request that is answered in HTTP/1.0 and ends its connection, whatever its client speaks."""
    message = message._replace(version=HttpVersion10, should_close=True)
    loop = asyncio.get_running_loop()
    return web.BaseRequest(message, payload, protocol, writer, task, loop, client_max_size=MAX_BODY_BYTES)


def _counted(script: Script) -> int:
    """Count the tokens as the real server does: the one that ends the text is counted too."""
    return len(script.tokens) + (script.reason == "stop")
