"""The JSON of `mlx_lm.server`: answers, chunks, and what it accepts in a request. No I/O."""

import json
import time
import uuid
from collections.abc import Mapping
from typing import Any

from opskit.records import Record, field
from opskit.sandbox.faults import SandboxFault, refusals
from opskit.sandbox.faults import SandboxFaultKind as K

MAX_TOKENS = 512
CHAT_PATHS = ("/v1/chat/completions", "/chat/completions")
TEXT_PATH = "/v1/completions"
DONE = b"data: [DONE]\n\n"

_NUMBER = (float, int)
_RULES: tuple[tuple[str, Any, type | tuple[type, ...], float | None, float | None], ...] = (
    ("stream", False, bool, None, None),
    ("max_tokens", MAX_TOKENS, int, 1, None),
    ("temperature", 0.0, _NUMBER, 0, None),
    ("top_p", 1.0, _NUMBER, 0, 1),
    ("top_k", 0, int, 0, None),
    ("min_p", 0.0, _NUMBER, 0, 1),
    ("num_draft_tokens", 3, int, 0, None),
    ("repetition_penalty", 0.0, _NUMBER, 0, None),
    ("repetition_context_size", 20, int, 0, None),
    ("presence_penalty", 0.0, _NUMBER, None, None),
    ("presence_context_size", 20, int, 0, None),
    ("frequency_penalty", 0.0, _NUMBER, None, None),
    ("frequency_context_size", 20, int, 0, None),
    ("logprobs", False, bool, None, None),
    ("xtc_probability", 0.0, float, 0, 1),
    ("xtc_threshold", 0.1, float, 0, 1),
)
"""Name, default, type, least and most of each checked parameter."""
_NULLABLE = {"adapters": str, "seed": int, "logit_bias": dict}


class InvalidRequestError(ValueError):
    """A parameter is wrong or the prompt is missing."""


def check_request(path: str, body: Mapping[str, Any]) -> None:
    """Raise `InvalidRequestError` for what the server's own validation rejects."""
    given = dict(body)
    if given.get("max_completion_tokens") is not None:
        given["max_tokens"] = given["max_completion_tokens"]
    for name, default, types, least, most in _RULES:
        if not isinstance(given.get(name, default), types):
            wanted = types.__name__ if isinstance(types, type) else tuple(kind.__name__ for kind in types)
            raise InvalidRequestError(f"{name} must be of type {wanted}")
        value: Any = given.get(name, default)
        if least is not None and value < least:
            raise InvalidRequestError(f"{name} must be at least {least}")
        if most is not None and value > most:
            raise InvalidRequestError(f"{name} must be at most {most}")
    if not isinstance(given.get("model", ""), str):
        raise InvalidRequestError("requested_model must be of type str")
    for name, kind in _NULLABLE.items():
        if given.get(name) is not None and not isinstance(given[name], kind):
            raise InvalidRequestError(f"{name} must be of type {kind.__name__}")
    wanted = "prompt" if path == TEXT_PATH else "messages"
    if wanted not in body:
        raise InvalidRequestError(f"Request did not contain {'a prompt' if wanted == 'prompt' else wanted}")
    if wanted == "messages" and not _are_messages(body["messages"]):
        raise InvalidRequestError("'str' object has no attribute 'get'")


def refusal(fault: SandboxFault, model: str) -> tuple[int, dict[str, Any]]:
    """Return status and body of a refusal."""
    status, error = refusals("mlx")[fault.kind]
    text = fault.text_or(str(error if isinstance(error, str) else error["message"]).replace("{model}", model))
    body: dict[str, Any] = {"error": text if isinstance(error, str) else {**error, "message": text}}
    if fault.kind is K.LOADING_503:
        body["loading"] = {"model": model, "state": "staging", "node": "worker-1", "progress": 40}
    return status, body


def messages_of(path: str, body: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the chat of a checked request; a bare prompt counts as one user message."""
    if path == TEXT_PATH:
        return [{"role": "user", "content": str(body["prompt"])}]
    return list(body["messages"])


def token_limit(body: Mapping[str, Any]) -> int:
    """Return the token limit; `max_completion_tokens` wins."""
    limit = body.get("max_completion_tokens")
    return int(body.get("max_tokens", MAX_TOKENS) if limit is None else limit)


def models_body(names: list[str], created: int) -> dict[str, Any]:
    return {"object": "list", "data": [{"id": name, "object": "model", "created": created} for name in names]}


class MlxPackets(Record):
    """The packets of one answer; `model` is echoed as it was asked for, not what is loaded."""

    path: str
    model: str
    stream: bool
    fingerprint: str
    prompt_tokens: int
    created: int = field(default_factory=lambda: int(time.time()))
    token: str = field(default_factory=lambda: str(uuid.uuid4()))

    def packet(self, text: str, reason: str | None, tokens: int | None = None) -> dict[str, Any]:
        """Write a chunk, or with `tokens` the whole answer."""
        choice: dict[str, Any] = {"index": 0, "finish_reason": reason}
        packet = self._head(self._kind()) | {"choices": [choice]}
        if tokens is not None:
            packet["usage"] = self._usage(tokens)
        if self.path == TEXT_PATH:
            choice["text"] = text
        elif self.stream:
            choice["delta"] = {"role": "assistant"} | ({"content": text} if text else {})
        else:
            choice["message"] = {"role": "assistant", "content": text or None}
        return packet

    def event(self, text: str, reason: str | None) -> bytes:
        return event(self.packet(text, reason))

    def usage_event(self, tokens: int) -> bytes:
        """Write the event with the usage: no choices, and the object name of a whole answer."""
        return event(self._head("chat.completion") | {"choices": [], "usage": self._usage(tokens)})

    def _kind(self) -> str:
        if self.path == TEXT_PATH:
            return "text_completion"
        return "chat.completion.chunk" if self.stream else "chat.completion"

    def _head(self, kind: str) -> dict[str, Any]:
        prefix = "cmpl" if self.path == TEXT_PATH else "chatcmpl"
        return {
            "id": f"{prefix}-{self.token}",
            "system_fingerprint": self.fingerprint,
            "object": kind,
            "model": self.model,
            "created": self.created,
        }

    def _usage(self, tokens: int) -> dict[str, Any]:
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": tokens,
            "total_tokens": self.prompt_tokens + tokens,
            "prompt_tokens_details": {"cached_tokens": 0},
        }


def keepalive(done: int, total: int) -> bytes:
    """Write the comment sent while the prompt is processed."""
    return f": keepalive {done}/{total}\n\n".encode()


def _are_messages(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(message, dict) for message in value)


def event(packet: dict[str, Any]) -> bytes:
    return f"data: {json.dumps(packet)}\n\n".encode()
