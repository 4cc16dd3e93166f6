"""What went wrong with a call, and what to do about it: pure classification of `CallError`.

Status and type come before text. The patterns of texts stand in `fault_texts.toml`, the recorded examples
in `tests/unit/llm/test_faults.py`.

SPEC A2 calls HTTP 500 a crash. Ollama and llama.cpp answer 500 for a broken file, a template, an option
and one unparsable answer as well (wire facts A8), so a 500 is a crash only when its text speaks of one, or
when it has no text. A 500 with a text that is not known is SERVER_ERROR: the next candidate is asked (SPEC
A3) and the model's circuit counts it, but the model stays in the session.
"""

import re
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any, Self

from opskit.providers.base import DEFAULT_MODEL, CallCause, CallError, without_reason
from opskit.providers.failures import PEOPLE, SIGN_IN, proxy_name
from opskit.providers.kinds import ServerKind
from opskit.records import Record


class Scope(StrEnum):
    """What a fault speaks of: the whole node, one model on it, or just this request."""

    NODE = "node"
    MODEL = "model"
    REQUEST = "request"


class Action(Record):
    """What the router does after a fault.

    `scope`: what is avoided next. `at_once`: its circuit opens on the first such fault, not after several.
    `session`: the model joins the failed set of the session (SPEC A3). `overload`: the node goes to the back
    for a while (SPEC B10). `wait`: worth another try on the same model when nothing else is left.
    """

    scope: Scope = Scope.MODEL
    at_once: bool = False
    session: bool = False
    overload: bool = False
    wait: bool = False
    counts: bool = True


_NEXT_MODEL = Action()


class FaultKind(StrEnum):
    """What went wrong, each with its action; where none is given the next candidate is asked."""

    action: Action

    def __new__(cls, value: str, action: Action = _NEXT_MODEL) -> Self:
        kind = str.__new__(cls, value)
        kind._value_, kind.action = value, action
        return kind

    REFUSED = "refused", Action(Scope.NODE, at_once=True)
    UNREACHABLE = "unreachable", Action(Scope.NODE, at_once=True)
    CONNECT_TIMEOUT = "connect_timeout", Action(Scope.NODE, at_once=True)
    RESET = "reset", Action(session=True)
    EMPTY_REPLY = "empty_reply"
    FIRST_TOKEN_TIMEOUT = "first_token_timeout", Action(at_once=True)
    IDLE_TIMEOUT = "idle_timeout"
    TOTAL_TIMEOUT = "total_timeout", Action(Scope.REQUEST, counts=False)
    LOAD_TIMEOUT = "load_timeout", Action(at_once=True)
    WEDGED = "wedged", Action(at_once=True)
    RUNNER_CRASHED = "runner_crashed", Action(session=True)
    OUT_OF_MEMORY = "out_of_memory", Action(at_once=True, session=True)
    BROKEN_MODEL_FILE = "broken_model_file", Action(at_once=True, session=True)
    BROKEN_TEMPLATE = "broken_template", Action(at_once=True, session=True)
    UNKNOWN_ARCHITECTURE = "unknown_architecture", Action(at_once=True, session=True)
    LOADING = "loading", Action(wait=True, counts=False)
    BUSY = "busy", Action(overload=True, wait=True)
    RATE_LIMITED = "rate_limited", Action(Scope.NODE, overload=True, wait=True)
    NOT_INSTALLED = "not_installed", Action(at_once=True, session=True)
    NOT_LOADED = "not_loaded"
    NOT_LISTED = "not_listed", Action(session=True, counts=False)
    UNAUTHORISED = "unauthorised", Action(Scope.NODE, at_once=True)
    NO_CREDIT = "no_credit", Action(Scope.NODE, at_once=True)
    BAD_REQUEST = "bad_request", Action(Scope.REQUEST, counts=False)
    CONTEXT_EXCEEDED = "context_exceeded", Action(Scope.REQUEST, counts=False)
    UNPARSABLE_ANSWER = "unparsable_answer", Action(Scope.REQUEST, wait=True, counts=False)
    UNSUPPORTED = "unsupported", Action(at_once=True, session=True)
    BAD_PAYLOAD = "bad_payload"
    TRUNCATED = "truncated"
    SERVER_ERROR = "server_error"


