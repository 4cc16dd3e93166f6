"""A simulated MLX server (`mlx_lm.server`): HTTP/1.0, one model slot, errors as 404 or as nothing."""

import asyncio
import contextlib
import io
import json
import platform
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from http.server import BaseHTTPRequestHandler
from typing import Any

from opskit.sandbox import mlx_wire as wire
from opskit.sandbox.faults import MLX_FAULTS, FaultBoard, SandboxFault
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
from opskit.sandbox.mlx_slot import ModelSlot
from opskit.sandbox.mlx_wire import InvalidRequestError, MlxAnswer
from opskit.sandbox.ollama_memory import LoadFailedError
from opskit.sandbox.server import GARBAGE, MAX_BODY_BYTES, SLOW_LOAD_S, SLOW_TOKEN_S, SimulatedServer, reset

RETRY_AFTER_S = 5.0
PREFILL_STEPS = 4
FIRST_WITH_400 = (0, 32, 2)
"""The release that answers 400 to an invalid parameter; before it the connection just closed."""

_GENERATING = {*wire.CHAT_PATHS, wire.TEXT_PATH}
_ERRORS = {*wire.REFUSALS, *wire.GATEWAY_ERRORS, *wire.LLAMA_CPP_ERRORS}
_BEFORE_LOAD = frozenset({K.RESET, K.EMPTY_REPLY, K.ZOMBIE, K.GARBAGE, *_ERRORS})


