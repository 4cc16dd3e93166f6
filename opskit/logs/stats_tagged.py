"""What one tagged line says (SPEC A1), ours or that of another writer, and where it is counted.

Ours name everything as key=value. Others write prose (`[LLM_CALL] Model: qwq:32b`), several lines for one
call; such a line counts as far as it says something: a call by its model, an answer by its success.
"""

import json
import re

from opskit.logs.stats_calls import ANSWERED, ASKED, FAILED, UNKNOWN, Place
from opskit.logs.stats_counts import PREVIEW, Counts
from opskit.logs.stats_timeline import CALLS

_FIELD = re.compile(rb'[ \t]([A-Za-z_][\w.-]*)=("(?:[^"\\]|\\.)*"|[^\s"]\S*)')
# What our own router and engine write most, as far as it counts: an order of fields that need not hold.
_WHO = rb'correlation_id=((?!null )[^\s"]{1,64})'
_WHERE = rb' node=((?!null )[^\s"]{1,120}) model=((?!null )[^\s"]{1,120})'
_OURS = re.compile(
    rb"\[(?:LLM_CALL\] " + _WHO + _WHERE + rb" fallback=(true|false) "
    rb"|LLM_RESPONSE\] " + _WHO + _WHERE + rb" seconds=(\d{1,8}(?:\.\d{1,9})?)"
    rb" status=200 first_token_s=\S+ tokens=(\d{1,9}) "
    rb"|REQUEST\] " + _WHO + rb" method=)"
)
_CALL_GROUP, _RESPONSE_GROUP = 4, 9
_UUID = re.compile(rb"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b", re.IGNORECASE)
_NAMES = re.compile(rb"correlation[ _-]?id:?\s+(\S+)", re.IGNORECASE)
_ANNOUNCES = re.compile(rb"\b(?:GET|POST|PUT|PATCH|DELETE|RUN)\b")
_MODEL = re.compile(rb"\bmodel:?\s+([\w./:@-]*\w)", re.IGNORECASE)
_FALLS_BACK = re.compile(rb"(?:retry|fallback)[\w/ ]*:\s*true", re.IGNORECASE)
_FROM = re.compile(r"(\S+)\s*(?:→|->|=>)\s*\S".encode())
_SUCCEEDS = re.compile("success|✅".encode(), re.IGNORECASE)
_TOOK = re.compile(rb"\b(\d+(?:\.\d+)?) ?(ms|s|sec|seconds)\b")
_STATUS = re.compile(rb"\b(?:HTTP|status)\D{0,8}([1-5]\d\d)\b", re.IGNORECASE)
#: SPEC A2.
_CRASHED = re.compile(
    rb"unexpectedly stopped|out of memory|connection (?:was )?reset|reset by peer", re.IGNORECASE
)
_MAX_NAME = 120
_MAX_ID = 64
#: Longer than any duration that a log means.
_MAX_SECONDS = 1e8

Fields = dict[bytes, bytes]
#: What a line adds to its request, how severe it is by itself, its message.
Read = tuple[int, str | None, bytes]


