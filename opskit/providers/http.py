"""The HTTP door: one client per node, and one place where foreign exceptions become CallError.

Command lines that make a handful of calls use httpx's own transport, which imports fast; servers use the
aiohttp transport, whose pool keeps up under concurrency. Both are translated here, by type and errno, and
the same contract suite runs on both.
"""

import asyncio
import contextlib
import errno
import json
import socket
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextvars import ContextVar
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Literal

import httpx

from opskit import __version__
from opskit.providers.base import CallError, Cause

Phase = Literal["connect", "request", "stream"]

#: Filled by the transport when the request of this context opens a connection instead of using a kept one.
_connecting: ContextVar[list[bool]] = ContextVar("opskit_connecting")

_ERROR_BODY_BYTES = 64 * 1024
_METADATA_BYTES = 16 * 1024 * 1024
_ERRNO = {
    errno.ECONNREFUSED: Cause.REFUSED,
    errno.ECONNRESET: Cause.RESET,
    errno.EPIPE: Cause.RESET,
    errno.ECONNABORTED: Cause.RESET,
    errno.EHOSTUNREACH: Cause.UNREACHABLE,
    errno.ENETUNREACH: Cause.UNREACHABLE,
    errno.ENETDOWN: Cause.UNREACHABLE,
    errno.EADDRNOTAVAIL: Cause.UNREACHABLE,
    errno.ETIMEDOUT: Cause.TIMEOUT,
}
#: aiohttp's exceptions by name: it is imported only where it is used.
_BY_NAME = (
    (("ServerDisconnectedError", "ClientPayloadError"), Cause.CLOSED),
    (("ClientResponseError", "BadHttpMessage", "BadStatusLine", "DecodingError"), Cause.PAYLOAD),
    (("ClientConnectorDNSError",), Cause.NAME),
)
_SENTENCES = {
    Cause.REFUSED: "nothing listens there (connection refused)",
    Cause.RESET: "the connection was reset by the server",
    Cause.UNREACHABLE: "the host cannot be reached (no route)",
    Cause.NAME: "the host name does not resolve",
    Cause.TLS: "the TLS handshake failed",
    Cause.TIMEOUT: "no connection within the time allowed",
    Cause.CLOSED: "the server closed the connection before the reply was complete",
    Cause.PAYLOAD: "the server does not speak proper HTTP",
}


class HttpNode:
    """An HTTP server at a base URL (no trailing slash, no `/v1`)."""

    def __init__(
        self,
        base_url: str,
        *,
        api_key: str | None = None,
        connect_s: float = 2.0,
        metadata_s: float = 3.0,
        pooled: bool = False,
    ) -> None:
        headers = {"User-Agent": f"opskit/{__version__}"}
        if api_key:
            headers["Authorization"] = f"Bearer {api_key}"
        self.base_url = base_url
        self.metadata_s = metadata_s
        self._client = httpx.AsyncClient(
            base_url=base_url,
            headers=headers,
            timeout=httpx.Timeout(None, connect=connect_s),
            transport=_transport(base_url, pooled=pooled),
            trust_env=False,
        )

    async def get_json(self, path: str, *, timeout_s: float | None = None, empty: Any = None) -> Any:
        """The parsed body of a GET, or `empty` (when given) for a body of no bytes.

        Raises CallError, PAYLOAD when it is not JSON.
        """
        return await self._json("GET", path, None, timeout_s or self.metadata_s, empty)

    async def post_json(self, path: str, body: Mapping[str, Any], *, timeout_s: float | None) -> Any:
        """The parsed body of a POST. `timeout_s` None leaves the deadline to the caller."""
        return await self._json("POST", path, body, timeout_s)

    async def get(self, path: str, *, timeout_s: float | None = None) -> httpx.Response:
        """A GET with its body read, whatever its status."""
        async with _deadline(timeout_s or self.metadata_s), self._open("GET", path, None) as response:
            with translated("stream"):
                await response.aread()
            return response

    @contextlib.asynccontextmanager
    async def post_stream(self, path: str, body: Mapping[str, Any]) -> AsyncIterator[httpx.Response]:
        """An open reply with status 200. Any other status raises CallError(STATUS)."""
        async with self._open("POST", path, body) as response:
            if response.status_code != 200:
                raise await _status_error(response)
            yield response

    async def _json(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None,
        timeout_s: float | None,
        empty: Any = None,
    ) -> Any:
        async with _deadline(timeout_s), self._open(method, path, body) as response:
            if not 200 <= response.status_code < 300:
                raise await _status_error(response)
            raw = await _read(response, _METADATA_BYTES)
        if not raw and empty is not None:
            return empty
        return parsed(raw, f"{path} answered {response.status_code} with something that is not JSON")

    @contextlib.asynccontextmanager
    async def _open(
        self, method: str, path: str, body: Mapping[str, Any] | None
    ) -> AsyncIterator[httpx.Response]:
        response = await self._send(method, path, body)
        try:
            yield response
        finally:
            with contextlib.suppress(Exception):
                await response.aclose()

    async def _send(self, method: str, path: str, body: Mapping[str, Any] | None) -> httpx.Response:
        """The reply's head. A kept connection that turns out to be dead says nothing of the server now:

        then the request is sent once more, on a new one.
        """
        content, headers = _encoded(body), _headers(body)
        again = False
        while True:
            connecting: list[bool] = []
            _connecting.set(connecting)
            request = self._client.build_request(
                method, path, content=content, headers=headers, extensions={"trace": _trace}
            )
            try:
                with translated("request"):
                    return await self._client.send(request, stream=True)
            except CallError as error:
                if again or connecting or error.cause not in (Cause.RESET, Cause.CLOSED):
                    raise
                again = True

    async def aclose(self) -> None:
        await self._client.aclose()


