"""One run of recovery over its steps: look, repair what is broken, look again.

Every look begins at once; a step is judged when the steps before it have ended. Where one of them changed
something, its early look is stale and made again; where one that it requires did not end well, it is
inconclusive because of that.
"""

import asyncio
import time
from collections.abc import Collection, Sequence
from functools import partial

from opskit.checks.attempt import Failure, attempt, in_order
from opskit.errors import OpskitError
from opskit.records import MutableRecord, field, replace
from opskit.recovery.executor import Executor
from opskit.recovery.outcome import Outcome, RecoveryRun, RepairResult
from opskit.recovery.step import Condition, Repair, Step, TargetFinding
from opskit.text import near_names, utc

_POLL_FIRST_S = 0.1
_POLL_LAST_S = 2.0
#: What is still plainly broken so long after its repair will not get well while we watch.
_HOPELESS_S = 20.0


class _Turn(MutableRecord):
    """One step of the run: its early look, and what became of its targets."""

    step: Step
    early: "asyncio.Task[Sequence[TargetFinding]]"
    outcomes: list[Outcome] = field(default_factory=list)
    has_ended: bool = False

    @property
    def is_well(self) -> bool:
        return bool(self.outcomes) and all(outcome.result.good for outcome in self.outcomes)

    @property
    def is_absent(self) -> bool:
        return all(outcome.result is RepairResult.ABSENT for outcome in self.outcomes)


class Reconciler:
    """One run over `steps`, whose requirements must be among them.

    `only` are the steps that may be repaired; all when empty. What they require is looked at, no more.
    """

    def __init__(self, steps: Sequence[Step], executor: Executor, *, only: Collection[str] = ()) -> None:
        requires = {step.name: step.requires for step in steps}
        wanted = list(only or requires)
        for name in wanted:
            wanted += [other for other in requires[name] if other not in wanted]
        self._steps = [step for step in steps if step.name in wanted]
        self._executor = executor
        self._only = frozenset(only)
        self._turns: dict[str, _Turn] = {}
        self._deadline = float("inf")
        self._budget_s = float("inf")

    async def run(self, *, budget_s: float) -> RecoveryRun:
        """Look, repair, look again. Ends within `budget_s`; never raises for what a step does."""
        began, started = time.monotonic(), utc(time.time())
        self._deadline, self._budget_s = began + budget_s, budget_s
        self._turns = {
            step.name: _Turn(step, asyncio.create_task(_look(step, step.look_s))) for step in self._steps
        }
        before = {step.name: (*step.requires, *step.after) for step in self._steps}
        try:
            await in_order(before, self._take_turn, max_concurrent=len(before), limit_s=budget_s)
        finally:
            early = [turn.early for turn in self._turns.values()]
            for reading in early:
                reading.cancel()
            await asyncio.gather(*early, return_exceptions=True)
        for turn in self._turns.values():
            if not turn.has_ended:
                turn.outcomes.append(_unjudged(turn.step, self._over))
        outcomes = [outcome for turn in self._turns.values() for outcome in turn.outcomes]
        took_s = time.monotonic() - began
        return RecoveryRun(self._executor.run_id, started, took_s, self._executor.dry, outcomes)

    @property
    def _over(self) -> str:
        return f"the run's budget of {self._budget_s:g} s was over"

    async def _take_turn(self, name: str) -> None:
        turn = self._turns[name]
        step = turn.step
        required = [self._turns[other] for other in step.requires]
        before = [*required, *(self._turns[other] for other in step.after if other in self._turns)]
        if causes := [other for other in required if not other.is_well]:
            turn.early.cancel()
            turn.outcomes.append(_blocked(step, causes))
        else:
            if any(outcome.ran for other in before for outcome in other.outcomes):
                turn.early.cancel()
                findings = await _look(step, step.look_s)
            else:
                findings = await turn.early
            await self._treat_all(turn, findings)
        turn.has_ended = True

    async def _treat_all(self, turn: _Turn, findings: Sequence[TargetFinding]) -> None:
        """Treat every target once. A repair makes what was seen of the others stale."""
        treated: set[str] = set()
        while waiting := [finding for finding in findings if finding.target not in treated]:
            treated.add(waiting[0].target)
            try:
                outcome = await self._treat(turn.step, waiting[0])
                turn.outcomes.append(outcome)
                if outcome.ran:
                    seen = {finding.target for finding in findings}
                    fresh = await _look(turn.step, turn.step.look_s)
                    # What appears after a repair that did not help comes of it, and is the next run's.
                    findings = [
                        finding
                        for finding in fresh
                        if finding.target in seen or outcome.result is RepairResult.REPAIRED
                    ]
            except asyncio.CancelledError:
                has_ended = any(outcome.target == waiting[0].target for outcome in turn.outcomes)
                turn.outcomes += [self._cut_off(turn.step, finding) for finding in waiting[has_ended:]]
                turn.has_ended = True
                raise
        if not turn.outcomes:
            name = turn.step.name
            turn.outcomes.append(Outcome(name, name, RepairResult.ABSENT, "absent", "nothing to look at"))

    def _cut_off(self, step: Step, finding: TargetFinding) -> Outcome:
        """Return the outcome of a target that the end of the run came before, with the commands it got."""
        outcome = Outcome.of(step.name, finding)
        ran = self._executor.cut_off.get(finding.target, ())
        if finding.condition is not Condition.BROKEN:
            return outcome
        sent = " and ".join(f"`{done.command.shown}`" for done in ran)
        why = f"{self._over} before {f'the effect of {sent} was seen' if sent else 'it was repaired'}"
        return replace(outcome, result=RepairResult.INCONCLUSIVE, cause=f"{finding.cause}; {why}", ran=ran)

    async def _treat(self, step: Step, finding: TargetFinding) -> Outcome:
        """Judge one target and repair it where it is broken: the repair hook of the run."""
        began = time.monotonic()
        outcome = Outcome.of(step.name, finding)
        if finding.is_down and self._executor.pause_of(finding.target, step.name, *finding.names) is not None:
            outcome = replace(outcome, is_down=False)
        await self._executor.note_parts(outcome, finding)
        if finding.condition is Condition.HEALTHY:
            await self._executor.note_health(outcome)
        elif finding.condition is Condition.BROKEN:
            if self._only and step.name not in self._only:
                why = f"{finding.cause}; not repaired, because other steps were asked for"
                outcome = replace(outcome, result=RepairResult.INCONCLUSIVE, cause=why)
            else:
                outcome = await self._executor.repair(
                    finding,
                    outcome,
                    look_again=partial(self._settled, step, finding.target),
                )
        return replace(outcome, seconds=time.monotonic() - began)

    async def _settled(
        self, step: Step, target: str, repair: Repair, settle_s: float
    ) -> TargetFinding | None:
        """Return the target once what was repaired is well, or as it was last seen; None when it is gone.

        It is well when all parts that the repair counts are, and stay so for its `steady_s`.
        """
        limit = min(time.monotonic() + settle_s, self._deadline)
        pause_s, broken_since, well_since = _POLL_FIRST_S, None, None
        while True:
            findings = await _look(step, min(step.look_s, max(1.0, self._deadline - time.monotonic())))
            # A look that failed tells nothing of any target, and is itself the finding of its step.
            unseen = findings[0] if [seen.condition for seen in findings] == [Condition.UNKNOWN] else None
            finding = _of_target(findings, target) or unseen
            now = time.monotonic()
            if finding is None:
                return None
            condition = finding.worst_of(repair.counted).condition
            if condition in (Condition.HEALTHY, Condition.LEFT, Condition.ABSENT):
                well_since = well_since or now
                steady_s = min(repair.steady_s, settle_s) - (now - well_since)
                if condition is not Condition.HEALTHY or steady_s <= 0:
                    return finding
                await asyncio.sleep(steady_s)
                continue
            well_since = None
            broken_since = None if condition is not Condition.BROKEN else broken_since or now
            hopeless = broken_since is not None and now - broken_since > _HOPELESS_S
            if hopeless or now + pause_s >= limit:
                return finding
            await asyncio.sleep(pause_s)
            pause_s = min(_POLL_LAST_S, pause_s * 1.5)


