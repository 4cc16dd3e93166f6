"""Fixing what may be fixed safely: show the command, ask, and have the executor of recovery repair it."""

import asyncio
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

from opskit.config.load import ensure_state_dir
from opskit.doctor.cause import Cause, Fix
from opskit.doctor.diagnosis import Diagnosis
from opskit.doctor.examination import examine
from opskit.doctor.target import ExaminationTarget
from opskit.records import Record, replace
from opskit.recovery.executor import Executor, executing
from opskit.recovery.outcome import Outcome, RepairResult
from opskit.recovery.step import Command, Condition, Repair, TargetFinding

#: How long a fix may run, and how often its effect is looked for.
_COMMAND_S = 60.0
_AGAIN_S = 0.5
#: Says whether a fix may be made.
Ask = Callable[[Cause], bool]


class Fixed(Record):
    """What became of one fix. `gone` tells whether the same examination no longer finds the cause."""

    key: str
    command: str
    gone: bool
    detail: str

    def as_json(self) -> dict[str, Any]:
        return {"key": self.key, "command": self.command, "fixed": self.gone, "detail": self.detail}


async def fix(
    target: ExaminationTarget, diagnosis: Diagnosis, ask: Ask, *, patience_s: float | None = None
) -> tuple[Diagnosis, list[Fixed]]:
    """Make the safe fixes that `ask` allows, one by one; the diagnosis at the end, and what was done.

    Each is a repair as `opskit recover` makes it: under its lock, never against a pause, within the budget
    of its target, audited, and everything is examined again until the cause is gone or `patience_s` are over
    (None: the `recovery.step_s` of the configuration). A cause that went away meanwhile is left alone. The
    lock is not held while a person thinks. Raises OpskitError RECOVER_001 when a recovery runs just then.
    """
    folder = ensure_state_dir(target.config.state_dir)
    fixed: list[Fixed] = []
    for cause in diagnosis.causes:
        if cause.fix is None or not cause.fix.safe or cause.key not in _keys(diagnosis) or not ask(cause):
            continue
        async with executing(target.config, target.environ, folder, source="doctor --fix") as executor:
            outcome, diagnosis = await _repaired(executor, target, cause, cause.fix, diagnosis, patience_s)
        # What a person is shown: the complaint of the command, or why it was not run.
        complaint = next((ran.said for ran in outcome.ran if ran.exit != 0), "")
        detail = complaint or ("" if outcome.ran else outcome.cause)
        is_repaired = outcome.result is RepairResult.REPAIRED
        fixed.append(Fixed(cause.key, cause.fix.text, is_repaired, detail))
    return diagnosis, fixed


async def _repaired(
    executor: Executor,
    target: ExaminationTarget,
    cause: Cause,
    fix: Fix,
    diagnosis: Diagnosis,
    patience_s: float | None,
) -> tuple[Outcome, Diagnosis]:
    """Run one fix; return what became of it, and the newest examination."""
    # This very opskit, also where it is not on PATH.
    words = (sys.executable, "-m", *fix.command) if fix.command[0] == "opskit" else fix.command

    def finding(condition: Condition) -> TargetFinding:
        return TargetFinding(fix.target or cause.key, condition, cause.id, cause.title)

    async def evidence() -> Mapping[str, Any]:
        return {"cause": cause.key, "shown": list(cause.evidence)}

    async def examine_again(_: Repair, settle_s: float) -> TargetFinding:
        """Examine everything: at once, and until the cause is gone or the time is over."""
        nonlocal diagnosis
        until = time.monotonic() + settle_s
        while True:
            diagnosis = await examine(target)
            if cause.key not in _keys(diagnosis):
                return finding(Condition.HEALTHY)
            if time.monotonic() >= until:
                return finding(Condition.BROKEN)
            await asyncio.sleep(_AGAIN_S)

    repair = Repair(
        (Command(words, _COMMAND_S),),
        precondition=cause.title,
        undo=fix.undo,
        settle_s=patience_s,
        evidence=evidence,
    )
    broken = replace(finding(Condition.BROKEN), code=cause.error_code, repair=repair)
    outcome = await executor.repair(broken, Outcome.of("doctor", broken), look_again=examine_again)
    return outcome, diagnosis


def _keys(diagnosis: Diagnosis) -> set[str]:
    return {cause.key for cause in diagnosis.causes}
