"""The JSON of Ollama: lists, answers in its own NDJSON and in the OpenAI shape of `/v1`, errors, requests.

No I/O.
"""

import ipaddress
import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

from opskit.records import Record
from opskit.sandbox.ollama_memory import FOREVER_S, Runner, SimModel

CRASHED = (
    "model runner has unexpectedly stopped, this may be due to resource limitations or an internal error, "
    "check ollama server logs for details"
)
CRASHED_OLD = 'POST predict: Post "http://127.0.0.1:36363/completion": EOF'
OUT_OF_MEMORY = (
    "llama-server reported out-of-memory during startup: "
    "ggml_backend_cuda_buffer_type_alloc_buffer: cudaMalloc failed: out of memory"
)


def context_exceeded(tokens: int, context: int) -> dict[str, Any]:
    """Return the error object of llama.cpp's server, which Ollama hands on as a text."""
    return {
        "error": {
            "code": 400,
            "message": f"request ({tokens} tokens) exceeds the available context size ({context} tokens)",
            "type": "exceed_context_size_error",
            "n_prompt_tokens": tokens,
            "n_ctx": context,
        }
    }


def tokens_left_by_a_cut(context: int) -> int:
    """Return how much of a prompt that is too long is read: its first four tokens, and half of the rest."""
    return context - (context - 4) // 2


_UNIT_S = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_PART = re.compile(r"(\d+\.?\d*|\.\d+)(ns|us|µs|μs|ms|s|m|h)")
_DURATION = re.compile(rf"[+-]?(?:{_PART.pattern})+")
_SUFFIXES = (".localhost", ".local", ".internal")
_ERROR_TYPES = {400: "invalid_request_error", 404: "not_found_error"}


class RefusalError(Exception):
    """The request is refused; the text is the answer."""

    def __init__(self, text: str, status: int = 400) -> None:
        super().__init__(text)
        self.status = status
        self.headers: dict[str, str] = {}


class Spent(Record):
    """What a generation cost: tokens, and when its stages began and it ended, in `time.perf_counter_ns`."""

    arrived: int
    loaded: int
    prefilled: int
    prompt_tokens: int
    ended: int = 0
    tokens: int = 0

    def fields(self) -> dict[str, int]:
        """Name durations and counts as on the wire; whatever is zero is absent."""
        named = {
            "total_duration": self.ended - self.arrived,
            "load_duration": self.loaded - self.arrived,
            "prompt_eval_count": self.prompt_tokens,
            "prompt_eval_duration": self.prefilled - self.loaded,
            "eval_count": self.tokens,
            "eval_duration": self.ended - self.prefilled if self.tokens else 0,
        }
        return {name: value for name, value in named.items() if value}


def timestamp(moment: datetime | None = None) -> str:
    """Write a time as Go does, in UTC."""
    return (moment or datetime.now(UTC)).isoformat().replace("+00:00", "Z")


def details(model: SimModel) -> dict[str, Any]:
    """Describe the weights, as lists and `/api/show` do."""
    return {
        "parent_model": "",
        "format": "gguf",
        "family": model.family,
        "families": [model.family],
        "parameter_size": model.parameter_size,
        "quantization_level": model.quantization,
    }


def tag_entry(model: SimModel, modified: datetime) -> dict[str, Any]:
    return {
        "name": model.name,
        "model": model.name,
        "modified_at": timestamp(modified),
        "size": model.size_bytes,
        "digest": model.digest,
        "details": details(model) | {"context_length": model.context_length},
        "capabilities": list(model.capabilities),
    }


def ps_entry(runner: Runner, left_s: float) -> dict[str, Any]:
    """Write one entry of `/api/ps`; a model that stays for ever expires in about 292 years."""
    model = runner.model
    return {
        "name": model.name,
        "model": model.name,
        "size": model.size_bytes,
        "digest": model.digest,
        "details": details(model),
        "expires_at": timestamp(datetime.now(UTC) + timedelta(seconds=min(left_s, FOREVER_S))),
        "size_vram": model.size_bytes if model.size_vram is None else model.size_vram,
        "context_length": runner.options.num_ctx,
    }


def show_body(model: SimModel, modified: datetime) -> dict[str, Any]:
    return {
        "modelfile": f"FROM {model.name}\n",
        "template": "{{ .Prompt }}",
        "details": details(model),
        "model_info": {
            "general.architecture": model.family,
            f"{model.family}.context_length": model.context_length,
            f"{model.family}.block_count": 32,
            f"{model.family}.embedding_length": 4096,
            f"{model.family}.attention.head_count": 32,
            f"{model.family}.attention.head_count_kv": 8,
        },
        "capabilities": list(model.capabilities),
        "modified_at": timestamp(modified),
    }


