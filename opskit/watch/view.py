"""What a watch tells: its events, and all that it knows at one moment, from which the exit status follows."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol

from opskit.errors import Exit
from opskit.records import Record, asdict, field
from opskit.result import SCHEMA_VERSION
from opskit.text import utc

if TYPE_CHECKING:
    from opskit.watch.containers import ContainersView
    from opskit.watch.logs import LogsView
    from opskit.watch.machine import MachineView
    from opskit.watch.requests import Summary
    from opskit.watch.targets import TargetView

Kind = Literal["tick", "state", "request", "error", "warning", "recovered"]


class WatchEvent(Record):
    """`at` is epoch seconds; `body` is ready for JSON."""

    kind: Kind
    at: float
    body: Mapping[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        return {"schema_version": SCHEMA_VERSION, "at": utc(self.at), "event": self.kind, **self.body}


class Emit(Protocol):
    """Takes an event as it happens. `at` is epoch seconds, now where it is 0."""

    def __call__(self, kind: Kind, body: Mapping[str, Any], at: float = 0.0) -> None: ...


class View(Record, kw_only=True):
    """All at one moment: `at` in epoch seconds, `now` in monotonic ones. What was not asked for is None."""

    at: float
    now: float
    number: int
    skipped: int
    every_s: float
    logs: "LogsView"
    targets: "tuple[TargetView, ...]" = ()
    machine: "MachineView | None" = None
    requests: "Summary | None" = None
    containers: "ContainersView | None" = None
    notes: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Return the body of a tick."""
        document: dict[str, Any] = {
            "number": self.number,
            "skipped": self.skipped,
            "every_s": self.every_s,
            "status": {Exit.OK: "pass", Exit.FAILED: "fail"}.get(exit_of(self.targets), "inconclusive"),
        }
        for target in self.targets:
            document.setdefault(f"{target.kind}s", []).append(target.as_json(self.now))
        if self.machine is not None:
            document["machine"] = self.machine.as_json(self.now)
            document["warnings"] = [warning.as_json() for warning in self.machine.warnings]
        if self.requests is not None:
            document["requests"] = asdict(self.requests)
        if self.containers is not None:
            document["containers"] = self.containers.as_json()
        return {**document, "logs": self.logs.as_json()}


def exit_of(targets: "Sequence[TargetView]") -> Exit:
    """Return the exit status that the targets ask for. Pure.

    A required target that is not well fails; nothing to be seen is no answer.
    """
    if any(target.required and target.failed for target in targets):
        return Exit.FAILED
    unseen = [target for target in targets if not target.answers]
    if any(target.required for target in unseen) or (targets and len(unseen) == len(targets)):
        return Exit.INCONCLUSIVE
    return Exit.OK