#: SPEC A2 names these as crashes.
CRASHES = frozenset({FaultKind.RUNNER_CRASHED, FaultKind.OUT_OF_MEMORY, FaultKind.RESET})
#: Permanent faults of one model: the server is well, and restarting it does not help.
OF_ONE_MODEL = frozenset({
    FaultKind.BROKEN_MODEL_FILE, FaultKind.BROKEN_TEMPLATE, FaultKind.UNKNOWN_ARCHITECTURE,
})  # fmt: skip
#: Faults of one request or one answer: the server and the model are well.
OF_ONE_REQUEST = frozenset({
    FaultKind.BAD_REQUEST, FaultKind.CONTEXT_EXCEEDED, FaultKind.UNPARSABLE_ANSWER,
})  # fmt: skip
#: Faults after which no restart helps: the server answers as it should.
SERVER_IS_WELL = OF_ONE_MODEL | OF_ONE_REQUEST | {
    FaultKind.UNSUPPORTED, FaultKind.NO_CREDIT, FaultKind.NOT_LOADED,
}  # fmt: skip


_PASSING = frozenset({FaultKind.BUSY, FaultKind.RATE_LIMITED, FaultKind.LOADING})


class Fault(Record):
    """One classified failure of one call.

    `detail` is one line for a person, `remedy` what helps against this very failure, where that is known;
    `remedy_name` is that of its text (`fault_remedy`), where the reply tells more than the kind.
    `whole_node`: it holds up all models of the node. `counts` False: a queue was too long, nothing failed.
    """

    kind: FaultKind
    detail: str
    status: int | None = None
    retry_after_s: float | None = None
    remedy: str | None = None
    remedy_name: str = ""
    whole_node: bool = False
    counts: bool = True

    @property
    def action(self) -> Action:
        return self.kind.action

    @property
    def passes(self) -> bool:
        """Whether it ends by itself: the same model may be asked again, as soon as the queue is shorter."""
        return self.kind in _PASSING

    @property
    def is_crash(self) -> bool:
        return self.kind in CRASHES


#: What a server names outright, whatever the sentence: `error.type`, or `error.code` where it is a word.
_BY_TYPE = {
    "exceed_context_size_error": FaultKind.CONTEXT_EXCEEDED,
    "context_length_exceeded": FaultKind.CONTEXT_EXCEEDED,
    "context_window_exceeded": FaultKind.CONTEXT_EXCEEDED,
    "insufficient_quota": FaultKind.NO_CREDIT,
    "blob_missing": FaultKind.BROKEN_MODEL_FILE,
    "not_supported_error": FaultKind.UNSUPPORTED,
    "tool_use_failed": FaultKind.UNPARSABLE_ANSWER,
    "output_parse_failed": FaultKind.UNPARSABLE_ANSWER,
}
#: Types that leave open what exactly is wrong: the text is asked first.
_BY_GENERAL_TYPE = {
    "authentication_error": FaultKind.UNAUTHORISED,
    "permission_error": FaultKind.UNAUTHORISED,
    "invalid_api_key": FaultKind.UNAUTHORISED,
    "rate_limit_error": FaultKind.RATE_LIMITED,
    "rate_limit_exceeded": FaultKind.RATE_LIMITED,
    "overloaded_error": FaultKind.BUSY,
    "model_not_found": FaultKind.NOT_INSTALLED,
    "invalid_request_error": FaultKind.BAD_REQUEST,
}
#: A status that says everything.
_BY_STATUS = {
    401: FaultKind.UNAUTHORISED,
    402: FaultKind.NO_CREDIT,
    403: FaultKind.UNAUTHORISED,
    408: FaultKind.FIRST_TOKEN_TIMEOUT,
    429: FaultKind.RATE_LIMITED,
    504: FaultKind.FIRST_TOKEN_TIMEOUT,
}
#: Texts in the order in which they are searched: first what quotes the model's own words, which may be any,
#: then the cause before the crash that it led to.
_BY_TEXT = (
    FaultKind.UNPARSABLE_ANSWER,
    FaultKind.WEDGED,
    FaultKind.OUT_OF_MEMORY,
    FaultKind.CONTEXT_EXCEEDED,
    FaultKind.UNKNOWN_ARCHITECTURE,
    FaultKind.BROKEN_MODEL_FILE,
    FaultKind.BAD_REQUEST,
    FaultKind.BROKEN_TEMPLATE,
)


@cache
def fault_texts() -> dict[str, Any]:
    """Return the texts by which servers tell a fault, under its name, and under `remedies` what to type."""
    import tomllib

    return tomllib.loads(Path(__file__).with_name("fault_texts.toml").read_text("utf-8"))


@cache
def _pattern(name: str) -> re.Pattern[str]:
    """Return the pattern of all texts that stand under a name."""
    return re.compile("|".join(fault_texts()[name]), re.IGNORECASE)


def _says(name: str, text: str) -> bool:
    return _pattern(name).search(text) is not None


def fault_in(text: str) -> FaultKind | None:
    """Return the fault that a server names in a text, whatever its status; None where it names none."""
    return next((kind for kind in _BY_TEXT if _says(kind, text)), None)


