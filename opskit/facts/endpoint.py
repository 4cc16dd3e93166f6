"""One page of a web server as it answered: status, head, body up to a bound, seconds, or why it did not."""

import asyncio
import errno
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urljoin, urlsplit

from opskit import __version__
from opskit.facts.survey import Survey
from opskit.providers.base import CallCause, CallError
from opskit.providers.failures import translated
from opskit.providers.plain_http import PlainClient
from opskit.records import Record
from opskit.system.network import TcpResult, authority, endpoint

MAX_BODY_BYTES = 1024 * 1024
_MOST_REDIRECTS = 20
#: The JSON of a body that is none; `null` is JSON.
NO_JSON: Final = object()


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointRequest:
    """One request. `limit_s` None leaves the deadline to the caller."""

    url: str
    method: str = "GET"
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    body: bytes | None = field(default=None, repr=False)
    follow: bool = False
    insecure: bool = False
    max_bytes: int = MAX_BODY_BYTES
    limit_s: float | None = None


def json_request(
    url: str, *, key: str | None = None, body: Any = None, limit_s: float | None = None
) -> EndpointRequest:
    """Return a request with a key as agents and model servers take it; a `body` is sent by POST. Pure.

    A remembered answer would hide that nobody answers, so none is taken.
    """
    headers: tuple[tuple[str, str], ...] = (("Authorization", f"Bearer {key}"),) if key else ()
    if body is None:
        return EndpointRequest(url=url, headers=headers, limit_s=limit_s)
    headers += (("Content-Type", "application/json"), ("Cache-Control", "no-cache"))
    content = json.dumps(body, ensure_ascii=False).encode()
    return EndpointRequest(url=url, method="POST", headers=headers, body=content, limit_s=limit_s)


class Reply(Record, kw_only=True):
    """What a server answered, as far as it was read. Names of `headers` are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    truncated: bool
    first_byte_s: float
    seconds: float

    @property
    def text(self) -> str:
        return self.body.decode("utf-8", "replace")

    @property
    def json(self) -> Any:
        """The parsed body; NO_JSON where it is none."""
        if self.truncated:
            return NO_JSON
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            return NO_JSON

    @property
    def problem(self) -> str:
        """What is wrong with the answer by its own account; empty where nothing is."""
        if self.status >= 400:
            return " ".join(self.text.split())[:200] or "no reason given"
        if self.status >= 300:
            return f"it sends to another place: HTTP {self.status}"
        says_json = "json" in self.headers.get("content-type", "")
        if says_json and not self.truncated and self.json is NO_JSON:
            return "it says that it is JSON, and it is not"
        return ""


class EndpointFacts(Record, kw_only=True):
    """What came of one request: a reply, or the call that failed, and the seconds that it took."""

    reply: Reply | None = None
    error: CallError | None = None
    seconds: float


async def read_endpoint(_: Survey, request: EndpointRequest) -> EndpointFacts:
    """Ask for one page. Never raises for what the server does."""
    began = time.monotonic()
    try:
        async with asyncio.timeout(request.limit_s):
            reply = await fetch(request)
    except TimeoutError:
        error = CallError(CallCause.TIMEOUT, f"no whole answer within {request.limit_s:g} s")
        return EndpointFacts(error=error, seconds=time.monotonic() - began)
    except CallError as error:
        return EndpointFacts(error=error, seconds=time.monotonic() - began)
    return EndpointFacts(reply=reply, seconds=reply.seconds)


async def fetch(request: EndpointRequest) -> Reply:
    """Send one request, without a deadline. Raises CallError where no answer came."""
    began, url, method, body = time.monotonic(), request.url, request.method, request.body
    # A kept connection may be dead, which would say nothing of the server now.
    headers = {"User-Agent": f"opskit/{__version__}", "Connection": "close", **dict(request.headers)}
    for redirects in range(_MOST_REDIRECTS + 1):
        client = PlainClient(url, headers, None, insecure=request.insecure)
        try:
            response = await client.send(method, "", body, {})
            first_byte_s = time.monotonic() - began
            target = urljoin(url, response.headers.get("location", ""))
            is_redirect = 300 <= response.status_code < 400 and target.startswith(("http://", "https://"))
            if not (request.follow and is_redirect) or target == url or redirects == _MOST_REDIRECTS:
                break
            await response.aclose()
        finally:
            await client.aclose()
        if response.status_code == 303 or (method == "POST" and response.status_code in (301, 302)):
            method, body = "GET", None
        if urlsplit(target)[:2] != urlsplit(url)[:2]:
            headers = {name: value for name, value in headers.items() if name.lower() != "authorization"}
        url = target
    try:
        with translated("stream"):
            content, truncated = await _read(response, request.max_bytes)
    finally:
        await response.aclose()
    return Reply(
        status=response.status_code,
        headers=response.headers,
        body=content,
        truncated=truncated,
        first_byte_s=first_byte_s,
        seconds=time.monotonic() - began,
    )


async def _read(response: Any, max_bytes: int) -> tuple[bytes, bool]:
    body = bytearray()
    async for chunk in response.aiter_bytes():
        body += chunk
        if len(body) > max_bytes:
            return bytes(body[:max_bytes]), True
    return bytes(body), False


_MDNS = " (names in .local need mDNS: on Linux avahi and libnss-mdns)"
_CAUSES = {"refused": CallCause.REFUSED, "timeout": CallCause.TIMEOUT, "name": CallCause.NAME}


def connection_problem(url: str, tcp: TcpResult) -> str:
    """Say why an address accepted no connection."""
    host, port = endpoint(url)
    where = authority(host, port)
    if tcp.is_without_dns(host):
        return f"no DNS server tells the address of {host}"
    if tcp.errno == errno.ENETUNREACH:
        return f"this machine has no network that leads to {where}"
    return {
        "refused": f"nothing listens on {where}",
        "timeout": f"{where} does not answer within {tcp.seconds:.1f} s (host down, or a firewall)",
        "name": f"the name {host} does not resolve{_MDNS if host.endswith('.local') else ''}",
    }.get(tcp.problem or "", f"there is no route to {where}, or a firewall rejects it")


def not_connected(url: str, tcp: TcpResult) -> CallError:
    """Return the failed call behind a connection with a `problem`."""
    cause = _CAUSES.get(tcp.problem or "", CallCause.UNREACHABLE)
    return CallError(cause, connection_problem(url, tcp), phase="connect")
