"""What the process behind a model says of it: pure. Two readings, a moment apart, show whether it works.

It decides what a token would only show after a long wait, and what a question would spoil. What it cannot
tell is left to the token: a runner that is idle may stand beside a scheduler that hangs.
"""

from collections.abc import Sequence
from enum import StrEnum

from opskit.checks.state import NodeState, is_working
from opskit.facts.runner import ModelRunner, NodeRunners, RunnerHealth, RunnerProcess
from opskit.providers.base import Slot
from opskit.records import Record
from opskit.system.process import Process


class RunnerState(StrEnum):
    """What the process behind a model does. `gone`: the server lists the model, and no process serves it."""

    IDLE = "idle"
    READING = "reading the prompt"
    GENERATING = "generating"
    LOADING = "loading"
    STOPPED = "stopped"
    SILENT = "silent"
    FAILING = "failing"
    GONE = "gone"


class RunnerStatus(Record, kw_only=True):
    """What the process behind a model does just now. The tokens are of all its requests.

    `busy` and `slots` count the requests that it works on and that it can take; None where not known.
    `progress` is that of a load, 0 to 1, where it is known.
    """

    state: RunnerState
    pid: int | None = None
    busy: int | None = None
    slots: int | None = None
    prompt_tokens: int = 0
    tokens: int = 0
    progress: float | None = None

    @property
    def words(self) -> str:
        match self.state:
            case RunnerState.READING if self.prompt_tokens:
                return f"{self.state} ({self.prompt_tokens} tokens so far)"
            case RunnerState.GENERATING:
                return f"{self.state} ({self.tokens} tokens so far)"
            case RunnerState.LOADING if self.progress:
                return f"{self.state} ({self.progress:.0%})"
            case RunnerState.STOPPED:
                return f"{self.state} (`kill -CONT {self.pid}`)"
        return self.state.value


def runner_status(runners: NodeRunners, weights: str | None) -> RunnerStatus | None:
    """Return what the runner of a loaded model does, by one reading; None where that is not known."""
    runner = runners.of(weights)
    if runner is None:
        is_gone = runners.server is not None and not runners.runners
        return RunnerStatus(state=RunnerState.GONE) if is_gone else None
    pid = runner.process.pid
    if runner.process.is_stopped:
        return RunnerStatus(state=RunnerState.STOPPED, pid=pid)
    if runner.health is not RunnerHealth.OK:
        state = _BY_HEALTH.get(runner.health)
        return None if state is None else RunnerStatus(state=state, pid=pid, progress=runner.progress)
    return None if runner.slots is None else slots_status(runner.slots, pid)


def slots_status(slots: Sequence[Slot], pid: int | None = None) -> RunnerStatus:
    busy = [slot for slot in slots if slot.busy]
    state = RunnerState.READING if busy else RunnerState.IDLE
    return RunnerStatus(
        state=RunnerState.GENERATING if any(slot.tokens for slot in busy) else state,
        pid=pid,
        busy=len(busy),
        slots=len(slots),
        prompt_tokens=sum(slot.prompt_tokens for slot in busy),
        tokens=sum(slot.tokens for slot in busy),
    )


_BY_HEALTH = {
    RunnerHealth.LOADING: RunnerState.LOADING,
    RunnerHealth.SILENT: RunnerState.SILENT,
    RunnerHealth.ERROR: RunnerState.FAILING,
}


class RunnerAssessment(Record):
    """The state of a model by its runner, and why; `remedy` where it is one of its own.

    `stopped` is a process that only has to be let go on; `scheduler` tells that the server itself hangs
    beside processes that would serve.
    """

    state: NodeState
    detail: str
    remedy: str | None = None
    stopped: Process | None = None
    scheduler: bool = False

    @property
    def needs_time(self) -> bool:
        """Whether another reading may show that it works after all."""
        return self.state is NodeState.WEDGED and self.stopped is None and not self.scheduler