async def lines(
    response: httpx.Response, *, limit_bytes: int = 8 * 1024 * 1024
) -> AsyncGenerator[bytes, None]:
    """The reply cut at LF only (U+2028 and friends may stand raw inside JSON), without the line end.

    Raises CallError(PAYLOAD) for a line above `limit_bytes`, the bound of Ollama's own client.
    """
    rest = b""
    with translated("stream"):
        async for chunk in response.aiter_bytes():
            parts = (rest + chunk).split(b"\n") if rest else chunk.split(b"\n")
            rest = parts.pop()
            if len(rest) > limit_bytes:
                raise CallError(Cause.PAYLOAD, f"a line of more than {limit_bytes} bytes", phase="stream")
            for part in parts:
                yield part.rstrip(b"\r")
    if rest:
        yield rest.rstrip(b"\r")


def parsed(raw: bytes | str, complaint: str) -> Any:
    """JSON, or CallError(PAYLOAD) with the complaint. Deep nesting is no JSON of ours either."""
    try:
        return json.loads(raw)
    except (ValueError, RecursionError) as exc:
        raise CallError(Cause.PAYLOAD, complaint, phase="stream", status=200) from exc


@contextlib.contextmanager
def translated(phase: Phase) -> Iterator[None]:
    """Turn whatever the HTTP libraries raise into CallError; CancelledError and our own pass."""
    try:
        yield
    except CallError:
        raise
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as exc:
        raise _translate(exc, phase) from exc
    except Exception as exc:
        if type(exc).__module__.partition(".")[0] != "aiohttp":
            raise
        raise _translate(exc, phase) from exc


def _encoded(body: Mapping[str, Any] | None) -> bytes | None:
    """JSON in UTF-8; half a surrogate pair, as broken bytes on a command line become, is replaced."""
    return None if body is None else json.dumps(body, ensure_ascii=False).encode("utf-8", "replace")


def _headers(body: Mapping[str, Any] | None) -> dict[str, str]:
    return {} if body is None else {"Content-Type": "application/json"}


def _translate(exc: BaseException, phase: Phase) -> CallError:
    cause = _cause(exc)
    if cause in (Cause.REFUSED, Cause.NAME, Cause.TLS, Cause.UNREACHABLE):
        phase = "connect"
    elif cause is Cause.TIMEOUT:
        # The only timeout left to the library is that of the connection.
        phase = "connect"
    return CallError(cause, _SENTENCES[cause], phase=phase)


def _cause(exc: BaseException) -> Cause:
    """Errno first, then the inner library's own words; httpx-aiohttp calls any lost connection a timeout."""
    links = list(_chain(exc))
    known = [cause for link in links if (cause := _by_errno(link)) is not None]
    if known:
        # One name may stand for several addresses: a refusal tells more than a missing route to another.
        return Cause.REFUSED if Cause.REFUSED in known else known[0]
    for names, cause in _BY_NAME:
        for link in links:
            if type(link).__name__ in names:
                return Cause.RESET if "ConnectionResetError" in str(link) else cause
    for link in links:
        if isinstance(link, httpx.RemoteProtocolError):
            ended = "disconnected" in str(link) or "peer closed" in str(link)
            return Cause.CLOSED if ended else Cause.PAYLOAD
    if isinstance(exc, httpx.TimeoutException):
        return Cause.TIMEOUT
    if isinstance(exc, httpx.ReadError | httpx.WriteError):
        return Cause.RESET
    return Cause.UNREACHABLE if isinstance(exc, httpx.ConnectError) else Cause.PAYLOAD


