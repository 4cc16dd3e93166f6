"""What the process behind a model says of it: pure. Two readings, a moment apart, show whether it works.

It decides what a token would only show after a long wait, and what a question would spoil. What it cannot
tell is left to the token: a runner that is idle may stand beside a scheduler that hangs.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from opskit.checks.state import WORKING_CORES, NodeState
from opskit.facts.runner import ModelRunner, NodeRunners, RunnerHealth
from opskit.providers.base import Slot


@dataclass(frozen=True, slots=True)
class RunnerAssessment:
    """The state of a model by its runner, and why; `remedy` where it is one of its own."""

    state: NodeState
    detail: str
    remedy: str | None = None


def assess_runner(
    model: str, weights: str | None, before: NodeRunners, after: NodeRunners, seconds: float
) -> RunnerAssessment | None:
    """Return what the runner of a loaded model shows; None where it shows nothing that is wrong, or nothing.

    `before` and `after` are readings that many `seconds` apart; of one reading alone, both are it.
    """
    if before.server is None:
        return None
    if not before.runners:
        why = f"the process that served {model} is gone; the next request loads it again"
        return RunnerAssessment(NodeState.IDLE, why)
    first, last = before.of(weights), after.of(weights)
    if first is None or last is None or first.process.pid != last.process.pid:
        return None
    process = last.process
    if process.is_stopped:
        why = f"{process.words}, which serves {model}, is stopped"
        return RunnerAssessment(NodeState.WEDGED, why, f"`kill -CONT {process.pid}` lets it go on")
    if last.health is RunnerHealth.LOADING:
        done = f" ({last.progress:.0%} of it)" if last.progress else ""
        return RunnerAssessment(NodeState.LOADING, f"{process.words} is loading {model}{done}")
    cores = (process.process.cpu_s - first.process.process.cpu_s) / seconds if seconds > 0 else 0.0
    if last.health is RunnerHealth.SILENT:
        if cores >= WORKING_CORES:
            why = f"{process.words}, which serves {model}, does not answer and uses {cores:.1f} cores"
            return RunnerAssessment(NodeState.BUSY, why)
        return RunnerAssessment(NodeState.WEDGED, f"{process.words}, which serves {model}, does not answer")
    if last.health is not RunnerHealth.OK or not first.slots or not last.slots:
        return None
    if not all(slot.busy for slot in (*first.slots, *last.slots)):
        return None
    return _all_busy(model, first, last, cores)


def is_idle(model_runner: ModelRunner | None) -> bool:
    """Tell whether a runner answers and works for nobody."""
    return (
        model_runner is not None
        and model_runner.health is RunnerHealth.OK
        and bool(model_runner.slots)
        and not any(slot.busy for slot in model_runner.slots or ())
    )


def assess_unserved(model: str, weights: str | None, runners: NodeRunners) -> RunnerAssessment | None:
    """Return what a question that gets no token means, by the runners: the scheduler hangs, or it queues.

    None where they do not tell.
    """
    own = runners.of(weights)
    if runners.server is None or own is None or not is_idle(own):
        return None
    others = [runner for runner in runners.runners if not is_idle(runner)]
    if others:
        words = ", ".join(runner.process.words for runner in others)
        return RunnerAssessment(NodeState.BUSY, f"{model} waits for another model: {words} works or loads")
    why = (
        f"{own.process.words}, which serves {model}, is idle while a request waits: "
        "the scheduler of the server hangs"
    )
    return RunnerAssessment(NodeState.WEDGED, why)


def assess_silent_list(runners: NodeRunners) -> RunnerAssessment | None:
    """Return why the list of loaded models is silent: a runner that is stopped or does not answer is pinged.

    None where no runner shows that; a load that is under way does.
    """
    for runner in runners.runners:
        process = runner.process
        if process.is_stopped:
            why = f"{process.words}, which serves a model, is stopped, and the server waits for it"
            return RunnerAssessment(NodeState.WEDGED, why, f"`kill -CONT {process.pid}` lets it go on")
    for runner in runners.runners:
        if runner.health is RunnerHealth.LOADING:
            return RunnerAssessment(NodeState.LOADING, f"{runner.process.words} is loading a model")
    return None


def _all_busy(model: str, first: ModelRunner, last: ModelRunner, cores: float) -> RunnerAssessment:
    before, after = first.slots or (), last.slots or ()
    count = f"all {len(after)} slots of {model} are busy" if len(after) > 1 else f"{model} is busy"
    words = last.process.words
    if before != after:
        return RunnerAssessment(NodeState.BUSY, f"{count}: {_work(after)}")
    if cores >= WORKING_CORES:
        return RunnerAssessment(NodeState.BUSY, f"{count}: {words} uses {cores:.1f} cores")
    return RunnerAssessment(
        NodeState.WEDGED, f"{count}, nothing moved between two readings, and {words} is idle"
    )


def _work(slots: Sequence[Slot]) -> str:
    reading = [slot for slot in slots if slot.busy and slot.tokens == 0]
    writing = [slot for slot in slots if slot.busy and slot.tokens > 0]
    parts = []
    if reading:
        parts.append(f"it reads a prompt ({sum(slot.prompt_tokens for slot in reading)} tokens so far)")
    if writing:
        parts.append(f"it generates ({sum(slot.tokens for slot in writing)} tokens so far)")
    return ", ".join(parts)
