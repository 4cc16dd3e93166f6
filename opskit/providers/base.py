"""What every provider speaks: one small protocol, its values, and the one way in which a call fails."""

import dataclasses
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any, Literal, Protocol

from opskit.providers.kinds import ServerKind
from opskit.records import Record, field, replace

#: What mlx_lm.server calls the model it was started with (wire facts B3). Never sent: the name is omitted.
DEFAULT_MODEL = "default_model"


class Message(Record):
    """A line of a dialogue.

    `call` is the call of a function in it, `result_of` the name of the function whose result it is: servers
    are told so where the functions are offered, else the text alone.
    """

    role: Literal["system", "user", "assistant"]
    content: str
    call: "ToolCall | None" = None
    result_of: str | None = None


class ToolSpec(Record):
    """A function that a model may call: `parameters` is the JSON schema of its arguments."""

    name: str
    description: str
    parameters: Mapping[str, Any]

    def as_json(self) -> dict[str, Any]:
        """Return it as Ollama and OpenAI-style servers take it."""
        described = {"name": self.name, "description": self.description, "parameters": self.parameters}
        return {"type": "function", "function": described}


class ChatRequest(Record):
    """One call of one model.

    `model` DEFAULT_MODEL means the resident one. `num_ctx` (tokens) is Ollama's; others ignore it. None
    leaves the server's default. `may_cut` False asks a server that would cut a prompt which is too long to
    refuse it instead; most refuse anyway. There is no `keep_alive`: Ollama makes it the life of the
    model for all later requests of everybody (wire facts A8).

    `load_options` are what a model was loaded with (`Resident`): without them Ollama loads it again.

    `schema` is a JSON schema that the answer is to obey; not every server enforces it. `tools` are offered as
    functions, by the model's own template. `think` switches thinking on where the model can think and the
    server can be told; elsewhere it is nothing. `probabilities` asks for probabilities of tokens; not every
    server tells them.
    """

    messages: tuple[Message, ...]
    model: str
    max_tokens: int | None = None
    temperature: float | None = None
    seed: int | None = None
    num_ctx: int | None = None
    may_cut: bool = True
    load_options: tuple[tuple[str, int], ...] = ()
    schema: Mapping[str, Any] | None = None
    tools: tuple[ToolSpec, ...] = ()
    think: bool = False
    probabilities: bool = False

    def dialogue(self, arguments: Callable[[str], Any] = str) -> list[dict[str, Any]]:
        """Return the messages as Ollama and OpenAI-style servers take them; `arguments` writes calls.

        A result follows the call that it is of, so both have its number.
        """
        lines: list[dict[str, Any]] = []
        calls = 0
        for message in self.messages:
            line: dict[str, Any] = {"role": message.role, "content": message.content}
            if self.tools and message.call is not None:
                calls += 1
                named = {"name": message.call.name, "arguments": arguments(message.call.arguments)}
                call = {"id": f"call_{calls}", "type": "function", "function": named}
                line = {"role": message.role, "content": "", "tool_calls": [call]}
            elif self.tools and message.result_of is not None:
                line |= {"role": "tool", "tool_call_id": f"call_{calls}", "tool_name": message.result_of}
            lines.append(line)
        return lines


class Usage(Record):
    """Counts in tokens, durations in seconds; None when the server does not say.

    `counts_cached` tells whether `prompt_tokens` surely includes what came out of the server's cache.
    """

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    load_s: float | None = None
    eval_s: float | None = None
    counts_cached: bool = False


class Token(Record):
    """A piece of the answer; with the least probability of what is in it, where the server tells it."""

    text: str
    probability: float | None = None


class Reasoning(Record):
    """A piece of what the model thinks aloud; a sign of life, not of an answer."""

    text: str


class ToolCall(Record):
    """The model calls a function that it was offered. `arguments` is JSON as the model wrote it."""

    name: str
    arguments: str


class Progress(Record):
    """The server says that it is working on the prompt."""

    done: int | None = None
    total: int | None = None


class End(Record):
    """The server said that it had finished. `reason` is its own word: stop, length, tool_calls, ..."""

    reason: str
    usage: Usage = field(default_factory=Usage)
    model: str | None = None


Event = Token | Reasoning | ToolCall | Progress | End


@dataclasses.dataclass(frozen=True, slots=True)
class ModelInfo:
    """A model that a node holds. None means that the server does not tell.

    `aliases` are its other names there; `name` is the one that is sent. `version` changes with the weights
    and with the program that serves them.
    """

    name: str
    size_bytes: int | None = None
    family: str | None = None
    parameters: float | None = None
    quantization: str | None = None
    context_length: int | None = None
    capabilities: frozenset[str] | None = None
    resident: bool | None = None
    cloud: bool = False
    aliases: tuple[str, ...] = ()
    version: str | None = dataclasses.field(default=None, compare=False)

    @property
    def names(self) -> tuple[str, ...]:
        return (self.name, *self.aliases)

    @property
    def shown(self) -> str:
        return f"{self.aliases[0]} (default)" if self.name == DEFAULT_MODEL and self.aliases else self.name

    def is_called(self, name: str) -> bool:
        """Tell whether this is one of its names, compared as Ollama compares them."""
        return short_name(name) in map(short_name, self.names)


def short_name(name: str) -> str:
    """Return a name without the parts that Ollama adds where they are left out; capitals do not count."""
    return name.lower().removeprefix("registry.ollama.ai/").removeprefix("library/").removesuffix(":latest")


