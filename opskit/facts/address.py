"""Why a node does not answer at its address, and the address at which it does.

Only addresses of the same host are tried, and the target of a redirect, with requests that cost nothing and
without the key of the node.
"""

import asyncio
import contextlib
import ipaddress
import ssl
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from urllib.parse import SplitResult, urlsplit, urlunsplit

from opskit.config.schema import NodeConfig
from opskit.providers.base import CallCause, CallError, TlsProblem
from opskit.providers.http import HttpClient
from opskit.providers.node import detect
from opskit.providers.transport import unreadable_authorities
from opskit.system.network import endpoint

#: How long each address may take to be tried.
_TRY_S = 1.0
#: So many shorter paths are tried at most.
_SHORTER_PATHS = 4
#: What a server that speaks TLS does to a request without it.
_NO_PLAIN_HTTP = (CallCause.RESET, CallCause.CLOSED, CallCause.PAYLOAD)
#: What a server that speaks plain HTTP does to a TLS handshake.
_NO_HANDSHAKE = (CallCause.TLS, CallCause.RESET, CallCause.CLOSED, CallCause.TIMEOUT, CallCause.PAYLOAD)
_PAGES = ("/api/version", "/api/tags", "/v1/models")
_OTHER_FAMILY = {"127.0.0.1": "::1", "::1": "127.0.0.1"}


@dataclass(frozen=True, slots=True)
class AddressProblem:
    """What is wrong with the way to a node. `address` is where it answers, where that was proven."""

    detail: str
    remedy: str | None = None
    address: str | None = None


async def examine_address(config: NodeConfig, error: CallError) -> AddressProblem | None:
    """Return why a call of a node failed, where its address or what stands before it explains that."""
    parts = urlsplit(config.url)
    if error.cause is CallCause.PROXY:
        return _of_way_out(parts, error)
    if error.relayed:
        return _of_proxy(config, error)
    if error.location is not None:
        return await _of_redirect(config, error.location)
    if error.cause is CallCause.REFUSED:
        return await _of_family(config, parts)
    if config.proxy is not None and error.cause is not CallCause.TLS:
        # Whatever else is tried would not go through the proxy.
        return None
    if parts.scheme == "https" and error.cause in _NO_HANDSHAKE:
        return await _of_tls(config, parts, error)
    if error.cause in _NO_PLAIN_HTTP or error.status == 400:
        problem = await _of_plain_http(config, parts)
        if problem is not None:
            return problem
    if parts.path and (error.cause is CallCause.PAYLOAD or error.status in (404, 405)):
        return await _of_path(config, parts)
    return None


def _of_way_out(parts: SplitResult, error: CallError) -> AddressProblem:
    """The proxy of the environment by which a node on the internet is asked."""
    variable = "https_proxy" if parts.scheme == "https" else "http_proxy"
    remedy = (
        f"correct {variable}, HTTPS_PROXY or ALL_PROXY (`http://USER:PASSWORD@HOST:PORT`), or add "
        f"{parts.hostname} to NO_PROXY; `curl -v {urlunsplit(parts)}` goes the same way"
    )
    return AddressProblem(error.text, remedy)


async def _of_family(config: NodeConfig, parts: SplitResult) -> AddressProblem | None:
    """A server that listens on the other loopback address of this machine."""
    other = _OTHER_FAMILY.get(parts.hostname or "")
    if other is None:
        return None
    address = _url(parts, host=other)
    if not await _answers(config, address):
        return None
    host, port = endpoint(config.url)
    detail = (
        f"nothing listens on {_authority(host, port)}; a model server answers on {_authority(other, port)}"
    )
    return AddressProblem(detail, address=address)


async def _of_tls(config: NodeConfig, parts: SplitResult, error: CallError) -> AddressProblem | None:
    host, port = endpoint(config.url)
    where = _authority(host, port)
    is_untrusted = error.tls in (TlsProblem.SELF_SIGNED, TlsProblem.UNKNOWN_AUTHORITY)
    if is_untrusted and (reason := unreadable_authorities()):
        return AddressProblem(
            f"the certificate of {where} is not trusted: {reason}",
            "correct SSL_CERT_FILE: it names a file of certificates (PEM), with that of the authority",
        )
    match error.tls:
        case TlsProblem.SELF_SIGNED:
            return AddressProblem(
                f"the certificate of {where} is self-signed",
                f"trust it: `openssl s_client -connect {where} </dev/null | openssl x509 -out server.pem`, "
                "then `export SSL_CERT_FILE=server.pem`; or give the server a certificate of an authority",
            )
        case TlsProblem.UNKNOWN_AUTHORITY:
            return AddressProblem(
                f"the certificate of {where} is signed by an authority that is not known here",
                "`export SSL_CERT_FILE=FILE` with the certificate of that authority (mostly a company's); "
                "the server must send the certificates between as well",
            )
        case TlsProblem.EXPIRED | TlsProblem.NOT_YET_VALID:
            words = "has expired" if error.tls is TlsProblem.EXPIRED else "is not valid yet"
            return AddressProblem(
                f"the certificate of {where} {words}",
                "renew the certificate of the server; `date` shows whether the clock here is right",
            )
        case TlsProblem.OTHER_NAME:
            return await _of_name(parts, where)
    address = _url(parts, scheme="http", port=port)
    answers = await _answers(config, address)
    if not answers and error.tls is not TlsProblem.NOT_TLS:
        return None
    detail = f"{where} speaks plain HTTP, not TLS"
    return AddressProblem(detail, f"write {address}", address if answers else None)