class EmptyReplyError(Exception):
    """The connection ends here, with nothing more written."""


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
        super().__init__("mlx", MLX_FAULTS, faults, host, port)
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
        self._writers: set[asyncio.StreamWriter] = set()
        self._begin()

    @property
    def resident(self) -> str | None:
        """The loaded model; None while one loads and after a load that failed."""
        return self.slot.resident

    @property
    def connections(self) -> int:
        return len(self._writers)

    def _begin(self) -> None:
        self.slot = ModelSlot(self.default_model, self._load, self.swaps)

    async def _open(self) -> Callable[[], asyncio.BaseProtocol]:
        return lambda: asyncio.StreamReaderProtocol(asyncio.StreamReader(), self._connected)

    async def _close(self) -> None:
        pass

    def _transports(self) -> Iterable[asyncio.BaseTransport]:
        return [writer.transport for writer in self._writers]

    def _fault_set(self, model: str | None, fault: SandboxFault) -> None:
        loading = {K.SLOW_LOAD, K.OOM}
        if fault.kind in loading and model in {None, self.slot.resident}:
            self.slot.resident = None

    async def _load(self, model: str) -> None:
        if fault := self.faults.take(model, {K.OOM}):
            raise LoadFailedError(fault.text_or(wire.OUT_OF_MEMORY))
        if model != self.default_model and model not in self.listed:
            raise LoadFailedError(wire.REFUSALS[K.NOT_INSTALLED][1].replace("{model}", model))
        fault = self.faults.take(model, {K.SLOW_LOAD})
        await asyncio.sleep(fault.seconds_or(SLOW_LOAD_S) if fault else self.load_s)

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._spawn(self._loop.create_task(self._serve(reader, writer)))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request; the connection ends with the answer."""
        self._writers.add(writer)
        try:
            head = b""
            while (line := await reader.readline()).strip():
                head += line
            await MlxExchange(self, reader, writer, head + line).answer()
        except (OSError, ValueError):
            # The client has left, or a line of its request has no end.
            pass
        finally:
            self._writers.discard(writer)
            writer.close()


class MlxExchange(BaseHTTPRequestHandler):
    """One request and its answer.

    The request is parsed, and the head of an answer written, by the standard library as in the real server;
    its protocol version is the HTTP/1.0 of the base class.
    """

    wfile: io.BytesIO

    def __init__(
        self, server: SimulatedMlx, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes
    ) -> None:
        # The base class would read from a blocking socket.
        self.node = server
        self.reader = reader
        self.writer = writer
        self.created = int(time.time())
        self.rfile = io.BytesIO(head)
        self.wfile = io.BytesIO()
        self.client_address = ("", 0)
        self.close_connection = True
        self.raw_requestline = self.rfile.readline()
        self.is_valid = self.parse_request()

    async def answer(self) -> None:
        """Record the request and answer it; under `silence` nothing more happens, whatever its method."""
        if self.is_valid:
            length = self.headers.get("Content-Length", "")
            reads_body = self.command == "POST" and self.path in _GENERATING and length.isdigit()
            raw = await self._body(min(int(length), MAX_BODY_BYTES)) if reads_body else b""
            self.node.record(self.command, self.path.partition("?")[0], raw, self.headers.items())
            if self.node.faults.take(None, {K.SILENCE}):
                await self.node.hang()
            with contextlib.suppress(EmptyReplyError):
                await self._respond(raw)
        await self._flush()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Log nothing."""

    async def _body(self, length: int) -> bytes:
        try:
            return await self.reader.readexactly(length)
        except asyncio.IncompleteReadError as left:
            return left.partial

    async def _respond(self, raw: bytes) -> None:
        match self.command:
            case "OPTIONS":
                self._head(204)
            case "GET":
                self._get()
            case "POST":
                await self._post(raw)
            case _:
                self.send_error(501, f"Unsupported method ({self.command!r})")

    async def _flush(self) -> None:
        self.writer.write(self.wfile.getvalue())
        self.wfile = io.BytesIO()
        await self.writer.drain()

    def _get(self) -> None:
        """Answer `/health` and everything that begins with `/v1/models`."""
        if self.path == "/health":
            self._send(200, {"status": "ok"})
        elif self.path.startswith("/v1/models"):
            self._send_models()
        else:
            self._send_text(404, "Not Found")

    async def _post(self, raw: bytes) -> None:
        """Check the request in the order of the real server, then generate."""
        length = self.headers.get("Content-Length")
        if self.path not in _GENERATING:
            return self._send_text(404, "Not Found")
        if length is None:
            return self._send(411, {"error": "Content-Length header is required"})
        if not length.isdigit():
            return self._send(400, {"error": "Invalid Content-Length header"})
        try:
            body = json.loads(raw)
        except json.JSONDecodeError as exc:
            return self._send(400, {"error": f"Invalid JSON in request body: {exc}"})
        if not isinstance(body, dict):
            return self._send(400, {"error": "Request should be a JSON dictionary"})
        try:
            wire.check_request(self.path, body)
        except InvalidRequestError as exc:
            if not self.node.answers_invalid:
                raise EmptyReplyError from exc
            return self._send(400, {"error": str(exc)})
        return await self._complete(body)

    async def _complete(self, body: dict[str, Any]) -> None:
        sent = body.get("model", "default_model")
        model = self.node.default_model if sent == "default_model" else sent
        if fault := self.node.faults.take(model, _BEFORE_LOAD):
            await self._turn_away(fault, model)
            return
        try:
            async with self.node.slot.hold(model):
                await self._generate(body, sent, model)
        except LoadFailedError as exc:
            self._send(404, {"error": str(exc)})

    async def _turn_away(self, fault: SandboxFault, model: str) -> None:
        """Show a fault that comes before any model is touched."""
        match fault.kind:
            case K.ZOMBIE:
                await self.node.hang()
            case K.EMPTY_REPLY:
                raise EmptyReplyError
            case K.RESET:
                reset(self.writer.transport)
                raise EmptyReplyError
            case K.GARBAGE:
                self._send_text(200, fault.text_or(GARBAGE))
            case kind if kind in wire.REFUSALS:
                status, text = wire.REFUSALS[kind]
                self._send(status, {"error": fault.text_or(text.replace("{model}", model))})
            case kind if kind in wire.LLAMA_CPP_ERRORS:
                self._send_llama_cpp_error(fault)
            case _:
                self._send_gateway_error(fault, model)

    def _send_llama_cpp_error(self, fault: SandboxFault) -> None:
        """Answer as llama.cpp's server does: an answer that it cannot parse is an error under a 200."""
        error = dict(wire.LLAMA_CPP_ERRORS[fault.kind])
        error["message"] = fault.text_or(str(error["message"]))
        if error["code"] != 500:
            self._send(400, {"error": error})
            return
        self._head(200, "text/event-stream")
        self.wfile.write(b"data: " + json.dumps({"error": error}).encode() + b"\n\n")

    def _send_gateway_error(self, fault: SandboxFault, model: str) -> None:
        status, kind, text = wire.GATEWAY_ERRORS[fault.kind]
        message = fault.text_or(text.replace("{model}", model))
        body: dict[str, Any] = {"error": {"message": message, "type": kind, "code": status}}
        if status == 503:
            body["loading"] = {"model": model, "state": "staging", "node": "worker-1", "progress": 40}
        self._send(status, body, {} if status == 401 else {"Retry-After": fault.retry_after(RETRY_AFTER_S)})

    async def _generate(self, body: dict[str, Any], sent: str, model: str) -> None:
        messages = wire.messages_of(self.path, body)
        fault = self.node.faults.take(model, GENERATION)
        script = write_script(fault, messages, model, self.node.reply, wire.token_limit(body))
        answer = MlxAnswer(
            self.path,
            sent,
            stream=body.get("stream") is True,
            fingerprint=self.node.fingerprint,
            prompt_tokens=max(1, count_tokens(messages)),
            created=self.created,
        )
        if answer.stream:
            self._head(200, "text/event-stream", before={"Cache-Control": "no-cache"})
        await self._prefill(model, answer)
        if answer.stream:
            await self._stream(body, answer, script)
        else:
            await self._whole(answer, script)

    async def _prefill(self, model: str, answer: MlxAnswer) -> None:
        """Take the time a slow first token takes, telling the progress on a stream."""
        fault = self.node.faults.take(model, {K.SLOW_TOKEN})
        total = answer.prompt_tokens
        seconds = fault.seconds_or(SLOW_TOKEN_S) if fault else 0.0
        steps = PREFILL_STEPS if fault else 1
        for step in range(1, steps + 1):
            if answer.stream:
                self.wfile.write(wire.keepalive(total * (step - 1) // steps if fault else total, total))
                await self._flush()
            if fault:
                await asyncio.sleep(seconds / steps)

    async def _stream(self, body: dict[str, Any], answer: MlxAnswer, script: Script) -> None:
        for token in script.tokens[: script.sent]:
            if self.node.token_s:
                await asyncio.sleep(self.node.token_s)
            self.wfile.write(answer.event(token, None))
            await self._flush()
        if script.ending is Ending.HANG:
            await self.node.hang()
        if script.ending is Ending.CUT:
            raise EmptyReplyError
        self.wfile.write(answer.event("", script.reason))
        options = body.get("stream_options")
        if options is not None:
            if not isinstance(options, dict) or "include_usage" not in options:
                raise EmptyReplyError
            if options["include_usage"]:
                self.wfile.write(answer.usage_event(_counted(script)))
        self.wfile.write(wire.DONE)

    async def _whole(self, answer: MlxAnswer, script: Script) -> None:
        if script.ending is Ending.HANG:
            await self.node.hang()
        if self.node.token_s:
            await asyncio.sleep(self.node.token_s * script.sent)
        raw = json.dumps(answer.packet(script.text, script.reason, _counted(script))).encode()
        self._head(200, after={"Content-Length": str(len(raw))})
        if script.ending is Ending.CUT:
            self.wfile.write(raw[: len(raw) * script.sent // (len(script.tokens) + 1)])
            raise EmptyReplyError
        self.wfile.write(raw)

    def _send_models(self) -> None:
        if self.node.faults.peek(None, {K.UNAUTHORISED}):
            self._send(401, {"error": {"message": "invalid API key", "type": "invalid_request_error"}})
            return
        if fault := self.node.faults.take(None, {K.GARBAGE_TAGS}):
            self._send_text(200, fault.text_or('{"object": "list", "data": ['))
            return
        parts = self.path.split("/")
        only = "/".join(parts[3:]) if len(parts) > 3 else None
        names = [name for name in self.node.listed if only is None or name == only]
        self._send(200, wire.models_body(names, self.created))

    def _send(self, status: int, body: dict[str, Any], more: dict[str, str] | None = None) -> None:
        self._head(status, after=more)
        self.wfile.write(json.dumps(body).encode())

    def _send_text(self, status: int, text: str) -> None:
        self._head(status)
        self.wfile.write(text.encode())

    def _head(
        self,
        status: int,
        kind: str = "application/json",
        *,
        before: dict[str, str] | None = None,
        after: dict[str, str] | None = None,
    ) -> None:
        """Send the headers, with further ones before or after the headers for browsers."""
        browsers = {f"Access-Control-Allow-{name}": "*" for name in ("Origin", "Methods", "Headers")}
        self.send_response(status)
        for name, value in ({"Content-type": kind} | (before or {}) | browsers | (after or {})).items():
            self.send_header(name, value)
        self.end_headers()


def _counted(script: Script) -> int:
    """Count the tokens as the real server does: the one that ends the text is counted too."""
    return len(script.tokens) + (script.reason == "stop")
