"""Why a node or an agent does not answer at its address, and the address at which it does.

Only addresses of the same host and of other nodes are tried, and the target of a redirect, with requests that
cost nothing and without a key.
"""

import asyncio
import contextlib
import re
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import SplitResult, urlsplit, urlunsplit

from opskit.config.origins import AGENTS, NODES
from opskit.config.schema import AgentConfig, Budgets, NodeConfig
from opskit.providers.agent import AgentClient
from opskit.providers.base import CallCause, CallError, TlsProblem, without_reason
from opskit.providers.failures import PEOPLE, error_text, proxy_name
from opskit.providers.http import HttpClient
from opskit.providers.kinds import ServerKind, expected_kind, is_misplaced, source_of
from opskit.providers.node import detect
from opskit.providers.plain_http import tls_context, unreadable_authorities
from opskit.records import Record, replace
from opskit.system.network import authority, endpoint

#: How long each address may take to be tried.
_TRY_S = 1.0
#: So many paths above that of the address are tried at most.
_SHORTER_PATHS = 4
#: Where a web interface has its API (Open WebUI).
_PATH_BELOW = "/api"
#: What a server that speaks TLS does to a request without it.
_NO_PLAIN_HTTP = (CallCause.RESET, CallCause.CLOSED, CallCause.PAYLOAD)
#: What a server that speaks plain HTTP does to a TLS handshake.
_NO_HANDSHAKE = (CallCause.TLS, CallCause.RESET, CallCause.CLOSED, CallCause.TIMEOUT, CallCause.PAYLOAD)
_LOOPBACK = ("127.0.0.1", "::1")
#: What is in the address of a login page, or in the page.
_LOGIN = re.compile(r"(?i)log-?in|sign-?in|\b(sso|oauth2?|saml2?|auth|authorize)\b|cdn-cgi/access")
_PASSWORD = re.compile(rb"(?i)<input[^>]+type\s*=\s*[\"']?password\b")


class AddressProblem(Record):
    """What is wrong with the way to a server. `address` is where it answers, where that was proven."""

    detail: str
    remedy: str | None = None
    address: str | None = None


class _Server(Record, kw_only=True):
    """The server that is looked for: `answers` tells whether it is one of its kind at another address.

    `pages` are read of it, `ports` are where it listens by default, `key` the setting of
    its key.
    """

    noun: str
    url: str
    answers: Callable[[str], Awaitable[bool]]
    pages: tuple[str, ...]
    ports: tuple[int, ...]
    key: str

    @property
    def parts(self) -> SplitResult:
        return urlsplit(self.url)

    def usual(self, path: str) -> Iterator[str]:
        """Yield the addresses at which it listens by default."""
        for port in dict.fromkeys(self.ports):
            yield _url(self.parts, port=port, path=path)


def _node(config: NodeConfig) -> _Server:
    ports = [port for source, port in NODES.values() if source == config.source]
    return _Server(
        noun="a model server",
        url=config.url,
        answers=partial(_is_node, config),
        pages=("/api/version", "/api/tags", "/v1/models"),
        ports=() if config.source == "openai" else (*ports, expected_kind(config.source).default_port),
        key=f"nodes.{config.name}.api_key",
    )


def _agent(config: AgentConfig) -> _Server:
    return _Server(
        noun="an agent",
        url=config.url,
        answers=partial(_is_agent, config),
        pages=("/status", "/health"),
        ports=(AGENTS[config.name],) if config.name in AGENTS else (),
        key=f"agents.{config.name}.api_key",
    )


async def examine_address(config: NodeConfig | AgentConfig, error: CallError) -> AddressProblem | None:
    """Return why a call failed, where the address or what stands before the server explains that."""
    server = _node(config) if isinstance(config, NodeConfig) else _agent(config)
    if error.cause is CallCause.PROXY:
        return _of_way_out(server.parts, error)
    if error.relayed:
        remedy = (
            f"start the server behind {server.url}, or correct its address in the configuration of the proxy "
            "(nginx: `proxy_pass`); its error log names the address that it asks"
        )
        return AddressProblem(f"HTTP {error.status}: {error.text}", remedy)
    if error.location is not None:
        return await _of_redirect(server, error.location)
    if error.cause is CallCause.REFUSED:
        return await _of_family(server, "nothing listens on") or await _of_port(server)
    if error.cause is CallCause.UNREACHABLE:
        # A machine or a container without IPv6 has no route to ::1.
        return await _of_family(server, "there is no route to")
    if isinstance(config, NodeConfig) and config.proxy is not None and error.cause is not CallCause.TLS:
        # Whatever else is tried would not go through the proxy.
        return None
    problem = None
    if server.parts.scheme == "https" and error.cause in _NO_HANDSHAKE:
        problem = await _of_tls(server, error)
    elif error.cause in _NO_PLAIN_HTTP or error.status == 400:
        problem = await _of_plain_http(server)
    is_stranger = error.cause is CallCause.PAYLOAD
    if problem is None and (is_stranger or error.status in (404, 405)):
        problem = await _of_path(server) or await _of_port(server)
    if problem is None and error.status in (401, 403):
        problem = _of_login(server, error)
    if problem is None and is_stranger:
        problem = await _of_page(server)
    return problem