async def _of_name(parts: SplitResult, where: str) -> AddressProblem:
    names = await _names_of_certificate(parts)
    shown = ", ".join(names[:3])
    detail = f"the certificate of {where} is for another name" + (f": {shown}" if shown else "")
    host = next((name for name in names if "*" not in name), None)
    if host is None:
        return AddressProblem(detail, "write the name that stands in the certificate of the server")
    return AddressProblem(detail, f"write {_url(parts, host=host)}, if that name leads there")


async def _of_plain_http(config: NodeConfig, parts: SplitResult) -> AddressProblem | None:
    if parts.scheme != "http" or not await _speaks_tls(config.url):
        return None
    host, port = endpoint(config.url)
    address = _url(parts, scheme="https", port=port)
    detail = f"{_authority(host, port)} speaks TLS, and the address begins with http://"
    return AddressProblem(detail, f"write {address}", address)


async def _of_path(config: NodeConfig, parts: SplitResult) -> AddressProblem | None:
    for path in _shorter(parts.path):
        address = _url(parts, path=path)
        if await _answers(config, address):
            surplus = parts.path.removeprefix(path)
            return AddressProblem(
                f"the path {surplus} is too much: a model server answers at {address}", address=address
            )
    return None


async def _of_redirect(config: NodeConfig, location: str) -> AddressProblem:
    target = urlsplit(location)
    page = next((page for page in _PAGES if target.path.endswith(page)), "")
    address = _url(target, path=target.path.removesuffix(page).rstrip("/"))
    detail = f"{config.url} redirects to {location}"
    if page and await _answers(config, address):
        return AddressProblem(detail, address=address)
    where = address if page else "the address at which the server itself answers"
    return AddressProblem(detail, f"write {where}: a redirect is not followed")


def _of_proxy(config: NodeConfig, error: CallError) -> AddressProblem:
    detail = f"HTTP {error.status}: {error.text}"
    remedy = (
        f"start the server behind {config.url}, or correct its address in the configuration of the proxy "
        "(nginx: `proxy_pass`); its error log names the address that it asks"
    )
    return AddressProblem(detail, remedy)


async def _answers(config: NodeConfig, url: str) -> bool:
    """Tell whether a model server answers at an address; one that wants a key answers."""
    http = HttpClient(url, connect_s=_TRY_S, metadata_s=_TRY_S)
    try:
        await detect(http, replace(config, url=url, api_key=None))
    except CallError as error:
        return error.status in (401, 403) and not error.relayed
    finally:
        await http.aclose()
    return True


async def _speaks_tls(url: str) -> bool:
    """Tell whether a TLS handshake succeeds, whatever the certificate says. No byte of HTTP is sent."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(_TRY_S), _connection(url, context):
            return True
    return False


async def _names_of_certificate(parts: SplitResult) -> tuple[str, ...]:
    """Return the names in a certificate whose authority is known; empty where it cannot be read."""
    import httpx

    context = httpx.create_ssl_context(trust_env=True)
    context.check_hostname = False
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(_TRY_S), _connection(urlunsplit(parts), context) as writer:
            certificate = writer.get_extra_info("peercert") or {}
            names = [value for _, value in certificate.get("subjectAltName", ())]
            return tuple(name for name in names if name.isprintable())
    return ()


@contextlib.asynccontextmanager
async def _connection(url: str, context: ssl.SSLContext) -> AsyncIterator[asyncio.StreamWriter]:
    host, port = endpoint(url)
    _, writer = await asyncio.open_connection(host, port, ssl=context, server_hostname=host)
    try:
        yield writer
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


def _shorter(path: str) -> Iterator[str]:
    """Yield the paths above a path, the longest first."""
    for _ in range(_SHORTER_PATHS):
        if not path:
            return
        path = path.rpartition("/")[0]
        yield path


def _url(
    parts: SplitResult,
    *,
    scheme: str | None = None,
    host: str | None = None,
    port: int | None = None,
    path: str | None = None,
) -> str:
    """Return an address that differs in the given parts."""
    port = port or parts.port
    netloc = _host(host or parts.hostname or "") + (f":{port}" if port else "")
    return urlunsplit((scheme or parts.scheme, netloc, parts.path if path is None else path, "", ""))


def _authority(host: str, port: int) -> str:
    return f"{_host(host)}:{port}"


def _host(host: str) -> str:
    with contextlib.suppress(ValueError):
        return f"[{host}]" if ipaddress.ip_address(host).version == 6 else host
    return host