def parse_keep_alive(value: object) -> float | None:
    """Read `keep_alive` as seconds: a number, or a Go duration such as `10m`; negative is for ever.

    Raises RefusalError for a string without a unit, and for anything else.
    """
    if value is None:
        return None
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, str):
        raise RefusalError(f"Unsupported type: {type(value).__name__}")
    if value.lstrip("+-") == "0":
        return 0.0
    if not _DURATION.fullmatch(value):
        what = "missing unit in" if re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)", value) else "invalid"
        raise RefusalError(f"time: {what} duration {json.dumps(value)}")
    total_s = sum(float(number) * _UNIT_S[unit] for number, unit in _PART.findall(value))
    return -total_s if value.startswith("-") else total_s


def parse_body(raw: bytes) -> dict[str, Any]:
    """Read a request body. Raises RefusalError when it is absent, not JSON, or no object."""
    if not raw.strip():
        raise RefusalError("missing request body")
    try:
        body = json.loads(raw)
    except json.JSONDecodeError as exc:
        raise RefusalError(_go_complaint(exc)) from exc
    except UnicodeDecodeError as exc:
        raise RefusalError("invalid character in string literal") from exc
    if not isinstance(body, dict):
        raise RefusalError(f"json: cannot unmarshal {_go_type(body)} into Go value")
    return body


def list_of_objects(body: Mapping[str, Any], field: str) -> list[dict[str, Any]]:
    """Read a list such as `messages`; empty when absent.

    Raises RefusalError when it is something else.
    """
    value = body.get(field)
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise RefusalError(f"json: cannot unmarshal {_go_type(value)} into Go struct field .{field}")
    return value


def parse_options(body: Mapping[str, Any]) -> dict[str, Any]:
    """Read `options`. Raises RefusalError when it, or one of its numbers, is none."""
    options = body.get("options") or {}
    if not isinstance(options, dict):
        raise RefusalError(f"json: cannot unmarshal {_go_type(options)} into Go struct field .options")
    for name in ("num_ctx", "num_predict", "num_batch"):
        value = options.get(name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
            raise RefusalError(f'option "{name}" must be of type integer')
    return options


def host_allowed(header: str) -> bool:
    """Tell whether the guard against DNS rebinding lets this Host header through."""
    host = header.rsplit(":", 1)[0] if re.search(r":\d+$", header) else header
    host = host.strip("[]").lower()
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host in {"", "localhost"} or host.endswith(_SUFFIXES)
    return address.is_loopback or address.is_private or address.is_unspecified


class Native(Record):
    """`/api/chat` and `/api/generate`."""

    model: str
    chat: bool

    stream_type: ClassVar = "application/x-ndjson"

    def piece(self, text: str) -> bytes:
        return _line(self._head(text) | {"done": False})

    def end(self, reason: str, spent: Spent) -> bytes:
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

    def _head(self, text: str) -> dict[str, Any]:
        content = {"message": {"role": "assistant", "content": text}} if self.chat else {"response": text}
        return {"model": self.model, "created_at": timestamp()} | content


class OpenAiShaped(Record):
    """`/v1/chat/completions`, which loses every error that comes after the first byte."""

    model: str
    created: int = 0
    include_usage: bool = False
    answer_id: str = "chatcmpl-1"

    stream_type: ClassVar = "text/event-stream"

    def piece(self, text: str) -> bytes:
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
        message = {"role": "assistant", "content": text}
        choice = {"index": 0, "message": message, "finish_reason": reason}
        return self._head("chat.completion") | {"choices": [choice], "usage": _usage(spent)}

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


Dialect = Native | OpenAiShaped
"""How one request is answered."""


def refusal_body(path: str, refusal: RefusalError) -> dict[str, Any]:
    """Write a bare string, under `/v1` the error object of OpenAI; a bare 401 carries where to sign in."""
    if path.startswith("/v1/"):
        kind = _ERROR_TYPES.get(refusal.status, "api_error")
        return {"error": {"message": str(refusal), "type": kind, "param": None, "code": None}}
    signin = {"signin_url": "https://ollama.com/connect"} if refusal.status == 401 else {}
    return {"error": str(refusal), **signin}


def _go_complaint(problem: json.JSONDecodeError) -> str:
    if problem.pos >= len(problem.doc.rstrip()):
        return "unexpected EOF"
    return f"invalid character {problem.doc[problem.pos]!r} looking for beginning of value"


def _go_type(value: object) -> str:
    if isinstance(value, bool):
        return "bool"
    names: dict[type, str] = {list: "array", str: "string", int: "number", float: "number", dict: "object"}
    return names.get(type(value), "null")


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
