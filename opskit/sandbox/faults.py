"""Faults a simulated server can show: their settings, their grammar and the board they hang on."""

import math
import threading
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Any

from opskit.sandbox.kinds import AGENT_FAULTS, SHOWN_BY, WHOLE_NODE, SandboxFaultKind
from opskit.text import did_you_mean

__all__ = ["FaultBoard", "SandboxFault", "SandboxFaultKind", "check_shown", "format_fault", "parse_fault"]

K = SandboxFaultKind

_UNCOUNTED = frozenset({K.REFUSE, K.PS_BLOCKS})
_TAKES = {
    "seconds": frozenset({K.SLOW_LOAD, K.SLOW_TOKEN, K.CLOSE_BEFORE_DONE}),
    "after": frozenset({K.CUT, K.ERROR_INBAND, K.HANG_MIDSTREAM, K.LOOP, K.LENGTH, K.DONE_FALSE}),
    "retry_after": frozenset({K.RATE_LIMITED, K.LOADING_503}),
    "text": frozenset({
        K.CRASH, K.CRASH_OLD, K.OOM, K.FAST_503, K.RATE_LIMITED, K.GARBAGE, K.GARBAGE_TAGS, K.LOOP,
        K.ERROR_INBAND, K.UNAUTHORISED, K.NOTFOUND_ALL, K.LOADING_503, K.KILLED, K.BROKEN_FILE,
        K.BLOB_MISSING, K.BROKEN_TEMPLATE, K.UNKNOWN_ARCHITECTURE, K.BAD_OPTION, K.CONTEXT_EXCEEDED,
        K.UNPARSABLE,
    }),
    "times": frozenset(SandboxFaultKind) - _UNCOUNTED,
}  # fmt: skip
_FIELD = {
    "times": "times",
    "seconds": "seconds",
    "after": "after_tokens",
    "retry_after": "retry_after_s",
    "text": "text",
}
_PARSE: dict[str, Callable[[str], Any]] = {
    "times": int,
    "seconds": float,
    "after": int,
    "retry_after": float,
    "text": str,
}


@dataclass(frozen=True, slots=True)
class SandboxFault:
    """One fault with its settings; whatever is None has the default of the server that shows it.

    Raises:
        ValueError: a number out of range, or a setting this kind does not have.

    """

    kind: SandboxFaultKind
    times: int | None = None
    """How many requests meet it; None means every one."""
    seconds: float | None = None
    after_tokens: int | None = None
    retry_after_s: float | None = None
    text: str | None = None

    def __post_init__(self) -> None:
        """Refuse settings that would be ignored."""
        for key, field in _FIELD.items():
            value = getattr(self, field)
            if value is None:
                continue
            if self.kind not in _TAKES[key]:
                raise ValueError(f"fault {self.kind} takes no {key}")
            if isinstance(value, str):
                continue
            least = 1 if key == "times" else 0
            if not math.isfinite(value) or value < least:
                raise ValueError(f"{key} of fault {self.kind} must be at least {least}, not {value}")


def parse_fault(spec: str) -> tuple[str, str | None, SandboxFault]:
    """Read `NODE[:MODEL]=FAULT[,key=value...]` as (node, model, fault).

    The model may hold colons but no `=`. Keys are times, seconds, after, retry_after and text; text comes
    last, because it runs to the end of the spec.

    Raises:
        ValueError: not of that form, an unknown name (near ones are suggested), or a fault the node or the
            model cannot show.

    """
    target, equals, rest = spec.partition("=")
    if not equals:
        raise ValueError(f"{spec!r} is not of the form NODE[:MODEL]=FAULT[,key=value...]")
    node, colon, model = target.partition(":")
    shows = SHOWN_BY.get(node)
    if shows is None:
        raise ValueError(_unknown("node", node, SHOWN_BY))
    if colon and not model:
        raise ValueError(f"{spec!r} has a colon but no model name after it")
    if model and shows is AGENT_FAULTS:
        raise ValueError(f"{node} is an agent, its faults take no model name")
    name, comma, settings = rest.partition(",")
    if name not in set(SandboxFaultKind):
        raise ValueError(_unknown("fault", name, shows))
    fault = SandboxFault(SandboxFaultKind(name), **_parse_settings(settings if comma else None))
    check_shown(fault, model or None, shows, node)
    return node, model or None, fault


def format_fault(node: str, model: str | None, fault: SandboxFault) -> str:
    """Write the spec that `parse_fault` reads back as these three."""
    target = node if model is None else f"{node}:{model}"
    values = {key: getattr(fault, field) for key, field in _FIELD.items()}
    return ",".join([f"{target}={fault.kind}", *(f"{k}={v}" for k, v in values.items() if v is not None)])


