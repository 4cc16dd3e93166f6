"""The healer: every look begins at once; then, in the order of the graph, what is broken is mended.

A step is judged when those before it have ended. Where one of them changed something, its early look is
stale and made again; where one that it requires did not end well, it is inconclusive because of that.
"""

import asyncio
import contextlib
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from opskit.recovery.outcome import Outcome, RecoveryRun, RepairResult
from opskit.recovery.repairer import Repairer
from opskit.recovery.step import Step, TargetObservation
from opskit.text import utc


@dataclass(slots=True)
class _State:
    """One step of the run: what was seen before its turn came, and what became of it."""

    step: Step
    early: "asyncio.Task[Sequence[TargetObservation]]"
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    outcomes: list[Outcome] = field(default_factory=list)

    @property
    def well(self) -> bool:
        return bool(self.outcomes) and all(one.result.good for one in self.outcomes)

    @property
    def absent(self) -> bool:
        return bool(self.outcomes) and all(one.result is RepairResult.ABSENT for one in self.outcomes)

    @property
    def changed(self) -> bool:
        return any(one.ran for one in self.outcomes)


class Reconciler:
    """One run over `steps`, whose requirements must be among them.

    `only` are the steps that may be repaired; all when empty. What they require is looked at, no more.
    """

    def __init__(self, steps: Sequence[Step], mender: Repairer, *, only: Collection[str] = ()) -> None:
        self._steps = {step.name: step for step in _needed(steps, only)}
        self._mender = mender
        self._only = frozenset(only)
        self._states: dict[str, _State] = {}

    async def run(self, *, budget_s: float) -> RecoveryRun:
        """Look, mend, look again. Ends within `budget_s`; never raises for what a step does."""
        began = time.monotonic()
        started = utc(time.time())
        self._mender.deadline = began + budget_s
        self._states = {
            name: _State(step, asyncio.create_task(self._mender.look(step, step.look_s)))
            for name, step in self._steps.items()
        }
        tasks = {name: asyncio.create_task(self._turn(state)) for name, state in self._states.items()}
        try:
            if tasks:
                await asyncio.wait(tasks.values(), timeout=budget_s)
        finally:
            left = [task for task in (*tasks.values(), *self._early()) if not task.done()]
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)
        for name, task in tasks.items():
            if task.cancelled():
                why = f"the run's budget of {budget_s:g} s was over"
                self._states[name].outcomes.append(_unjudged(self._steps[name], why))
            elif (failure := task.exception()) is not None:
                raise failure
        outcomes = [one for state in self._states.values() for one in state.outcomes]
        took = time.monotonic() - began
        return RecoveryRun(self._mender.run_id, started, took, self._mender.dry, outcomes)

    def _early(self) -> "list[asyncio.Task[Sequence[TargetObservation]]]":
        return [state.early for state in self._states.values()]

    async def _turn(self, state: _State) -> None:
        step = state.step
        try:
            before = [self._states[name] for name in (*step.requires, *step.after) if name in self._states]
            for other in before:
                await other.ended.wait()
            causes = [self._states[name] for name in step.requires if not self._states[name].well]
            if causes:
                await _dropped(state.early)
                state.outcomes.append(_blocked(step, causes))
                return
            if any(other.changed for other in before):
                await _dropped(state.early)
                seen = await self._mender.look(step, step.look_s)
            else:
                seen = await state.early
            may_repair = not self._only or step.name in self._only
            await self._treat_all(state, seen, may_repair=may_repair)
            if not state.outcomes:
                nothing = Outcome(step.name, step.name, RepairResult.ABSENT, "absent", "nothing to look at")
                state.outcomes.append(nothing)
        finally:
            state.ended.set()

    async def _treat_all(self, state: _State, seen: Sequence[TargetObservation], *, may_repair: bool) -> None:
        """Every target once. A repair makes what was seen of the others stale."""
        treated: set[str] = set()
        while waiting := [one for one in seen if one.target not in treated]:
            treated.add(waiting[0].target)
            outcome = await self._mender.treat(state.step, waiting[0], may_repair=may_repair)
            state.outcomes.append(outcome)
            if outcome.ran and len(waiting) > 1:
                seen = await self._mender.look(state.step, state.step.look_s)


def chosen(steps: Sequence[Step], names: Sequence[str]) -> list[str]:
    """The names of the steps that `names` mean: a step, or a family such as `compose`.

    Raises OpskitError RECOVER_002, with near names.
    """
    import difflib

    from opskit.errors import OpskitError

    known = [step.name for step in steps]
    families: Mapping[str, list[str]] = {
        name.partition(":")[0]: [one for one in known if one.partition(":")[0] == name.partition(":")[0]]
        for name in known
    }
    found: list[str] = []
    for name in names:
        if name in known:
            found.append(name)
        elif name in families:
            found += families[name]
        else:
            near = difflib.get_close_matches(name, [*known, *families], 1)
            hint = f"did you mean {near[0]}?" if near else f"steps: {', '.join(known)}"
            raise OpskitError("RECOVER_002", f"there is no step {name!r}; {hint}")
    return list(dict.fromkeys(found))


def _needed(steps: Sequence[Step], only: Collection[str]) -> list[Step]:
    """The steps in order: all, or those of `only` with everything that they require."""
    if not only:
        return list(steps)
    by_name = {step.name: step for step in steps}
    wanted: set[str] = set()
    waiting = list(only)
    while waiting:
        name = waiting.pop()
        if name not in wanted:
            wanted.add(name)
            waiting += by_name[name].requires
    return [step for step in steps if step.name in wanted]


def _blocked(step: Step, causes: Sequence[_State]) -> Outcome:
    names = " and ".join(state.step.name for state in causes)
    if all(state.absent for state in causes):
        return Outcome(
            step.name, step.name, RepairResult.ABSENT, "absent", f"{names} is not used on this machine"
        )
    words = "; ".join(
        f"{one.target}: {one.cause or one.state}"
        for state in causes
        for one in state.outcomes
        if not one.result.good
    )
    return _unjudged(step, f"because of {names} ({words})")


def _unjudged(step: Step, why: str) -> Outcome:
    return Outcome(step.name, step.name, RepairResult.INCONCLUSIVE, "not judged", why)


async def _dropped(task: "asyncio.Task[Sequence[TargetObservation]]") -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.wait({task})
