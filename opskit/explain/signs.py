"""What a pasted text shows: codes, tagged lines, statuses in their context, broken connections, error texts.

A pasted line is text and nothing else, so this is the one place where words stand for what a type or an
errno would have said. What they mean is still decided by `opskit.llm.faults.classify`. Nothing is guessed:
a number is a status only where something says so, and a sentence counts only when a server is known to say
it. Every pattern is linear in the length of a line; a recorded example for each stands in
`tests/unit/explain/test_search.py`.
"""

import json
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from opskit import tags
from opskit.errors import CATALOGUE
from opskit.explain.catalogue import PHRASES, ExplanationKind, entry_of
from opskit.llm.faults import FaultKind, classify
from opskit.providers.base import CallCause, CallError
from opskit.records import Record

if TYPE_CHECKING:
    from opskit.providers.failures import Phase

#: How sure a sign is. A code or a tagged field is a statement, a bare status is the least that can be said.
SAID, TEXT, CONNECTION, STATUS, BY_STATUS = 90, 80, 70, 60, 50


class Sign(Record):
    """One thing that the text shows. `why` tells in which words, for a person."""

    kind: ExplanationKind
    key: str
    weight: int
    why: str


def _any(*patterns: str) -> re.Pattern[str]:
    return re.compile("|".join(patterns), re.IGNORECASE | re.ASCII)


def _broken_by(
    cause: CallCause, phase: "Phase", *patterns: str
) -> tuple[CallCause, "Phase", re.Pattern[str]]:
    return cause, phase, _any(*patterns)


_CODE = _any(rf"\b({'|'.join(CATALOGUE)})\b")

