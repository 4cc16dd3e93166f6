"""Where a tagged line (SPEC A1) is counted, ours or that of another writer."""

import re

from opskit.logs.calls import CallEvent, call_event, number_of, text_of
from opskit.logs.record import Facts, Level
from opskit.logs.stats_calls import ANSWERED, ASKED, FAILED, UNKNOWN, CallStats
from opskit.logs.stats_counts import PREVIEW, Counts
from opskit.logs.stats_timeline import CALLS, ERRORS

# What our own router and engine write most, as far as it counts: an order of fields that need not hold.
_WHO = rb'correlation_id=((?!null )[^\s"]{1,64})'
_WHERE = rb' node=((?!null )[^\s"]{1,120}) model=((?!null )[^\s"]{1,120})'
_OURS = re.compile(
    rb"\[(?:LLM_CALL\] " + _WHO + _WHERE + rb" fallback=(true|false) "
    rb"|LLM_RESPONSE\] " + _WHO + _WHERE + rb" seconds=(\d{1,8}(?:\.\d{1,9})?)"
    rb" status=200 first_token_s=\S+ tokens=(\d{1,9}) "
    rb"|REQUEST\] " + _WHO + rb" method="
    rb"|FALLBACK\] " + _WHO + rb" from_node=((?!null )[^\s\"]{1,120}) from_model=((?!null )[^\s\"]{1,120})"
    rb" to_node=[^\s\"]+ to_model=[^\s\"]+ why=([a-z_]{1,80})$"
    rb"|REQUEST_END\] " + _WHO + rb" outcome=([a-z]{1,20}) "
    rb"|LLM_(ERROR|CRASH)\] " + _WHO + _WHERE + rb" seconds=(\d{1,8}(?:\.\d{1,9})?) fault=([a-z_]{1,80})"
    rb" status=\S+ detail=(?:\"([ !#-\[\]-~]*)\"|([!#-\[\]-~]+))$)"
)
_CALL, _RESPONSE, _REQUEST, _FALLBACK, _END = 4, 9, 10, 14, 16
_ANNOUNCES = re.compile(r"\b(?:GET|POST|PUT|PATCH|DELETE|RUN)\b")
_FROM = re.compile(r"(\S+)\s*(?:→|->|=>)\s*\S")
_MAX_NAME = 120
_MAX_ID = 64
#: Interrupted is neither answered nor failed.
_REQUEST_BITS = {b"answered": ANSWERED, b"failed": FAILED}


