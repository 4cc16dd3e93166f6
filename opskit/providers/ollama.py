"""Ollama's native protocol: NDJSON over /api (wire facts A).

Answers always stream on the wire, so that the first token, a stall and a missing `done` can be seen; a
caller who wants the whole text collects it.
"""

import asyncio
import contextlib
import json
import math
from collections.abc import AsyncGenerator, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

from opskit.providers.base import (
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
)
from opskit.providers.failures import error_text
from opskit.providers.http import HttpClient, lines, parsed, parsed_object
from opskit.providers.kinds import OLLAMA
from opskit.providers.reading import StreamReader
from opskit.providers.values import count, mapping, mappings, seconds_of, text

_UNLOAD_S = 30.0
_DOCUMENT_BYTES = 8 * 1024 * 1024
_UNITS = {"K": 1e3, "M": 1e6, "B": 1e9, "T": 1e12}


class Ollama(Provider):
    """One Ollama-shaped server."""

    kind = OLLAMA

    def __init__(self, http: HttpClient, release: str = "") -> None:
        self._http = http
        self._release = release
        #: The name under which each digest is listed.
        self._names: dict[str, str] = {}
        self._listing = asyncio.Lock()

    async def version(self) -> str:
        """The server's version; one that does not tell it shows its life by its list of models."""
        try:
            body = await self._http.get_json("/api/version")
        except CallError as error:
            if error.cause is not CallCause.STATUS or error.status in (401, 403):
                raise
            body = await self._http.get_json("/api/tags")
        version = mapping(body).get("version")
        return f"Ollama {version}" if version else "Ollama"

    async def models(self) -> tuple[ModelInfo, ...]:
        """From /api/tags: installed models, cloud stubs marked. `resident` is left open: see `resident`.

        The names of one digest are one model. The newest comes first there, so the last is its first name.
        """
        async with self._listing:
            listed = _entries(await self._http.get_json("/api/tags"), "/api/tags")
            self._names = {digest: _name(entry) for entry in listed if (digest := _digest(entry))}
            models = distinct((_digest(entry), _model(entry, self._release)) for entry in reversed(listed))
        return models[::-1]

    async def resident(self) -> tuple[Resident, ...] | None:
        """From /api/ps, by the names of `models`; None where a server is too old to have it (404).

        It may block while an MLX-engine runner loads: a TIMEOUT here means loading (A2). It has the name by
        which a model was loaded, which may be any of its names (A8).
        """
        try:
            body = await self._http.get_json("/api/ps")
        except CallError as error:
            if error.status == 404:
                return None
            raise
        clock_ahead, loaded = self._http.clock_ahead, _entries(body, "/api/ps")
        digests = {digest for entry in loaded if (digest := _digest(entry))}
        if not digests <= self._names.keys():
            async with self._listing:
                """A list that is under way may have them."""
        if not digests <= self._names.keys():
            with contextlib.suppress(CallError):
                await self.models()
        return tuple(
            _resident(entry, self._names.get(_digest(entry)) or _name(entry), clock_ahead) for entry in loaded
        )

    async def show(self, model: str) -> Mapping[str, Any]:
        """Metadata of one model without loading it (A2)."""
        shown = await self._http.post_json("/api/show", {"model": model}, timeout_s=self._http.metadata_s)
        return mapping(shown)

    async def load(self, model: str, *, num_ctx: int | None = None) -> None:
        """Preload by /api/chat with no messages (A3). A disconnect would abort the load on the server."""
        body: dict[str, Any] = {"model": model, "messages": [], "stream": False}
        if num_ctx is not None:
            body["options"] = {"num_ctx": num_ctx}
        async with self._told_from_missing_blob(model):
            reply = await self._http.post_json("/api/chat", body, timeout_s=None)
        if mapping(reply).get("error"):
            raise _in_band(reply)

    async def unload(self, model: str) -> None:
        """Ask for an unload (A3); a busy model goes after its requests."""
        await self._http.post_json("/api/generate", {"model": model, "keep_alive": 0}, timeout_s=_UNLOAD_S)

    async def weights(self, model: str) -> str | None:
        """Return the blob of a model's weights, out of its Modelfile (wire facts A8)."""
        return weights_of((await self.show(model)).get("modelfile"))

    async def cache_bytes_per_token(self, model: str) -> int | None:
        """Read it out of the model's metadata, which loads nothing."""
        return cache_bytes_per_token(await self.show(model))

    async def stream(self, request: ChatRequest) -> AsyncGenerator[Event, None]:
        """NDJSON chunks of /api/chat. Success is a line with `done: true`, nothing else (A5).

        A stream that is left before that line is read on for a moment, near its limit to the end: to cut it
        between the last token and that line can block the model for everybody (A8).
        """
        tokens, body = 0, _body(request)
        if request.think and await self._can_think(request.model):
            body["think"] = True
        async with (
            self._told_from_missing_blob(request.model),
            self._http.post_stream("/api/chat", body) as response,
            StreamReader(_chunks(lines(response)), _is_done) as chunks,
        ):
            try:
                async for chunk in chunks:
                    for event in _events(chunk):
                        tokens += isinstance(event, Token | Reasoning)
                        yield event
                        if isinstance(event, End):
                            return
            except (GeneratorExit, asyncio.CancelledError):
                await chunks.read_on(tokens=tokens, limit=request.max_tokens)
                raise
        raise CallError(CallCause.ENDED, "the stream ended without `done: true`", phase="stream", status=200)

    @contextlib.asynccontextmanager
    async def _told_from_missing_blob(self, model: str) -> AsyncGenerator[None, None]:
        """Mark the 404 for a model that is listed: its weights are gone, its name is not (wire facts A8)."""
        try:
            yield
        except CallError as error:
            missing = error.status == 404 and "model" in error.text and "not found" in error.text
            if not missing or not await self._lists(model):
                raise
            why = f"{error.text}; Ollama lists this model, so a file of it is missing"
            raise CallError(error.cause, why, status=404, error_type="blob_missing") from error

    async def _can_think(self, model: str) -> bool:
        """Ask for it by metadata: a model that cannot refuses a request that wants it (A3)."""
        try:
            capabilities = (await self.show(model)).get("capabilities")
        except CallError:
            return False
        return isinstance(capabilities, list) and "thinking" in capabilities

    async def _lists(self, model: str) -> bool:
        try:
            return any(listed.is_called(model) for listed in await self.models())
        except CallError:
            return False


