"""Faults a simulated server can show: kinds, settings, grammar, and the board of active faults."""

import math
import threading
from collections.abc import Callable, Collection, Iterable
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any, Self

from opskit.records import Record
from opskit.text import did_you_mean

_OLLAMA, _MLX, _AGENT = frozenset({"ollama"}), frozenset({"mlx"}), frozenset({"victoria", "veronica"})
_MODEL = _OLLAMA | _MLX
_ANY = _MODEL | _AGENT


class SandboxFaultKind(StrEnum):
    """Every fault by the name it has on the command line.

    `nodes` show it, `settings` are what it takes besides `times`.
    """

    _value_: str
    nodes: frozenset[str]
    settings: frozenset[str]

    def __new__(cls, name: str, nodes: frozenset[str] = _ANY, *settings: str) -> Self:
        kind = str.__new__(cls, name)
        kind._value_, kind.nodes, kind.settings = name, nodes, frozenset(settings)
        return kind

    REFUSE = "refuse", _ANY
    SILENCE = "silence", _ANY
    RESET = "reset", _ANY
    CRASH = "crash", _OLLAMA | _AGENT, "text"
    CRASH_OLD = "crash-old", _OLLAMA, "text"
    OOM = "oom", _MODEL, "text"
    KILLED = "killed", _OLLAMA, "text"
    BROKEN_FILE = "broken-file", _MODEL, "text"
    BLOB_MISSING = "blob-missing", _OLLAMA, "text"
    BROKEN_TEMPLATE = "broken-template", _MODEL, "text"
    UNKNOWN_ARCHITECTURE = "unknown-architecture", _MODEL, "text"
    BAD_OPTION = "bad-option", _MODEL, "text"
    CONTEXT_EXCEEDED = "context-exceeded", _MODEL, "text"
    UNPARSABLE = "unparsable", _MODEL, "text"
    SLOW_LOAD = "slow-load", _MODEL, "seconds"
    FAST_503 = "fast-503", _OLLAMA, "text"
    RATE_LIMITED = "rate-limited", _MODEL, "retry_after", "text"
    NOT_INSTALLED = "not-installed", _MODEL
    PS_BLOCKS = "ps-blocks", _OLLAMA
    GARBAGE = "garbage", _ANY, "text"
    GARBAGE_TAGS = "garbage-tags", _MODEL, "text"
    EMPTY = "empty", _ANY
    ECHO = "echo", _ANY
    LOOP = "loop", _MODEL, "after", "text"
    DONE_FALSE = "done-false", _OLLAMA, "after"
    LENGTH = "length", _MODEL, "after"
    CUT = "cut", _ANY, "after"
    ERROR_INBAND = "error-inband", _OLLAMA, "after", "text"
    UNAUTHORISED = "unauthorised", _ANY, "text"
    ZOMBIE = "zombie", _MLX
    NOTFOUND_ALL = "notfound-all", _MLX, "text"
    EMPTY_REPLY = "empty-reply", _MLX
    HANG_MIDSTREAM = "hang-midstream", _MODEL, "after"
    SLOW_TOKEN = "slow-token", _ANY, "seconds"
    LOADING_503 = "loading-503", _MLX, "retry_after", "text"
    CLOSE_BEFORE_DONE = "close-before-done", _OLLAMA, "seconds"


K = SandboxFaultKind
Kinds = Collection[SandboxFaultKind]

_ALL = frozenset(K)
SHOWN_BY = {
    node: frozenset(kind for kind in K if node in kind.nodes)
    for node in ("ollama", "mlx", "victoria", "veronica")
}
"""Node names of the grammar, each with the faults it can show."""

WHOLE_NODE = frozenset({K.REFUSE, K.SILENCE, K.PS_BLOCKS, K.GARBAGE_TAGS, K.ZOMBIE})
"""Faults of a process rather than of a model: they take no model name."""

