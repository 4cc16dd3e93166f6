"""A model server in the OpenAI style whose answers are written by the test: text, calls, refusals."""

import json
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

MODEL = "written"


@dataclass(frozen=True)
class Refusal:
    """An answer by a status and an error text."""

    status: int
    text: str


#: Pieces of text, calls as (name, arguments in JSON), or a refusal.
Chunks = Iterable[str | tuple[str, str]] | Refusal


@dataclass
class ModelServer:
    """`answer` makes the chunks of a reply to a body; `listed` is what `/v1/models` tells of the model.

    `prompt_tokens` is the count that it gives for every prompt; None counts the words. `first_chat_at` is the
    monotonic time of the first request to generate.
    """

    answer: Callable[[dict[str, Any]], Chunks]
    listed: dict[str, Any] = field(default_factory=dict)
    prompt_tokens: int | None = None
    bodies: list[dict[str, Any]] = field(default_factory=list)
    first_chat_at: float | None = None
    url: str = ""

    def usage(self, body: dict[str, Any]) -> dict[str, Any]:
        words = sum(len(str(message["content"]).split()) for message in body["messages"])
        return {"prompt_tokens": self.prompt_tokens or words * 2, "completion_tokens": 3}


@contextmanager
def model_server(answer: Callable[[dict[str, Any]], Chunks], **settings: Any) -> Iterator[ModelServer]:
    """A running server; it ends with the test."""
    server = ModelServer(answer, **settings)

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Say nothing."""

        def do_GET(self) -> None:
            listing = {"data": [{"id": MODEL, "owned_by": "vllm", **server.listed}]}
            known = self.path == "/v1/models"
            self._send(200 if known else 404, listing if known else {"error": "not found"})

        def do_POST(self) -> None:
            server.first_chat_at = server.first_chat_at or time.monotonic()
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            server.bodies.append(body)
            chunks = server.answer(body)
            if isinstance(chunks, Refusal):
                self._send(chunks.status, {"error": {"message": chunks.text}})
                return
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.end_headers()
            try:
                reason = "stop"
                for chunk in chunks:
                    if isinstance(chunk, tuple):
                        reason = "tool_calls"
                        named = {"name": chunk[0], "arguments": chunk[1]}
                        self._event({"tool_calls": [{"index": 0, "type": "function", "function": named}]})
                    else:
                        self._event({"content": chunk})
                self._event({}, finish_reason=reason, usage=server.usage(body))
                self.wfile.write(b"data: [DONE]\n\n")
            except OSError:
                """The client has gone."""

        def _event(self, delta: dict[str, Any], *, finish_reason: str | None = None, **more: Any) -> None:
            choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
            document = {"object": "chat.completion.chunk", "model": MODEL, "choices": [choice], **more}
            self.wfile.write(b"data: " + json.dumps(document).encode() + b"\n\n")
            self.wfile.flush()

        def _send(self, status: int, document: dict[str, Any]) -> None:
            raw = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

    listening = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.url = f"http://127.0.0.1:{listening.server_port}"
    thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server
    finally:
        listening.shutdown()
        listening.server_close()
        thread.join()
