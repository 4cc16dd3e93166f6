"""What carries requests that need TLS, a proxy or a pool: httpx's own transport, or aiohttp's behind its API.

Servers use aiohttp's where no proxy leads to a node: its pool keeps up under concurrency. Both tell when a
request opens a connection instead of using a kept one.
"""

import os
import ssl
from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any
from urllib.parse import urlsplit

import httpx

from opskit.config.url import without_password
from opskit.providers.base import CallCause, CallError
from opskit.providers.failures import proxy_error, translated

#: Filled by the transport when the request of this context opens a connection; through SOCKS with its stream.
connecting: ContextVar[list[Any]] = ContextVar("opskit_connecting")


async def trace(event: str, info: Mapping[str, Any]) -> None:
    """Notes that a request opens a connection (httpcore's trace extension).

    Where a SOCKS proxy refuses it, httpcore forgets to close it.
    """
    if event == "connection.connect_tcp.started":
        connecting.get().append(True)
    elif event == "socks.connect_tcp.complete":
        connecting.get().append(info["return_value"])
    elif event == "socks.setup_socks5_connection.failed":
        await connecting.get()[-1].aclose()


class HttpxClient:
    """A server at a base URL, by httpx."""

    def __init__(
        self,
        base_url: str,
        headers: Mapping[str, str],
        connect_s: float,
        *,
        pooled: bool,
        proxy: str | None,
    ) -> None:
        self._proxy = proxy
        self._client = httpx.AsyncClient(
            base_url=base_url,
            headers=headers,
            timeout=httpx.Timeout(None, connect=connect_s),
            transport=transport(base_url, pooled=pooled, proxy=proxy),
            trust_env=False,
        )

    async def send(
        self, method: str, path: str, content: bytes | None, headers: Mapping[str, str]
    ) -> httpx.Response:
        """Return a reply once its head is there. Raises CallError.

        A kept connection that turns out to be dead says nothing of the server now: then the request is sent
        once more, on a new one.
        """
        again = False
        while True:
            opened: list[Any] = []
            connecting.set(opened)
            request = self._client.build_request(
                method, path, content=content, headers=headers, extensions={"trace": trace}
            )
            try:
                return await self._reply(request)
            except CallError as error:
                if self._proxy is not None and error.phase == "connect":
                    raise proxy_error(self._proxy, error) from error
                if again or opened or error.cause not in (CallCause.RESET, CallCause.CLOSED):
                    raise
                again = True

    async def _reply(self, request: httpx.Request) -> httpx.Response:
        with translated("request"):
            response = await self._client.send(request, stream=True)
        if self._proxy is not None and response.status_code == 407:
            await response.aclose()
            raise CallError(CallCause.PROXY, "", phase="connect", status=407)
        return response

    async def aclose(self) -> None:
        await self._client.aclose()


def transport(base_url: str, *, pooled: bool, proxy: str | None = None) -> httpx.AsyncBaseTransport:
    """Return what carries requests to an address, by the proxy whose URL is given."""
    verify: ssl.SSLContext | bool = base_url.startswith("https:")
    limits = httpx.Limits(max_connections=256, max_keepalive_connections=64, keepalive_expiry=30.0)
    if verify:
        # SSL_CERT_FILE and SSL_CERT_DIR name the authorities of a company, as for every client of OpenSSL,
        # for which a file that cannot be read names none.
        verify = httpx.create_ssl_context(trust_env=not unreadable_authorities())
    if pooled and proxy is None:
        return _aiohttp_transport(verify, limits)
    try:
        return httpx.AsyncHTTPTransport(verify=verify, trust_env=False, limits=limits, proxy=proxy)
    except (ImportError, ValueError):
        return _Impassable(proxy or "")


class _Impassable(httpx.AsyncBaseTransport):
    """What carries nothing: the way leads through a proxy that cannot be spoken to."""

    def __init__(self, proxy: str) -> None:
        name, scheme = without_password(proxy), urlsplit(proxy).scheme
        self._text = f"the proxy {name} needs the package socksio: `pip install 'opskit[socks]'`"
        if not scheme.startswith("socks5"):
            self._text = f"the proxy {name} speaks SOCKS 4; only SOCKS 5 (`socks5h://`) can be used"

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        del request
        raise CallError(CallCause.PROXY, self._text)


def unreadable_authorities() -> str:
    """Return why the file of SSL_CERT_FILE cannot be used; empty where it can, or none is named."""
    name = os.environ.get("SSL_CERT_FILE")
    if not name:
        return ""
    try:
        ssl.create_default_context(cafile=name)
    except OSError as exc:
        return f"SSL_CERT_FILE is {name}, which cannot be used: {exc.strerror or exc}"
    return ""


def _aiohttp_transport(verify: ssl.SSLContext | bool, limits: httpx.Limits) -> httpx.AsyncBaseTransport:
    import aiohttp
    from httpx_aiohttp import AiohttpTransport

    async def connects(*_: object) -> None:
        connecting.get().append(True)

    tracing = aiohttp.TraceConfig()
    tracing.on_connection_create_start.append(connects)

    # The authorities that httpx trusts: the system's own may be missing on a Mac.
    context = httpx.create_ssl_context(verify=verify, trust_env=False)

    def session() -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(
            keepalive_timeout=limits.keepalive_expiry, limit=limits.max_connections or 0, ssl=context
        )
        return aiohttp.ClientSession(connector=connector, trace_configs=[tracing])

    carrier: httpx.AsyncBaseTransport = AiohttpTransport(client=session, verify=context, trust_env=False)
    return carrier
