"""The HTTP door: one client per node, whose calls raise CallError and nothing else that is expected."""

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from opskit import __version__
from opskit.providers.base import CallCause, CallError, bad_payload, without_reason
from opskit.providers.failures import (
    ServerReply,
    clock_ahead,
    error_text,
    redirect,
    relayed_text,
    retry_after,
    translated,
)
from opskit.providers.plain_http import PlainClient

if TYPE_CHECKING:
    from opskit.providers.transport import ProxyClient

_ERROR_BODY_BYTES = 64 * 1024
#: What web frameworks say of a page that they do not have.
_NO_PAGE = re.compile(r"(404:? )?((page |file )?not found)?\.?", re.IGNORECASE)
_METADATA_BYTES = 16 * 1024 * 1024


class HttpClient:
    """An HTTP server at a base URL (no trailing slash, no `/v1`)."""

    def __init__(
        self,
        base_url: str,
        *,
        api_key: str | None = None,
        connect_s: float = 2.0,
        metadata_s: float = 3.0,
        proxy: str | None = None,
    ) -> None:
        headers = {"User-Agent": f"opskit/{__version__}"}
        if api_key:
            headers["Authorization"] = f"Bearer {api_key}"
        self.base_url = base_url
        self.metadata_s = metadata_s
        #: The date of its last document, and when that came.
        self._dated: tuple[str | None, datetime] = None, datetime.now(UTC)
        #: Whether connections are kept for the next call; a server may have few threads to wait on them.
        self.keep_alive = True
        #: How the server called itself in its last reply; empty where it did not.
        self.server = ""
        self._client: PlainClient | ProxyClient
        if proxy is None:
            self._client = PlainClient(base_url, headers, connect_s)
        else:
            from opskit.providers import transport

            self._client = transport.ProxyClient(base_url, headers, connect_s, proxy)

    @property
    def clock_ahead(self) -> timedelta:
        """How far the server's clock was ahead of ours in its last document; 0 where it does not say."""
        return clock_ahead(*self._dated)

    async def get_json(self, path: str, *, timeout_s: float | None = None, empty: Any = None) -> Any:
        """The parsed body of a GET, or `empty` (when given) for a body of no bytes.

        Raises CallError, PAYLOAD when it is not JSON.
        """
        return await self._json("GET", path, None, timeout_s or self.metadata_s, empty)

    async def post_json(
        self,
        path: str,
        body: Mapping[str, Any],
        *,
        timeout_s: float | None,
        headers: Mapping[str, str] = MappingProxyType({}),
    ) -> Any:
        """The parsed body of a POST. `timeout_s` None leaves the deadline to the caller."""
        return await self._json("POST", path, body, timeout_s, headers=headers)

    async def get(self, path: str, *, timeout_s: float | None = None) -> ServerReply:
        """A GET with its body read, whatever its status."""
        async with _deadline(timeout_s or self.metadata_s), self._open("GET", path, None) as response:
            with translated("stream"):
                await response.aread()
            return response

    @contextlib.asynccontextmanager
    async def post_stream(self, path: str, body: Mapping[str, Any]) -> AsyncIterator[ServerReply]:
        """An open reply with status 200. Any other status raises CallError(STATUS)."""
        async with self._open("POST", path, body) as response:
            if response.status_code != 200:
                raise await _status_error(response)
            if _is_page(response):
                page = (await _status_error(response)).text
                raise bad_payload(f"{path} answered 200 with an HTML page ({page})")
            yield response

    async def _json(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None,
        timeout_s: float | None,
        empty: Any = None,
        headers: Mapping[str, str] = MappingProxyType({}),
    ) -> Any:
        async with _deadline(timeout_s), self._open(method, path, body, headers) as response:
            self._dated = response.headers.get("date"), datetime.now(UTC)
            if not 200 <= response.status_code < 300:
                raise await _status_error(response)
            raw = await _read(response, _METADATA_BYTES)
        if not raw and empty is not None:
            return empty
        what = (
            "an empty body"
            if not raw
            else f"{'an HTML page' if _is_page(response) else 'something'} that is not JSON"
        )
        return parsed(raw, f"{path} answered {response.status_code} with {what}")

    @contextlib.asynccontextmanager
    async def _open(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None,
        headers: Mapping[str, str] = MappingProxyType({}),
    ) -> AsyncIterator[ServerReply]:
        content, sent = None, dict(headers)
        if body is not None:
            # Half a surrogate pair, as broken bytes on a command line become, is replaced.
            content = json.dumps(body, ensure_ascii=False).encode("utf-8", "replace")
            sent = {"Content-Type": "application/json", **sent}
        if not self.keep_alive:
            sent["Connection"] = "close"
        response = await self._client.send(method, path, content, sent)
        self.server = response.headers.get("server", "")
        try:
            yield response
        finally:
            with contextlib.suppress(Exception):
                await response.aclose()

    async def aclose(self) -> None:
        await self._client.aclose()