class Tagged:
    """Counts tagged lines, one after another, in any order."""

    def __init__(self, counts: Counts) -> None:
        self._counts = counts
        self._readers = {
            b"REQUEST": self._request,
            b"REQUEST_END": self._request_end,
            b"LLM_CALL": self._call,
            b"LLM_RESPONSE": self._response,
            b"LLM_ERROR": self._error,
            b"LLM_CRASH": self._crash,
            b"LLM_PARSE": self._parse,
            b"FALLBACK": self._fallback,
        }

    def read_ours(self, block: bytes, at: int, end: int, when: float, source: str) -> bool:
        """Count the tagged line at block[at:end] if it has exactly our form, else leave it to `read`.

        Only for speed: `read` would count the same.
        """
        found = _OURS.match(block, at, end)
        if found is None:
            return False
        groups, kind = found.groups(), found.lastindex
        counts = self._counts
        if kind == _CALL_GROUP:
            identifier, node, model, fallback = groups[:4]
            place = counts.places.at(node, model)
            place.calls += 1
            place.fallback_calls += fallback == b"true"
            counts.timeline.add(when, CALLS)
            counts.tags["LLM_CALL"] += 1
            counts.requests.saw(identifier.lower(), when, 0)
        elif kind == _RESPONSE_GROUP:
            identifier, node, model, took, tokens = groups[4:9]
            place = counts.places.at(node, model)
            seconds = float(took)
            place.answered(seconds, int(tokens))
            self._slow(place, seconds)
            counts.tags["LLM_RESPONSE"] += 1
            counts.requests.saw(identifier.lower(), when, ANSWERED)
            if seconds > counts.limits.slow_entry_s:
                counts.saw_slow(seconds, when, source, block[at : min(end, at + PREVIEW)])
        else:
            counts.tags["REQUEST"] += 1
            counts.requests.saw(groups[9].lower(), when, ASKED)
        return True

    def read(
        self, name: bytes, text: bytes, at: float | None, level: str | None, source: str
    ) -> tuple[str | None, bytes]:
        """Count one line and give its level and message. `text` follows the tag, `level` stood before it."""
        counts = self._counts
        counts.tags[name.decode("ascii", "replace")] += 1
        fields: Fields = dict(_FIELD.findall(text))
        reader = self._readers.get(name)
        bits, severity, message = reader(fields, text, at) if reader is not None else (0, level, text)
        identifier = _identifier(fields, text)
        if identifier is not None:
            counts.requests.saw(identifier, at, bits)
        seconds = _number(fields.get(b"seconds"))
        if seconds is not None and seconds > counts.limits.slow_entry_s:
            counts.saw_slow(seconds, at, source, b"[%b]%b" % (name, text[:PREVIEW]))
        if level is not None and severity != "error":
            severity = level
        return severity, message

    def _request(self, fields: Fields, text: bytes, _at: float | None) -> Read:
        """Others announce a request on one line and tell its id on another."""
        requests = self._counts.requests
        if _identifier(fields, text) is None:
            requests.announced += b"method" in fields or _ANNOUNCES.search(text) is not None
            return 0, None, text
        requests.named += b"correlation_id" not in fields and _ANNOUNCES.search(text) is None
        return ASKED, None, text

    def _request_end(self, fields: Fields, text: bytes, _at: float | None) -> Read:
        """Interrupted is neither answered nor failed."""
        return {b"answered": ANSWERED, b"failed": FAILED}.get(fields.get(b"outcome", b""), 0), None, text

    def _call(self, fields: Fields, text: bytes, at: float | None) -> Read:
        node, model = _place(fields, text)
        place = self._counts.places.at(node, model)
        if node == model == UNKNOWN:
            place.fallback_calls += _FALLS_BACK.search(text) is not None
            return 0, None, text
        place.calls += 1
        place.fallback_calls += fields.get(b"fallback") == b"true"
        if at is not None:
            self._counts.timeline.add(at, CALLS)
        return 0, None, text

    def _response(self, fields: Fields, text: bytes, _at: float | None) -> Read:
        seconds = _number(fields.get(b"seconds"))
        ours = b"status" in fields or seconds is not None
        if not ours and not _SUCCEEDS.search(text):
            return 0, None, text
        if not ours and (took := _TOOK.search(text)) is not None:
            number = _number(took[1])
            seconds = None if number is None else number / (1000 if took[2] == b"ms" else 1)
        place = self._counts.places.at(*_place(fields, text))
        tokens = _number(fields.get(b"tokens"))
        place.answered(seconds, None if tokens is None else int(tokens))
        self._slow(place, seconds)
        return ANSWERED, None, text

    def _crash(self, fields: Fields, text: bytes, _at: float | None) -> Read:
        return self._failure(fields, text, crash=True)

    def _error(self, fields: Fields, text: bytes, _at: float | None) -> Read:
        return self._failure(fields, text, crash=False)

    def _failure(self, fields: Fields, text: bytes, *, crash: bool) -> Read:
        """Ours is a crash when its tag says so: the router has judged. Of others the text is judged."""
        fault = fields.get(b"fault")
        message = text
        if fault is not None:
            message = b"%b: %b" % (fault, _unquoted(fields.get(b"detail", b"")))
        else:
            status = _STATUS.search(text)
            crash = crash or (status is not None and status[1] == b"500") or _CRASHED.search(text) is not None
            fault = b"crash" if crash else (b"error" if status is None else b"http_" + status[1])
        self._failed(fields, text, fault, crash=crash)
        return FAILED, "error", message

    def _parse(self, fields: Fields, text: bytes, _at: float | None) -> Read:
        """Ours tells of an answer that was not accepted; others trace how they read an answer."""
        verdict = fields.get(b"verdict")
        if verdict is None:
            return 0, "warning", text
        self._failed(fields, text, verdict, crash=False)
        return FAILED, "warning", verdict

    def _fallback(self, fields: Fields, text: bytes, _at: float | None) -> Read:
        node, model = fields.get(b"from_node"), fields.get(b"from_model")
        if node is None and model is None and (found := _FROM.search(text)) is not None:
            model = found[1]
        self._counts.places.at(_name_of(node), _name_of(model)).fallbacks += 1
        why = fields.get(b"why")
        return 0, "warning", text if why is None else _unquoted(why)

    def _failed(self, fields: Fields, text: bytes, fault: bytes, *, crash: bool) -> None:
        place = self._counts.places.at(*_place(fields, text))
        place.failed_with(fault[:_MAX_NAME], crash=crash)
        self._slow(place, _number(fields.get(b"seconds")))

    def _slow(self, place: Place, seconds: float | None) -> None:
        place.slow += seconds is not None and seconds > self._counts.limits.slow_generation_s


def _identifier(fields: Fields, text: bytes) -> bytes | None:
    found = fields.get(b"correlation_id")
    if found is None:
        match = _UUID.search(text)
        if match is not None:
            found = match[0]
        elif (match := _NAMES.search(text)) is not None:
            found = match[1]
    return None if found is None or found == b"null" else found[:_MAX_ID].lower()


def _place(fields: Fields, text: bytes) -> tuple[bytes, bytes]:
    node, model = fields.get(b"node"), fields.get(b"model")
    if node is None and model is None and (found := _MODEL.search(text)) is not None:
        model = found[1]
    return _name_of(node), _name_of(model)


def _name_of(value: bytes | None) -> bytes:
    if value is None or value == b"null":
        return UNKNOWN
    return _unquoted(value)[:_MAX_NAME] or UNKNOWN


def _unquoted(value: bytes) -> bytes:
    if not value.startswith(b'"'):
        return value
    if b"\\" not in value:
        return value[1:-1]
    try:
        return str(json.loads(value)).encode("utf-8", "replace")
    except ValueError:
        return value.strip(b'"')


def _number(value: bytes | None) -> float | None:
    if value is None or value == b"null":
        return None
    try:
        number = float(value)
    except ValueError:
        return None
    return number if 0 <= number < _MAX_SECONDS else None
