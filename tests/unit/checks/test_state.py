"""States are judged by evidence, never by a guess."""

import pytest

from opskit.checks.state import STANDSTILL_S, NodeState, is_working, judge_slots
from opskit.providers.base import Slot
from opskit.system.sockets import Listener

WRITING, FURTHER, READING = Slot(True, 7, 13, 45), Slot(True, 7, 13, 60), Slot(True, 8, 64, 0)


def process(cpu: float, *, stopped: bool = False) -> Listener:
    return Listener(12, "llama-server", (), stopped, cpu)


@pytest.mark.parametrize(
    ("before", "after", "listener", "state", "reason"),
    [
        ([WRITING], [FURTHER], None, NodeState.BUSY, "its only slot is busy (1 answering)"),
        ([WRITING, READING], [FURTHER, READING], process(0.0), NodeState.BUSY, "1 reading a prompt"),
        ([WRITING], [READING], None, NodeState.BUSY, "1 reading a prompt"),
        ([READING], [READING], None, NodeState.BUSY, "cannot be told from here"),
        ([READING], [READING], process(1.0), NodeState.BUSY, "is using 1.0 cores"),
        ([READING], [READING], process(0.0), NodeState.WEDGED, "is idle"),
        ([READING], [READING], process(1.0, stopped=True), NodeState.WEDGED, "is stopped"),
    ],
    ids=["moves", "one moves", "another request", "far away", "works", "idle", "stopped"],
)
def test_a_server_whose_slots_are_all_busy(before, after, listener, state, reason):
    """What moves works; what does not is wedged only when its process does nothing either."""
    judged, detail = judge_slots(before, after, listener)
    assert judged is state
    assert reason in detail


def test_busy_has_a_clock():
    """A request that makes no progress for long is not worked on, though its process cannot be seen."""
    judged, detail = judge_slots([READING], [READING], None, STANDSTILL_S)
    assert (judged, "none has moved for 10 s" in detail) == (NodeState.WEDGED, True)
    assert judge_slots([READING], [FURTHER], None, STANDSTILL_S)[0] is NodeState.BUSY


@pytest.mark.parametrize(
    ("cores", "share", "works"),
    [(0.2, 1.0, True), (0.19, 1.0, False), (0.05, 0.17, True), (0.03, 0.17, False), (0.0, 0.01, False)],
)
def test_a_process_at_work_uses_little_on_a_loaded_machine(cores: float, share: float, works: bool):
    """Twelve busy threads share two cores: who gets a sixth of one has not stopped working."""
    assert is_working(cores, share) is works
