"""Envelopes around log lines: what Docker, Compose, a Kubernetes node, the journal or syslog add to a text.

A source has one envelope or none. It is recognised by its first lines and taken off before anything is
judged, so that levels, tags and tracebacks belong to the program that wrote the text.
"""

import re
from collections.abc import Callable, Iterable

from opskit.logs.levels import SEVERITIES, Level, level_of
from opskit.logs.record import json_object, without_prefix
from opskit.logs.times import timestamp
from opskit.records import Record, replace

#: So many lines are looked at to recognise an envelope.
SAMPLE_LINES = 50
SAMPLE_BYTES = 64 * 1024
_TIME = rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+(?:Z|[+-]\d\d:\d\d)"
_DOCKER_TIME = re.compile(rb"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z) (.*)", re.DOTALL)
_CRI = re.compile(rb"(%b) (stdout|stderr) ([FP])(?::[FP])* (.*)" % _TIME, re.DOTALL)
_SYSLOG = re.compile(
    rb"(?:<(\d{1,3})>)?([A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d(?:\.\d+)?) "
    rb"([\w.:-]+) ([\w./@:+()-]+?(?:\[\d+\])?): ?(.*)",
    re.DOTALL,
)
# With any other time only what surely is no line of a program's own: `TIME host program[12]: text`.
_SYSLOG_ISO = re.compile(
    rb"(?:<(\d{1,3})>)?(?:[A-Z][a-z]{2} )?"
    rb"(\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d\S*(?: [A-Z]{3,5})?|\d{10}\.\d{6}) "
    rb"([\w.:-]+) ([\w./@:+()-]+\[\d+\]|kernel): ?(.*)",
    re.DOTALL,
)
# vLLM writes its prefix in front of each line: `(Worker pid=12) ERROR 11-28 10:00:00 [a.py:1] text`.
_VLLM = re.compile(
    rb"(?:\(([\w -]+ pid=\d+)\) )?((DEBUG|INFO|WARNING|ERROR|CRITICAL) \d\d-\d\d \d\d:\d\d:\d\d) "
    rb"\[[\w./-]+:\d+\] ?(.*)",
    re.DOTALL,
)
_SYSLOG_5424 = re.compile(
    rb"<(\d{1,3})>1 (\S+) \S+ (\S+) (\S+) \S+ "
    rb'(?:-|(?:\[(?:[^]"]|"(?:[^"\\]|\\.)*")*\])+) ?(?:\xef\xbb\xbf)?(.*)',
    re.DOTALL,
)


class WrappedLine(Record):
    """What an envelope holds.

    `service` tells apart the writers whose lines alternate; `part`: the line goes on in the next one.
    """

    text: bytes
    at: float | None = None
    service: str | None = None
    level: Level | None = None
    part: bool = False


Envelope = Callable[[bytes], WrappedLine | None]


def envelope_of(lines: Iterable[bytes]) -> Envelope | None:
    """The envelope of the first lines; None when there is none.

    What cannot be mistaken needs one line, any other four of five.
    """
    sample = [line for line in lines if line.strip()][:SAMPLE_LINES]
    for envelope in _ENVELOPES:
        wrapped = sum(envelope(line) is not None for line in sample)
        if wrapped and (envelope in _UNMISTAKABLE or wrapped * 5 >= len(sample) * 4):
            return envelope
    return None


def envelope_of_sample(text: bytes) -> Envelope | None:
    """The envelope of a source that begins with this text; its last line may be cut."""
    lines = text.split(b"\n")
    return envelope_of(lines[:-1] if len(lines) > 1 and len(text) >= SAMPLE_BYTES else lines)


def _docker(line: bytes) -> WrappedLine | None:
    """Docker's json-file: `{"log":"...","stream":"stderr","time":"..."}`; a text without LF goes on."""
    if not line.startswith(b'{"log"'):
        return None
    body = json_object(line) or {}
    text, time = body.get("log"), body.get("time")
    if not isinstance(text, str) or not isinstance(time, str):
        return None
    ends = text.endswith("\n")
    return WrappedLine(
        _bytes(text.removesuffix("\n")), timestamp(_bytes(time)), str(body.get("stream")), part=not ends
    )


def _journal(line: bytes) -> WrappedLine | None:
    """The journal's export as JSON: `journalctl -o json`."""
    if not line.startswith(b"{") or b'"__REALTIME_TIMESTAMP"' not in line:
        return None
    body = json_object(line) or {}
    text, at = body.get("MESSAGE"), str(body.get("__REALTIME_TIMESTAMP"))
    if isinstance(text, list) and all(isinstance(byte, int) and 0 <= byte < 256 for byte in text):
        text = bytes(text).decode("utf-8", "replace")
    if not isinstance(text, str) or not at.isdigit():
        return None
    name = body.get("_SYSTEMD_UNIT") or body.get("SYSLOG_IDENTIFIER") or "?"
    return WrappedLine(
        _bytes(text), int(at[:20]) / 1e6, f"{name}[{body.get('_PID')}]", _severity(str(body.get("PRIORITY")))
    )


def _cri(line: bytes) -> WrappedLine | None:
    """The files of a Kubernetes node: `2026-01-01T00:00:00.000000000Z stdout F text`."""
    match = _CRI.fullmatch(line)
    if match is None:
        return None
    time, stream, flag, text = match.groups()
    return WrappedLine(text, timestamp(time), stream.decode(), part=flag == b"P")


def _compose(line: bytes) -> WrappedLine | None:
    """`docker compose logs`: `web-1  | text`; `--timestamps` puts Docker's time behind the bar."""
    service, text = without_prefix(line)
    return None if service is None else replace(_docker_time(text) or WrappedLine(text), service=service)


def _docker_time(line: bytes) -> WrappedLine | None:
    """`docker logs --timestamps`."""
    match = _DOCKER_TIME.fullmatch(line)
    return None if match is None else WrappedLine(match[2], timestamp(match[1]))


def _syslog(line: bytes) -> WrappedLine | None:
    """Syslog and the short forms of journalctl: `Nov 20 09:39:31 host program[12]: text`."""
    match = _SYSLOG_5424.fullmatch(line)
    if match is not None:
        priority, time, name, pid, text = match.groups()
        name = b"%b[%b]" % (name, pid)
    else:
        match = _SYSLOG.fullmatch(line) or _SYSLOG_ISO.fullmatch(line)
        if match is None or level_of(match[3].decode("utf-8", "replace")):
            return None
        priority, time, _, name, text = match.groups()
    level = None if priority is None else _severity(str(int(priority) % 8))
    return WrappedLine(text, timestamp(time), name.decode("utf-8", "replace"), level)


def _vllm(line: bytes) -> WrappedLine | None:
    """A line of vLLM without its prefix."""
    match = _VLLM.fullmatch(line)
    if match is None:
        return None
    name, time, level, text = match.groups()
    return WrappedLine(
        text, timestamp(time), None if name is None else name.decode(), level_of(level.decode())
    )


_UNMISTAKABLE: tuple[Envelope, ...] = (_docker, _journal, _cri)
_ENVELOPES: tuple[Envelope, ...] = (*_UNMISTAKABLE, _compose, _docker_time, _syslog, _vllm)


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "replace")


def _severity(number: str) -> Level | None:
    return SEVERITIES[int(number)] if number in "01234567" and len(number) == 1 else None
