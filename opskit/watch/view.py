"""What a watch knows at one moment: what a screen draws, a tick tells and an exit status follows from."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from opskit.errors import Exit
from opskit.system.host import Gauges, MemoryUser
from opskit.watch import machine
from opskit.watch.complaints import Complaint
from opskit.watch.machine import ThresholdEvent
from opskit.watch.requests import Summary
from opskit.watch.targets import TargetView
from opskit.watch.watched_container import WatchedContainer


@dataclass(frozen=True, slots=True)
class Warned:
    """A value over its limit, who uses the memory, and what to type."""

    crossing: ThresholdEvent
    users: tuple[MemoryUser, ...]
    remedy: str

    def as_json(self) -> dict[str, Any]:
        return {
            "target": self.crossing.target,
            "value_percent": self.crossing.value,
            "limit_percent": self.crossing.limit,
            "largest": [
                {"pid": user.pid, "name": user.name, "rss_bytes": user.rss_bytes} for user in self.users
            ],
            "remedy": self.remedy,
        }


@dataclass(frozen=True, slots=True)
class View:
    """`at` is epoch seconds, `now` monotonic ones of the same moment. A part that was not asked for is None.

    `complaints` are the newest first; `gauges_age_s` tells how old `gauges` are; `docker` is None where
    nobody asked it yet.
    """

    at: float
    now: float
    number: int
    skipped: int
    every_s: float
    targets: tuple[TargetView, ...] = ()
    gauges: Gauges | None = None
    gauges_age_s: float | None = None
    warned: tuple[Warned, ...] = ()
    requests: Summary | None = None
    containers: tuple[WatchedContainer, ...] | None = None
    docker: bool | None = None
    complaints: tuple[Complaint, ...] = ()
    errors: int = 0
    not_shown: int = 0
    lines: int = 0
    left_out: int = 0
    notes: tuple[str, ...] = ()
    sources: tuple[str, ...] = field(default=())

    @property
    def exit(self) -> Exit:
        """The last state: a required target that is not well fails; nothing to be seen is no answer."""
        return exit_of(self.targets)

    def as_json(self) -> dict[str, Any]:
        """The body of a tick."""
        document: dict[str, Any] = {
            "number": self.number,
            "skipped": self.skipped,
            "every_s": self.every_s,
            "status": {Exit.OK: "pass", Exit.FAILED: "fail"}.get(self.exit, "inconclusive"),
        }
        for kind in ("node", "agent"):
            found = [sight.as_json(self.now) for sight in self.targets if sight.kind == kind]
            if found:
                document[f"{kind}s"] = found
        if self.gauges is not None:
            age = self.gauges_age_s
            document["machine"] = {
                **machine.as_json(self.gauges),
                "age_s": None if age is None else round(age, 2),
            }
            document["warnings"] = [one.as_json() for one in self.warned]
        if self.requests is not None:
            document["requests"] = self.requests.as_json()
        if self.containers is not None:
            document["containers"] = {
                "docker": self.docker,
                "known": [one.as_json() for one in self.containers],
            }
        document["logs"] = {
            "sources": list(self.sources),
            "lines": self.lines,
            "left_out": self.left_out,
            "errors": self.errors,
            "errors_not_shown": self.not_shown,
        }
        return document


def exit_of(targets: Sequence[TargetView]) -> Exit:
    """The exit status that the targets ask for."""
    if any(sight.required and sight.failed for sight in targets):
        return Exit.FAILED
    if any(sight.required and not sight.answers for sight in targets):
        return Exit.INCONCLUSIVE
    if targets and not any(sight.answers for sight in targets):
        return Exit.INCONCLUSIVE
    return Exit.OK
