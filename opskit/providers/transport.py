"""What carries requests through a proxy: httpx."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import httpx

from opskit.config.url import without_password
from opskit.providers.base import CallCause, CallError
from opskit.providers.failures import proxy_error, translated
from opskit.providers.plain_http import tls_context


class ProxyClient:
    """A server at a base URL, by a proxy; no connection is kept."""

    def __init__(self, base_url: str, headers: Mapping[str, str], connect_s: float, proxy: str) -> None:
        self._proxy = proxy
        #: Why nobody can speak to the proxy.
        self._obstacle = ""
        options: dict[str, Any] = {"verify": tls_context() if base_url.startswith("https:") else False}
        try:
            transport = httpx.AsyncHTTPTransport(trust_env=False, proxy=proxy, **options)
        except (ImportError, ValueError):
            transport = httpx.AsyncHTTPTransport(trust_env=False, **options)
            name, scheme = without_password(proxy), urlsplit(proxy).scheme
            self._obstacle = f"the proxy {name} needs the package socksio: `pip install 'opskit[socks]'`"
            if not scheme.startswith("socks5"):
                self._obstacle = f"the proxy {name} speaks SOCKS 4; only SOCKS 5 (`socks5h://`) can be used"
        self._client = httpx.AsyncClient(
            base_url=base_url,
            headers={**headers, "Connection": "close"},
            timeout=httpx.Timeout(None, connect=connect_s),
            transport=transport,
            trust_env=False,
        )

    async def send(
        self, method: str, path: str, content: bytes | None, headers: Mapping[str, str]
    ) -> httpx.Response:
        """Return a reply once its head is there. Raises CallError."""
        if self._obstacle:
            raise CallError(CallCause.PROXY, self._obstacle)
        streams: list[Any] = []

        async def trace(event: str, info: Mapping[str, Any]) -> None:
            # Where a SOCKS proxy refuses a connection, httpcore forgets to close it.
            if event == "socks.connect_tcp.complete":
                streams.append(info["return_value"])
            elif event == "socks.setup_socks5_connection.failed":
                await streams[-1].aclose()

        request = self._client.build_request(
            method, path, content=content, headers=headers, extensions={"trace": trace}
        )
        try:
            with translated("request"):
                response = await self._client.send(request, stream=True)
        except CallError as error:
            if error.phase == "connect":
                raise proxy_error(self._proxy, error) from error
            raise
        if response.status_code == 407:
            await response.aclose()
            raise proxy_error(self._proxy, CallError(CallCause.PROXY, "", status=407))
        return response

    async def aclose(self) -> None:
        await self._client.aclose()
