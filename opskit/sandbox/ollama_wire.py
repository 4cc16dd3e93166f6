"""The native JSON of Ollama: model lists, answers, errors, and how it reads a request. No I/O."""

import ipaddress
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from opskit.sandbox.residency import FOREVER_S, Runner, SimModel

CRASHED = (
    "model runner has unexpectedly stopped, this may be due to resource limitations or an internal error, "
    "check ollama server logs for details"
)
CRASHED_OLD = 'POST predict: Post "http://127.0.0.1:36363/completion": EOF'
OUT_OF_MEMORY = (
    "llama-server reported out-of-memory during startup: "
    "ggml_backend_cuda_buffer_type_alloc_buffer: cudaMalloc failed: out of memory"
)
BUSY = "server busy, please try again.  maximum pending requests exceeded"

_UNIT_S = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_PART = re.compile(r"(\d+\.?\d*|\.\d+)(ns|us|µs|μs|ms|s|m|h)")
_DURATION = re.compile(rf"[+-]?(?:{_PART.pattern})+")
_NAMES = ("localhost",)
_SUFFIXES = (".localhost", ".local", ".internal")


class BadRequestError(ValueError):
    """The request body is wrong; the text is the answer, with status 400."""


@dataclass(frozen=True, slots=True)
class Spent:
    """What a generation cost, as its last line tells it. Durations in nanoseconds."""

    total_ns: int
    load_ns: int = 0
    prompt_tokens: int = 0
    prompt_ns: int = 0
    tokens: int = 0
    tokens_ns: int = 0

    def fields(self) -> dict[str, int]:
        """Name them as on the wire; whatever is zero is absent."""
        named = {
            "total_duration": self.total_ns,
            "load_duration": self.load_ns,
            "prompt_eval_count": self.prompt_tokens,
            "prompt_eval_duration": self.prompt_ns,
            "eval_count": self.tokens,
            "eval_duration": self.tokens_ns,
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
    """Write one entry of `/api/tags`."""
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
    """Write the answer of `/api/show`."""
    return {
        "modelfile": f"FROM {model.name}\n",
        "template": "{{ .Prompt }}",
        "details": details(model),
        "model_info": {
            "general.architecture": model.family,
            f"{model.family}.context_length": model.context_length,
        },
        "capabilities": list(model.capabilities),
        "modified_at": timestamp(modified),
    }


def parse_keep_alive(value: object) -> float | None:
    """Read `keep_alive` as seconds: a number, or a Go duration such as `10m`; negative is for ever.

    Raises:
        BadRequestError: a string without a unit, or anything else.

    """
    if value is None:
        return None
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, str):
        raise BadRequestError(f"Unsupported type: {type(value).__name__}")
    if value.lstrip("+-") == "0":
        return 0.0
    if not _DURATION.fullmatch(value):
        what = "missing unit in" if re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)", value) else "invalid"
        raise BadRequestError(f"time: {what} duration {json.dumps(value)}")
    total_s = sum(float(number) * _UNIT_S[unit] for number, unit in _PART.findall(value))
    return -total_s if value.startswith("-") else total_s


def parse_body(raw: bytes) -> dict[str, Any]:
    """Read a request body.

    Raises:
        BadRequestError: it is absent, not JSON, or not an object.

    """
    if not raw.strip():
        raise BadRequestError("missing request body")
    try:
        body = json.loads(raw)
    except json.JSONDecodeError as exc:
        raise BadRequestError(_go_complaint(exc)) from exc
    except UnicodeDecodeError as exc:
        raise BadRequestError("invalid character in string literal") from exc
    if not isinstance(body, dict):
        raise BadRequestError(f"json: cannot unmarshal {_go_type(body)} into Go value")
    return body


def list_of_objects(body: Mapping[str, Any], field: str) -> list[dict[str, Any]]:
    """Read a list such as `messages`; empty when absent.

    Raises:
        BadRequestError: it is something else.

    """
    value = body.get(field)
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
        raise BadRequestError(f"json: cannot unmarshal {_go_type(value)} into Go struct field .{field}")
    return value


def parse_options(body: Mapping[str, Any]) -> dict[str, Any]:
    """Read `options`.

    Raises:
        BadRequestError: it is no object, or one of its numbers is no number.

    """
    options = body.get("options") or {}
    if not isinstance(options, dict):
        raise BadRequestError(f"json: cannot unmarshal {_go_type(options)} into Go struct field .options")
    for name in ("num_ctx", "num_predict", "num_batch"):
        value = options.get(name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
            raise BadRequestError(f'option "{name}" must be of type integer')
    return options


def not_found(model: str) -> str:
    """Say that a model is not installed."""
    return f"model '{model}' not found"


def host_allowed(header: str) -> bool:
    """Tell whether the guard against DNS rebinding lets this Host header through."""
    host = header.rsplit(":", 1)[0] if re.search(r":\d+$", header) else header
    host = host.strip("[]").lower()
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host in {"", *_NAMES} or host.endswith(_SUFFIXES)
    return address.is_loopback or address.is_private or address.is_unspecified


def _go_complaint(problem: json.JSONDecodeError) -> str:
    if problem.pos >= len(problem.doc.rstrip()):
        return "unexpected EOF"
    return f"invalid character {problem.doc[problem.pos]!r} looking for beginning of value"


def _go_type(value: object) -> str:
    if isinstance(value, bool):
        return "bool"
    names: dict[type, str] = {list: "array", str: "string", int: "number", float: "number", dict: "object"}
    return names.get(type(value), "null")
