"""The OpenAI-style protocol: mlx_lm.server, LM Studio, vLLM, OpenRouter and their kin (wire facts B, C).

Their kind has what they do not agree on: mlx_lm.server loads, and may download, any name it is sent
(B3), so a name that the server did not list never reaches the wire, and the resident model is asked for by
leaving the name out.
"""

import asyncio
import contextlib
import json
import math
import re
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from typing import Any

from opskit.providers.base import (
    DEFAULT_MODEL,
    CallCause,
    CallError,
    ChatRequest,
    End,
    Event,
    ModelInfo,
    Progress,
    Provider,
    Reasoning,
    Resident,
    Token,
    ToolCall,
    Usage,
    bad_payload,
    distinct,
    name_default,
)
from opskit.providers.failures import error_text
from opskit.providers.http import HttpClient, lines, parsed_object
from opskit.providers.kinds import LMSTUDIO, MLX_LM, OPENAI, ServerKind
from opskit.providers.reading import Comment, Data, Item, StreamReader, events
from opskit.providers.values import count, mapping, mappings, seconds_of, text
from opskit.records import replace

_KEEPALIVE = re.compile(r"keepalive (\d{1,18})/(\d{1,18})", re.ASCII)
_CALL_CHARS = 64 * 1024
_SERVES_WHAT_IT_LISTS = ("vllm", "sglang", "koboldcpp")
#: What a template may add to a prompt.
_TEMPLATE_TOKENS = 256
_LMSTUDIO_KINDS = ("llm", "vlm")


