"""One target: may it be repaired, how, did it help; with its audit line and its notices."""

import asyncio
import time
import traceback
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from opskit.config.schema import RecoveryConfig
from opskit.errors import OpskitError
from opskit.recovery import budget, pauses
from opskit.recovery.audit import Audit
from opskit.recovery.budget import Circuit, Level
from opskit.recovery.hands import Hands
from opskit.recovery.memory import Memory
from opskit.recovery.notice import Notice, Tell
from opskit.recovery.outcome import Outcome, Ran, Result
from opskit.recovery.step import Condition, Repair, Seen, Step
from opskit.system.moment import utc
from opskit.system.running import running

T = TypeVar("T")
#: Evidence and plans ask the same servers that are in trouble.
_ASIDE_S = 15.0
_POLL_FIRST_S = 0.1
_POLL_LAST_S = 2.0
#: What is still plainly broken so long after its repair will not get well while we watch.
_HOPELESS_S = 20.0
_AS_SEEN = {
    Condition.WAITING: Result.WAITING,
    Condition.LEFT: Result.LEFT,
    Condition.ABSENT: Result.ABSENT,
    Condition.UNKNOWN: Result.INCONCLUSIVE,
}


class Mender:
    """Treats one target after the other for the healer. `deadline` is when the run ends (monotonic)."""

    def __init__(
        self,
        rules: RecoveryConfig,
        folder: Path,
        memory: Memory,
        *,
        hands: Hands,
        audit: Audit | None,
        tell: Tell,
        run_id: str,
        host: str,
        clock: Callable[[], float] = time.time,
        note: Callable[[str], None] = lambda _text: None,
    ) -> None:
        """Without an `audit` this is a dry run: nothing is changed, remembered or told.

        `note` hears of each command before it is run.
        """
        self.rules = rules
        self.run_id = run_id
        self.dry = audit is None
        self.deadline = float("inf")
        self._folder = folder
        self._memory = memory
        self._hands = hands
        self._audit = audit
        self._tell = tell
        self._host = host
        self._clock = clock
        self._note = note

    async def look(self, step: Step, limit_s: float) -> Sequence[Seen]:
        """What a step sees; what hangs or fails is a target that could not be judged."""
        try:
            return await _bounded(step.look(), limit_s)
        except TimeoutError:
            return [Seen(step.name, Condition.UNKNOWN, "timeout", f"no result within {limit_s:g} s")]
        except OpskitError as error:
            return [
                Seen(
                    step.name,
                    Condition.UNKNOWN,
                    "unknown",
                    error.message,
                    remedy=error.remedy,
                    code=error.code,
                )
            ]
        except Exception as exc:  # noqa: BLE001 - the runner of steps is an edge (STYLE 6)
            trace = {"traceback": traceback.format_exception(exc)[-6:]}
            why = f"opskit itself failed in this step: {type(exc).__name__}: {exc}"
            return [Seen(step.name, Condition.UNKNOWN, "bug", why, evidence=trace, code="BUG_001")]

    async def treat(self, step: Step, seen: Seen, *, may_repair: bool) -> Outcome:
        """What becomes of one target."""
        began = time.monotonic()
        outcome = Outcome(
            step.name,
            seen.target,
            _AS_SEEN.get(seen.condition, Result.OK),
            seen.state,
            seen.cause,
            evidence=seen.evidence,
            remedy=seen.remedy,
            code=seen.code,
            minor=seen.minor,
        )
        if seen.condition is Condition.HEALTHY:
            await self._note_health(outcome)
        elif seen.condition is Condition.BROKEN:
            if not may_repair:
                why = f"{seen.cause}; not repaired, because other steps were asked for"
                outcome = replace(outcome, result=Result.INCONCLUSIVE, cause=why)
            else:
                outcome = await self._mend(step, seen, outcome)
        return replace(outcome, seconds=time.monotonic() - began)

    async def _note_health(self, outcome: Outcome) -> None:
        record = self._memory.targets.get(outcome.target)
        if self.dry or record is None:
            return
        record, level = budget.healthy(record, self._clock(), self.rules)
        self._memory.targets[outcome.target] = record
        if level is not None:
            await self._notify(level, outcome, "it has been well since, and is watched as before")

    async def _mend(self, step: Step, seen: Seen, outcome: Outcome) -> Outcome:
        if (pause := self._pause(step, seen)) is not None:
            return replace(outcome, result=Result.PAUSED, cause=_paused(pause, seen.cause))
        permit, record = budget.judge(self._memory.of(seen.target), self._clock(), self.rules)
        try:
            repair = await _bounded(step.plan(seen), _ASIDE_S)
        except TimeoutError:
            return replace(
                outcome, result=Result.INCONCLUSIVE, cause=f"{seen.cause}; no repair could be planned in time"
            )
        except OpskitError as error:
            why = f"{seen.cause}; no repair could be planned: {error.message}"
            return replace(outcome, result=Result.MANUAL, cause=why, remedy=seen.remedy or error.remedy)
        if repair is None:
            return await self._by_hand(outcome)
        outcome = replace(outcome, undo=repair.undo)
        if not self.dry:
            self._memory.targets[seen.target] = record
            for level in permit.notices:
                await self._notify(level, outcome, permit.why)
        if not permit.allowed:
            result = Result.GAVE_UP if permit.circuit is Circuit.OPEN else Result.NOT_YET
            return replace(outcome, result=result, cause=f"{seen.cause}; {permit.why}")
        if self.dry:
            return replace(outcome, result=Result.WOULD_REPAIR, planned=repair.commands)
        return await self._repair(step, seen, repair, outcome)

    async def _by_hand(self, outcome: Outcome) -> Outcome:
        """Broken, and nothing opskit may do would help: a person is told once in the escalation window."""
        now = self._clock()
        record = budget.sane(self._memory.of(outcome.target), now, self.rules)
        told = record.escalated_at
        if not self.dry:
            if told is None or now - told >= self.rules.escalate_s:
                record = replace(record, escalated_at=now)
                await self._notify(Level.ESCALATION, outcome, "opskit cannot mend this")
            self._memory.targets[outcome.target] = replace(record, healthy_since=None)
        return replace(outcome, result=Result.MANUAL)

    async def _repair(self, step: Step, seen: Seen, repair: Repair, outcome: Outcome) -> Outcome:
        try:
            found = await _bounded(step.evidence(seen), _ASIDE_S)
        except (TimeoutError, OpskitError) as exc:
            found = {"evidence": f"could not be gathered: {str(exc) or 'no answer in time'}"}
        outcome = replace(outcome, evidence={**outcome.evidence, **found})
        if (pause := self._pause(step, seen)) is not None:
            return replace(outcome, result=Result.PAUSED, cause=_paused(pause, seen.cause))
        self._memory.targets[seen.target] = budget.begun(self._memory.of(seen.target), self._clock())
        if repair.mark is not None:
            self._memory.marks[repair.mark] = self._clock()
        self._memory.save()
        self._write("repair_begins", outcome, repair, ())
        ran: list[Ran] = []
        try:
            for command in repair.commands:
                self._note(f"{seen.target} is {seen.state} ({seen.cause}): `{command.shown}`")
                ran.append(await self._hands.do(command))
                self._keep_server(seen.target, ran[-1])
                if ran[-1].exit != 0:
                    break
            settle_s = self.rules.step_s if repair.settle_s is None else repair.settle_s
            if ran and ran[-1].exit != 0:
                # What was not done is not waited for; it may be well all the same.
                settle_s = 0.0
            after = await self._settled(step, seen.target, settle_s)
        except asyncio.CancelledError:
            self._write("repair_cut_off", outcome, repair, ran)
            raise
        outcome = _after(replace(outcome, ran=tuple(ran)), seen, after)
        self._write("repair_ended", outcome, repair, ran)
        if outcome.result in (Result.REPAIRED, Result.LEFT):
            # What might be mended is; what is left is somebody's, and delays no later repair.
            await self._note_health(outcome)
        if outcome.result is Result.REPAIRED:
            await self._notify(Level.REPAIRED, outcome, "")
        self._memory.save()
        return outcome

    def _keep_server(self, target: str, done: Ran) -> None:
        """A server that was started is ours to end, however this run ends."""
        started = None if done.pid is None else running(done.pid)
        if started is not None:
            self._memory.facts[f"started:{target}"] = {"pid": started.pid, "began": started.began}
            self._memory.save()

    async def _settled(self, step: Step, target: str, settle_s: float) -> Seen | None:
        """The target once it is well, or as it was last seen; None when it is no longer there."""
        limit = min(time.monotonic() + settle_s, self.deadline)
        pause_s, broken_since = _POLL_FIRST_S, None
        while True:
            left = max(1.0, limit - time.monotonic())
            seen = next((one for one in await self.look(step, left) if one.target == target), None)
            now = time.monotonic()
            if seen is None or seen.condition in (Condition.HEALTHY, Condition.LEFT, Condition.ABSENT):
                return seen
            broken_since = None if seen.condition is not Condition.BROKEN else broken_since or now
            hopeless = broken_since is not None and now - broken_since > _HOPELESS_S
            if hopeless or now + pause_s >= limit:
                return seen
            await asyncio.sleep(pause_s)
            pause_s = min(_POLL_LAST_S, pause_s * 1.5)

    def _pause(self, step: Step, seen: Seen) -> pauses.Pause | None:
        held = pauses.read(self._folder, self._clock())
        return pauses.covering(held, seen.target, step.name, *seen.names)

    async def _notify(self, level: Level, outcome: Outcome, more: str) -> None:
        words = {
            Level.CRITICAL: f"opskit has given up on {outcome.target}",
            Level.REMINDER: f"{outcome.target} is still broken, and opskit has given up on it",
            Level.ESCALATION: f"{outcome.target} needs a person",
            Level.RECOVERED: f"{outcome.target} is well again",
            Level.REPAIRED: f"{outcome.target} was repaired",
        }
        await self._tell(
            Notice(
                level,
                outcome.target,
                words[level],
                "; ".join(part for part in (outcome.cause, more) if part),
                utc(self._clock()),
                self._host,
                self.run_id,
                outcome.remedy,
            )
        )

    def _write(self, event: str, outcome: Outcome, repair: Repair, ran: Sequence[Ran]) -> None:
        if self._audit is None:
            raise AssertionError("a dry run repairs nothing")
        self._audit.write(
            at=utc(self._clock()),
            event=event,
            run=self.run_id,
            step=outcome.step,
            target=outcome.target,
            state=outcome.state,
            cause=outcome.cause,
            precondition=repair.precondition,
            commands=[command.shown for command in repair.commands],
            ran=[one.as_json() for one in ran],
            undo=repair.undo,
            result=outcome.result.value if event == "repair_ended" else None,
            evidence=outcome.evidence if event == "repair_begins" else None,
        )


