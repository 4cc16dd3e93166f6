"""Kinds that look at the network: tcp, dns, port, http."""

import asyncio
import ipaddress
import json
import socket
from typing import Annotated, Any, Literal
from urllib.parse import urljoin, urlsplit

from opskit.checks.matchers import PartText
from opskit.checks.spec import CheckContext, Observation, kind
from opskit.config.fields import AnyText, Bytes, Flag, Port, Text
from opskit.config.values import Parameters, Rule
from opskit.facts.endpoint import NO_JSON, EndpointRequest, connection_problem, fetch
from opskit.facts.port_owner import PortFacts, read_port
from opskit.providers.base import CallError
from opskit.records import field
from opskit.system.network import authority, connects, has_no_address, has_port
from opskit.text import shortened, size

#: The kind's own words come a little before the runner's deadline.
OWN_SHARE = 0.9
_SHOWN_CHARS = 300
_SAID_CHARS = 120


class TcpParams(Parameters):
    port: Port
    host: Text = "localhost"


@kind(
    "something accepts a TCP connection",
    {
        "open": "whether a connection was accepted",
        "error": "refused, timeout, name, unreachable, or null",
        "seconds": "time to connect, or to give up",
    },
    {"open": True},
    lambda p: f"{p.host}:{p.port}",
    timeout_s=5.0,
)
async def tcp(params: TcpParams, context: CheckContext) -> Observation:
    url = f"tcp://{authority(params.host, params.port)}"
    result = await connects(url, timeout_s=context.timeout_s * OWN_SHARE)
    values = {"open": result.problem is None, "error": result.problem, "seconds": result.seconds}
    if result.problem is None:
        return Observation(values, f"{params.host}:{params.port} accepts connections", state="ok")
    problem = connection_problem(url, result)
    # Only a refusal tells that nothing listens; a firewall, or a full queue, leaves a port unknown.
    settled = ("open",) if result.problem == "refused" else ()
    return Observation(values, problem=problem, state=result.problem, code="COMM_002", settled=settled)


def unresolved(name: str, exc: socket.gaierror | UnicodeError) -> Observation:
    """Judge a failed resolution: it proves that there is no address, or nothing about the name."""
    values = {"resolves": False, "addresses": [], "error": "name"}
    if isinstance(exc, UnicodeError):
        return Observation(values, problem=f"{name} is no host name", state="unresolved", code="COMM_002")
    problem = f"the name {name} does not resolve: {exc.strerror}"
    if has_no_address(name, exc.errno):
        settled = ("resolves", "addresses")
        return Observation(values, problem=problem, state="unresolved", code="COMM_002", settled=settled)
    problem = f"the resolver does not answer for {name}: {exc.strerror}"
    values["error"] = "resolver"
    return Observation(values, problem=problem, state="resolver error", code="COMM_002")


class DnsParams(Parameters):
    name: Text
    family: Literal["any", "ipv4", "ipv6"] = "any"


@kind(
    "a host name resolves, as programs of this machine see it",
    {
        "resolves": "whether there is an address",
        "addresses": "list of addresses",
        "private": "whether all are private or loopback",
        "error": "name (there is no such name), resolver (it does not tell), or null",
        "seconds": "time to resolve",
    },
    {"resolves": True},
    lambda p: str(p.name),
    timeout_s=5.0,
)
async def dns(params: DnsParams, _: CheckContext) -> Observation:
    # The resolver has no deadline of its own; the runner leaves it behind.
    family = {"any": socket.AF_UNSPEC, "ipv4": socket.AF_INET, "ipv6": socket.AF_INET6}[params.family]
    loop = asyncio.get_running_loop()
    try:
        entries = await loop.getaddrinfo(params.name, None, family=family, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError) as exc:
        return unresolved(params.name, exc)
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in entries))
    private = all(ipaddress.ip_address(address.partition("%")[0]).is_private for address in addresses)
    values = {"resolves": True, "addresses": addresses, "private": private}
    return Observation(values, f"{params.name} is {', '.join(addresses[:4])}", state="ok")


#: What is not known of a port whose process this user may not see.
_OF_THE_OWNER = frozenset({"owner", "process", "pid", "command", "user", "unit", "container"})


class PortParams(Parameters):
    port: Port
    protocol: Literal["tcp", "udp"] = "tcp"


@kind(
    "who holds a port of this machine",
    {
        "listening": "whether something listens",
        "addresses": "addresses that are listened on",
        "public": "whether one of them is not loopback",
        "owner": "in words: a container, or a process and its unit",
        "process": "name of the process",
        "pid": "its id",
        "command": "its command line",
        "user": "its user",
        "unit": "its systemd unit or launchd label",
        "container": "the container's name",
    },
    {"listening": True},
    lambda p: f"{p.protocol}/{p.port}",
)
async def port(params: PortParams, context: CheckContext) -> Observation:
    facts = await context.survey.get(read_port, params.protocol, params.port, not_before=context.not_before)
    where, owner = f"{params.protocol} port {params.port}", facts.owner
    if owner is None:
        return _unowned(facts, where)
    public, user = any(owner.is_public for owner in facts.owners), owner.process and owner.process.user
    values = {"listening": True, "public": public, "user": user, **port_values(facts)}
    unseen = _OF_THE_OWNER if owner.is_hidden else frozenset[str]()
    return Observation(values, f"{where} is held by {owner.words}", state="held", unseen=unseen)


