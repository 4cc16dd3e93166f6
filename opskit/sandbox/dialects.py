"""The two ways Ollama says an answer: its own NDJSON, and the OpenAI shape of `/v1`. No I/O."""

import json
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

from opskit.sandbox.ollama_wire import Spent, timestamp

_ERROR_TYPES = {400: "invalid_request_error", 404: "not_found_error"}


class Dialect(ABC):
    """How one request is answered."""

    stream_type: str
    """Content type of a stream."""

    @abstractmethod
    def piece(self, text: str) -> bytes:
        """Write one token of a stream."""

    @abstractmethod
    def end(self, reason: str, spent: Spent) -> bytes:
        """Write the proper end of a stream."""

    @abstractmethod
    def failure(self, error: str) -> bytes:
        """Write what a stream shows of an error after its first byte."""

    @abstractmethod
    def whole(self, text: str, reason: str | None, spent: Spent) -> dict[str, Any]:
        """Write an answer in one piece; `reason` None is one that never finished."""

    @abstractmethod
    def refusal(self, status: int, error: str) -> dict[str, Any]:
        """Write the body of an error status."""


@dataclass(frozen=True, slots=True)
class Native(Dialect):
    """`/api/chat` and `/api/generate`."""

    model: str
    chat: bool

    stream_type = "application/x-ndjson"

    def piece(self, text: str) -> bytes:
        """Write one line."""
        return _line(self._head(text) | {"done": False})

    def end(self, reason: str, spent: Spent) -> bytes:
        """Write the line with `done: true` and the counts."""
        return _line(self.whole("", reason, spent))

    def failure(self, error: str) -> bytes:
        """Write the error as a line of its own; no `done` follows."""
        return _line({"error": error})

    def whole(self, text: str, reason: str | None, spent: Spent) -> dict[str, Any]:
        """Write one object; an unfinished one says `done: false`."""
        if reason is None:
            return self._head(text) | {"done": False}
        return self._head(text) | {"done": True, "done_reason": reason} | spent.fields()

    def acknowledgement(self, reason: str) -> dict[str, Any]:
        """Write the answer to a bare load or unload: no counts, never streamed."""
        return self._head("") | {"done": True, "done_reason": reason}

    def refusal(self, status: int, error: str) -> dict[str, Any]:
        """Write a bare string; 401 also carries where to sign in."""
        return {"error": error} | ({"signin_url": "https://ollama.com/connect"} if status == 401 else {})

    def _head(self, text: str) -> dict[str, Any]:
        said = {"message": {"role": "assistant", "content": text}} if self.chat else {"response": text}
        return {"model": self.model, "created_at": timestamp()} | said


@dataclass(frozen=True, slots=True)
class OpenAiShaped(Dialect):
    """`/v1/chat/completions`, which loses every error that comes after the first byte."""

    model: str
    created: int
    """Unix seconds."""
    include_usage: bool
    answer_id: str = "chatcmpl-1"

    stream_type = "text/event-stream"

    def piece(self, text: str) -> bytes:
        """Write one event."""
        return self._event(self.model, text, None)

    def end(self, reason: str, spent: Spent) -> bytes:
        """Write the event with the reason, the usage if it was asked for, and the end mark."""
        events = self._event(self.model, "", reason)
        if self.include_usage:
            events += _data(self._head("chat.completion.chunk") | {"choices": [], "usage": _usage(spent)})
        return events + b"data: [DONE]\n\n"

    def failure(self, error: str) -> bytes:  # noqa: ARG002
        """Write an empty delta of a nameless model: the error is not in it, and no end mark follows."""
        return self._event("", "", None)

    def whole(self, text: str, reason: str | None, spent: Spent) -> dict[str, Any]:
        """Write one object."""
        message = {"role": "assistant", "content": text}
        choice = {"index": 0, "message": message, "finish_reason": reason}
        return self._head("chat.completion") | {"choices": [choice], "usage": _usage(spent)}

    def refusal(self, status: int, error: str) -> dict[str, Any]:
        """Write an error object."""
        kind = _ERROR_TYPES.get(status, "api_error")
        return {"error": {"message": error, "type": kind, "param": None, "code": None}}

    def _event(self, model: str, text: str, reason: str | None) -> bytes:
        delta = {"role": "assistant", "content": text}
        choice = {"index": 0, "delta": delta, "finish_reason": reason}
        return _data(self._head("chat.completion.chunk") | {"model": model, "choices": [choice]})

    def _head(self, kind: str) -> dict[str, Any]:
        return {
            "id": self.answer_id,
            "object": kind,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": "fp_ollama",
        }


def _line(value: dict[str, Any]) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def _data(value: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"


def _usage(spent: Spent) -> dict[str, int]:
    return {
        "prompt_tokens": spent.prompt_tokens,
        "completion_tokens": spent.tokens,
        "total_tokens": spent.prompt_tokens + spent.tokens,
    }
