"""The recovery job of launchd or systemd: not loaded, failing, in another environment, given up. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from opskit.doctor.cause import Cause, Fix
from opskit.result import Status

CHECK = frozenset({"recovery job"})
#: Exit statuses of a recovery that did its work. 1, 3 and 5 speak of the stack, which is examined by itself.
_FINE = (0, 1, 3, 4, 5, 75)


@dataclass(frozen=True, slots=True)
class ScheduleFacts:
    """The job as its scheduler sees it. None: it does not tell.

    `trouble` is the scheduler's own account of what is wrong. `differences` are sentences on what works in
    this shell and not inside the job. `given_up` are the targets that recovery has given up.
    """

    installed: bool
    loaded: bool | None = None
    last_exit: int | None = None
    next_run: datetime | None = None
    differences: tuple[str, ...] = ()
    trouble: str = ""
    given_up: tuple[str, ...] = ()


def causes(facts: ScheduleFacts | None) -> Iterator[Cause]:
    """Nothing for a job that nobody installed, apart from what recovery has given up."""
    if facts is None:
        return
    if facts.given_up:
        yield Cause(
            "recovery-gave-up",
            "",
            f"recovery has given up on {', '.join(facts.given_up)}",
            ("its repairs did not help; one is tried each hour (`recovery.retry_s`)",),
            "`opskit status` shows when and why; mend it, and the next recovery sees that it is well",
            CHECK,
            code="RECOVER_005",
        )
    if not facts.installed:
        return
    if facts.loaded is False:
        command = ("opskit", "schedule", "install")
        yield Cause(
            "job-not-loaded",
            "",
            "the recovery job is installed and not loaded",
            (
                facts.trouble or "its file is there, and the scheduler does not know it",
                "nothing is repaired by itself",
            ),
            "`opskit schedule install` loads it again",
            CHECK,
            fix=Fix(command, safe=True, target="schedule", undo="`opskit schedule remove`"),
            code="SCHEDULE_002",
        )
    if facts.last_exit is not None and facts.last_exit not in _FINE:
        soon = f"; next run {facts.next_run:%Y-%m-%d %H:%M %Z}".rstrip() if facts.next_run else ""
        yield Cause(
            "job-failing",
            "",
            "the last run of the recovery job failed",
            (f"{facts.trouble or f'exit status {facts.last_exit}'}{soon}",),
            "`opskit schedule status` shows why and where its log is",
            CHECK,
            because=("job-environment",),
            code="SCHEDULE_002",
        )
    if facts.differences:
        yield Cause(
            "job-environment",
            "",
            "what works in this shell does not work in the scheduler's environment",
            facts.differences,
            "`opskit schedule install` writes its environment anew; `opskit schedule status` compares both",
            CHECK,
            status=Status.WARN,
            code="SCHEDULE_002",
        )
