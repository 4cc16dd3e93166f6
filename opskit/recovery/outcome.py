"""What became of each target in one run, and the exit status that follows. Pure."""

from collections import Counter
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any

from opskit.errors import Exit
from opskit.records import Record, field
from opskit.recovery.step import Command, Condition, TargetFinding
from opskit.result import Finding, Report, Status


class RepairResult(StrEnum):
    """How one target ended.

    `not_yet` waits for its back-off or for another target, `gave_up` has an open circuit, `manual` is broken
    and nothing that opskit may do repairs it, `would_repair` is a dry run's word.
    """

    OK = "ok"
    REPAIRED = "repaired"
    WAITING = "waiting"
    LEFT = "left_alone"
    PAUSED = "paused"
    ABSENT = "absent"
    WOULD_REPAIR = "would_repair"
    NOT_YET = "not_yet"
    FAILED = "failed"
    MANUAL = "manual"
    GAVE_UP = "gave_up"
    INCONCLUSIVE = "inconclusive"

    @property
    def good(self) -> bool:
        """Tell whether steps that require it can go on."""
        return self in (RepairResult.OK, RepairResult.REPAIRED)

    @property
    def judged(self) -> bool:
        """Tell whether it says how the target was when the run came to it."""
        return self in _JUDGED


_JUDGED = frozenset(RepairResult) - {
    RepairResult.WAITING,
    RepairResult.LEFT,
    RepairResult.PAUSED,
    RepairResult.ABSENT,
    RepairResult.WOULD_REPAIR,
    RepairResult.INCONCLUSIVE,
}
_OF_CONDITION = {
    Condition.BLOCKED: RepairResult.NOT_YET,
    Condition.WAITING: RepairResult.WAITING,
    Condition.LEFT: RepairResult.LEFT,
    Condition.ABSENT: RepairResult.ABSENT,
    Condition.UNKNOWN: RepairResult.INCONCLUSIVE,
}
#: The step of the outcome that tells of a state folder which cannot be written.
STATE_STEP = "state"
_STATUS = {
    RepairResult.OK: Status.PASS,
    RepairResult.REPAIRED: Status.PASS,
    RepairResult.WAITING: Status.WARN,
    RepairResult.LEFT: Status.SKIP,
    RepairResult.PAUSED: Status.SKIP,
    RepairResult.ABSENT: Status.SKIP,
    RepairResult.INCONCLUSIVE: Status.INCONCLUSIVE,
}


class Ran(Record):
    """One command that was run: `exit` is negative for a signal, None when it had no start or no end.

    `pid` is that of a server that was started and left.
    """

    command: Command
    exit: int | None
    seconds: float
    said: str = ""
    pid: int | None = None

    def as_json(self) -> dict[str, Any]:
        return {
            "command": self.command.shown,
            "cwd": self.command.cwd,
            "exit": self.exit,
            "seconds": round(self.seconds, 3),
            "said": self.said,
        }


class Outcome(Record):
    """One target's part of the run. `planned` are commands of a dry run, `ran` commands that were run."""

    step: str
    target: str
    result: RepairResult
    state: str = "ok"
    cause: str = ""
    seconds: float = 0.0
    planned: tuple[Command, ...] = ()
    ran: tuple[Ran, ...] = ()
    undo: str = ""
    remedy: str | None = None
    code: str | None = None
    evidence: Mapping[str, Any] = field(default_factory=dict)
    minor: bool = False
    is_down: bool = False

    @classmethod
    def of(cls, step: str, finding: TargetFinding) -> "Outcome":
        return cls(
            step,
            finding.target,
            _OF_CONDITION.get(finding.condition, RepairResult.OK),
            finding.state,
            finding.cause,
            evidence=finding.evidence,
            remedy=finding.remedy,
            code=finding.code,
            minor=finding.minor,
            is_down=finding.is_down,
        )

    @property
    def is_left_down(self) -> bool:
        """Tell whether it is left alone although nothing of it runs."""
        return self.is_down and self.result is RepairResult.LEFT

    def as_finding(self) -> Finding:
        evidence: dict[str, Any] = {**self.evidence, "result": self.result.value}
        if self.planned:
            evidence["planned"] = [command.shown for command in self.planned]
        if self.ran:
            evidence["ran"] = [done.as_json() for done in self.ran]
        if self.undo:
            evidence["undo"] = self.undo
        status = _STATUS.get(self.result, Status.WARN if self.minor else Status.FAIL)
        if self.is_left_down:
            status = Status.FAIL
        good = status in (Status.PASS, Status.SKIP)
        return Finding(
            self.step,
            self.target,
            status,
            self.state,
            self.cause,
            None if good else self.code,
            None if status is Status.PASS else self.remedy,
            self.seconds,
            evidence,
        )


class RecoveryRun(Record):
    """One run of recovery."""

    identifier: str
    started: str
    seconds: float
    dry: bool
    outcomes: Sequence[Outcome]

    @property
    def report(self) -> Report:
        return Report("recover", [outcome.as_finding() for outcome in self.outcomes])

    @property
    def counts(self) -> dict[str, int]:
        return dict(sorted(Counter(outcome.result.value for outcome in self.outcomes).items()))

    @property
    def mutations(self) -> int:
        """Return how many commands that change something were run."""
        return sum(len(outcome.ran) for outcome in self.outcomes)

    def exit(self, *, detailed: bool = False) -> Exit:
        """78 the state folder cannot be written, 5 something was given up, 1 something is broken, 3 something
        could not be judged, else 0.

        A stack of which nothing runs counts as broken, also while it is left alone.
        What nothing of the stack depends on, the internet above all, is reported and does not count.
        With `detailed` 4 instead of 0 when something was repaired.
        """
        if any(outcome.step == STATE_STEP for outcome in self.outcomes):
            return Exit.CONFIG
        minor = {outcome.result for outcome in self.outcomes if outcome.minor}
        results = {outcome.result for outcome in self.outcomes if not outcome.minor}
        if RepairResult.GAVE_UP in results:
            return Exit.GAVE_UP
        if results & {
            RepairResult.FAILED,
            RepairResult.MANUAL,
            RepairResult.NOT_YET,
            RepairResult.WOULD_REPAIR,
        } or any(outcome.is_left_down for outcome in self.outcomes):
            return Exit.FAILED
        if RepairResult.INCONCLUSIVE in results or not results | minor:
            return Exit.INCONCLUSIVE
        return Exit.REPAIRED if detailed and RepairResult.REPAIRED in results | minor else Exit.OK

    def as_json(self, *, detailed: bool = False) -> dict[str, Any]:
        status = self.exit(detailed=detailed)
        report = self.report.as_json()
        if report["status"] == Status.INCONCLUSIVE and status is Exit.OK:
            # Everything is paused, left alone or not there: nothing was judged, and nothing is wrong.
            report["status"] = Status.SKIP.value
        return {
            **report,
            "ok": status in (Exit.OK, Exit.REPAIRED),
            "run": self.identifier,
            "started": self.started,
            "seconds": round(self.seconds, 3),
            "dry_run": self.dry,
            "counts": self.counts,
            "mutations": self.mutations,
            "exit": int(status),
        }

    def as_memory(self) -> dict[str, Any]:
        """Return what `opskit status` shows of the last run."""
        shown = ("step", "target", "result", "cause", "remedy", "minor")
        return {
            "run": self.identifier,
            "at": self.started,
            "seconds": round(self.seconds, 3),
            "exit": int(self.exit()),
            "counts": self.counts,
            "mutations": self.mutations,
            "targets": [{name: getattr(outcome, name) for name in shown} for outcome in self.outcomes],
        }
