"""The wire protocols of model servers, as far as one contract can be told of all."""

import json
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from opskit.providers.base import ChatRequest, Event, Message, Provider, Token
from opskit.providers.http import HttpClient
from opskit.providers.llamacpp import LlamaCpp
from opskit.providers.ollama import Ollama
from opskit.providers.openai import OpenAIStyle
from opskit.records import replace
from tests.parts.raw_server import Reply, reply_json


@dataclass(frozen=True)
class Dialect:
    """`token` and `end` give the bytes of one piece and of a proper end; `kept` keeps its connection open.

    `keeps` tells whether the provider keeps its connections for the next call.
    """

    name: str
    path: str
    provider: Callable[[HttpClient], Provider]
    token: Callable[[str], bytes]
    end: bytes
    listing: tuple[str, Reply]
    kept: Reply
    keeps: bool = True

    def body(self, *texts: str) -> list[bytes]:
        return [*map(self.token, texts), self.end]


def _ollama(text: str) -> bytes:
    chunk = {"model": "m", "message": {"role": "assistant", "content": text}, "done": False}
    return json.dumps(chunk, ensure_ascii=False).encode() + b"\n"


def sse(chunk: Any) -> bytes:
    return b"data: " + json.dumps(chunk, ensure_ascii=False).encode() + b"\n\n"


def delta(content: str | None = None, finish: str | None = None, **rest: Any) -> dict[str, Any]:
    inner = {} if content is None else {"content": content}
    return {"choices": [{"index": 0, "delta": inner | rest, "finish_reason": finish}]}


def finished(text: str = "", **rest: Any) -> bytes:
    """Ollama's last line."""
    message = {"role": "assistant", "content": text}
    return json.dumps({"model": "m", "message": message, "done": True} | rest).encode() + b"\n"


DONE = b"data: [DONE]\n\n"
OLLAMA = Dialect(
    "ollama",
    "/api/chat",
    Ollama,
    _ollama,
    finished(done_reason="stop"),
    ("/api/tags", reply_json({"models": [{"name": "m", "model": "m"}]})),
    reply_json({"models": []}, end="keep"),
)
OPENAI = Dialect(
    "openai",
    "/v1/chat/completions",
    OpenAIStyle,
    lambda text: sse(delta(text)),
    sse(delta(finish="stop")) + DONE,
    ("/v1/models", reply_json({"object": "list", "data": [{"id": "m"}]})),
    reply_json({"object": "list", "data": [{"id": "m"}]}, end="keep"),
)

LLAMACPP = replace(OPENAI, name="llamacpp", provider=LlamaCpp, keeps=False)


async def collect(provider: Provider, model: str = "m", text: str = "hi", **rest: Any) -> list[Event]:
    """All events of one call."""
    request = ChatRequest((Message("user", text),), model, **rest)
    async with aclosing(provider.stream(request)) as events:
        return [event async for event in events]


def said(events: Sequence[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, Token))