def assess_runner(
    model: str,
    weights: str | None,
    before: NodeRunners,
    after: NodeRunners,
    seconds: float,
    *,
    asked: bool = False,
) -> RunnerAssessment | None:
    """Return what the runner of a loaded model shows; None where it shows nothing that is wrong, or nothing.

    `before` and `after` are readings that many `seconds` apart; of one reading alone, both are it. A slot
    that is free has room for a question, unless one was `asked` already: then the busy slots tell.
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
        return _stopped(process, f"{process.words}, which serves {model}, is stopped")
    if last.health is RunnerHealth.LOADING:
        done = f" ({last.progress:.0%} of it)" if last.progress else ""
        return RunnerAssessment(NodeState.LOADING, f"{process.words} is loading {model}{done}")
    cores = (process.process.cpu_s - first.process.process.cpu_s) / seconds if seconds > 0 else 0.0
    if last.health is RunnerHealth.SILENT:
        if is_working(cores):
            why = f"{process.words}, which serves {model}, does not answer and uses {cores:.1f} cores"
            return RunnerAssessment(NodeState.BUSY, why)
        return RunnerAssessment(NodeState.WEDGED, f"{process.words}, which serves {model}, does not answer")
    if last.health is not RunnerHealth.OK or not first.slots or not last.slots:
        return None
    works = any if asked else all
    if not (works(slot.busy for slot in first.slots) and works(slot.busy for slot in last.slots)):
        return None
    return _slots_busy(model, first, last, cores)


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
    return RunnerAssessment(NodeState.WEDGED, why, scheduler=True)


def assess_unlisted(runners: NodeRunners) -> RunnerAssessment | None:
    """Return why the list of loaded models is silent or empty; None where no runner shows that.

    A server pings a runner that is stopped before it lists anything, and lists a model when it is loaded.
    """
    for runner in runners.runners:
        process = runner.process
        if process.is_stopped:
            why = f"{process.words}, which serves a model, is stopped, and the server waits for it"
            return _stopped(process, why)
    for runner in runners.runners:
        if runner.health in (RunnerHealth.LOADING, RunnerHealth.UNREACHABLE):
            return RunnerAssessment(NodeState.LOADING, f"{runner.process.words} is loading a model")
    return None


def assess_long_silence(before: NodeRunners, after: NodeRunners, seconds: float) -> RunnerAssessment | None:
    """Return why a list of loaded models has been silent for long; None where the processes do not tell.

    `before` and `after` are readings that many `seconds` apart.
    """
    shown = assess_unlisted(after)
    for runner in after.runners:
        shown = shown or assess_runner("a model", runner.process.weights, before, after, seconds, asked=True)
    if shown is not None or after.server is None or not all(map(is_idle, after.runners)):
        return shown
    why = "no process of a model is loading, stopped or at work: the scheduler of the server hangs"
    return RunnerAssessment(NodeState.WEDGED, why, scheduler=True)


def remedy_of_orphans(orphans: Sequence[RunnerProcess]) -> str:
    """Return the command that ends processes which outlived their server."""
    return f"`kill {' '.join(str(orphan.pid) for orphan in orphans)}` frees the memory"


def _stopped(process: RunnerProcess, why: str) -> RunnerAssessment:
    return RunnerAssessment(NodeState.WEDGED, why, process.process.release, stopped=process.process)


def _slots_busy(model: str, first: ModelRunner, last: ModelRunner, cores: float) -> RunnerAssessment:
    before, after = first.slots or (), last.slots or ()
    busy = sum(slot.busy for slot in after)
    count = f"{busy} of {len(after)} slots of {model} are busy" if busy < len(after) else ""
    count = count or (f"all {busy} slots of {model} are busy" if busy > 1 else f"{model} is busy")
    words = last.process.words
    if before != after:
        return RunnerAssessment(NodeState.BUSY, f"{count}: {_work(after)}")
    if is_working(cores):
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
