"""The states of a target, and how a fault shows in them: pure."""

from collections.abc import Sequence
from enum import StrEnum
from typing import TYPE_CHECKING

from opskit.llm.faults import Fault, FaultKind
from opskit.providers.base import Slot
from opskit.system.host import processor_share
from opskit.system.sockets import Listener
from opskit.text import counted, span

if TYPE_CHECKING:
    from opskit.providers.agent import AgentQueue


class NodeState(StrEnum):
    """One word for a target's condition.

    `failing` answers, but with errors. `idle` is well and has no model loaded; people are shown `ok`, and the
    status and detail say that no token was asked for.
    """

    OK = "ok"
    SLOW = "slow"
    IDLE = "idle"
    BUSY = "busy"
    LOADING = "loading"
    WEDGED = "wedged"
    FAILING = "failing"
    REFUSED = "refused"
    UNREACHABLE = "unreachable"
    UNAUTHORISED = "unauthorised"
    NOT_CONFIGURED = "not configured"

    @property
    def shown(self) -> str:
        return NodeState.OK.value if self is NodeState.IDLE else self.value


#: A server that uses this many cores while a request waits is working, not wedged; on a loaded machine a
#: part of it is enough, down to the second.
_WORKING_CORES, _LEAST_CORES = 0.2, 0.02
#: So long past its expiry a model whose server does nothing is no longer called busy, in seconds.
OVERDUE_S = 30.0
#: Why Ollama's /api/ps can be silent: where no process shows which it is, neither is claimed (wire A2, A8).
SILENT_LIST = "it loads a model, or waits for one that hangs, which cannot be told from here"
#: So long without any progress a request is not worked on, though nothing else shows that its server hangs.
STANDSTILL_S = 10.0

#: A worker of an agent takes what is queued at once, and looks every 10 s at what others have put back.
QUEUE_STANDSTILL_S = 30.0

#: There is nobody at the address.
GONE = (NodeState.REFUSED, NodeState.UNREACHABLE)
_STATES = {
    FaultKind.REFUSED: NodeState.REFUSED,
    FaultKind.UNREACHABLE: NodeState.UNREACHABLE,
    FaultKind.CONNECT_TIMEOUT: NodeState.UNREACHABLE,
    FaultKind.UNAUTHORISED: NodeState.UNAUTHORISED,
    FaultKind.BUSY: NodeState.BUSY,
    FaultKind.RATE_LIMITED: NodeState.BUSY,
    FaultKind.LOADING: NodeState.LOADING,
    FaultKind.WEDGED: NodeState.WEDGED,
    FaultKind.FIRST_TOKEN_TIMEOUT: NodeState.WEDGED,
    FaultKind.IDLE_TIMEOUT: NodeState.WEDGED,
    FaultKind.LOAD_TIMEOUT: NodeState.WEDGED,
    FaultKind.TOTAL_TIMEOUT: NodeState.WEDGED,
}
CODES = {
    NodeState.WEDGED: "MODEL_002",
    NodeState.REFUSED: "COMM_001",
    NodeState.UNREACHABLE: "COMM_002",
    NodeState.UNAUTHORISED: "COMM_001",
    NodeState.FAILING: "GEN_001",
}


def state_of(fault: Fault) -> NodeState:
    return _STATES.get(fault.kind, NodeState.FAILING)


def is_working(cores: float, share: float | None = None) -> bool:
    """Tell whether a process that uses so many cores works, and does not only wake now and then.

    `share` is the part of a core that a busy thread gets on this machine now, which is read where it is None:
    under load a process at work uses little.
    """
    limit = _WORKING_CORES * (processor_share() if share is None else share)
    return cores >= max(limit, _LEAST_CORES)


