"""Requests and their calls of models, out of tagged lines, whoever wrote them (SPEC A1).

A call begins with [LLM_CALL] and ends with [LLM_RESPONSE], [LLM_ERROR], [LLM_CRASH] or [LLM_PARSE] of the
same request that does not contradict its node and model: the latest such call. Ours end a request with
[REQUEST_END]. Other writers do not: their request is answered when its last open call is, and has failed when
its last open call has failed and nothing followed. Pure: lines in, calls out.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from opskit.logs.record import Facts

Outcome = Literal["ok", "fault", "rejected", "unfinished"]
State = Literal["running", "answered", "failed", "interrupted"]

_OUTCOMES: dict[str, Outcome] = {
    "LLM_RESPONSE": "ok",
    "LLM_ERROR": "fault",
    "LLM_CRASH": "fault",
    "LLM_PARSE": "rejected",
}
_STATES: dict[str, State] = {"answered": "answered", "failed": "failed", "interrupted": "interrupted"}
#: The tags that tell of a request.
TAGS = ("REQUEST", "REQUEST_END", "LLM_CALL", *_OUTCOMES)
_MODEL = re.compile(r"\bmodel:?\s+([\w./:@-]*\w)", re.IGNORECASE)
#: Greater numbers of seconds or tokens say nothing.
_LARGEST = 1e12
_TEXT_CHARS = 120


@dataclass(frozen=True, slots=True)
class ModelCall:
    """One call of a model. Names are None when the log does not say them; `fault` is also a verdict.

    `seconds` are those that the log says, else those between its two lines. `url` is the address of the node.
    """

    number: int
    node: str | None
    model: str | None
    began: float | None
    outcome: Outcome = "unfinished"
    ended: float | None = None
    seconds: float | None = None
    fault: str | None = None
    fallback: bool = False
    first_token_s: float | None = None
    tokens: int | None = None
    num_ctx: int | None = None
    prompt_tokens: int | None = None
    url: str | None = None

    @property
    def failed(self) -> bool:
        return self.outcome in ("fault", "rejected")


class RequestCalls:
    """What the lines of one request have told so far. `state` is what they say, not what their silence says.

    `failed_at` is when the last open call failed, None once another one has begun.
    """

    def __init__(self) -> None:
        self.state: State = "running"
        self.goal = ""
        self.code: str | None = None
        self.count = 0
        self.failed_at: float | None = None
        self.last: ModelCall | None = None
        self._open: dict[int, ModelCall] = {}

    @property
    def open(self) -> tuple[ModelCall, ...]:
        """The calls that have not ended."""
        return tuple(self._open.values())

    @property
    def settled(self) -> State:
        """The state if nothing follows any more: failed where the last thing was a failed call."""
        return (
            "failed"
            if self.state == "running" and self.failed_at is not None and not self._open
            else self.state
        )

    def take(self, said: Facts, at: float | None) -> ModelCall | None:
        """Read one tagged line; the call that it began or ended."""
        call = None
        if said.tag == "REQUEST":
            self.goal = text_of(said.fields, "goal")
        elif said.tag == "REQUEST_END":
            self._end(said)
        elif said.tag == "LLM_CALL":
            call = self._begun(said, at)
        elif said.tag in _OUTCOMES and (said.tag != "LLM_PARSE" or "verdict" in said.fields):
            call = self._ended(said, at)
        self.last = call or self.last
        return call

    def _begun(self, said: Facts, at: float | None) -> ModelCall | None:
        node, model = _place(said)
        if node is None and model is None:
            return None  # another line about the same call, as other writers have them
        self.count += 1
        self.state, self.failed_at = "running", None
        call = ModelCall(
            self.count,
            node,
            model,
            at,
            fallback=said.fields.get("fallback") is True,
            num_ctx=_count(said.fields, "num_ctx"),
            url=text_of(said.fields, "url") or None,
        )
        self._open[call.number] = call
        return call

    def _ended(self, said: Facts, at: float | None) -> ModelCall | None:
        call = self._ended_by(said)
        if call is None:
            return None
        fields = said.fields
        seconds = _number(fields.get("seconds"))
        if seconds is None and at is not None and call.began is not None:
            seconds = round(max(0.0, at - call.began), 3)
        outcome = _OUTCOMES[said.tag or ""]
        fault = text_of(fields, "fault", "verdict") or ("" if outcome == "ok" else said.tag or "")
        tokens = _number(fields.get("tokens"))
        ended = replace(
            call,
            outcome=outcome,
            ended=at,
            seconds=seconds,
            fault=fault or None,
            first_token_s=_number(fields.get("first_token_s")),
            tokens=None if tokens is None else int(tokens),
            prompt_tokens=_count(fields, "prompt_eval_count", "prompt_tokens"),
        )
        self._open.pop(call.number, None)
        if ended.failed:
            self.failed_at = at
        else:
            self.failed_at = None
            self.state = "running" if self._open else "answered"
        return ended

    def _ended_by(self, said: Facts) -> ModelCall | None:
        """The latest open call that a line does not contradict, else one whose beginning was not seen."""
        node, model = _place(said)
        for call in reversed(self._open.values()):
            if node in (None, call.node) and model in (None, call.model):
                return call
        if model is None:
            return None  # about a node, not about a call
        self.count += 1
        return ModelCall(self.count, node, model, None)

    def _end(self, said: Facts) -> None:
        self.state = _STATES.get(text_of(said.fields, "outcome"), self.state)
        self.code = text_of(said.fields, "code") or None
        self._open.clear()


def text_of(fields: Mapping[str, Any], *names: str) -> str:
    """The first of these fields that says something, short enough to show."""
    return next((str(fields[name])[:_TEXT_CHARS] for name in names if fields.get(name)), "")


def _place(said: Facts) -> tuple[str | None, str | None]:
    node, model = text_of(said.fields, "node", "source") or None, text_of(said.fields, "model") or None
    if node is None and model is None and (found := _MODEL.search(said.message)) is not None:
        model = found[1]
    return node, model


def _number(value: object) -> float | None:
    """A number that can be meant; a word in the place of one says nothing."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < _LARGEST:
        return None
    return float(value)


def _count(fields: Mapping[str, Any], *names: str) -> int | None:
    value = next((fields[name] for name in names if fields.get(name) is not None), None)
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None
