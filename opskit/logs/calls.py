"""Requests and their calls of models, out of tagged lines, of any writer (SPEC A1).

A call begins with [LLM_CALL] and ends with [LLM_RESPONSE], [LLM_ERROR], [LLM_CRASH] or [LLM_PARSE] of the
same request that does not contradict its node and model: the latest such call. Ours end a request with
[REQUEST_END]. Other writers do not: their request is answered when its last open call is, and has failed when
its last open call has failed and nothing followed. Pure: lines in, calls out.
"""

import re
from collections.abc import Mapping
from typing import Any, Literal

from opskit.logs.record import Facts
from opskit.records import Record, replace

Outcome = Literal["ok", "fault", "rejected", "unfinished"]
State = Literal["running", "answered", "failed", "interrupted"]

_STATES: dict[str, State] = {"answered": "answered", "failed": "failed", "interrupted": "interrupted"}
#: The tags that tell of a request.
TAGS = ("REQUEST", "REQUEST_END", "LLM_CALL", "LLM_RESPONSE", "LLM_ERROR", "LLM_CRASH", "LLM_PARSE")
#: "model runner has unexpectedly stopped" is what Ollama says of any model.
_MODEL = re.compile(r"\bmodel:?\s+(?!runner\b)([\w./:@-]*\w)", re.IGNORECASE)
_FALLS_BACK = re.compile(r"(?:retry|fallback)[\w/ ]*:\s*true", re.IGNORECASE)
_SUCCEEDS = re.compile("success|✅", re.IGNORECASE)
_TOOK = re.compile(r"\b(\d{1,9}(?:\.\d{1,9})?) ?(ms|s|sec|seconds)\b")
_STATUS = re.compile(r"\b(?:HTTP|status)\D{0,8}([1-5]\d\d)\b", re.IGNORECASE)
#: SPEC A2.
_CRASHED = re.compile(
    r"unexpectedly stopped|out of memory|connection (?:was )?reset|reset by peer", re.IGNORECASE
)
#: Longer than any duration, and more than any count, that a log means.
_LARGEST = 1e8
_TEXT_CHARS = 120
#: What the line that began a call says of it, and the line that ends it need not say.
_SAID_FIRST = ("number", "node", "model", "began", "fallback", "num_ctx", "url")