class Tagged:
    """Counts tagged lines, one after another, in any order."""

    def __init__(self, counts: Counts) -> None:
        self._counts = counts

    def read_ours(self, block: bytes, at: int, end: int, when: float, source: str) -> bool:
        """Count the tagged line at block[at:end] if it has exactly our form, else leave it to `read`.

        Only for speed: `read` would count the same.
        """
        found = _OURS.match(block, at, end)
        if found is None:
            return False
        group, kind = found.group, found.lastindex
        counts = self._counts
        if kind == _CALL:
            identifier, node, model, fallback = group(1, 2, 3, 4)
            place = counts.places.at(node, model)
            place.calls += 1
            place.fallback_calls += fallback == b"true"
            counts.timeline.add(when, CALLS)
            counts.tags["LLM_CALL"] += 1
            counts.requests.saw(identifier.lower(), when, 0)
        elif kind == _RESPONSE:
            identifier, node, model, took, tokens = group(5, 6, 7, 8, 9)
            place = counts.places.at(node, model)
            seconds = float(took)
            place.answered(seconds, int(tokens))
            self._slow(place, seconds)
            counts.tags["LLM_RESPONSE"] += 1
            counts.requests.saw(identifier.lower(), when, ANSWERED)
            if seconds > counts.limits.slow_entry_s:
                counts.saw_slow(seconds, when, source, block[at : min(end, at + PREVIEW)])
        elif kind == _REQUEST:
            counts.tags["REQUEST"] += 1
            counts.requests.saw(group(10).lower(), when, ASKED)
        elif kind == _FALLBACK:
            identifier, node, model, why = group(11, 12, 13, 14)
            counts.tags["FALLBACK"] += 1
            counts.places.at(node, model).fallbacks += 1
            counts.requests.saw(identifier.lower(), when, 0)
            counts.warnings.add(when, source, b"[FALLBACK] " + why)
        elif kind == _END:
            counts.tags["REQUEST_END"] += 1
            counts.requests.saw(group(15).lower(), when, _REQUEST_BITS.get(group(16), 0))
        else:
            tag, identifier, node, model, took, fault, quoted, bare = found.groups()[16:]
            place = counts.places.at(node, model)
            seconds = float(took)
            place.failed_with(fault, crash=tag == b"CRASH")
            self._slow(place, seconds)
            counts.tags["LLM_CRASH" if tag == b"CRASH" else "LLM_ERROR"] += 1
            counts.requests.saw(identifier.lower(), when, FAILED)
            if seconds > counts.limits.slow_entry_s:
                counts.saw_slow(seconds, when, source, block[at : min(end, at + PREVIEW)])
            detail = quoted if bare is None else bare
            counts.errors.add(when, source, b"[LLM_%b] %b: %b" % (tag, fault, detail[:_MAX_NAME]))
            counts.timeline.add(when, ERRORS)
        return True

    def read(self, said: Facts, text: bytes, at: float | None, source: str) -> tuple[Level | None, bytes]:
        """Count one line; its level, None where it is neither a warning nor an error, and its message.

        `text` is the line from its tag on.
        """
        counts = self._counts
        counts.tags[said.tag or ""] += 1
        event = call_event(said)
        bits = self._call(event, at) if event is not None else 0
        if said.tag == "REQUEST":
            bits = self._request(said)
        elif said.tag == "REQUEST_END":
            bits = _REQUEST_BITS.get(_bytes(text_of(said.fields, "outcome")), 0)
        elif said.tag == "FALLBACK":
            self._fallback(said)
        if said.correlation_id is not None:
            counts.requests.saw(_bytes(said.correlation_id)[:_MAX_ID].lower(), at, bits)
        # The seconds of a request are those between its lines.
        seconds = None if said.tag == "REQUEST_END" else number_of(said.fields.get("seconds"))
        if seconds is not None and seconds > counts.limits.slow_entry_s:
            counts.saw_slow(seconds, at, source, text[:PREVIEW])
        if event is not None and event.kind == "fault":
            return "error", _bytes(_failure(said, event))
        if said.level not in ("warning", "error", "critical"):
            return None, b""
        return said.level, _bytes(text_of(said.fields, "verdict", "why") or _prose(said))

    def _request(self, said: Facts) -> int:
        """Others announce a request on one line and tell its id on another."""
        requests = self._counts.requests
        announces = "method" in said.fields or _ANNOUNCES.search(said.message) is not None
        if said.correlation_id is None:
            requests.announced += announces
            return 0
        requests.named += "correlation_id" not in said.fields and not announces
        return ASKED

    def _call(self, event: CallEvent, at: float | None) -> int:
        place = self._counts.places.at(_name(event.node), _name(event.model))
        if event.kind == "begun":
            place.fallback_calls += event.fallback
            if event.node is not None or event.model is not None:
                place.calls += 1
                if at is not None:
                    self._counts.timeline.add(at, CALLS)
            return 0
        self._slow(place, event.seconds)
        if event.kind == "ok":
            place.answered(event.seconds, event.tokens)
            return ANSWERED
        place.failed_with(_bytes(event.fault or "error")[:_MAX_NAME], crash=event.crash)
        return FAILED

    def _fallback(self, said: Facts) -> None:
        node, model = text_of(said.fields, "from_node"), text_of(said.fields, "from_model")
        if not node and not model and (found := _FROM.search(said.message)) is not None:
            model = found[1]
        self._counts.places.at(_name(node), _name(model)).fallbacks += 1

    def _slow(self, place: CallStats, seconds: float | None) -> None:
        place.slow += seconds is not None and seconds > self._counts.limits.slow_generation_s


def _failure(said: Facts, event: CallEvent) -> str:
    if "fault" in said.fields:
        return f"{event.fault}: {text_of(said.fields, 'detail')}"
    return _prose(said)


def _prose(said: Facts) -> str:
    """What a line says beside its id, fields and text."""
    fields = (f"{key}={value}" for key, value in said.fields.items() if key != "correlation_id")
    return " ".join((*fields, said.message)) if said.message else " ".join(fields)


def _name(value: str | None) -> bytes:
    return _bytes(value)[:_MAX_NAME] if value else UNKNOWN


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "replace")