async def examine_kind(
    config: NodeConfig, kind: ServerKind, others: Iterable[NodeConfig]
) -> AddressProblem | None:
    """Return what is wrong where another kind of server answers than the node is configured as.

    What is configured is looked for at the addresses of the other nodes, then at its usual port.
    """
    if config.protocol != "auto" or not is_misplaced(config.source, kind):
        return None
    expected = expected_kind(config.source)
    named = [other.url for other in others if other.source != "openai"]
    addresses = [url for url in dict.fromkeys((*named, *_node(config).usual(""))) if url != config.url]
    answers = await asyncio.gather(*(_is_node(config, address, expected) for address in addresses))
    detail = f"{kind.phrase} answers at the address of {expected.phrase} ({config.url})"
    if True in answers:
        return AddressProblem(detail, address=addresses[answers.index(True)])
    remedy = (
        f"give {config.name} the address of {expected.phrase}; to keep this server name it as what it is: "
        f"`nodes: {{NAME: {{url: {config.url}, source: {source_of(kind)}}}}}`"
    )
    return AddressProblem(detail, remedy)


def _of_way_out(parts: SplitResult, error: CallError) -> AddressProblem:
    """The proxy of the environment by which a node on the internet is asked."""
    variable = "https_proxy" if parts.scheme == "https" else "http_proxy"
    remedy = (
        f"correct {variable}, HTTPS_PROXY or ALL_PROXY (`http://USER:PASSWORD@HOST:PORT`), or add "
        f"{parts.hostname} to NO_PROXY; `curl -v {urlunsplit(parts)}` goes the same way"
    )
    return AddressProblem(error.text, remedy)


async def _of_family(server: _Server, what: str) -> AddressProblem | None:
    """A server that listens on a loopback address of this machine to which its host does not lead."""
    host, port = endpoint(server.url)
    if host not in ("localhost", *_LOOPBACK):
        return None
    entries = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    known = {entry[4][0] for entry in entries}
    for other in _LOOPBACK:
        address = _url(server.parts, host=other)
        if other not in known and await server.answers(address):
            detail = f"{what} {authority(host, port)}; {server.noun} answers on {authority(other, port)}"
            return AddressProblem(detail, address=address)
    return None


async def _of_port(server: _Server) -> AddressProblem | None:
    """An address without a port, which means that of its scheme: 80 or 443."""
    host, port = endpoint(server.url)
    scheme, path = server.parts.scheme, server.parts.path
    if port != {"http": 80, "https": 443}[scheme]:
        return None
    noun = server.noun.partition(" ")[2]
    detail = f"no {noun} answers on {authority(host, port)}, the port of {scheme}"
    for address in server.usual(path):
        if await server.answers(address):
            return AddressProblem(f"{detail}; one answers at {address}", address=address)
    return None


async def _of_tls(server: _Server, error: CallError) -> AddressProblem | None:
    parts = server.parts
    host, port = endpoint(server.url)
    where = authority(host, port)
    is_untrusted = error.tls in (TlsProblem.SELF_SIGNED, TlsProblem.UNKNOWN_AUTHORITY)
    if is_untrusted and (reason := unreadable_authorities()):
        return AddressProblem(
            f"the certificate of {where} is not trusted: {reason}",
            "correct SSL_CERT_FILE: it names a file of certificates (PEM), with that of the authority",
        )
    if error.tls is TlsProblem.OTHER_NAME:
        return await _of_name(parts, where)
    renew = "renew the certificate of the server; `date` shows whether the clock here is right"
    remedies = {
        TlsProblem.SELF_SIGNED: (
            f"trust it: `openssl s_client -connect {where} </dev/null | openssl x509 -out server.pem`, "
            "then `export SSL_CERT_FILE=server.pem`; or give the server a certificate of an authority"
        ),
        TlsProblem.UNKNOWN_AUTHORITY: (
            "`export SSL_CERT_FILE=FILE` with the certificate of that authority (mostly a company's); "
            "the server must send the certificates between as well"
        ),
        TlsProblem.EXPIRED: renew,
        TlsProblem.NOT_YET_VALID: renew,
    }
    if error.tls in remedies:
        return AddressProblem(f"{where}: {error.text}", remedies[error.tls])
    address = _url(parts, scheme="http", port=port)
    answers = await server.answers(address)
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


async def _of_plain_http(server: _Server) -> AddressProblem | None:
    if server.parts.scheme != "http" or await _certificate(server.url, tls_context(insecure=True)) is None:
        return None
    host, port = endpoint(server.url)
    address = _url(server.parts, scheme="https", port=port)
    detail = f"{authority(host, port)} speaks TLS, and the address begins with http://"
    return AddressProblem(detail, f"write {address}", address)