_UNCOUNTED = frozenset({K.REFUSE, K.PS_BLOCKS})
_SETTINGS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "times": ("times", int),
    "seconds": ("seconds", float),
    "after": ("after_tokens", int),
    "retry_after": ("retry_after_s", float),
    "text": ("text", str),
}
"""The settings by their name in a spec: the field, and how its value is read."""


class SandboxFault(Record):
    """One fault with its settings; whatever is None has the default of the server that shows it.

    Raises ValueError for a number out of range and for a setting that this kind does not have.
    """

    kind: SandboxFaultKind
    times: int | None = None
    """How many requests meet it; None means every one."""
    seconds: float | None = None
    after_tokens: int | None = None
    retry_after_s: float | None = None
    text: str | None = None

    def __post_init__(self) -> None:
        for key, (field, _) in _SETTINGS.items():
            value = getattr(self, field)
            if value is None:
                continue
            if self.kind in _UNCOUNTED if key == "times" else key not in self.kind.settings:
                raise ValueError(f"fault {self.kind} takes no {key}")
            least = 1 if key == "times" else 0
            if key != "text" and (not math.isfinite(value) or value < least):
                raise ValueError(f"{key} of fault {self.kind} must be at least {least}, not {value}")

    def text_or(self, default: str) -> str:
        return default if self.text is None else self.text

    def seconds_or(self, default_s: float) -> float:
        return default_s if self.seconds is None else self.seconds

    def retry_after(self, default_s: float) -> str:
        return f"{default_s if self.retry_after_s is None else self.retry_after_s:g}"


@cache
def refusals(node: str) -> dict[SandboxFaultKind, tuple[int, Any]]:
    """Return what a server answers instead of touching a model: status and `error` of `refusals.toml`."""
    import tomllib

    tables = tomllib.loads(Path(__file__).with_name("refusals.toml").read_text("utf-8"))
    return {SandboxFaultKind(kind): (status, error) for kind, (status, error) in tables[node].items()}


FaultSpec = tuple[str, str | None, SandboxFault]
"""(node, model, fault)."""


def parse_fault(spec: str) -> FaultSpec:
    """Read `NODE[:MODEL]=FAULT[,key=value...]`.

    The model may hold colons but no `=`. Keys are times, seconds, after, retry_after and text; text comes
    last, because it runs to the end of the spec.

    Raises ValueError when it is not of that form, for an unknown name (near ones are suggested), and for a
    fault that the node or the model cannot show.
    """
    target, equals, setting = spec.partition("=")
    if not equals:
        raise ValueError(f"{spec!r} is not of the form NODE[:MODEL]=FAULT[,key=value...]")
    node, colon, model = target.partition(":")
    shows = SHOWN_BY.get(node)
    if shows is None:
        raise ValueError(_unknown("node", node, SHOWN_BY))
    if colon and not model:
        raise ValueError(f"{spec!r} has a colon but no model name after it")
    if model and node in _AGENT:
        raise ValueError(f"{node} is an agent, its faults take no model name")
    name, comma, settings = setting.partition(",")
    if name not in set(SandboxFaultKind):
        raise ValueError(_unknown("fault", name, shows))
    fault = SandboxFault(SandboxFaultKind(name), **_parse_settings(settings if comma else None))
    check_shown(fault, model or None, shows, node)
    return node, model or None, fault


def check_shown(fault: SandboxFault, model: str | None, shows: Kinds, node: str) -> None:
    """Raise ValueError when a node that shows only `shows` cannot show this fault on this model."""
    if fault.kind not in shows:
        raise ValueError(f"{node} cannot show the fault {fault.kind}; it shows {', '.join(sorted(shows))}")
    if model is not None and fault.kind in WHOLE_NODE:
        raise ValueError(f"the fault {fault.kind} is of the whole node {node}, it takes no model name")


