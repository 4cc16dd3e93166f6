"""The words by which a pasted text is recognised: tables of patterns, each linear in the length of a line.

A recorded example for each stands in `tests/unit/explain/test_search.py`.
"""

import re

from opskit import tags
from opskit.errors import CATALOGUE
from opskit.explain.entry import ExplanationKind
from opskit.explain.statuses import PHRASES
from opskit.providers.base import CallCause
from opskit.providers.failures import Phase


def _any(*patterns: str) -> re.Pattern[str]:
    return re.compile("|".join(patterns), re.IGNORECASE | re.ASCII)


CODE = _any(rf"\b({'|'.join(CATALOGUE)})\b")

#: A number is a status where one of these says so: protocol lines, access logs, client libraries, JSON.
STATUS = tuple(
    _any(pattern)
    for pattern in (
        r'\bHTTP(?:/\d(?:\.\d)?)?"?[ :=]{1,2}(?:(?:status|error|code)[ :]{1,2})?([45]\d\d)\b',
        r"\bstatus(?:[ _-]?code)?[\"']?\s{0,2}(?:[:=]|is|of|was)?\s{0,2}[\"']?([45]\d\d)\b",
        rf"\b([45]\d\d)[ :]{{1,2}}(?:{'|'.join(map(re.escape, PHRASES.values()))})\b",
        r"\[GIN\][^|]{0,60}\|\s{0,3}([45]\d\d)\s{0,3}\|",
        r"\b(?:client|server) error [\"']?([45]\d\d)\b",
        r"\b(?:returned|responded|answered|got)(?: with)?(?: an?)?(?: error| code| status)*:? ([45]\d\d)\b",
        r"(?<!exit )\b(?:error|code)[\"']?(?:\s{0,2}[:=]\s{0,2}| code: | )[\"']?([45]\d\d)\b",
    )
)

#: Kernel, Python, Go, Node and curl say the same thing in their own words.
CONNECTION: tuple[tuple[CallCause, Phase, re.Pattern[str]], ...] = (
    (
        CallCause.REFUSED,
        "connect",
        _any(
            "connection refused",
            "connect call failed",
            "actively refused",
            "ECONNREFUSED",
            "ConnectionRefusedError",
            "could(?: not|n't) connect to server",
        ),
    ),
    (
        CallCause.RESET,
        "request",
        _any(
            "connection reset",
            "ECONNRESET",
            "ConnectionResetError",
            "broken pipe",
            r"EPIPE\b",
            "BrokenPipeError",
        ),
    ),
    (
        CallCause.NAME,
        "connect",
        _any(
            "name or service not known",
            "nodename nor servname",
            "name resolution",
            "no such host",
            "could not resolve",
            "failed to resolve",
            "getaddrinfo",
            "ENOTFOUND",
            "EAI_AGAIN",
        ),
    ),
    (
        CallCause.UNREACHABLE,
        "connect",
        _any("no route to host", "network is unreachable", "EHOSTUNREACH", "ENETUNREACH"),
    ),
    (
        CallCause.TLS,
        "connect",
        _any("certificate.verify.failed", r"\bSSLError\b", r"\bx509: ", r"\btls: ", "wrong version number"),
    ),
    (
        CallCause.TIMEOUT,
        "connect",
        _any(
            "connect(?:ion)? timed out",
            "connection timeout",
            "ETIMEDOUT",
            "Connect(?:ion)?Timeout",
            r"dial tcp \S{1,80} i/o timeout",
            "failed to connect to .{1,80}timed? ?out",
        ),
    ),
    (
        CallCause.TIMEOUT,
        "request",
        _any(
            "read timed out",
            "ReadTimeout",
            "request timed out",
            "context deadline exceeded",
            "timeout exceeded while awaiting headers",
            "operation timed out after",
        ),
    ),
    (
        CallCause.CLOSED,
        "request",
        _any(
            "empty reply from server",
            "server disconnected",
            "ServerDisconnectedError",
            "RemoteDisconnected",
            "remote end closed connection without response",
            "socket hang up",
        ),
    ),
    (
        CallCause.CLOSED,
        "stream",
        _any(
            "peer closed connection without",
            "incomplete chunked read",
            "IncompleteRead",
            "ClientPayloadError",
            "transfer closed with",
            "premature close",
            "ended prematurely",
        ),
    ),
    (CallCause.PAYLOAD, "request", _any("JSONDecodeError", r"received HTTP/0\.9", "BadStatusLine")),
)

#: Sentences with a meaning of their own that the classifier of calls does not need to know.
SENTENCES: tuple[tuple[ExplanationKind, str, re.Pattern[str]], ...] = (
    (
        ExplanationKind.CODE,
        "DOCKER_001",
        _any("cannot connect to the docker daemon", "is the docker daemon running"),
    ),
    (ExplanationKind.CODE, "DOCKER_002", _any("no such container")),
    (ExplanationKind.FAULT, "unauthorised", _any("(invalid|incorrect|missing) API[ -]key")),
    (ExplanationKind.FAULT, "out_of_memory", _any(r"\bOOM-?killed", "out of memory: killed process")),
    (
        ExplanationKind.STATUS,
        "499",
        _any("client connection closed before .{1,40} finished loading", r"aborting load\b"),
    ),
)

#: The address in a client's own error, which says nothing about a runner behind the server.
CLIENT_ADDRESS = _any(r'\b(?:get|post|head|put|delete) \\?"?https?://[^"\s]{1,300}"?')

TAG = re.compile(rf"\[(?:{'|'.join(tag.value for tag in tags.Tag)})\]")
FIELD = re.compile(r"\b(?:fault|verdict)=")

#: What opskit prints: the attempts of `run`, the rows and the remedies of `probe`.
ATTEMPT = re.compile(r" on \S{1,200}: (\w{1,30})(?: after [\d.]{1,20} s)?(?: \(|;|$)")
ROW = re.compile(
    r"\s(?:pass|warn|fail|skip|inconclusive)\s{1,20}(not configured|[a-z]{2,20})\s{1,20}\d{1,6}\.\d{3}\b"
)
REMEDY = re.compile(r"^\S{1,100} \((not configured|[a-z]{2,20})\): ")