def _in_band(chunk: Mapping[str, Any]) -> CallError:
    text, kind = error_text(chunk)
    return CallError(CallCause.IN_BAND, text, phase="stream", status=200, error_type=kind)


def _events(chunk: Mapping[str, Any]) -> Iterator[Event]:
    """What one line says, in order; raises CallError for an error or for no line of a chat."""
    if chunk.get("error"):
        raise _in_band(chunk)
    message = mapping(chunk.get("message"))
    if thinking := text(message.get("thinking")):
        yield Reasoning(thinking)
    if content := text(message.get("content")):
        yield Token(content)
    for call in mappings(message.get("tool_calls")):
        function = mapping(call.get("function"))
        if isinstance(name := function.get("name"), str):
            yield ToolCall(name, json.dumps(function.get("arguments") or {}, ensure_ascii=False))
    is_message = isinstance(chunk.get("message"), Mapping)
    if not is_message and "done" not in chunk:
        raise bad_payload("a chunk is neither a message nor an end")
    if _is_done(chunk):
        yield End(str(chunk.get("done_reason") or "stop"), _usage(chunk), text(chunk.get("model")))
    elif not is_message:
        yield Progress()


def _is_done(chunk: Mapping[str, Any]) -> bool:
    return chunk.get("done") is True


def _body(request: ChatRequest) -> dict[str, Any]:
    body: dict[str, Any] = {
        "model": request.model,
        "messages": request.dialogue(json.loads),
        "stream": True,
    }
    if request.schema is not None:
        body["format"] = request.schema
    if request.tools:
        body["tools"] = [tool.as_json() for tool in request.tools]
    if not request.may_cut:
        body["truncate"] = False
    options = {
        **dict(request.load_options),
        "num_predict": request.max_tokens,
        "temperature": request.temperature,
        "seed": request.seed,
        "num_ctx": request.num_ctx,
    }
    if any(value is not None for value in options.values()):
        body["options"] = {name: value for name, value in options.items() if value is not None}
    return body


async def _chunks(rows: AsyncGenerator[bytes, None]) -> AsyncGenerator[Mapping[str, Any], None]:
    """One object a line; or, from something that does not stream, one document over several lines."""
    document, first = bytearray(), True
    async with contextlib.aclosing(rows):
        async for line in rows:
            if not line.strip():
                continue
            if document:
                document += line
                if len(document) > _DOCUMENT_BYTES:
                    break
            elif first and not _is_json(line):
                document += line
            else:
                yield parsed_object(line)
            first = False
    if document:
        yield parsed_object(bytes(document))