async def _of_path(server: _Server) -> AddressProblem | None:
    below = _url(server.parts, path=f"{server.parts.path}{_PATH_BELOW}")
    if await server.answers(below):
        detail = f"the path {_PATH_BELOW} is missing: {server.noun} answers at {below}"
        return AddressProblem(detail, address=below)
    for parent in PurePosixPath(server.parts.path).parents[:_SHORTER_PATHS]:
        path = str(parent).rstrip("/")
        address = _url(server.parts, path=path)
        if await server.answers(address):
            surplus = server.parts.path.removeprefix(path)
            detail = f"the path {surplus} is too much: {server.noun} answers at {address}"
            return AddressProblem(detail, address=address)
    return None


async def _of_redirect(server: _Server, location: str) -> AddressProblem:
    target = urlsplit(location)
    page = next((page for page in server.pages if target.path.endswith(page)), "")
    address = _url(target, path=target.path.removesuffix(page).rstrip("/"))
    detail = f"{server.url} redirects to {location}"
    if page and await server.answers(address):
        return AddressProblem(detail, address=address)
    if not page and _LOGIN.search(f"{target.hostname}{target.path}"):
        return _login(server, f"{detail}: a login stands before {server.noun}")
    where = address if page else "the address at which the server itself answers"
    return AddressProblem(detail, f"write {where}: a redirect is not followed")


def _of_login(server: _Server, error: CallError) -> AddressProblem | None:
    """What wants a person to log in before the server, and a server that refuses the name it is asked by."""
    who, status = proxy_name(error.server), f"HTTP {error.status}"
    if error.status == 401 and error.challenge in PEOPLE:
        wants = f"{who or 'something'} wants a user name and password ({status}, {error.challenge})"
        return _login(server, f"{wants} before {server.noun}")
    if error.status == 403 and error.text == without_reason(403) and "/api/version" in server.pages:
        # Ollama answers so to a name that is not its own (wire facts A1).
        name = server.parts.hostname
        remedy = f"write localhost or the address of the machine instead of {name}"
        if who is not None:
            remedy = "let it send the host name localhost (nginx: `proxy_set_header Host localhost;`)"
        return AddressProblem(f"the server refuses requests for the host name {name} ({status})", remedy)
    if error.is_page and who is not None:
        return _login(server, f"{who} refuses requests ({error.text}) before {server.noun}")
    return None


async def _of_page(server: _Server) -> AddressProblem | None:
    """A page on which a person logs in, where a page of the server is expected."""
    http = HttpClient(server.url, connect_s=_TRY_S, metadata_s=_TRY_S)
    try:
        reply = await http.get(server.pages[0])
    except CallError:
        return None
    finally:
        await http.aclose()
    if not _PASSWORD.search(reply.content):
        return None
    title, _ = error_text(reply.content)
    return _login(server, f"a login page answers (HTTP {reply.status_code}: {title}) before {server.noun}")


def _login(server: _Server, detail: str) -> AddressProblem:
    remedy = (
        "write the address of the server behind the login, or let the login pass requests with a key: opskit "
        f"sends `Authorization: Bearer` with `{server.key}: ${{NAME}}`"
    )
    return AddressProblem(detail, remedy)


async def _is_node(config: NodeConfig, url: str, expected: ServerKind | None = None) -> bool:
    """Tell whether a model server answers at an address, one of a kind where that is given.

    One that wants a key answers, and its kind is not known.
    """
    http = HttpClient(url, connect_s=_TRY_S, metadata_s=_TRY_S)
    try:
        kind = (await detect(http, replace(config, url=url, api_key=None))).kind
    except CallError as error:
        return expected is None and error.status in (401, 403) and not error.relayed
    finally:
        await http.aclose()
    return expected in (None, kind)


async def _is_agent(config: AgentConfig, url: str) -> bool:
    """Tell whether an agent answers at an address; one that wants a key answers."""
    budgets = Budgets(connect_s=_TRY_S, metadata_s=_TRY_S)
    async with AgentClient(replace(config, url=url, api_key=None), budgets) as agent:
        try:
            await agent.status()
        except CallError as error:
            return error.status in (401, 403) and not error.relayed
    return True


async def _names_of_certificate(parts: SplitResult) -> tuple[str, ...]:
    """Return the names in a certificate whose authority is known; empty where it cannot be read."""
    context = tls_context()
    context.check_hostname = False
    certificate = await _certificate(urlunsplit(parts), context) or {}
    return tuple(name for _, name in certificate.get("subjectAltName", ()) if name.isprintable())


async def _certificate(url: str, context: ssl.SSLContext) -> Mapping[str, Any] | None:
    """Return what the certificate says, empty where it is not checked; None where no handshake succeeds."""
    host, port = endpoint(url)
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(_TRY_S):
            _, writer = await asyncio.open_connection(host, port, ssl=context, server_hostname=host)
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
            return writer.get_extra_info("peercert") or {}
    return None


def _url(
    parts: SplitResult, *, scheme: str = "", host: str = "", port: int | None = None, path: str | None = None
) -> str:
    netloc = authority(host or parts.hostname or "", port or parts.port)
    return urlunsplit((scheme or parts.scheme, netloc, parts.path if path is None else path, "", ""))
