"""The one place where what the HTTP libraries raise, and what servers say of errors, becomes readable.

By type and errno, never by text, wherever the libraries allow it.
"""

import contextlib
import errno
import json
import re
import socket
import ssl
from collections.abc import AsyncIterator, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, Protocol
from urllib.parse import urljoin, urlsplit, urlunsplit

from opskit.config.url import without_password
from opskit.providers.base import CallCause, CallError, TlsProblem

Phase = Literal["connect", "request", "stream"]


class ServerReply(Protocol):
    """A reply of a server, whichever library brings it: httpx's, or ours over plain connections."""

    @property
    def status_code(self) -> int: ...

    @property
    def headers(self) -> Mapping[str, str]: ...

    @property
    def url(self) -> Any: ...

    @property
    def is_success(self) -> bool: ...

    @property
    def content(self) -> bytes:
        """The body, once it has been read."""
        ...

    def aiter_bytes(self) -> AsyncIterator[bytes]: ...

    async def aread(self) -> bytes: ...

    async def aclose(self) -> None: ...


_ERRNO = {
    errno.ECONNREFUSED: CallCause.REFUSED,
    errno.ECONNRESET: CallCause.RESET,
    errno.EPIPE: CallCause.RESET,
    errno.ECONNABORTED: CallCause.RESET,
    errno.EHOSTUNREACH: CallCause.UNREACHABLE,
    errno.ENETUNREACH: CallCause.UNREACHABLE,
    errno.ENETDOWN: CallCause.UNREACHABLE,
    errno.EADDRNOTAVAIL: CallCause.UNREACHABLE,
    errno.ETIMEDOUT: CallCause.TIMEOUT,
}
#: The only timeout that is the library's own is that of the connection.
_BEFORE_CONNECTION = {
    *(CallCause.REFUSED, CallCause.NAME, CallCause.TLS, CallCause.UNREACHABLE, CallCause.PROXY),
    CallCause.TIMEOUT,
}
#: Their exceptions are known by name: each is imported only where it is used.
_LIBRARIES = ("h11", "httpx")
_SENTENCES = {
    CallCause.REFUSED: "nothing listens there",
    CallCause.RESET: "the connection was reset by the server",
    CallCause.UNREACHABLE: "the host cannot be reached (no route)",
    CallCause.NAME: "the host name does not resolve",
    CallCause.TLS: "the TLS handshake failed",
    CallCause.PROXY: "the proxy refuses the connection",
    CallCause.TIMEOUT: "no connection within the time allowed",
    CallCause.CLOSED: "the server closed the connection before the reply was complete",
    CallCause.PAYLOAD: "the server does not speak proper HTTP",
}
_TLS_SENTENCES = {
    TlsProblem.NOT_TLS: "the server does not speak TLS: its address begins with http://, not https://",
    TlsProblem.SELF_SIGNED: "its certificate is self-signed",
    TlsProblem.UNKNOWN_AUTHORITY: "its certificate is signed by an authority that is not known here",
    TlsProblem.EXPIRED: "its certificate has expired",
    TlsProblem.NOT_YET_VALID: "its certificate is not valid yet",
    TlsProblem.OTHER_NAME: "its certificate is for another name than that of the address",
    TlsProblem.OTHER: "the TLS handshake failed",
}
#: X509_V_ERR_* of OpenSSL (x509_vfy.h).
_CERTIFICATES = {
    2: TlsProblem.UNKNOWN_AUTHORITY,
    9: TlsProblem.NOT_YET_VALID,
    10: TlsProblem.EXPIRED,
    18: TlsProblem.SELF_SIGNED,
    19: TlsProblem.UNKNOWN_AUTHORITY,
    20: TlsProblem.UNKNOWN_AUTHORITY,
    21: TlsProblem.UNKNOWN_AUTHORITY,
    62: TlsProblem.OTHER_NAME,
    64: TlsProblem.OTHER_NAME,
}
#: What OpenSSL, by its versions, calls an answer that is no TLS.
_NOT_TLS = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "UNKNOWN_PROTOCOL", "PACKET_LENGTH_TOO_LONG")
#: What HAProxy, Envoy and Traefik write in the place of a server.
_UPSTREAM = re.compile(
    rb"(?i)no server is available to handle|no healthy upstream|upstream connect error|\A(no available server"
    rb"|bad gateway|gateway timeout)\Z"
)
#: Challenges to which a key is no answer.
PEOPLE = ("basic", "digest", "negotiate", "ntlm")
#: The type of Ollama's refusal of a model in the cloud before somebody has signed in (wire facts A4).
SIGN_IN = "sign_in"
_TITLE = re.compile(r"(?is)<title[^>]*>(.{1,200}?)</title>")
#: How web servers that stand in front of others name themselves.
_PROXIES = (
    *("nginx", "openresty", "caddy", "apache", "haproxy", "envoy", "istio-envoy", "traefik", "cloudflare"),
    *("squid", "varnish", "awselb", "lighttpd", "tengine", "microsoft-iis"),
)