#: A number is a status where one of these says so: protocol lines, access logs, client libraries, JSON.
_STATUS = tuple(
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

#: Kernel, Python, Go, Node and curl say the same thing in their own _
_CONNECTION = (
    _broken_by(
        CallCause.REFUSED,
        "connect",
        r"connection refused|connect call failed|actively refused|\bECONNREFUSED\b",
        "ConnectionRefusedError",
        "could(?: not|n't) connect to (?:server|(?:a running )?ollama)",
    ),
    _broken_by(
        CallCause.RESET,
        "request",
        r"connection reset|\bECONNRESET\b|ConnectionResetError|broken pipe|\bEPIPE\b|BrokenPipeError",
    ),
    _broken_by(
        CallCause.NAME,
        "connect",
        "name or service not known|nodename nor servname|name resolution|no such host|could not resolve",
        r"failed to resolve|\bgetaddrinfo\b|\bENOTFOUND\b|\bEAI_AGAIN\b",
    ),
    _broken_by(
        CallCause.UNREACHABLE,
        "connect",
        r"no route to host|network is unreachable|\bEHOSTUNREACH\b|\bENETUNREACH\b",
    ),
    _broken_by(
        CallCause.TLS,
        "connect",
        r"\bSSLError\b|\btls: |wrong.version.number",
        "gave HTTP response to HTTPS client|sent an HTTP request to an HTTPS server",
    ),
    _broken_by(
        CallCause.TIMEOUT,
        "connect",
        r"connect(?:ion)? timed out|connection timeout|\bETIMEDOUT\b|Connect(?:ion)?Timeout",
        r"dial tcp \S{1,80} i/o timeout|failed to connect to .{1,80}timed? ?out",
    ),
    _broken_by(
        CallCause.TIMEOUT,
        "request",
        "read timed out|ReadTimeout|request timed out|context deadline exceeded",
        "timeout exceeded while awaiting headers|operation timed out after",
    ),
    _broken_by(
        CallCause.CLOSED,
        "request",
        "empty reply from server|server disconnected|ServerDisconnectedError|RemoteDisconnected",
        "remote end closed connection without response|socket hang up",
    ),
    _broken_by(
        CallCause.CLOSED,
        "stream",
        "peer closed connection without|incomplete chunked read|IncompleteRead|ClientPayloadError",
        "transfer closed with|premature close|ended prematurely",
    ),
    _broken_by(CallCause.PAYLOAD, "request", r"JSONDecodeError|received HTTP/0\.9|BadStatusLine"),
)

#: Sentences with a meaning of their own that the classifier of calls does not need to know.
_SENTENCES = (
    (
        ExplanationKind.CODE,
        "DOCKER_001",
        _any("cannot connect to the docker daemon|is the docker daemon running"),
    ),
    (ExplanationKind.CODE, "DOCKER_002", _any("no such container")),
    (ExplanationKind.FAULT, "server_error", _any("model list cache unavailable")),
    (ExplanationKind.FAULT, "unauthorised", _any("(invalid|incorrect|missing) API[ -]key")),
    (ExplanationKind.FAULT, "out_of_memory", _any(r"\bOOM-?killed|out of memory: killed process")),
    (
        ExplanationKind.STATUS,
        "499",
        _any(r"client connection closed before .{1,40} finished loading|aborting load\b"),
    ),
)

#: What is said of the system and not of a call: where one of them stands, nothing else in it is a sign.
_SYSTEM = {
    "port_taken": _any(
        r"address already in use|\bEADDRINUSE\b|port is already allocated",
        "only one usage of each socket address",
    ),
    "disk_full": _any(r"no space left on device|\bENOSPC\b|disk quota exceeded"),
    "too_many_files": _any(r"too many open files|\bEMFILE\b"),
    "database_locked": _any("database (?:table )?is locked"),
    "password_rejected": _any(
        "password authentication failed.{0,80}", "access denied for user .{1,80}using password"
    ),
    "pool_exhausted": _any(
        "QueuePool limit.{0,200}|too many clients already|remaining connection slots are reserved"
    ),
    "docker_not_permitted": _any("permission denied while trying to connect to the Docker daemon.{0,200}"),
    "program_missing": _any(r"executable file not found in \$?PATH|command not found"),
    "container_start_failed": _any("OCI runtime .{1,20} failed.{0,200}"),
    "container_unhealthy": _any(r"\bcontainer \S{1,80} is unhealthy"),
    "docker_network_missing": _any(r"network \S{1,80} declared as external.{0,80}"),
    "pull_limit": _any("reached your (?:unauthenticated )?pull rate limit|toomanyrequests"),
    "image_missing": _any("pull access denied for|manifest .{1,200}(?:unknown|not found)"),
    "module_missing": _any(r"No module named '(?!mlx_(?:lm|vlm|audio)\.models)[\w.]{1,200}'?"),
    "certificate": _any(
        r"certificate.verify.failed.{0,200}|failed to verify certificate.{0,200}|\bx509: .{0,200}",
        "certificate (?:is not valid for|has expired)|self.signed certificate",
    ),
    "exit_137": _any(r"\bexit(?:ed)?(?: with)?(?: status| code)?:? ?\(?137\b"),
    "hub_cache_missing": _any("cache directory not found: .{0,200}hub"),
    "prompt_cut": _any("truncating input prompt"),
}

#: The address in a client's own error, which says nothing about a runner behind the server.
_CLIENT_ADDRESS = _any(r'\b(?:get|post|head|put|delete) \\?"?https?://[^"\s]{1,300}"?')

_TAG = re.compile(rf"\[(?:{'|'.join(tag.value for tag in tags.Tag)})\]")
_FIELD = re.compile(r"\b(?:fault|verdict)=")

#: What opskit prints: the attempts of `run`, the rows and the remedies of `probe`.
_ATTEMPT = re.compile(r" on \S{1,200}: (\w{1,30})(?: after [\d.]{1,20} s)?(?: \(|;|$)")
_ROW = re.compile(
    r"\s(?:pass|warn|fail|skip|inconclusive)\s{1,20}(not configured|[a-z]{2,20})\s{1,20}\d{1,6}\.\d{3}\b"
)
_REMEDY = re.compile(r"^\S{1,100} \((not configured|[a-z]{2,20})\): ")


def of_line(line: str) -> Iterator[Sign]:
    for match in _CODE.finditer(line):
        yield Sign(ExplanationKind.CODE, match[1].upper(), SAID, f"the text holds {match[1]}")
    stated = tuple(_stated(line))
    yield from stated
    if stated:
        return
    yield from _shown(line)
    yield from of_body(line)


def of_body(text: str) -> Iterator[Sign]:
    """Return the signs in a JSON error body that begins somewhere in the text, on one line or several."""
    begin = text.find("{")
    if begin < 0:
        return
    try:
        body, _ = json.JSONDecoder(strict=False).raw_decode(text, begin)
    except (ValueError, RecursionError):
        return
    if isinstance(body, dict):
        from opskit.providers.failures import error_text  # with httpx, which a question does not need

        sentence, kind = error_text(body)
        yield from _shown(f"{kind}: {sentence}" if kind else sentence)


def of_number(status: int) -> Sign:
    """Return the fault that the router makes of a status without an explanation of its own."""
    return Sign(
        ExplanationKind.FAULT, _bare(status).value, BY_STATUS, f"what the router makes of HTTP {status}"
    )


def _stated(line: str) -> Iterator[Sign]:
    """Return what opskit's own lines state."""
    tag, field = _TAG.search(line), _FIELD.search(line)
    parsed = None
    if tag:
        parsed = tags.parse(line[tag.start() :])
    elif field:
        parsed = tags.parse(f"[LINE] {line[field.start() :]}")
    if parsed:
        for name in ("fault", "verdict", "why"):
            yield from _word(parsed.fields.get(name), f"the line says {name}={parsed.fields.get(name)}")
        return
    for match in _ATTEMPT.finditer(line):
        yield from _word(match[1], f"an attempt ended as {match[1]}")
    for pattern in (_ROW, _REMEDY):
        row = pattern.search(line)
        if row and entry_of(ExplanationKind.STATE, row[1]):
            yield Sign(ExplanationKind.STATE, row[1], SAID, f"a probe shows {row[1]}")


def _word(word: object, why: str) -> Iterator[Sign]:
    for kind in (ExplanationKind.FAULT, ExplanationKind.VERDICT):
        entry = entry_of(kind, str(word))
        if entry is not None and entry.key == word:
            yield Sign(kind, entry.key, SAID, why)


def _shown(text: str) -> Iterator[Sign]:
    for key, pattern in _SYSTEM.items():
        if match := pattern.search(text):
            yield Sign(ExplanationKind.SYSTEM, key, TEXT, f"the text says {_quoted(match[0])}")
            text = pattern.sub(" ", text)
    for kind, key, pattern in _SENTENCES:
        if match := pattern.search(text):
            yield Sign(kind, key, TEXT, f"the text says {_quoted(match[0])}")
    statuses = tuple(dict.fromkeys(int(match[1]) for pattern in _STATUS for match in pattern.finditer(text)))
    for status in statuses:
        yield from _of_status(status, text)
    remaining = text
    for cause, phase, pattern in _CONNECTION:
        if match := pattern.search(text):
            fault = classify(CallError(cause, text, phase=phase))
            yield Sign(
                ExplanationKind.FAULT, fault.kind.value, CONNECTION, f"the text says {_quoted(match[0])}"
            )
            remaining = pattern.sub(" ", remaining)
    if not statuses:
        fault_of_text = _by_text(text if remaining == text else _CLIENT_ADDRESS.sub(" ", remaining))
        if fault_of_text:
            yield Sign(ExplanationKind.FAULT, fault_of_text.value, TEXT, "servers are known to say this")


def _of_status(status: int, text: str) -> Iterator[Sign]:
    yield Sign(ExplanationKind.STATUS, str(status), STATUS, f"the text says HTTP {status}")
    kind = classify(CallError(CallCause.STATUS, text, status=status)).kind
    if kind not in (_bare(status), _unknown(status)) or kind is _by_text(text):
        yield Sign(
            ExplanationKind.FAULT, kind.value, TEXT, f"servers are known to say this with HTTP {status}"
        )
    elif entry_of(ExplanationKind.STATUS, str(status)) is None:
        yield of_number(status)


def _by_text(text: str) -> FaultKind | None:
    """Return the fault that the text alone shows: one that no bare status would be."""
    for status in (200, 503, 404, 400):
        kind = classify(CallError(CallCause.IN_BAND, text, status=status, phase="stream")).kind
        if kind is not _bare(status):
            return kind
    return None


def _bare(status: int) -> FaultKind:
    return classify(CallError(CallCause.STATUS, "", status=status)).kind


def _unknown(status: int) -> FaultKind:
    """Return the fault of an unknown text under this status."""
    return classify(CallError(CallCause.STATUS, "?", status=status)).kind


def _quoted(words: str) -> str:
    return f'"{" ".join(words.split())[:80]}"'
