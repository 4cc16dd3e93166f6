"""What went wrong with a call, and what to do about it: pure classification of `CallError`.

Status and type come before text. Text is matched only where the wire gives nothing better; each pattern is
taken from the server's source as noted in wire facts A4 and B2, and the recorded examples stand in
`tests/unit/llm/test_faults.py`.
"""

import re
from dataclasses import dataclass
from enum import StrEnum

from opskit.providers.base import CallError, Cause


class FaultKind(StrEnum):
    """Each has an action of its own; see ACTIONS."""

    REFUSED = "refused"
    UNREACHABLE = "unreachable"
    CONNECT_TIMEOUT = "connect_timeout"
    RESET = "reset"
    EMPTY_REPLY = "empty_reply"
    FIRST_TOKEN_TIMEOUT = "first_token_timeout"  # noqa: S105 - a kind of fault
    IDLE_TIMEOUT = "idle_timeout"
    TOTAL_TIMEOUT = "total_timeout"
    LOAD_TIMEOUT = "load_timeout"
    WEDGED = "wedged"
    RUNNER_CRASHED = "runner_crashed"
    OUT_OF_MEMORY = "out_of_memory"
    LOADING = "loading"
    BUSY = "busy"
    RATE_LIMITED = "rate_limited"
    NOT_INSTALLED = "not_installed"
    NOT_LISTED = "not_listed"
    UNAUTHORISED = "unauthorised"
    BAD_REQUEST = "bad_request"
    UNSUPPORTED = "unsupported"
    BAD_PAYLOAD = "bad_payload"
    TRUNCATED = "truncated"
    SERVER_ERROR = "server_error"


class Scope(StrEnum):
    """What a fault speaks of: the whole node, one model on it, or just this request."""

    NODE = "node"
    MODEL = "model"
    REQUEST = "request"


@dataclass(frozen=True, slots=True)
class Action:
    """What the router does after a fault.

    `scope`: what is avoided next. `at_once`: its circuit opens on the first such fault, not after several.
    `session`: the model joins the failed set of the session (SPEC A3). `overload`: the node goes to the back
    for a while (SPEC B10). `wait`: worth another try on the same model when nothing else is left.
    """

    scope: Scope
    at_once: bool = False
    session: bool = False
    overload: bool = False
    wait: bool = False
    counts: bool = True


ACTIONS: dict[FaultKind, Action] = {
    FaultKind.REFUSED: Action(Scope.NODE, at_once=True),
    FaultKind.UNREACHABLE: Action(Scope.NODE, at_once=True),
    FaultKind.CONNECT_TIMEOUT: Action(Scope.NODE, at_once=True),
    FaultKind.UNAUTHORISED: Action(Scope.NODE, at_once=True),
    FaultKind.RESET: Action(Scope.MODEL, session=True),
    FaultKind.EMPTY_REPLY: Action(Scope.MODEL),
    FaultKind.FIRST_TOKEN_TIMEOUT: Action(Scope.MODEL, at_once=True),
    FaultKind.IDLE_TIMEOUT: Action(Scope.MODEL),
    FaultKind.TOTAL_TIMEOUT: Action(Scope.REQUEST, counts=False),
    FaultKind.LOAD_TIMEOUT: Action(Scope.MODEL, at_once=True),
    FaultKind.WEDGED: Action(Scope.MODEL, at_once=True),
    FaultKind.RUNNER_CRASHED: Action(Scope.MODEL, session=True),
    FaultKind.OUT_OF_MEMORY: Action(Scope.MODEL, at_once=True, session=True),
    FaultKind.LOADING: Action(Scope.MODEL, wait=True, counts=False),
    FaultKind.BUSY: Action(Scope.MODEL, overload=True, wait=True),
    FaultKind.RATE_LIMITED: Action(Scope.NODE, overload=True, wait=True),
    FaultKind.NOT_INSTALLED: Action(Scope.MODEL, at_once=True, session=True),
    FaultKind.NOT_LISTED: Action(Scope.MODEL, session=True, counts=False),
    FaultKind.BAD_REQUEST: Action(Scope.REQUEST, counts=False),
    FaultKind.UNSUPPORTED: Action(Scope.MODEL, at_once=True, session=True),
    FaultKind.BAD_PAYLOAD: Action(Scope.MODEL),
    FaultKind.TRUNCATED: Action(Scope.MODEL),
    FaultKind.SERVER_ERROR: Action(Scope.MODEL),
}

#: SPEC A2 names these as crashes.
CRASHES = frozenset({FaultKind.RUNNER_CRASHED, FaultKind.OUT_OF_MEMORY, FaultKind.RESET})


@dataclass(frozen=True, slots=True)
class Fault:
    """One classified failure of one call. `detail` is one line for a person."""

    kind: FaultKind
    detail: str
    status: int | None = None
    retry_after_s: float | None = None

    @property
    def action(self) -> Action:
        return ACTIONS[self.kind]

    @property
    def is_crash(self) -> bool:
        return self.kind in CRASHES