def _after(outcome: Outcome, before: Seen, after: Seen | None) -> Outcome:
    """What a repair came to."""
    last = outcome.ran[-1] if outcome.ran else None
    failed = last is not None and last.exit != 0
    if after is None or after.condition is Condition.HEALTHY:
        note = f" (although `{last.command.shown}` said: {last.said})" if failed and last else ""
        cause = f"was {before.state}: {before.cause}{note}"
        return replace(outcome, result=Result.REPAIRED, state="ok", cause=cause)
    if failed and last is not None:
        cause = f"{before.cause}; `{last.command.shown}` failed: {last.said}"
        return replace(outcome, result=Result.FAILED, state=after.state, cause=cause)
    if after.condition is Condition.BROKEN or after.condition is Condition.UNKNOWN:
        cause = f"{before.cause}; the repair did not help: {after.cause}"
        return replace(outcome, result=Result.FAILED, state=after.state, cause=cause)
    result = _AS_SEEN[after.condition]
    return replace(outcome, result=result, state=after.state, cause=f"{before.cause}; now: {after.cause}")


def _paused(pause: pauses.Pause, cause: str) -> str:
    until = "until `opskit resume`" if pause.until is None else f"until {utc(pause.until)}"
    why = f" ({pause.reason})" if pause.reason else ""
    return f"paused {until}{why}; it is broken: {cause}"


async def _bounded(work: Awaitable[T], limit_s: float) -> T:
    async with asyncio.timeout(limit_s):
        return await work