def distinct(models: Iterable[tuple[object, ModelInfo]]) -> tuple[ModelInfo, ...]:
    """Return each model once, by what identifies it; its first name counts, the others are aliases.

    A model without an identity (None or empty) is its own.
    """
    merged: dict[object, ModelInfo] = {}
    for identity, model in models:
        key = identity or ("", model.name)
        known = merged.get(key)
        merged[key] = model if known is None else replace(known, aliases=(*known.aliases, model.name))
    return tuple(merged.values())


def name_default(models: tuple[ModelInfo, ...], name: str | None) -> tuple[ModelInfo, ...]:
    """Return the models with the name of the default one, which is then not listed a second time."""
    if name is None:
        return models
    return tuple(
        replace(model, aliases=(name,)) if model.name == DEFAULT_MODEL else model
        for model in models
        if model.name == DEFAULT_MODEL or not model.is_called(name)
    )


class Resident(Record):
    """A model that is loaded now.

    `size_vram_bytes` below `size_bytes` means partly on the CPU. `expires_at` is by the clock of this
    machine; in the past it means that a request has been in flight since (wire facts A8). `load_options` are
    options of its load that the server does not tell, where its process shows them.
    """

    name: str
    size_bytes: int | None = None
    size_vram_bytes: int | None = None
    context_length: int | None = None
    expires_at: datetime | None = None
    load_options: tuple[tuple[str, int], ...] = ()


class Slot(Record):
    """A place for one request in a server. The counters belong to the request that it works on."""

    busy: bool
    task: int | None = None
    prompt_tokens: int = 0
    tokens: int = 0


class CallCause(StrEnum):
    """How a call failed, as the wire shows it. What it means is decided in `opskit.llm.faults`."""

    REFUSED = "refused"
    UNREACHABLE = "unreachable"
    NAME = "name"
    TLS = "tls"
    PROXY = "proxy"
    TIMEOUT = "timeout"
    RESET = "reset"
    CLOSED = "closed"
    STATUS = "status"
    IN_BAND = "in-band"
    PAYLOAD = "payload"
    ENDED = "ended"
    NOT_LISTED = "not-listed"


class TlsProblem(StrEnum):
    """Why no TLS connection came about."""

    NOT_TLS = "not-tls"
    SELF_SIGNED = "self-signed"
    UNKNOWN_AUTHORITY = "unknown-authority"
    EXPIRED = "expired"
    NOT_YET_VALID = "not-yet-valid"
    OTHER_NAME = "other-name"
    OTHER = "other"


@dataclasses.dataclass(eq=False, repr=False)
class CallError(Exception):
    """A call that did not work, with the evidence.

    `phase` tells how far it came: connect, request (sent, no headers yet), stream (headers seen). `status`
    and `retry_after_s` come from the reply, `text` its error text or a sentence of ours. `error_type` is
    the type of its error body, or its code where that is a word. `tls` is what was wrong with TLS, `location`
    where a redirect leads, `relayed` that a proxy answered for a server that it could not ask. `server` is
    how the answering program calls itself, `challenge` the scheme by which it wants a login (`basic`), and
    `is_page` tells that its reply is a page for people.
    """

    cause: CallCause
    text: str
    _: dataclasses.KW_ONLY
    phase: Literal["connect", "request", "stream"] = "request"
    status: int | None = None
    retry_after_s: float | None = None
    error_type: str | None = None
    tls: TlsProblem | None = None
    location: str | None = None
    relayed: bool = False
    server: str = ""
    challenge: str = ""
    is_page: bool = False

    def __post_init__(self) -> None:
        super().__init__(f"{self.cause.value}: {self.text}")


def bad_payload(text: str, status: int = 200) -> CallError:
    """Return the error of a reply whose body is not what was asked for."""
    return CallError(CallCause.PAYLOAD, text, phase="stream", status=status)


def without_reason(status: int) -> str:
    """The text of a CallError whose reply gave none."""
    return f"HTTP {status} without a reason"


class Provider(Protocol):
    """A node that answers. Every method raises CallError and nothing else that is expected.

    Implementations inherit from it: what most servers cannot do has a plain answer here.
    """

    #: What server it turned out to be, and what can be expected of that.
    kind: ServerKind

    async def version(self) -> str:
        """A cheap sign of life that touches no model: the server's version or its name."""
        ...

    async def models(self) -> tuple[ModelInfo, ...]:
        """What may be asked for by name, plus DEFAULT_MODEL where omitting the name has a meaning."""
        ...

    async def resident(self) -> tuple[Resident, ...] | None:
        """What is loaded; None when the server cannot tell."""
        ...

    def stream(self, request: ChatRequest) -> AsyncGenerator[Event, None]:
        """The answer as it comes; the last event is End. A stream without End raises CallError(ENDED)."""
        ...

    async def slots(self) -> tuple[Slot, ...] | None:
        """What it works on just now; None when the server cannot tell."""
        return None

    async def load(self, model: str, *, num_ctx: int | None = None) -> None:
        """Load without generating; returns when it is resident. Does nothing without `loads_on_demand`."""
        del model, num_ctx

    async def unload(self, model: str) -> None:
        """Ask the server to free a model's memory. Does nothing without `loads_on_demand`."""
        del model

    async def weights(self, model: str) -> str | None:
        """Return the path of the file that a model's weights are in; None where the server does not tell."""
        del model
        return None

    async def cache_bytes_per_token(self, model: str) -> int | None:
        """Return what a token of context costs in memory, in bytes; None where the server does not tell."""
        del model
        return None