# Ollama's own vocabulary (llm/status.go), its load messages, and Metal's.
_OUT_OF_MEMORY = re.compile(
    r"out[ -]of[ -](device[ -])?memory|outofmemory|out_of_device_memory|cudaMalloc failed|hipMalloc failed"
    r"|failed to allocate|allocation failed|not enough memory|insufficient memory"
    r"|requires more system memory|model requires .{1,40} but only .{1,40} available"
    r"|unable to load full model on GPU|\[metal::malloc\]",
    re.IGNORECASE,
)
_CRASHED = re.compile(
    r"unexpectedly stopped|process has terminated|process no longer running|exited unexpectedly"
    r"|mlx runner failed|error was encountered while running the model"
    r"|\bPost \"?https?://(127\.0\.0\.1|localhost|\[::1\]):\d+/\S*: (EOF|read|write|dial)"
    r"|connection reset by peer",
    re.IGNORECASE,
)
# mlx_lm.server 0.32.2 answers every completion with 404 and this text once its worker is gone; seen by
# running it (tests/integration/test_real_mlx_wire.py). Older ones hang (wire facts B2).
_DEAD_WORKER = re.compile(r"generation thread died", re.IGNORECASE)
_LOAD_TIMEOUT = re.compile(
    r"timed out waiting for (llama|mlx)[- ]?\w* ?(runner|server)?|timeout waiting for mlx runner",
    re.IGNORECASE,
)
_LOADING = re.compile(
    r"\b(still )?loading( the)? model\b|model is (still )?loading|model_loading", re.IGNORECASE
)
_BUSY = re.compile(
    r"server busy|maximum pending requests|no slots available|overloaded|too many requests", re.IGNORECASE
)
_UNSUPPORTED = re.compile(r"does not support (chat|generate|completion)", re.IGNORECASE)
_NOT_INSTALLED = re.compile(
    r"\bmodel\b.{0,200}\bnot found\b|try pulling it first|Repository Not Found|LocalEntryNotFound"
    r"|Repo id must|is not a local folder|cannot find the requested files"
    r"|couldn't connect to .{1,80}huggingface|outgoing traffic has been disabled"
    r"|Cannot find an appropriate cached snapshot",
    re.IGNORECASE,
)


def classify(error: CallError) -> Fault:
    """The fault behind a failed call; its detail is one line that can be shown."""
    kind = _kind(error)
    return Fault(kind, error.text, error.status, error.retry_after_s)


def _kind(error: CallError) -> FaultKind:
    match error.cause:
        case Cause.REFUSED:
            return FaultKind.REFUSED
        case Cause.UNREACHABLE | Cause.NAME | Cause.TLS:
            return FaultKind.UNREACHABLE
        case Cause.TIMEOUT:
            return FaultKind.CONNECT_TIMEOUT if error.phase == "connect" else FaultKind.FIRST_TOKEN_TIMEOUT
        case Cause.RESET:
            return FaultKind.RESET
        case Cause.CLOSED:
            return FaultKind.TRUNCATED if error.phase == "stream" else FaultKind.EMPTY_REPLY
        case Cause.ENDED:
            return FaultKind.TRUNCATED
        case Cause.PAYLOAD:
            return FaultKind.BAD_PAYLOAD
        case Cause.NOT_LISTED:
            return FaultKind.NOT_LISTED
        case Cause.STATUS | Cause.IN_BAND:
            return _by_status(error)


def _by_status(error: CallError) -> FaultKind:
    """Status first; the text decides only inside a status that means several things."""
    status, text = error.status or 200, error.text
    if status in (401, 403):
        return FaultKind.UNAUTHORISED
    if status == 429:
        return FaultKind.RATE_LIMITED
    if status == 402:
        return FaultKind.UNAUTHORISED
    if status in (408, 504):
        return FaultKind.FIRST_TOKEN_TIMEOUT
    if _DEAD_WORKER.search(text):
        return FaultKind.WEDGED
    if _OUT_OF_MEMORY.search(text):
        return FaultKind.OUT_OF_MEMORY
    if status == 503 and (error.error_type == "model_loading" or _LOADING.search(text)):
        return FaultKind.LOADING
    if status == 503 or _BUSY.search(text):
        return FaultKind.BUSY
    if _LOAD_TIMEOUT.search(text):
        return FaultKind.LOAD_TIMEOUT
    # A crash while embedding comes as 400 (A4), in a stream under 200 (A5): so the text outranks the status.
    if _CRASHED.search(text):
        return FaultKind.RUNNER_CRASHED
    if status == 404:
        # mlx_lm.server answers every early error with 404 (B2): only the text tells a missing model.
        return FaultKind.NOT_INSTALLED if _NOT_INSTALLED.search(text) else FaultKind.SERVER_ERROR
    if status == 500:
        # SPEC A2: a 500 is a crash.
        return FaultKind.RUNNER_CRASHED
    if 400 <= status < 500 and status != 499:
        return FaultKind.UNSUPPORTED if _UNSUPPORTED.search(text) else FaultKind.BAD_REQUEST
    return FaultKind.SERVER_ERROR
