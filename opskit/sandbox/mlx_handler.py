"""One connection of the simulated MLX server: HTTP/1.0, closed after the answer."""

import json
import time
from http.server import BaseHTTPRequestHandler
from typing import Any, Protocol

from opskit.sandbox import refusals
from opskit.sandbox.faults import FaultBoard, SandboxFault, SandboxFaultKind
from opskit.sandbox.mlx_slot import ModelLoadError, ModelSlot
from opskit.sandbox.mlx_wire import (
    CHAT_PATHS,
    DONE,
    OUT_OF_MEMORY,
    TEXT_PATH,
    InvalidRequestError,
    MlxAnswer,
    check_request,
    keepalive,
    messages_of,
    models_body,
    repository_not_found,
    token_limit,
)
from opskit.sandbox.records import Recorded, json_object, model_named
from opskit.sandbox.replies import Reply, count_tokens
from opskit.sandbox.script import GENERATION, Ending, Script, write_script
from opskit.sandbox.sockets import reset_on_close

SLOW_TOKEN_S = 2.0
RETRY_AFTER_S = 5.0
PREFILL_STEPS = 4
GARBAGE = "<html><body>upstream</body>"

_BEFORE_LOAD = frozenset({
    SandboxFaultKind.RESET,
    SandboxFaultKind.EMPTY_REPLY,
    SandboxFaultKind.ZOMBIE,
    SandboxFaultKind.UNAUTHORISED,
    SandboxFaultKind.RATE_LIMITED,
    SandboxFaultKind.LOADING_503,
    SandboxFaultKind.NOT_INSTALLED,
    SandboxFaultKind.NOTFOUND_ALL,
    SandboxFaultKind.GARBAGE,
    *refusals.MLX,
    *refusals.LLAMA_CPP,
})  # fmt: skip


class EmptyReplyError(Exception):
    """The connection ends here, with nothing more written."""


class MlxState(Protocol):
    """The server behind the connections."""

    faults: FaultBoard
    requests: list[Recorded]
    listed: list[str]
    default_model: str
    slot: ModelSlot
    reply: Reply
    token_s: float
    fingerprint: str
    answers_invalid: bool

    def pause(self, seconds: float | None) -> None:
        """Sleep, for ever when None; raises when the server stops."""


