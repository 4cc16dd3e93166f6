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
from opskit.records import MutableRecord, Record, replace
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
        fixing = _Fixing(target, cause, cause.fix, diagnosis)
        async with executing(target.config, target.environ, folder, source="doctor --fix") as executor:
            outcome = await fixing.run(executor, patience_s)
        diagnosis = fixing.diagnosis
        # What a person is shown: the complaint of the command, or why it was not run.
        complaint = next((ran.said for ran in outcome.ran if ran.exit != 0), "")
        detail = complaint or ("" if outcome.ran else outcome.cause)
        is_repaired = outcome.result is RepairResult.REPAIRED
        fixed.append(Fixed(cause.key, cause.fix.text, is_repaired, detail))
    return diagnosis, fixed


class _Fixing(MutableRecord):
    """One fix; `diagnosis` is the newest examination."""

    target: ExaminationTarget
    cause: Cause
    fix: Fix
    diagnosis: Diagnosis

    async def run(self, executor: Executor, patience_s: float | None) -> Outcome:
        cause, command = self.cause, self.fix.command
        if command[0] == "opskit":
            # This very one, also where it is not on PATH.
            command = (sys.executable, "-m", *command)
        repair = Repair(
            (Command(command, _COMMAND_S),),
            precondition=cause.title,
            undo=self.fix.undo,
            settle_s=patience_s,
            evidence=self._evidence,
        )
        finding = replace(self._finding(Condition.BROKEN), code=cause.error_code, repair=repair)
        return await executor.repair(finding, Outcome.of("doctor", finding), look_again=self._examine_again)

    def _finding(self, condition: Condition) -> TargetFinding:
        return TargetFinding(self.fix.target or self.cause.key, condition, self.cause.id, self.cause.title)

    async def _evidence(self) -> Mapping[str, Any]:
        return {"cause": self.cause.key, "shown": list(self.cause.evidence)}

    async def _examine_again(self, _: Repair, settle_s: float) -> TargetFinding:
        """Examine everything: at once, and until the cause is gone or the time is over."""
        until = time.monotonic() + settle_s
        while True:
            self.diagnosis = await examine(self.target)
            if self.cause.key not in _keys(self.diagnosis):
                return self._finding(Condition.HEALTHY)
            if time.monotonic() >= until:
                return self._finding(Condition.BROKEN)
            await asyncio.sleep(_AGAIN_S)


def _keys(diagnosis: Diagnosis) -> set[str]:
    return {cause.key for cause in diagnosis.causes}