def _is_json(line: bytes) -> bool:
    try:
        parsed(line, "")
    except CallError:
        return False
    return True


def _entries(body: Any, path: str) -> list[Mapping[str, Any]]:
    models = mapping(body).get("models", "missing")
    if models is not None and not isinstance(models, list):
        raise bad_payload(f"{path} answered without a list of models")
    return [entry for entry in mappings(models) if _name(entry)]


def _name(entry: Mapping[str, Any]) -> str:
    return str(entry.get("model") or entry.get("name") or "")


def _digest(entry: Mapping[str, Any]) -> str:
    return text(entry.get("digest")) or ""


def _model(entry: Mapping[str, Any], release: str) -> ModelInfo:
    details = mapping(entry.get("details"))
    capabilities = entry.get("capabilities")
    return ModelInfo(
        name=_name(entry),
        size_bytes=count(entry.get("size")),
        family=text(details.get("family")),
        parameters=_parameters(details.get("parameter_size")),
        quantization=text(details.get("quantization_level")),
        context_length=count(details.get("context_length")),
        capabilities=frozenset(map(str, capabilities)) if isinstance(capabilities, list) else None,
        cloud=bool(entry.get("remote_host") or entry.get("remote_model")),
        version=f"{_digest(entry)} {release}".strip() or None,
    )


def _resident(entry: Mapping[str, Any], name: str, clock_ahead: timedelta) -> Resident:
    expires_at = _time(entry.get("expires_at"))
    return Resident(
        name=name,
        size_bytes=count(entry.get("size")),
        size_vram_bytes=count(entry.get("size_vram")),
        context_length=count(entry.get("context_length")),
        expires_at=None if expires_at is None else _shifted(expires_at, clock_ahead),
    )


def _usage(chunk: Mapping[str, Any]) -> Usage:
    """Durations come in nanoseconds; a zero count is left out on the wire (A3)."""
    return Usage(
        prompt_tokens=count(chunk.get("prompt_eval_count")),
        completion_tokens=count(chunk.get("eval_count")),
        load_s=seconds_of(chunk.get("load_duration"), 1e9),
        eval_s=seconds_of(chunk.get("eval_duration"), 1e9),
    )


def weights_of(modelfile: Any) -> str | None:
    """Return the first path after FROM in a Modelfile; None where it names a model or nothing. Pure."""
    for line in modelfile.splitlines() if isinstance(modelfile, str) else ():
        word, _, value = line.strip().partition(" ")
        if word.upper() == "FROM" and value.strip().startswith("/"):
            return value.strip()
    return None


def cache_bytes_per_token(shown: Mapping[str, Any]) -> int | None:
    """Bytes of key and value cache for one token at 16 bits, out of `/api/show`; None where it does not tell.

    Two (key, value) x layers x heads that are cached x their width x two bytes. A model whose layers differ
    from one another (a list instead of a number) is left alone.
    """
    info = mapping(shown.get("model_info"))
    arch = info.get("general.architecture")

    def number(key: str) -> int | None:
        value = info.get(f"{arch}.{key}")
        return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None

    layers, heads, width = number("block_count"), number("attention.head_count"), number("embedding_length")
    cached = number("attention.head_count_kv")
    size = number("attention.key_length") or (width // heads if width and heads else None)
    if layers is None or cached is None or size is None:
        return None
    return 2 * layers * cached * size * 2


def _parameters(value: Any) -> float | None:
    """`7.6B` as 7.6e9."""
    if not isinstance(value, str) or not value:
        return None
    unit = _UNITS.get(value[-1].upper())
    try:
        number = float(value[:-1]) * unit if unit else float(value)
    except ValueError:
        return None
    return number if 0 <= number < math.inf else None


def _shifted(moment: datetime, by: timedelta) -> datetime:
    try:
        return moment - by
    except OverflowError:
        return moment


def _time(value: Any) -> datetime | None:
    """RFC 3339 with nanoseconds, as Go writes it; None for the zero time and for what does not parse."""
    if not isinstance(value, str):
        return None
    try:
        parsed = datetime.fromisoformat(value)
    except ValueError:
        return None
    return parsed if parsed.tzinfo is not None and parsed.year > 1 else None