async def lines(response: ServerReply, *, limit_bytes: int = 8 * 1024 * 1024) -> AsyncGenerator[bytes, None]:
    """The reply cut at LF only (U+2028 and friends may stand raw inside JSON), without the line end.

    Raises CallError(PAYLOAD) for a line above `limit_bytes`, the bound of Ollama's own client.
    """
    buffer = bytearray()
    with translated("stream"):
        async for chunk in response.aiter_bytes():
            head, *more = chunk.split(b"\n")
            buffer += head
            if len(buffer) > limit_bytes or any(len(part) > limit_bytes for part in more):
                raise CallError(CallCause.PAYLOAD, f"a line of more than {limit_bytes} bytes", phase="stream")
            for part in more:
                yield bytes(buffer.rstrip(b"\r"))
                buffer = bytearray(part)
    if buffer:
        yield bytes(buffer.rstrip(b"\r"))


def parsed(raw: bytes | str, complaint: str) -> Any:
    """JSON, half a character replaced, or CallError(PAYLOAD) with the complaint, also for deep nesting."""
    try:
        return json.loads(raw if isinstance(raw, str) else raw.decode("utf-8-sig", "replace"))
    except (ValueError, RecursionError) as exc:
        raise bad_payload(complaint) from exc


def parsed_object(raw: bytes | str) -> Mapping[str, Any]:
    """The object of a reply, or CallError(PAYLOAD)."""
    chunk = parsed(raw, "the reply is not JSON")
    if not isinstance(chunk, Mapping):
        raise bad_payload("the reply is not an object")
    return chunk


@contextlib.asynccontextmanager
async def _deadline(timeout_s: float | None) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(timeout_s):
            yield
    except TimeoutError as exc:
        raise CallError(CallCause.TIMEOUT, f"no reply within {timeout_s:g} s") from exc


async def _read(response: ServerReply, limit: int) -> bytes:
    body = bytearray()
    with translated("stream"):
        async for chunk in response.aiter_bytes():
            body += chunk
            if len(body) > limit:
                raise CallError(CallCause.PAYLOAD, f"a reply of more than {limit} bytes", phase="stream")
    return bytes(body)


def _is_page(response: ServerReply) -> bool:
    return response.headers.get("content-type", "").startswith("text/html")


async def _status_error(response: ServerReply) -> CallError:
    try:
        async with asyncio.timeout(2.0):
            raw = await _read(response, _ERROR_BODY_BYTES)
    except (CallError, TimeoutError):
        raw = b""
    return status_error(response, raw)


def status_error(response: ServerReply, raw: bytes) -> CallError:
    """Return the failed call behind a reply whose status is no success."""
    text, error_type = error_text(raw)
    location = redirect(response)
    if response.status_code == 404 and _NO_PAGE.fullmatch(text):
        text = f"the server has no page {urlsplit(str(response.url)).path}"
    if location is not None:
        text = f"it redirects to {location}"
    server = response.headers.get("server", "")
    relayed = relayed_text(response.status_code, server, raw)
    return CallError(
        CallCause.STATUS,
        relayed or text or without_reason(response.status_code),
        status=response.status_code,
        retry_after_s=retry_after(response.headers.get("retry-after")),
        error_type=error_type,
        location=location,
        relayed=relayed is not None,
        server=server,
        challenge=response.headers.get("www-authenticate", "").partition(" ")[0].lower(),
        is_page=raw.lstrip().startswith(b"<"),
    )