class ModelCall(Record):
    """One call of a model. Names are None when the log does not say them; `fault` is also a verdict.

    `seconds` are what the log says, else the time between its two lines. `crash`: the model's process died
    (SPEC A2). `url` is the address of the node, `detail` the server's words, `num_ctx` what a client insisted
    on.
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
    detail: str = ""
    crash: bool = False

    @property
    def failed(self) -> bool:
        return self.outcome in ("fault", "rejected")


def call_event(said: Facts) -> ModelCall | None:
    """What a tagged line says of a call, that it began (unfinished) or how it ended, without a number.

    None for a line that only describes it, and for any other tag.

    Ours name everything as key=value. Others write prose (`[LLM_CALL] Model: qwq:32b`), several lines for one
    call: a call counts by its model, an answer by its success, and `[LLM_PARSE]` traces how it was read.
    """
    fields, call = said.fields, ModelCall(0, *_place(said), None)
    if said.tag == "LLM_CALL":
        return replace(
            call,
            fallback=fields.get("fallback") is True or _FALLS_BACK.search(said.message) is not None,
            # opskit asks a loaded model with the context that it has, and chooses one for a load of its own.
            num_ctx=None if "resident" in fields else _count(fields, "num_ctx"),
            url=text_of(fields, "url") or None,
        )
    seconds = number_of(fields.get("seconds"))
    if said.tag == "LLM_RESPONSE":
        prose = not fields.keys() - {"correlation_id"}
        if prose and not _SUCCEEDS.search(said.message):
            return None
        if prose and (took := _TOOK.search(said.message)) is not None:
            seconds = float(took[1]) / (1000 if took[2] == "ms" else 1)
        return replace(
            call,
            outcome="ok",
            seconds=seconds,
            first_token_s=number_of(fields.get("first_token_s")),
            tokens=_count(fields, "tokens", least=0),
            prompt_tokens=_count(fields, "prompt_eval_count", "prompt_tokens"),
        )
    if said.tag == "LLM_PARSE" and (verdict := text_of(fields, "verdict")):
        return replace(call, outcome="rejected", seconds=seconds, fault=verdict)
    if said.tag not in ("LLM_ERROR", "LLM_CRASH"):
        return None
    fault, crash = text_of(fields, "fault"), said.tag == "LLM_CRASH"
    if not fault:
        # Ours is a crash when its tag says so: the router has judged. Of others the text is judged.
        status = _STATUS.search(said.message)
        code = text_of(fields, "status") or (status[1] if status is not None else "")
        crash = crash or code == "500" or _CRASHED.search(said.message) is not None
        fault = "crash" if crash else f"http_{code}" if code else "error"
    detail = text_of(fields, "detail")
    return replace(call, outcome="fault", seconds=seconds, fault=fault, crash=crash, detail=detail)


class RequestCalls:
    """What the lines of one request have said so far. `state` is what they say, not what their silence says.

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
        event = call_event(said)
        if said.tag == "REQUEST":
            self.goal = text_of(said.fields, "goal")
        elif said.tag == "REQUEST_END":
            self._end(said)
        if event is None:
            return None
        call = self._begun(event, at) if event.outcome == "unfinished" else self._ended(event, at)
        self.last = call or self.last
        return call

    def _begun(self, event: ModelCall, at: float | None) -> ModelCall | None:
        if event.node is None and event.model is None:
            return None  # another line about the same call, as other writers have them
        self.count += 1
        self.state, self.failed_at = "running", None
        call = self._open[self.count] = replace(event, number=self.count, began=at)
        return call

    def _ended(self, event: ModelCall, at: float | None) -> ModelCall | None:
        call = self._ended_by(event)
        if call is None:
            return None
        seconds = event.seconds
        if seconds is None and at is not None and call.began is not None and at >= call.began:
            seconds = round(at - call.began, 3)
        said_first = {name: getattr(call, name) for name in _SAID_FIRST}
        ended = replace(event, **said_first, ended=at, seconds=seconds)
        self._open.pop(call.number, None)
        if ended.failed:
            self.failed_at = at
        else:
            self.failed_at = None
            self.state = "running" if self._open else "answered"
        return ended

    def _ended_by(self, event: ModelCall) -> ModelCall | None:
        """The latest open call that a line does not contradict, else one whose beginning was not seen."""
        for call in reversed(self._open.values()):
            if event.node in (None, call.node) and event.model in (None, call.model):
                return call
        if event.model is None:
            return None  # about a node, not about a call
        self.count += 1
        return ModelCall(self.count, event.node, event.model, None)

    def _end(self, said: Facts) -> None:
        self.state = _STATES.get(text_of(said.fields, "outcome"), self.state)
        self.code = text_of(said.fields, "code") or None
        self._open.clear()


def text_of(fields: Mapping[str, Any], *names: str) -> str:
    """The first of these fields that says something, short enough to show."""
    for name in names:
        value = fields.get(name)
        if value:
            return value[:_TEXT_CHARS] if isinstance(value, str) else str(value)[:_TEXT_CHARS]
    return ""


def _place(said: Facts) -> tuple[str | None, str | None]:
    node, model = text_of(said.fields, "node", "source") or None, text_of(said.fields, "model") or None
    if node is None and model is None and (name := _MODEL.search(said.message)) is not None:
        model = name[1]
    return node, model


def number_of(value: object) -> float | None:
    """A number of seconds or of things that can be meant; a word in the place of one says nothing."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < _LARGEST:
        return None
    return float(value)


def _count(fields: Mapping[str, Any], *names: str, least: int = 1) -> int | None:
    value = next((fields[name] for name in names if fields.get(name) is not None), None)
    number = number_of(value)
    return None if number is None or number < least else int(number)