def judge_silence(
    *, progress_seen: bool, others_served: bool, process: Listener | None, seconds: float
) -> tuple[NodeState, str]:
    """Busy or wedged? The state of a server that accepted a request and gave no token, with the reason.

    Evidence that it works outranks its silence: progress comments, other requests that ended meanwhile, or
    a process that uses the processor.
    """
    silence = f"no token in {seconds:.1f} s"
    if process is not None and process.stopped:
        return NodeState.WEDGED, f"{silence}: {process.condition}"
    if progress_seen:
        return NodeState.BUSY, f"{silence}, but it reports progress on the prompt"
    if others_served:
        return NodeState.BUSY, f"{silence}, but other requests ended meanwhile"
    if process is not None and is_working(process.cpu):
        return NodeState.BUSY, f"{silence}, but {process.words} is using {process.cpu:.1f} cores"
    return NodeState.WEDGED, silence if process is None else f"{silence}; {process.condition}"


def judge_overdue(process: Listener | None, overdue_s: float) -> tuple[NodeState, str]:
    """Busy or wedged? The state of a model that is loaded past its expiry, with the reason.

    A request has been in flight at least since then (wire facts A8). Where nothing shows whether the server
    works, it is called busy: nothing is repaired on a guess.
    """
    since = f"a request has been in flight for {overdue_s:.0f} s at least"
    if process is None:
        return NodeState.BUSY, f"{since}: busy or wedged, which cannot be told from here"
    if process.stopped:
        return NodeState.WEDGED, f"{since}, and {process.condition}"
    if is_working(process.cpu):
        return NodeState.BUSY, f"{since}, and {process.words} is using {process.cpu:.1f} cores"
    if overdue_s < OVERDUE_S:
        return NodeState.BUSY, f"{since}; {process.words} does not use the processor just now"
    return NodeState.WEDGED, f"{since}, and {process.condition}"


def judge_slots(
    before: Sequence[Slot], after: Sequence[Slot], process: Listener | None, seconds: float = 0.0
) -> tuple[NodeState, str]:
    """Busy or wedged? The state of a server whose slots are all busy, by two looks, with the reason.

    A counter that moves is work. Where none has moved for so many `seconds`, the process decides, and without
    one the clock: a request that makes no progress for STANDSTILL_S is not worked on.
    """
    all_busy = f"all {len(after)} slots are busy" if len(after) > 1 else "its only slot is busy"
    if tuple(before) != tuple(after):
        reading = sum(slot.tokens == 0 for slot in after)
        writing = len(after) - reading
        parts = [f"{reading} reading a prompt"] * (reading > 0) + [f"{writing} answering"] * (writing > 0)
        return NodeState.BUSY, f"{all_busy} ({', '.join(parts)})"
    if process is None and seconds >= STANDSTILL_S:
        return NodeState.WEDGED, f"{all_busy}, and none has moved for {seconds:.0f} s"
    if process is None:
        why = "none moved between two looks: it cannot be told from here why"
        return NodeState.BUSY, f"{all_busy}, and {why}"
    if not process.stopped and is_working(process.cpu):
        return NodeState.BUSY, f"{all_busy}, and {process.words} is using {process.cpu:.1f} cores"
    return NodeState.WEDGED, f"{all_busy}, none moved between two looks, and {process.condition}"


def judge_queue(queue: "AgentQueue") -> tuple[NodeState | None, str]:
    """Return what is wrong with the queue of an agent, None for nothing, and the queue in words. Pure."""
    words = f"{counted(queue.queued, 'run')} queued, {queue.running} running"
    if queue.needs_approval:
        words += f", {queue.needs_approval} waiting for approval (`opskit approvals`)"
    if queue.draining:
        return NodeState.BUSY, f"it drains before it ends, and takes no new runs; {words}"
    if queue.queued and queue.oldest_s is not None:
        words += f", the oldest waits for {span(queue.oldest_s)}"
        if not queue.running and queue.oldest_s >= QUEUE_STANDSTILL_S:
            return NodeState.WEDGED, f"its queue stands still: {words}"
    return None, words