def port_values(facts: PortFacts) -> dict[str, Any]:
    """Return what is known of the owner of a port; None where nothing is. Pure."""
    owner = facts.owner
    process = owner and owner.process
    return {
        "addresses": sorted({owner.address for owner in facts.owners if owner.address}),
        "owner": None if owner is None or owner.is_hidden else owner.words,
        "process": process and process.name,
        "pid": owner and owner.pid,
        "command": process and " ".join(process.command),
        "unit": owner and owner.unit,
        "container": owner and owner.container,
    }


def _unowned(facts: PortFacts, where: str) -> Observation:
    """Nobody whom this user may see; where sockets are hidden, only a refused connection proves it."""
    values = {"listening": bool(facts.listening), "addresses": [], "owner": None}
    if facts.complete:
        return Observation(values, f"nothing listens on {where}", state="free")
    hidden = "the sockets of other users are not shown to this user"
    if facts.listening is None:
        problem = f"{where}: {hidden}"
        return Observation(values, problem=problem, undecided=problem, state="unknown")
    if facts.listening:
        unseen = _OF_THE_OWNER | {"addresses", "public"}
        return Observation(values, f"{where} is held; {hidden}", state="held", unseen=unseen)
    return Observation(values, f"nothing listens on {where} of localhost; {hidden}", state="free")


def _address(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("must be a URL such as http://localhost:8010/health")
    if not has_port(text):
        raise ValueError("has a port that is not between 1 and 65535")
    if not text.isprintable() or " " in text:
        raise ValueError("holds a character that has no place in a URL")
    return text


Url = Annotated[Text, Rule(_address)]


class HttpParams(Parameters):
    url: Url
    method: Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"] = "GET"
    headers: dict[Text, AnyText] = field(default_factory=dict)
    body: AnyText | None = None
    send: Any = None
    follow: Flag = False
    insecure: Flag = False
    max_bytes: Bytes = 1024 * 1024


def without_secrets(url: str) -> str:
    """Return a URL for a report, without user, password and query."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{authority(parts.hostname or '', parts.port)}{parts.path}"


@kind(
    "a web server answers; `send` is a JSON body, `body` a plain one",
    {
        "status": "status code",
        "headers": "headers, names in lower case",
        "body": "text, as far as max_bytes go",
        "json": "the parsed body; keys are JSONPaths",
        "size_bytes": "bytes that were read",
        "truncated": "whether there was more than max_bytes",
        "first_byte_s": "seconds until the head was there",
        "seconds": "seconds until the body was there",
        "error": "refused, name, reset, tls, ..., or null",
    },
    {"status": {"lt": 400}},
    lambda p: without_secrets(p.url),
)
async def http(params: HttpParams, context: CheckContext) -> Observation:
    headers, body = dict(params.headers), params.body
    if params.send is not None:
        body = json.dumps(params.send, ensure_ascii=False)
        if not any(name.lower() == "content-type" for name in headers):
            headers["Content-Type"] = "application/json"
    request = EndpointRequest(
        url=params.url,
        method=params.method,
        headers=tuple(headers.items()),
        body=None if body is None else body.encode(),
        follow=params.follow,
        insecure=params.insecure,
        max_bytes=params.max_bytes,
    )
    try:
        # The only deadline is the check's.
        reply = await fetch(request)
    except CallError as error:
        values: dict[str, Any] = {"error": error.cause.value}
        problem = f"{params.method} {without_secrets(params.url)}: {error.text}"
        return Observation(values, problem=problem, state=error.cause.value, code="COMM_002")
    values = {
        "status": reply.status,
        "headers": reply.headers,
        "body": PartText(reply.text) if reply.truncated else reply.text,
        "size_bytes": len(reply.body),
        "truncated": reply.truncated,
        "first_byte_s": reply.first_byte_s,
        "seconds": reply.seconds,
    }
    detail = f"HTTP {reply.status} in {reply.seconds:.3f} s"
    if "json" in context.wanted and (document := reply.json) is not NO_JSON:
        values["json"] = document
    elif "json" in context.wanted and not reply.truncated:
        detail += "; the body is no JSON"
    if reply.truncated:
        detail += f"; only the first {params.max_bytes} bytes were read"
    if reply.status >= 400:
        detail += f"; it says: {shortened(reply.problem, _SAID_CHARS)}"
    elif reply.status >= 300 and (location := reply.headers.get("location")):
        target = without_secrets(urljoin(params.url, location))
        if params.follow:
            problem = f"{without_secrets(params.url)} redirects again and again, at last to {target}"
            return Observation(values, problem=problem, state="redirects", code="COMM_002")
        detail += f", to {target} (`follow: true` goes there)"
    remedy = f"`max_bytes: {size(4 * params.max_bytes)}` reads more" if reply.truncated else None
    evidence = {"body": reply.text[:_SHOWN_CHARS]} if reply.status >= 400 else {}
    unseen = frozenset({"json"} if reply.truncated else ())
    return Observation(values, detail, state="ok", evidence=evidence, remedy=remedy, unseen=unseen)