class MlxHandler(BaseHTTPRequestHandler):
    """Answers one request. The protocol version stays the HTTP/1.0 of the base class, as in the real one."""

    def __init__(self, state: MlxState, *args: Any) -> None:
        self.state = state
        self.created = int(time.time())
        self.raw = b""
        super().__init__(*args)

    def parse_request(self) -> bool:
        """Read and record the request; under `silence` nothing more happens, whatever its method."""
        if not super().parse_request():
            return False
        length = self.headers.get("Content-Length", "")
        if self.command == "POST" and self.path in {*CHAT_PATHS, TEXT_PATH} and length.isdigit():
            self.raw = self.rfile.read(int(length))
        body = json_object(self.raw)
        headers = {name.lower(): value for name, value in self.headers.items()}
        path = self.path.partition("?")[0]
        self.state.requests.append(
            Recorded(time.monotonic(), self.command, path, model_named(body), body, headers)
        )
        if self.state.faults.take(None, {SandboxFaultKind.SILENCE}):
            self.state.pause(None)
        return True

    def do_OPTIONS(self) -> None:
        """Answer a preflight."""
        self._head(204)

    def do_GET(self) -> None:
        """Answer `/health` and everything that begins with `/v1/models`."""
        if self.path == "/health":
            self._send(200, {"status": "ok"})
        elif self.path.startswith("/v1/models"):
            self._send_models()
        else:
            self._send_text(404, "Not Found")

    def do_POST(self) -> None:
        """Check the request in the order of the real server, then generate."""
        if self.path not in {*CHAT_PATHS, TEXT_PATH}:
            self._send_text(404, "Not Found")
            return
        length = self.headers.get("Content-Length")
        if length is None:
            self._send(411, {"error": "Content-Length header is required"})
            return
        if not length.isdigit():
            self._send(400, {"error": "Invalid Content-Length header"})
            return
        try:
            body = json.loads(self.raw)
        except json.JSONDecodeError as exc:
            self._send(400, {"error": f"Invalid JSON in request body: {exc}"})
            return
        if not isinstance(body, dict):
            self._send(400, {"error": "Request should be a JSON dictionary"})
            return
        try:
            check_request(self.path, body)
        except InvalidRequestError as exc:
            if not self.state.answers_invalid:
                raise EmptyReplyError from exc
            self._send(400, {"error": str(exc)})
            return
        self._complete(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Log nothing."""

    def _complete(self, body: dict[str, Any]) -> None:
        sent = body.get("model", "default_model")
        model = self.state.default_model if sent == "default_model" else sent
        if fault := self.state.faults.take(model, _BEFORE_LOAD):
            self._turn_away(fault, model)
            return
        try:
            with self.state.slot.hold(model):
                self._generate(body, sent, model)
        except ModelLoadError as exc:
            self._send(404, {"error": str(exc)})

    def _turn_away(self, fault: SandboxFault, model: str) -> None:
        """Show a fault that comes before any model is touched."""
        match fault.kind:
            case SandboxFaultKind.ZOMBIE:
                self.state.pause(None)
            case SandboxFaultKind.EMPTY_REPLY:
                raise EmptyReplyError
            case SandboxFaultKind.RESET:
                reset_on_close(self.connection)
                raise EmptyReplyError
            case SandboxFaultKind.NOT_INSTALLED:
                self._send(404, {"error": repository_not_found(model)})
            case SandboxFaultKind.NOTFOUND_ALL:
                self._send(404, {"error": OUT_OF_MEMORY if fault.text is None else fault.text})
            case SandboxFaultKind.GARBAGE:
                self._send_text(200, GARBAGE if fault.text is None else fault.text)
            case kind if kind in refusals.MLX:
                status, text = refusals.MLX[kind]
                text = text.replace("{model}", model) if fault.text is None else fault.text
                self._send(status, {"error": text})
            case kind if kind in refusals.LLAMA_CPP:
                self._send_llama_cpp_error(fault)
            case _:
                self._send_gateway_error(fault, model)

    def _send_llama_cpp_error(self, fault: SandboxFault) -> None:
        """Answer as llama.cpp's server does: an answer that it cannot parse is an error under a 200."""
        error = dict(refusals.LLAMA_CPP[fault.kind])
        if fault.text is not None:
            error["message"] = fault.text
        if error["code"] != 500:
            self._send(400, {"error": error})
            return
        self._head(200, "text/event-stream")
        self.wfile.write(b"data: " + json.dumps({"error": error}).encode() + b"\n\n")

    def _send_gateway_error(self, fault: SandboxFault, model: str) -> None:
        """Answer as something in front of the model does: this server itself has no such status."""
        status, kind, message = {
            SandboxFaultKind.UNAUTHORISED: (401, "invalid_request_error", "invalid API key"),
            SandboxFaultKind.RATE_LIMITED: (429, "rate_limit_error", "too many requests"),
            SandboxFaultKind.LOADING_503: (503, "model_loading", f"model {model} is being loaded"),
        }[fault.kind]
        error = {"message": message if fault.text is None else fault.text, "type": kind, "code": status}
        body: dict[str, Any] = {"error": error}
        if status == 503:
            body["loading"] = {"model": model, "state": "staging", "node": "worker-1", "progress": 40}
        wait_s = RETRY_AFTER_S if fault.retry_after_s is None else fault.retry_after_s
        self._send(status, body, {} if status == 401 else {"Retry-After": f"{wait_s:g}"})

    def _generate(self, body: dict[str, Any], sent: str, model: str) -> None:
        messages = messages_of(self.path, body)
        fault = self.state.faults.take(model, GENERATION)
        script = write_script(fault, messages, model, self.state.reply, token_limit(body))
        answer = MlxAnswer(
            self.path,
            sent,
            stream=body.get("stream") is True,
            fingerprint=self.state.fingerprint,
            prompt_tokens=max(1, count_tokens(messages)),
            created=self.created,
        )
        if answer.stream:
            self._head(200, "text/event-stream", before={"Cache-Control": "no-cache"})
        self._prefill(model, answer)
        if answer.stream:
            self._stream(body, answer, script)
        else:
            self._whole(answer, script)

    def _prefill(self, model: str, answer: MlxAnswer) -> None:
        """Take the time a slow first token takes, telling the progress on a stream."""
        fault = self.state.faults.take(model, {SandboxFaultKind.SLOW_TOKEN})
        total = answer.prompt_tokens
        seconds = 0.0 if fault is None else SLOW_TOKEN_S if fault.seconds is None else fault.seconds
        steps = PREFILL_STEPS if fault else 1
        for step in range(1, steps + 1):
            if answer.stream:
                self.wfile.write(keepalive(total * (step - 1) // steps if fault else total, total))
            if fault:
                self.state.pause(seconds / steps)

    def _stream(self, body: dict[str, Any], answer: MlxAnswer, script: Script) -> None:
        for token in script.tokens[: script.sent]:
            if self.state.token_s:
                self.state.pause(self.state.token_s)
            self.wfile.write(answer.event(token, None))
        if script.ending is Ending.HANG:
            self.state.pause(None)
        if script.ending is Ending.CUT:
            raise EmptyReplyError
        self.wfile.write(answer.event("", script.reason))
        options = body.get("stream_options")
        if options is not None:
            if "include_usage" not in options:
                raise EmptyReplyError
            if options["include_usage"]:
                self.wfile.write(answer.usage_event(_counted(script)))
        self.wfile.write(DONE)

    def _whole(self, answer: MlxAnswer, script: Script) -> None:
        if script.ending is Ending.HANG:
            self.state.pause(None)
        if self.state.token_s:
            self.state.pause(self.state.token_s * script.sent)
        raw = json.dumps(answer.packet(script.text, script.reason, _counted(script))).encode()
        self._head(200, after={"Content-Length": str(len(raw))})
        if script.ending is Ending.CUT:
            self.wfile.write(raw[: len(raw) * script.sent // (len(script.tokens) + 1)])
            raise EmptyReplyError
        self.wfile.write(raw)

    def _send_models(self) -> None:
        if self.state.faults.peek(None, {SandboxFaultKind.UNAUTHORISED}):
            self._send(401, {"error": {"message": "invalid API key", "type": "invalid_request_error"}})
            return
        if fault := self.state.faults.take(None, {SandboxFaultKind.GARBAGE_TAGS}):
            self._send_text(200, '{"object": "list", "data": [' if fault.text is None else fault.text)
            return
        parts = self.path.split("/")
        only = "/".join(parts[3:]) if len(parts) > 3 else None
        names = [name for name in self.state.listed if only is None or name == only]
        self._send(200, models_body(names, self.created))

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
        """Send the headers, with further ones before or after those for browsers."""
        browsers = {f"Access-Control-Allow-{name}": "*" for name in ("Origin", "Methods", "Headers")}
        self.send_response(status)
        for name, value in ({"Content-type": kind} | (before or {}) | browsers | (after or {})).items():
            self.send_header(name, value)
        self.end_headers()


def _counted(script: Script) -> int:
    """Count the tokens as the real server does: the one that ends the text is counted too."""
    return len(script.tokens) + (script.reason == "stop")