@contextlib.contextmanager
def translated(phase: Phase) -> Iterator[None]:
    """Turn whatever the HTTP libraries raise into CallError; CancelledError and our own pass."""
    try:
        yield
    except CallError:
        raise
    except Exception as exc:
        if not isinstance(exc, OSError) and type(exc).__module__.partition(".")[0] not in _LIBRARIES:
            raise
        raise _translate(exc, phase) from exc


def _translate(exc: BaseException, phase: Phase) -> CallError:
    cause = _cause(exc)
    if cause in _BEFORE_CONNECTION:
        phase = "connect"
    if cause is CallCause.TLS:
        problem = _tls_problem(exc)
        return CallError(cause, _TLS_SENTENCES[problem], phase=phase, tls=problem)
    if cause is CallCause.PROXY:
        return CallError(cause, _SENTENCES[cause], phase=phase, status=_proxy_status(exc))
    return CallError(cause, _SENTENCES[cause], phase=phase)


def _proxy_status(exc: BaseException) -> int | None:
    """Return the status with which a proxy refuses a CONNECT: httpcore has it in its text alone."""
    number = str(exc).partition(" ")[0]
    return int(number) if number.isascii() and number.isdecimal() and len(number) == 3 else None


def _tls_problem(exc: BaseException) -> TlsProblem:
    for link in _chain(exc):
        if isinstance(link, ssl.SSLCertVerificationError):
            return _CERTIFICATES.get(link.verify_code, TlsProblem.OTHER)
        if isinstance(link, ssl.SSLError) and getattr(link, "reason", None) in _NOT_TLS:
            return TlsProblem.NOT_TLS
    return TlsProblem.OTHER


def _cause(exc: BaseException) -> CallCause:
    """Errno first, then the inner library's own words."""
    links = list(_chain(exc))
    known = [cause for link in links if (cause := _by_errno(link)) is not None]
    if known:
        # One name may stand for several addresses: a refusal tells more than a missing route to another.
        return CallCause.REFUSED if CallCause.REFUSED in known else known[0]
    kinds = {kind.__name__ for kind in type(exc).__mro__}
    if "ProxyError" in kinds:
        return CallCause.PROXY
    for link in links:
        if type(link).__name__ == "RemoteProtocolError":
            ended = "disconnected" in str(link) or "closed connection" in str(link)
            return CallCause.CLOSED if ended else CallCause.PAYLOAD
    if "TimeoutException" in kinds:
        return CallCause.TIMEOUT
    if kinds & {"ReadError", "WriteError"}:
        return CallCause.RESET
    return CallCause.UNREACHABLE if "ConnectError" in kinds else CallCause.PAYLOAD


def _by_errno(link: BaseException) -> CallCause | None:
    if isinstance(link, socket.gaierror):
        return CallCause.NAME
    if isinstance(link, ssl.SSLError):
        # "Want" is how a handshake waits, not how it fails.
        return None if isinstance(link, ssl.SSLWantReadError | ssl.SSLWantWriteError) else CallCause.TLS
    if isinstance(link, ConnectionError) and link.errno is None:
        # asyncio's own, where a connection ends within a handshake.
        return CallCause.RESET
    return _ERRNO.get(link.errno or 0) if isinstance(link, OSError) else None


def _chain(exc: BaseException) -> Iterator[BaseException]:
    visited: set[int] = set()
    queue: list[BaseException] = [exc]
    while queue:
        link = queue.pop(0)
        if id(link) in visited:
            continue
        visited.add(id(link))
        yield link
        queue.extend(filter(None, (link.__cause__, link.__context__)))
        if isinstance(link, BaseExceptionGroup):
            queue.extend(link.exceptions)


def proxy_error(proxy: str, error: CallError) -> CallError:
    """Return a call that failed before its server was reached as one that failed at the proxy.

    What is wrong with TLS is the server's own.
    """
    if error.cause is CallCause.TLS:
        return error
    name = without_password(proxy)
    if error.cause is not CallCause.PROXY:
        text = f"the proxy {name} cannot be reached: {error.text}"
    elif error.status == 407:
        text = f"the proxy {name} wants a user name and password (HTTP 407)"
    else:
        text = f"the proxy {name} refuses the connection" + (
            f" (HTTP {error.status})" if error.status else ""
        )
    return CallError(CallCause.PROXY, text, phase="connect")