def _of_target(findings: Sequence[TargetFinding], target: str) -> TargetFinding | None:
    """Return the finding of a target, which may be a part of another one."""
    parts = (part for finding in findings for part in finding.parts)
    return next((finding for finding in (*findings, *parts) if finding.target == target), None)


async def _look(step: Step, limit_s: float) -> Sequence[TargetFinding]:
    """Return what a step finds; what hangs or fails is a target that could not be judged."""
    result = await attempt(step.look(), limit_s)
    if not isinstance(result, Failure):
        return result
    unjudged = TargetFinding(step.name, Condition.UNKNOWN, "unknown")
    if result.is_late:
        return [replace(unjudged, state="timeout", cause=f"no result within {limit_s:g} s")]
    error = result.error
    if result.is_bug:
        why, trace = f"opskit itself failed in this step: {error.message}", {"traceback": result.trace(12)}
        return [replace(unjudged, state="bug", cause=why, evidence=trace, code=error.code)]
    return [replace(unjudged, cause=error.message, remedy=error.remedy, code=error.code)]


def chosen(steps: Sequence[Step], names: Sequence[str]) -> list[str]:
    """Return the names of the steps that `names` mean: a step, or a family such as `compose`.

    Raises OpskitError RECOVER_002, with near names.
    """
    known = [step.name for step in steps]
    names_found: dict[str, None] = {}
    for name in names:
        meant = [name] if name in known else [other for other in known if other.partition(":")[0] == name]
        if not meant:
            families = {other.partition(":")[0] for other in known}
            near = near_names(name, [*known, *families])
            hint = f"did you mean {near[0]}?" if near else f"steps: {', '.join(known)}"
            raise OpskitError("RECOVER_002", f"there is no step {name!r}; {hint}")
        names_found |= dict.fromkeys(meant)
    return list(names_found)


def _blocked(step: Step, causes: Sequence[_Turn]) -> Outcome:
    names = " and ".join(turn.step.name for turn in causes)
    if all(turn.is_absent for turn in causes):
        why = f"{names} is not used on this machine"
        return Outcome(step.name, step.name, RepairResult.ABSENT, "absent", why)
    words = "; ".join(
        f"{outcome.target}: {outcome.cause or outcome.state}"
        for turn in causes
        for outcome in turn.outcomes
        if not outcome.result.good
    )
    return _unjudged(step, f"because of {names} ({words})")


def _unjudged(step: Step, why: str) -> Outcome:
    return Outcome(step.name, step.name, RepairResult.INCONCLUSIVE, "not judged", why)
