"""What readings of a server say of a request that waits: pure."""

import pytest

from opskit.checks.request_watch import assess_slots_wait, assess_wait
from opskit.facts.runner import ModelRunner, NodeRunners, RunnerHealth, RunnerProcess
from opskit.providers.base import Slot
from opskit.records import replace
from opskit.system.process import Process
from opskit.system.sockets import Listener

FREE = Slot(False)
READING = Slot(True, task=1, prompt_tokens=100)
READ_ON = replace(READING, prompt_tokens=400)
WRITING = Slot(True, task=1, prompt_tokens=40, tokens=5)
WRITTEN_ON = replace(WRITING, tokens=25)
OTHERS = replace(WRITING, task=2)
A, B = "/blobs/sha256-a", "/blobs/sha256-b"


def runner(*slots, health=RunnerHealth.OK, cpu_s=1.0, pid=7, stopped=False, weights=A):
    status = "stopped" if stopped else "sleeping"
    process = Process(pid, 1, "llama-server", ("llama-server",), "me", status, 0.0, cpu_s, 1)
    return ModelRunner(
        process=RunnerProcess(process=process, port=9, weights=weights), health=health, slots=slots or None
    )


def node(*runners: ModelRunner) -> NodeRunners:
    return NodeRunners(server=1, runners=runners)


@pytest.mark.parametrize(
    ("before", "after", "state", "words", "rate"),
    [
        (node(runner(READING)), node(runner(READ_ON)), "busy", "reads a prompt", "150 tokens/s of prompt"),
        (node(runner(WRITING)), node(runner(WRITTEN_ON)), "busy", "generates (25 tokens", "10 tokens/s"),
        (node(runner(WRITING)), node(runner(OTHERS)), "busy", "m is busy", ""),
        (node(runner(WRITING, FREE)), node(runner(WRITTEN_ON, FREE)), "busy", "1 of 2 slots", "10 tokens/s"),
        (node(runner(WRITING)), node(runner(WRITING, cpu_s=3.0)), "busy", "uses 1.0 cores", ""),
        (node(runner(WRITING)), node(runner(WRITING)), "wedged", "nothing moved", ""),
        (node(runner(stopped=True)), node(runner(stopped=True)), "wedged", "is stopped", ""),
        (node(runner(FREE)), node(runner(FREE)), "wedged", "the scheduler of the server hangs", ""),
        (node(), node(), "wedged", "is gone", ""),
        (
            node(runner(FREE)),
            node(runner(FREE), runner(stopped=True, weights=B, pid=8)),
            "wedged",
            "process 8",
            "",
        ),
        (
            node(runner(FREE)),
            node(runner(FREE), runner(WRITING, weights=B, pid=8)),
            "busy",
            "waits for another model",
            "",
        ),
        (
            node(runner(WRITING, weights=B, pid=8)),
            node(runner(WRITING, weights=B, pid=8)),
            "busy",
            "waits for another model",
            "",
        ),
        (node(), node(runner(health=RunnerHealth.LOADING)), "loading", "is loading", ""),
    ],
)
def test_the_processes_of_models_tell_a_queue_from_a_server_that_hangs(before, after, state, words, rate):
    """What moves is waited for, with its rate; what stands still, is stopped or is left out is not."""
    evidence = assess_wait("m", A, before, after, 2.0)
    assert evidence is not None
    assert (evidence.state, evidence.rate) == (state, rate)
    assert words in evidence.detail


@pytest.mark.parametrize(("before", "seconds"), [(runner(WRITING), 0.0), (runner(WRITING, pid=6), 2.0)])
def test_a_first_reading_accuses_nobody_who_works(before, seconds):
    """Without a second one nothing could have moved; a process that was replaced begins anew."""
    evidence = assess_wait("m", A, node(before), node(runner(WRITING)), seconds)
    assert evidence is not None
    assert evidence.state == "busy"


def test_a_stopped_process_is_named_with_what_lets_it_go_on():
    """Its server may replace it within 25 s, and its other models wait too."""
    evidence = assess_wait("m", A, node(runner(stopped=True)), node(runner(stopped=True)), 2.0)
    assert evidence is not None
    assert (evidence.remedy, evidence.whole_node) == ("`kill -CONT 7` lets it go on", True)
    assert evidence.patience_s >= 20


@pytest.mark.parametrize(
    ("before", "after", "process", "state", "words"),
    [
        ([READING], [READ_ON], None, "busy", "reading the prompt (400 tokens so far)"),
        ([WRITING], [OTHERS], None, "busy", "generating"),
        ([WRITING], [WRITING], Listener(9, "llama-server", (), False, 1.0), "busy", "generating"),
        ([WRITING], [WRITING], Listener(9, "llama-server", (), False, 0.0), "wedged", "nothing has moved"),
        ([WRITING], [WRITING], None, "wedged", "nothing has moved"),
        ([FREE], [FREE], None, "wedged", "is idle while a request waits"),
    ],
)
def test_slots_tell_a_queue_from_a_server_that_hangs(before, after, process, state, words):
    """By what moves; where nothing does, by the processor, and else by the clock."""
    evidence = assess_slots_wait("m", before, after, 2.0, process)
    assert evidence.state == state
    assert words in evidence.detail
    assert evidence.patience_s > 0 or state == "busy"