def check_shown(
    fault: SandboxFault, model: str | None, shows: Collection[SandboxFaultKind], node: str
) -> None:
    """Raise ValueError when a node that shows only `shows` cannot show this fault on this model."""
    if fault.kind not in shows:
        raise ValueError(f"{node} cannot show the fault {fault.kind}; it shows {', '.join(sorted(shows))}")
    if model is not None and fault.kind in WHOLE_NODE:
        raise ValueError(f"the fault {fault.kind} is of the whole node {node}, it takes no model name")


def _parse_settings(settings: str | None) -> dict[str, Any]:
    found: dict[str, Any] = {}
    while settings is not None:
        key, equals, tail = settings.partition("=")
        if not equals or key not in _FIELD:
            raise ValueError(_unknown("fault setting", key, _FIELD))
        value, comma, after = (tail, "", "") if key == "text" else tail.partition(",")
        if _FIELD[key] in found:
            raise ValueError(f"fault setting {key} is given twice")
        try:
            found[_FIELD[key]] = _PARSE[key](value)
        except ValueError as exc:
            raise ValueError(f"fault setting {key} must be a number, not {value!r}") from exc
        settings = after if comma else None
    return found


def _unknown(what: str, name: str, known: Iterable[str]) -> str:
    return f"unknown {what} {name!r}; {did_you_mean(name, [str(known_name) for known_name in known])}"


Listener = Callable[[str | None, SandboxFault | None], None]


class FaultBoard:
    """The faults one server shows now; changed at any time, from any thread.

    Several may hang together, one of each kind for each model (None: the whole node). A model's own fault
    goes before one of the whole node. Names are compared without `:latest`.
    """

    def __init__(self, faults: Iterable[tuple[str | None, SandboxFault]] = ()) -> None:
        self._lock = threading.RLock()
        self._left: dict[tuple[str | None, SandboxFaultKind], tuple[SandboxFault, int | None]] = {}
        self._listeners: list[Listener] = []
        self._shows: Collection[SandboxFaultKind] | None = None
        self._owner = ""
        for model, fault in faults:
            self.set(model, fault)

    def restrict(self, shows: Collection[SandboxFaultKind], owner: str) -> None:
        """From now on refuse what `owner` cannot show.

        Raises:
            ValueError: such a fault hangs there already.

        """
        with self._lock:
            for (model, _), (fault, _) in self._left.items():
                check_shown(fault, model, shows, owner)
            self._shows, self._owner = shows, owner

    def set(self, model: str | None, fault: SandboxFault) -> None:
        """Hang up a fault, in place of one of the same kind and model.

        Raises:
            ValueError: the server of this board cannot show it.

        """
        with self._lock:
            if self._shows is not None:
                check_shown(fault, model, self._shows, self._owner)
            self._left[_key(model), fault.kind] = (fault, fault.times)
        self._tell(model, fault)

    def clear(self, kind: SandboxFaultKind | None = None) -> None:
        """Take down every fault, or every one of a kind."""
        with self._lock:
            self._left = {} if kind is None else {k: v for k, v in self._left.items() if k[1] != kind}
        self._tell(None, None)

    def take(
        self, model: str | None, among: Collection[SandboxFaultKind] | None = None
    ) -> SandboxFault | None:
        """Meet a fault: the first that applies to this model, counted down.

        Args:
            model: the model of the request; None meets only faults of the whole node.
            among: the kinds that matter at this point of the request; all when absent.

        """
        with self._lock:
            key = self._find(model, among)
            if key is None:
                return None
            fault, left = self._left[key]
            if left == 1:
                del self._left[key]
            elif left is not None:
                self._left[key] = (fault, left - 1)
            return fault

    def peek(
        self, model: str | None, among: Collection[SandboxFaultKind] | None = None
    ) -> SandboxFault | None:
        """Return what `take` would, without counting."""
        with self._lock:
            key = self._find(model, among)
            return None if key is None else self._left[key][0]

    def active(self) -> list[tuple[str | None, SandboxFault]]:
        """List what hangs there now, in the order it was hung."""
        with self._lock:
            return [(model, fault) for (model, _), (fault, _) in self._left.items()]

    def subscribe(self, listener: Listener) -> Callable[[], None]:
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

    def _tell(self, model: str | None, fault: SandboxFault | None) -> None:
        with self._lock:
            listeners = list(self._listeners)
        for listener in listeners:
            listener(model, fault)

    def _find(
        self, model: str | None, among: Collection[SandboxFaultKind] | None
    ) -> tuple[str | None, SandboxFaultKind] | None:
        for owner in dict.fromkeys((_key(model), None)):
            for key in self._left:
                if key[0] == owner and (among is None or key[1] in among):
                    return key
        return None


def _key(model: str | None) -> str | None:
    return None if model is None else model.removesuffix(":latest")
