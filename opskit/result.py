"""What every diagnostic returns: findings, gathered in a report.

A finding is one judged fact about one target. The report's exit status follows from its findings alone, so
it is the same whatever the output format.
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import Any

from opskit.errors import Exit
from opskit.records import Record, asdict, field

SCHEMA_VERSION = 1


class Status(StrEnum):
    """The judgement. `skip` was not asked; `inconclusive` was asked and cannot be answered now."""

    PASS = "pass"  # noqa: S105 - a status, not a password
    WARN = "warn"
    FAIL = "fail"
    SKIP = "skip"
    INCONCLUSIVE = "inconclusive"


def plain_document(command: str, /, **content: Any) -> dict[str, Any]:
    """Return the document of a command that judges nothing; `content` may say another `ok` or `status`."""
    head = {"schema_version": SCHEMA_VERSION, "command": command, "ok": True, "status": Status.PASS.value}
    return {**head, "findings": [], **content}


class Finding(Record):
    """One judged fact.

    `state` is the target's condition in one word (ok, slow, wedged, ...), `detail` the cause in plain words,
    `code` an entry of the error catalogue, `remedy` the exact next command, `seconds` how long it took.
    """

    check: str
    target: str
    status: Status
    state: str = ""
    detail: str = ""
    code: str | None = None
    remedy: str | None = None
    seconds: float = 0.0
    evidence: dict[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "seconds": round(self.seconds, 4)}


class Report(Record):
    """The findings of one command."""

    command: str
    findings: Sequence[Finding]

    @property
    def status(self) -> Status:
        """Worst first: a failure hides nothing, an open question is never a pass."""
        present = {finding.status for finding in self.findings}
        for status in (Status.FAIL, Status.INCONCLUSIVE, Status.WARN, Status.PASS):
            if status in present:
                return status
        return Status.INCONCLUSIVE

    @property
    def ok(self) -> bool:
        return self.status in (Status.PASS, Status.WARN)

    @property
    def exit(self) -> Exit:
        if self.status is Status.FAIL:
            return Exit.FAILED
        return Exit.INCONCLUSIVE if self.status is Status.INCONCLUSIVE else Exit.OK

    def as_json(self) -> dict[str, Any]:
        return {
            "schema_version": SCHEMA_VERSION,
            "command": self.command,
            "ok": self.ok,
            "status": self.status.value,
            "findings": [finding.as_json() for finding in self.findings],
        }