def redirect(response: ServerReply) -> str | None:
    """Return where a reply sends its reader, without user, query and fragment; None for any other reply."""
    target = response.headers.get("location")
    if target is None or not 300 <= response.status_code < 400:
        return None
    try:
        parts = urlsplit(urljoin(str(response.url), target))
    except ValueError:
        return None
    location = urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
    return location if location.isprintable() else None


def relayed_text(status: int, server: str, raw: bytes) -> str | None:
    """Return what a proxy means that answers 502 or 504 for a server; None for an answer of the server.

    Model servers answer in JSON; proxies name themselves, or write a page.
    """
    name = proxy_name(server)
    body = raw.strip()
    says_so = _UPSTREAM.search(body) is not None
    is_proxy = name is not None or body[:1] == b"<" or says_so
    if body[:1] == b"{" or not is_proxy or not (status in (502, 504) or (status == 503 and says_so)):
        return None
    reason = "does not answer in time" if status == 504 else "cannot be reached"
    if status == 503:
        # HAProxy says the same when a request has waited too long for a server that is busy.
        reason = "cannot be reached, or is so busy that the request waited in vain"
    return f"{name or 'a proxy'} answers in front of the server, and the server behind it {reason}"


def proxy_name(server: str) -> str | None:
    """Return the name out of a header `Server`, where it is that of a program that stands before others."""
    name = server.partition("/")[0].partition(" ")[0].strip()
    return name if name.lower() in _PROXIES else None


def error_text(raw: bytes | Mapping[str, Any]) -> tuple[str, str | None]:
    """The sentence and the type of an error body, in any of the shapes in the wild (wire facts A4, A8, C).

    The type is `error.type`, or `error.code` where that is a word. Ollama passes its runner's body on as JSON
    in a string: then the inner sentence and type count, and token counts that only fields hold are added.
    """
    if isinstance(raw, bytes):
        decoded = raw.decode("utf-8", "replace").strip()
        try:
            body = json.loads(decoded)
        except (ValueError, RecursionError):
            title = _TITLE.search(decoded) if decoded.startswith("<") else None
            return " ".join((title[1] if title else decoded).split())[:500], None
    else:
        body = raw
    if not isinstance(body, Mapping):
        return str(body)[:500], None
    error = body.get("error", body.get("detail", body.get("message", body.get("error_message", body))))
    if isinstance(error, list):
        # FastAPI's, one for each value that is wrong.
        error = next((item for item in error if isinstance(item, Mapping)), str(error))
    if isinstance(error, Mapping) and isinstance(error.get("error"), Mapping):
        error = error["error"]
    if not isinstance(error, Mapping):
        return _unwrapped(str(error), SIGN_IN if "signin_url" in body else None)
    message = error.get("message") or error.get("msg") or error.get("type") or json.dumps(error)
    if isinstance(place := error.get("loc"), list):
        message = f"{'.'.join(map(str, place))}: {message}"
    kind = next((word for key in ("code", "type") if isinstance(word := error.get(key), str) and word), None)
    text, kind = _unwrapped(str(message), kind)
    counts = [error.get("n_prompt_tokens"), error.get("n_ctx")]
    if all(isinstance(count, int) and str(count) not in text for count in counts):
        text += f" (the prompt has {counts[0]} tokens, the context {counts[1]})"
    return text, kind


def _unwrapped(text: str, kind: str | None) -> tuple[str, str | None]:
    """A sentence on one line; where it is itself an error body in JSON, what that one says."""
    if text.lstrip().startswith("{"):
        with contextlib.suppress(ValueError, RecursionError):
            inner = json.loads(text)
            if isinstance(inner, Mapping) and inner:
                inner_text, inner_kind = error_text(inner)
                return inner_text, inner_kind or kind
    return " ".join(text.split())[:500], kind


def retry_after(value: str | None) -> float | None:
    """Seconds of a Retry-After header, given as a number or as an HTTP date; None when it is neither."""
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        moment = _http_date(value)
        if moment is None:
            return None
        seconds = (moment - datetime.now(UTC)).total_seconds()
    return max(0.0, seconds) if seconds < 86_400 else None


def clock_ahead(date: str | None, now: datetime) -> timedelta:
    """How far the clock behind a Date header is ahead of `now`; nothing where that is unknown.

    The header has whole seconds and was written a moment ago: up to 2 s are no difference.
    """
    moment = _http_date(date) if date else None
    if moment is None:
        return timedelta()
    ahead = moment - now
    return ahead if abs(ahead) > timedelta(seconds=2) else timedelta()


def _http_date(value: str) -> datetime | None:
    from email.utils import parsedate_to_datetime  # 3 ms, where a date is needed

    try:
        moment = parsedate_to_datetime(value)
    except (ValueError, TypeError, OverflowError):
        return None
    return moment if moment.tzinfo is not None else None