def _by_errno(link: BaseException) -> Cause | None:
    if isinstance(link, socket.gaierror):
        return Cause.NAME
    if isinstance(link, ssl.SSLError):
        # "Want" is how a handshake waits, not how it fails.
        return None if isinstance(link, ssl.SSLWantReadError | ssl.SSLWantWriteError) else Cause.TLS
    return _ERRNO.get(link.errno or 0) if isinstance(link, OSError) else None


def _chain(exc: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    queue: list[BaseException] = [exc]
    while queue:
        link = queue.pop(0)
        if id(link) in seen:
            continue
        seen.add(id(link))
        yield link
        inner = (link.__cause__, link.__context__, getattr(link, "os_error", None))
        queue.extend(exc for exc in inner if isinstance(exc, BaseException))
        if isinstance(link, BaseExceptionGroup):
            queue.extend(link.exceptions)


@contextlib.asynccontextmanager
async def _deadline(timeout_s: float | None) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(timeout_s):
            yield
    except TimeoutError as exc:
        raise CallError(Cause.TIMEOUT, f"no reply within {timeout_s:g} s") from exc


async def _read(response: httpx.Response, limit: int) -> bytes:
    body = bytearray()
    with translated("stream"):
        async for chunk in response.aiter_bytes():
            body += chunk
            if len(body) > limit:
                raise CallError(Cause.PAYLOAD, f"a reply of more than {limit} bytes", phase="stream")
    return bytes(body)


async def _status_error(response: httpx.Response) -> CallError:
    try:
        async with asyncio.timeout(2.0):
            raw = await _read(response, _ERROR_BODY_BYTES)
    except (CallError, TimeoutError):
        raw = b""
    text, error_type = error_text(raw)
    return CallError(
        Cause.STATUS,
        text or f"HTTP {response.status_code} without a reason",
        status=response.status_code,
        retry_after_s=_retry_after(response.headers.get("Retry-After")),
        error_type=error_type,
    )


def error_text(raw: bytes | Mapping[str, Any]) -> tuple[str, str | None]:
    """The sentence and the type of an error body, in any of the shapes in the wild (wire facts A4, C)."""
    if isinstance(raw, bytes):
        decoded = raw.decode("utf-8", "replace").strip()
        try:
            body = json.loads(decoded)
        except (ValueError, RecursionError):
            return " ".join(decoded.split())[:500], None
    else:
        body = raw
    if not isinstance(body, Mapping):
        return str(body)[:500], None
    error = body.get("error", body.get("detail", body.get("message", body)))
    if isinstance(error, Mapping):
        message = error.get("message") or error.get("type") or json.dumps(error)
        kind = error.get("type")
        return " ".join(str(message).split())[:500], kind if isinstance(kind, str) else None
    return " ".join(str(error).split())[:500], None


def _retry_after(value: str | None) -> float | None:
    """Seconds of a Retry-After header, given as a number or as an HTTP date; None when it is neither."""
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds()
        except (ValueError, TypeError):
            return None
    return max(0.0, seconds) if seconds < 86_400 else None


async def _trace(event: str, _info: Mapping[str, Any]) -> None:
    """Notes that a request opens a connection (httpcore's trace extension)."""
    if event == "connection.connect_tcp.started":
        _connecting.get().append(True)


def _transport(base_url: str, *, pooled: bool) -> httpx.AsyncBaseTransport:
    verify: ssl.SSLContext | bool = base_url.startswith("https:")
    limits = httpx.Limits(max_connections=256, max_keepalive_connections=64, keepalive_expiry=30.0)
    if not pooled:
        return httpx.AsyncHTTPTransport(verify=verify, trust_env=False, limits=limits)
    return _aiohttp_transport(verify, limits)


def _aiohttp_transport(verify: ssl.SSLContext | bool, limits: httpx.Limits) -> httpx.AsyncBaseTransport:
    import aiohttp
    from httpx_aiohttp import AiohttpTransport

    async def connects(*_: object) -> None:
        _connecting.get().append(True)

    tracing = aiohttp.TraceConfig()
    tracing.on_connection_create_start.append(connects)

    # The authorities that httpx trusts: those of the system may be missing on a Mac.
    context = httpx.create_ssl_context(verify=verify, trust_env=False)

    def session() -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(
            keepalive_timeout=limits.keepalive_expiry, limit=limits.max_connections or 0, ssl=context
        )
        return aiohttp.ClientSession(connector=connector, trace_configs=[tracing])

    transport: httpx.AsyncBaseTransport = AiohttpTransport(client=session, verify=context, trust_env=False)
    return transport