class OpenAIStyle(Provider):
    """One server that answers /v1/chat/completions."""

    def __init__(self, http: HttpClient, kind: ServerKind = OPENAI, default_model: str | None = None) -> None:
        self._http = http
        self.kind = kind
        self._default = default_model
        #: The context of each model by its names, None where it is not told.
        self._listed: dict[str, int | None] = {}

    async def version(self) -> str:
        """/health where it exists; 503 there means that the generation thread is dead (B1)."""
        if self.kind is MLX_LM:
            response = await self._http.get("/health")
            if not response.is_success:
                raise CallError(CallCause.STATUS, _ill(response.content), status=response.status_code)
        else:
            await self._http.get_json("/v1/models")
        return self.kind.label

    async def models(self) -> tuple[ModelInfo, ...]:
        """What the server lists; with mlx_lm.server first DEFAULT_MODEL, the only one known resident.

        mlx_lm.server lists the folder that it was started with by its whole path, and all else by the ids of
        Hugging Face: a path is the default model (B1).
        """
        listed = await self._list()
        if not self.kind.naming_swaps:
            return listed
        paths = [model.name for model in listed if model.name.startswith("/")]
        name = self._default or (paths[0] if len(paths) == 1 else None)
        return name_default((ModelInfo(DEFAULT_MODEL, resident=True), *listed), name)

    async def resident(self) -> tuple[Resident, ...] | None:
        if self.kind.naming_swaps:
            return (Resident(DEFAULT_MODEL),)
        if self.kind is LMSTUDIO:
            return tuple(Resident(m.name) for m in await self._list() if m.resident)
        if self.kind.loaded_page:
            return await self._loaded()
        return None

    async def stream(self, request: ChatRequest) -> AsyncGenerator[Event, None]:
        """SSE chunks, or one JSON document from a server that ignores `stream`.

        Success is a finish reason or `[DONE]`; an end without either is the only sign of many failures
        (A5, B2).
        """
        body = await self._body(request)
        tokens = 0
        async with (
            self._http.post_stream("/v1/chat/completions", body) as response,
            StreamReader(events(lines(response)), _is_done) as items,
            contextlib.aclosing(_chat(items)) as chat,
        ):
            try:
                async for event in chat:
                    tokens += isinstance(event, Token | Reasoning)
                    yield self._known(event, request) if isinstance(event, End) else event
            except (GeneratorExit, asyncio.CancelledError):
                # Ollama stands behind some of these addresses: see Ollama.stream.
                if tokens:
                    await items.read_on(tokens=tokens, limit=request.max_tokens)
                raise

    async def _list(self) -> tuple[ModelInfo, ...]:
        if self.kind is LMSTUDIO:
            rows = entries(await self._http.get_json("/api/v0/models"))
            models = tuple(_lmstudio(entry) for entry in rows if entry.get("type") in _LMSTUDIO_KINDS)
        else:
            models = distinct(map(_listed, await self._entries()))
        self._listed = {name: model.context_length for model in models for name in model.names}
        return models

    async def _loaded(self) -> tuple[Resident, ...] | None:
        """Return what the page of loaded models tells; without it (404) nothing is known."""
        if not self._listed:
            await self._list()
        try:
            page = mapping(await self._http.get_json(self.kind.loaded_page))
        except CallError as error:
            if error.status in (400, 503):
                # TabbyAPI without a model.
                return ()
            if error.status == 404:
                return None
            raise
        running = [
            entry.get("model") for entry in mappings(page.get("running")) if entry.get("state") == "ready"
        ]
        names = [*running, page.get("id"), page.get("model_name")]
        return tuple(Resident(name) for name in names if isinstance(name, str) and name in self._listed)

    async def _entries(self) -> list[Mapping[str, Any]]:
        # Without a cache folder mlx_lm fails after the 200 is written (B1): nothing listed, but it may serve.
        empty: Mapping[str, Any] | None = {"data": []} if self.kind.naming_swaps else None
        return entries(await self._http.get_json("/v1/models", empty=empty))

    async def _body(self, request: ChatRequest) -> dict[str, Any]:
        body: dict[str, Any] = {
            "messages": request.dialogue(),
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        name = await self._guarded(request.model)
        optional = {
            "model": name,
            "max_tokens": self._limit(request),
            "temperature": request.temperature,
            "seed": request.seed,
        }
        body |= {key: value for key, value in optional.items() if value is not None}
        if request.schema is not None:
            form = {"name": "answer", "schema": request.schema, "strict": True}
            body["response_format"] = {"type": "json_schema", "json_schema": form}
        if request.think and self.kind.takes_template_arguments:
            body["chat_template_kwargs"] = {"enable_thinking": True}
        body |= {"logprobs": True} if request.probabilities else {}
        if request.tools:
            body["tools"] = [tool.as_json() for tool in request.tools]
        return body

    def _known(self, end: End, request: ChatRequest) -> End:
        """Return an end that names who answered only where that is a model of the list.

        Some answer with the model that is loaded, whatever the request names; others spell its name out.
        """
        is_known = request.model == DEFAULT_MODEL or end.model in self._listed
        return end if is_known else replace(end, model=None)

    def _limit(self, request: ChatRequest) -> int | None:
        """Return the limit of the answer; none where it may not fit into the context beside the prompt.

        vLLM refuses such a request. Without a limit the context is the limit.
        """
        context, limit = self._listed.get(request.model), request.max_tokens
        prompt = sum(len(message.content.encode("utf-8", "replace")) for message in request.messages)
        return None if context and limit and limit + prompt // 2 + _TEMPLATE_TOKENS > context else limit

    async def _guarded(self, model: str) -> str | None:
        """The name to send, None to leave it out. Raises CallError(NOT_LISTED) before anything is sent."""
        if model == DEFAULT_MODEL:
            return self._default
        if model not in self._listed:
            await self._list()
        if model not in self._listed:
            swaps = "it might be downloaded and swapped in"
            why = swaps if self.kind.naming_swaps else "another might answer"
            raise CallError(
                CallCause.NOT_LISTED,
                f"the server does not list {model!r}; a name it does not list is never sent, because {why}",
            )
        return model


async def _chat(items: AsyncIterator[Item]) -> AsyncGenerator[Event, None]:
    """The events of one reply; raises CallError when it ends without an end."""
    reply, plain, item = _ChatReply(), list[str](), None
    async for item in items:
        if isinstance(item, Comment):
            yield _progress(item.text)
        elif not isinstance(item, Data):
            plain.append(item.text)
        elif _is_done(item):
            for event in reply.ended(reply.reason or "stop"):
                yield event
            return
        elif item.event == "error":
            raise _in_band(item.text.encode())
        elif not item.text.strip():
            yield Progress()
        else:
            for event in reply.read(parsed_object(item.text)):
                yield event
    if plain and reply.reason is None:
        for event in reply.read(parsed_object("\n".join(plain))):
            yield event
    if reply.reason is None and reply.has_choices is not False:
        what = "the stream ended without a finish reason or [DONE]"
        what = "the server answered 200 with an empty body" if item is None else what
        raise CallError(CallCause.ENDED, what, phase="stream", status=200)
    for event in reply.ended(reply.reason or ""):
        yield event


class _ChatReply:
    """What the chunks of one reply, or its only document, have said so far."""

    def __init__(self) -> None:
        self.reason: str | None = None
        #: Whether any chunk had a list of choices; None before the first chunk.
        self.has_choices: bool | None = None
        self._served: str | None = None
        self._usage = Usage()
        #: Name and arguments of each call of a function, by its index.
        self._calls: dict[int, list[str]] = {}

    def read(self, chunk: Mapping[str, Any]) -> list[Event]:
        """Return what a chunk adds. Raises CallError for an error in it, and for a call without an end."""
        _raise_in_band(chunk)
        self._usage, self._served = _usage(chunk, self._usage), _served(chunk) or self._served
        self.has_choices = bool(self.has_choices) or isinstance(chunk.get("choices"), list)
        events: list[Event] = []
        for choice in mappings(chunk.get("choices")):
            # Some stream whole messages, or the texts of plain completions.
            said = mapping(choice.get("delta", choice.get("message", choice)))
            parts = said.get("content")
            thoughts = [part.get("thinking") for part in mappings(parts)]
            if thinking := _joined([said.get("reasoning") or said.get("reasoning_content"), *thoughts]):
                events.append(Reasoning(thinking))
            if content := _joined(parts) or _joined(said.get("refusal")) or _joined(said):
                events.append(Token(content, _probability(choice)))
            calls = mappings(said.get("tool_calls"))
            # The older shape of a call.
            if self._gather_calls(calls or [{"function": said.get("function_call")}]):
                events.append(Progress())
            self.reason = text(choice.get("finish_reason")) or self.reason
        return events

    def ended(self, reason: str) -> list[Event]:
        """Return its calls of functions and its end. Raises CallError(PAYLOAD) for another protocol."""
        if self.has_choices is False:
            raise bad_payload("the reply has no choices")
        calls = [ToolCall(name, arguments or "{}") for name, arguments in self._calls.values() if name]
        return [*calls, End(reason, self._usage, self._served)]

    def _gather_calls(self, pieces: list[Mapping[str, Any]]) -> bool:
        """Add what is said of calls of functions: a name, then pieces of its arguments, by an index.

        Tell whether anything was said. Raises CallError(PAYLOAD) for a call without an end.
        """
        gathered = False
        for number, piece in enumerate(pieces):
            function, index = piece.get("function"), piece.get("index")
            if not isinstance(function, Mapping):
                continue
            call = self._calls.setdefault(index if isinstance(index, int) else number, ["", ""])
            arguments = function.get("arguments")
            call[0] = text(function.get("name")) or call[0]
            call[1] += arguments if isinstance(arguments, str) else json.dumps(arguments or {})
            gathered = True
            if len(call[1]) > _CALL_CHARS:
                raise bad_payload(f"a call of {call[0]!r} with more than {_CALL_CHARS} characters")
        return gathered


def _joined(value: Any) -> str:
    """Return a text; one that comes in parts, as Mistral sends it, is joined."""
    if isinstance(value, list):
        return "".join(map(_joined, value))
    return value if isinstance(value, str) else text(mapping(value).get("text")) or ""


def _is_done(item: Item) -> bool:
    return isinstance(item, Data) and item.text.strip() == "[DONE]"


def _ill(body: bytes) -> str:
    """What a failing /health says. `{"status": "unavailable"}` is mlx_lm.server's word for a dead worker."""
    text, _ = error_text(body)
    return "its generation thread died" if "unavailable" in text and "status" in text else text


def entries(body: Any) -> list[Mapping[str, Any]]:
    """Return the models of a list in the OpenAI shape. Raises CallError(PAYLOAD) for any other."""
    data = mapping(body).get("data")
    if not isinstance(data, list):
        raise bad_payload("the list of models is not in the OpenAI shape")
    return [entry for entry in mappings(data) if isinstance(entry.get("id"), str)]


def _listed(entry: Mapping[str, Any]) -> tuple[Any, ModelInfo]:
    """A model with what identifies it: vLLM serves what it lists, one model under each of its names.

    For most others nothing is known of what is loaded.
    """
    is_served = entry.get("owned_by") in _SERVES_WHAT_IT_LISTS
    model = ModelInfo(
        str(entry["id"]),
        context_length=count(entry.get("max_model_len") or entry.get("context_length")),
        resident=is_served or None,
    )
    return text(entry.get("root")) if is_served and not entry.get("parent") else None, model


def _lmstudio(entry: Mapping[str, Any]) -> ModelInfo:
    return ModelInfo(
        str(entry["id"]),
        family=text(entry.get("arch")),
        quantization=text(entry.get("quantization")),
        context_length=count(entry.get("max_context_length")),
        resident=entry.get("state") == "loaded",
    )


def _raise_in_band(chunk: Mapping[str, Any]) -> None:
    """An error under a 200, in the shapes of OpenAI, OpenRouter, vLLM and FastAPI (C)."""
    says = "choices" not in chunk and (text(chunk.get("message")) or chunk.get("detail"))
    if chunk.get("error") or chunk.get("object") == "error" or says:
        raise _in_band(chunk)
    for choice in mappings(chunk.get("choices")):
        if choice.get("finish_reason") == "error":
            raise _in_band(choice if choice.get("error") else b"the server ended the answer with an error")


def _in_band(raw: bytes | Mapping[str, Any]) -> CallError:
    sentence, kind = error_text(raw)
    body = mapping(raw)
    code = mapping(body.get("error")).get("code", body.get("code"))
    status = code if isinstance(code, int) and 400 <= code < 600 else 200
    return CallError(CallCause.IN_BAND, sentence, phase="stream", status=status, error_type=kind)


def _probability(choice: Mapping[str, Any]) -> float | None:
    """Return the least probability of the tokens of a choice, where it was asked for and is told."""
    entries = mappings(mapping(choice.get("logprobs")).get("content"))
    values = [value for entry in entries if isinstance(value := entry.get("logprob"), int | float)]
    return math.exp(min(0, *values)) if values else None


def _served(chunk: Mapping[str, Any]) -> str | None:
    """The model that the server says answered; mlx_lm.server only echoes what it was asked for (B4)."""
    return None if chunk.get("model") == DEFAULT_MODEL else text(chunk.get("model"))


def _usage(chunk: Mapping[str, Any], before: Usage) -> Usage:
    """What a chunk adds to the counts; `timings` are llama.cpp's, in milliseconds.

    A server that tells how many tokens were cached counts them into the prompt. llama.cpp counts the read
    and the cached ones apart.
    """
    usage, timings = chunk.get("usage"), chunk.get("timings")
    if isinstance(usage, Mapping):
        before = replace(
            before,
            prompt_tokens=count(usage.get("prompt_tokens")),
            completion_tokens=count(usage.get("completion_tokens")),
            counts_cached=isinstance(usage.get("prompt_tokens_details"), Mapping),
        )
    if isinstance(timings, Mapping):
        before = replace(before, eval_s=seconds_of(timings.get("predicted_ms"), 1e3))
        read, cached = count(timings.get("prompt_n")), count(timings.get("cache_n"))
        if before.prompt_tokens is None and read is not None and cached is not None:
            before = replace(before, prompt_tokens=read + cached, counts_cached=True)
    return before


def _progress(comment: str) -> Progress:
    """`keepalive 512/2048` is mlx_lm.server's prefill (B4); any other comment is just a sign of life."""
    match = _KEEPALIVE.fullmatch(comment)
    return Progress(int(match[1]), int(match[2])) if match else Progress()