def classify(error: CallError) -> Fault:
    """The fault behind a failed call; its detail is one line that can be shown."""
    kind, detail = _kind(error), error.text
    if kind is FaultKind.OUT_OF_MEMORY and not _says(kind, detail):
        detail += " (probably out of memory: `journalctl -k -n 50` shows whether the kernel killed it)"
    name = _remedy_name(error, kind)
    return Fault(kind, detail, error.status, error.retry_after_s, remedy_name=name)


def _remedy_name(error: CallError, kind: FaultKind) -> str:
    """Return the name of the remedy where a reply tells more than the kind of its fault; else empty."""
    if error.status == 413:
        return "too_large"
    if error.error_type == SIGN_IN:
        return SIGN_IN
    if error.relayed:
        return "behind_slow" if error.status == 504 else "behind"
    wants_person = error.challenge in PEOPLE or (error.is_page and proxy_name(error.server))
    if kind is FaultKind.UNAUTHORISED and (wants_person or error.text == without_reason(403)):
        return "login"
    return next((name for name in fault_texts()["telling"] if _says(name, error.text)), "")


def _kind(error: CallError) -> FaultKind:
    match error.cause:
        case CallCause.REFUSED:
            return FaultKind.REFUSED
        case CallCause.UNREACHABLE | CallCause.NAME | CallCause.TLS | CallCause.PROXY:
            return FaultKind.UNREACHABLE
        case CallCause.TIMEOUT:
            return FaultKind.CONNECT_TIMEOUT if error.phase == "connect" else FaultKind.FIRST_TOKEN_TIMEOUT
        case CallCause.RESET:
            return FaultKind.RESET
        case CallCause.CLOSED:
            return FaultKind.TRUNCATED if error.phase == "stream" else FaultKind.EMPTY_REPLY
        case CallCause.ENDED:
            return FaultKind.TRUNCATED
        case CallCause.PAYLOAD:
            return FaultKind.BAD_PAYLOAD
        case CallCause.NOT_LISTED:
            return FaultKind.NOT_LISTED
        case CallCause.STATUS | CallCause.IN_BAND:
            return _by_status(error)


def _by_status(error: CallError) -> FaultKind:
    """Status and type first; the text decides inside a status that means several things.

    The text outranks other statuses: a crash while embedding comes as 400 (A4), in a stream under 200 (A5).
    """
    status, text, named = error.status or 200, error.text, error.error_type or ""
    by_type_or_status = _BY_TYPE.get(named) or _BY_STATUS.get(status)
    if by_type_or_status is not None:
        return by_type_or_status
    if (kind := fault_in(text)) is not None:
        return kind
    if _says(FaultKind.NOT_LOADED, text):
        return FaultKind.NOT_LOADED
    if status == 503 and (named == "model_loading" or _says(FaultKind.LOADING, text)):
        return FaultKind.LOADING
    if status == 503 or _says(FaultKind.BUSY, text):
        return FaultKind.BUSY
    if _says(FaultKind.LOAD_TIMEOUT, text):
        return FaultKind.LOAD_TIMEOUT
    if _says("killed", text):
        return FaultKind.OUT_OF_MEMORY
    if _says(FaultKind.RUNNER_CRASHED, text):
        return FaultKind.RUNNER_CRASHED
    if status == 501 or _says(FaultKind.UNSUPPORTED, text):
        return FaultKind.UNSUPPORTED
    return _by_rest(status, text, named)


def _by_rest(status: int, text: str, named: str) -> FaultKind:
    """What is left when no text is known."""
    # mlx_lm.server answers every early error with 404 (B2), LiteLLM a missing model with 400: the text tells.
    if status in (200, 400, 404) and (named == "model_not_found" or _says(FaultKind.NOT_INSTALLED, text)):
        return FaultKind.NOT_INSTALLED
    if status == 404:
        return FaultKind.SERVER_ERROR
    if named in _BY_GENERAL_TYPE:
        return _BY_GENERAL_TYPE[named]
    if status == 500 and (text == without_reason(status) or _pattern("no_reason").fullmatch(text)):
        return FaultKind.RUNNER_CRASHED
    if 400 <= status < 500 and status != 499:
        return FaultKind.BAD_REQUEST
    return FaultKind.SERVER_ERROR


def fault_remedy(name: str, *, model: str, node: str, server: ServerKind, again: str) -> str | None:
    """Return the next thing to type; None where only the state of the node tells it.

    `name` is the `remedy_name` of a fault, or its kind. `again` is the command that tries once more.
    """
    text = server.advice.get(name) or fault_texts()["remedies"].get(name)
    if text is None:
        return None
    return text.format(model="MODEL" if model == DEFAULT_MODEL else model, node=node, again=again)