def _parse_settings(settings: str | None) -> dict[str, Any]:
    values: dict[str, Any] = {}
    while settings is not None:
        key, equals, tail = settings.partition("=")
        if not equals or key not in _SETTINGS:
            raise ValueError(_unknown("fault setting", key, _SETTINGS))
        field, parse = _SETTINGS[key]
        value, comma, after = (tail, "", "") if key == "text" else tail.partition(",")
        if field in values:
            raise ValueError(f"fault setting {key} is given twice")
        try:
            values[field] = parse(value)
        except ValueError as exc:
            raise ValueError(f"fault setting {key} must be a number, not {value!r}") from exc
        settings = after if comma else None
    return values


def _unknown(what: str, name: str, known: Iterable[str]) -> str:
    return f"unknown {what} {name!r}; {did_you_mean(name, [str(known_name) for known_name in known])}"


BoardListener = Callable[[str | None, SandboxFault | None], None]


class FaultBoard:
    """The faults one server shows now; changed at any time, from any thread.

    Several may be set together, one of each kind for each model (None: the whole node). A model's own fault
    goes before one of the whole node. Names are compared without `:latest`.
    """

    def __init__(self, faults: Iterable[tuple[str | None, SandboxFault]] = ()) -> None:
        self._lock = threading.RLock()
        self._active: dict[tuple[str | None, SandboxFaultKind], tuple[SandboxFault, int | None]] = {}
        self._listeners: list[BoardListener] = []
        self._shows: Kinds | None = None
        self._owner = ""
        for model, fault in faults:
            self.set(model, fault)

    def restrict(self, shows: Kinds, owner: str) -> None:
        """Refuse from now on what `owner` cannot show. Raises ValueError when such a fault is set already."""
        with self._lock:
            for (model, _), (fault, _) in self._active.items():
                check_shown(fault, model, shows, owner)
            self._shows, self._owner = shows, owner

    def set(self, model: str | None, fault: SandboxFault) -> None:
        """Set a fault, in place of one of the same kind and model.

        Raises ValueError when the server of this board cannot show it.
        """
        with self._lock:
            if self._shows is not None:
                check_shown(fault, model, self._shows, self._owner)
            self._active[_key(model), fault.kind] = (fault, fault.times)
        self._notify(model, fault)

    def clear(self, kind: SandboxFaultKind | None = None) -> None:
        with self._lock:
            self._active = {} if kind is None else {k: v for k, v in self._active.items() if k[1] != kind}
        self._notify(None, None)

    def take(self, model: str | None, among: Kinds = _ALL) -> SandboxFault | None:
        """Meet the first fault that applies to a request for this model, and count it down.

        `model` None meets only faults of the whole node. `among` are the kinds that matter at this point of
        the request.
        """
        with self._lock:
            key = self._find(model, among)
            if key is None:
                return None
            fault, times = self._active[key]
            if times == 1:
                del self._active[key]
            elif times is not None:
                self._active[key] = (fault, times - 1)
            return fault

    def peek(self, model: str | None, among: Kinds = _ALL) -> SandboxFault | None:
        """Return what `take` would, without counting."""
        with self._lock:
            key = self._find(model, among)
            return None if key is None else self._active[key][0]

    def active(self) -> list[tuple[str | None, SandboxFault]]:
        with self._lock:
            return [(model, fault) for (model, _), (fault, _) in self._active.items()]

    def subscribe(self, listener: BoardListener) -> Callable[[], None]:
        """Call `listener(model, fault)` after each `set`, `(None, None)` after `clear`; returns the undo.

        It is called in the thread that made the change.
        """
        with self._lock:
            self._listeners.append(listener)

        def undo() -> None:
            with self._lock:
                if listener in self._listeners:
                    self._listeners.remove(listener)

        return undo

    def _notify(self, model: str | None, fault: SandboxFault | None) -> None:
        with self._lock:
            listeners = list(self._listeners)
        for listener in listeners:
            listener(model, fault)

    def _find(self, model: str | None, among: Kinds) -> tuple[str | None, SandboxFaultKind] | None:
        owners = (_key(model), None)
        keys = ((owner, kind) for owner in owners for key, kind in self._active if key == owner)
        return next((key for key in keys if key[1] in among), None)


def _key(model: str | None) -> str | None:
    return None if model is None else model.removesuffix(":latest")
