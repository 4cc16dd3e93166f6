"""What two readings of a model's process mean: pure."""

import pytest

from opskit.checks.runner_assessment import (
    RunnerState,
    assess_long_silence,
    assess_runner,
    assess_unlisted,
    assess_unserved,
    runner_status,
)
from opskit.checks.state import NodeState
from opskit.facts.runner import ModelRunner, NodeRunners, RunnerHealth, RunnerProcess, runner_arguments
from opskit.providers.base import Slot
from opskit.records import asdict, replace
from opskit.system.process import Process

COMMAND = ("/lib/ollama/llama-server", "--model", "/blobs/sha256-a", "--port", "9")
FREE = Slot(False)
READING = Slot(True, task=1, prompt_tokens=10)
WRITING = Slot(True, task=1, prompt_tokens=40, tokens=5)


def runner(*slots, health=RunnerHealth.OK, cpu_s=1.0, pid=7, stopped=False, weights="/blobs/sha256-a"):
    status = "stopped" if stopped else "sleeping"
    process = Process(pid, 1, "llama-server", COMMAND, "me", status, 0.0, cpu_s, 1)
    return ModelRunner(
        process=RunnerProcess(process=process, port=9, weights=weights), health=health, slots=slots or None
    )


def node(*runners: ModelRunner, server: int | None = 1) -> NodeRunners:
    return NodeRunners(server=server, runners=runners)


@pytest.mark.parametrize(
    ("before", "after", "state", "words"),
    [
        (node(), node(), NodeState.IDLE, "is gone"),
        (node(runner(stopped=True)), node(runner(stopped=True)), NodeState.WEDGED, "is stopped"),
        (
            node(runner(health=RunnerHealth.LOADING)),
            node(runner(health=RunnerHealth.LOADING)),
            NodeState.LOADING,
            "is loading m",
        ),
        (
            node(runner(health=RunnerHealth.SILENT)),
            node(runner(health=RunnerHealth.SILENT, cpu_s=1.01)),
            NodeState.WEDGED,
            "does not answer",
        ),
        (
            node(runner(health=RunnerHealth.SILENT)),
            node(runner(health=RunnerHealth.SILENT, cpu_s=3.0)),
            NodeState.BUSY,
            "uses 2.0 cores",
        ),
        (
            node(runner(READING)),
            node(runner(replace(READING, prompt_tokens=30))),
            NodeState.BUSY,
            "it reads a prompt (30 tokens so far)",
        ),
        (
            node(runner(WRITING)),
            node(runner(replace(WRITING, tokens=6))),
            NodeState.BUSY,
            "it generates (6 tokens so far)",
        ),
        (node(runner(WRITING)), node(runner(WRITING, cpu_s=2.0)), NodeState.BUSY, "uses 1.0 cores"),
        (node(runner(WRITING)), node(runner(WRITING)), NodeState.WEDGED, "nothing moved"),
        (
            node(runner(WRITING, READING)),
            node(runner(WRITING, READING)),
            NodeState.WEDGED,
            "all 2 slots of m are busy",
        ),
    ],
)
def test_a_runner_is_judged_by_two_readings(before, after, state, words):
    """What moves works; what uses the processor works; what does neither hangs."""
    assessment = assess_runner("m", "/blobs/sha256-a", before, after, 1.0)
    assert assessment is not None
    assert (assessment.state, words in assessment.detail) == (state, True)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (node(server=None), node(server=None)),
        (node(runner(FREE)), node(runner(FREE))),
        (node(runner(WRITING, FREE)), node(runner(WRITING, FREE))),
        (node(runner()), node(runner())),
        (node(runner(health=RunnerHealth.UNREACHABLE)), node(runner(health=RunnerHealth.UNREACHABLE))),
        (node(runner(WRITING, weights="/blobs/sha256-b")), node(runner(WRITING, weights="/blobs/sha256-b"))),
        (node(runner(WRITING)), node(runner(WRITING, pid=8))),
    ],
)
def test_what_it_does_not_show_is_left_to_a_token(before, after):
    """A free slot, a page that is not there, another model, a process that was replaced meanwhile."""
    assert assess_runner("m", "/blobs/sha256-a", before, after, 1.0) is None


def test_a_request_beside_an_idle_runner_hangs_in_the_scheduler_or_waits_for_another_model():
    """It waits while another runner works or loads; with every runner idle nobody will serve it."""
    other = runner(WRITING, pid=8, weights="/blobs/sha256-b")
    idle, waiting = (
        assess_unserved("m", "/blobs/sha256-a", node(runner(FREE))),
        assess_unserved("m", "/blobs/sha256-a", node(runner(FREE), other)),
    )
    assert idle is not None
    assert idle.state is NodeState.WEDGED
    assert waiting is not None
    assert (waiting.state, "process 8" in waiting.detail) == (NodeState.BUSY, True)
    assert assess_unserved("m", "/blobs/sha256-a", node(runner(WRITING))) is None
    assert assess_unserved("m", "/blobs/sha256-a", node(server=None)) is None


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        (["/lib/ollama/llama-server", "--model", "/b/sha256-1", "--port", "9"], (9, "/b/sha256-1")),
        (["ollama", "runner", "--port=9", "--model=/b/sha256-1"], (9, "/b/sha256-1")),
        (["ollama", "serve"], None),
        (["llama-server", "--model", "--port", "9"], None),
        (["llama-server", "--port", "x", "--model", "a"], None),
        (["", ""], None),
        ([], None),
    ],
)
def test_port_and_model_are_read_from_a_command_line(command, arguments):
    """Both in either notation; a process without one of them is none."""
    assert runner_arguments(command) == arguments


def test_a_silent_list_of_loaded_models_is_explained_by_a_runner_or_not_at_all():
    """One that is stopped explains more than one that loads beside it."""
    loading, halted = runner(health=RunnerHealth.LOADING), runner(stopped=True, pid=8)
    stopped = assess_unlisted(node(loading, halted))
    assert stopped is not None
    assert (stopped.state, stopped.remedy) == (NodeState.WEDGED, "`kill -CONT 8` lets it go on")
    under_way = assess_unlisted(node(loading))
    assert under_way is not None
    assert under_way.state is NodeState.LOADING
    assert assess_unlisted(node(runner(FREE))) is None


@pytest.mark.parametrize(
    ("runners", "state", "words"),
    [
        (node(runner(FREE)), RunnerState.IDLE, "idle"),
        (node(runner(READING)), RunnerState.READING, "reading the prompt (10 tokens so far)"),
        (node(runner(WRITING, READING)), RunnerState.GENERATING, "generating (5 tokens so far)"),
        (node(runner(stopped=True)), RunnerState.STOPPED, "stopped (`kill -CONT 7`)"),
        (
            node(replace(runner(health=RunnerHealth.LOADING), progress=0.4)),
            RunnerState.LOADING,
            "loading (40%)",
        ),
        (node(runner(health=RunnerHealth.SILENT)), RunnerState.SILENT, "silent"),
        (node(runner(health=RunnerHealth.ERROR)), RunnerState.FAILING, "failing"),
        (node(), RunnerState.GONE, "gone"),
    ],
)
def test_one_reading_tells_what_a_model_works_on(runners, state, words):
    """In a few words for people, and typed."""
    status = runner_status(runners, "/blobs/sha256-a")
    assert status is not None
    assert (status.state, status.words) == (state, words)
    assert asdict(status)["state"] == state.value


@pytest.mark.parametrize(
    "runners",
    [
        node(server=None),
        node(runner()),
        node(runner(FREE, weights="/blobs/sha256-b")),
        node(runner(health=RunnerHealth.UNREACHABLE)),
    ],
)
def test_what_cannot_be_seen_is_not_guessed(runners):
    """No server that starts processes, one without a page of its slots, another model, one out of reach."""
    assert runner_status(runners, "/blobs/sha256-a") is None


@pytest.mark.parametrize(
    ("runners", "state", "scheduler"),
    [
        (node(runner(FREE)), NodeState.WEDGED, True),
        (node(), NodeState.WEDGED, True),
        (node(runner(stopped=True)), NodeState.WEDGED, False),
        (node(runner(health=RunnerHealth.SILENT)), NodeState.WEDGED, False),
        (node(runner(health=RunnerHealth.LOADING)), NodeState.LOADING, False),
    ],
)
def test_a_list_that_stays_silent_is_loading_only_where_a_process_loads(runners, state, scheduler):
    """With nothing that loads, is stopped or works the server itself hangs."""
    assessment = assess_long_silence(runners, runners, 10.0)
    assert assessment is not None
    assert (assessment.state, assessment.scheduler) == (state, scheduler)


def test_a_silent_list_beside_a_process_that_tells_nothing_is_left_open():
    """An MLX-engine runner has no page of its slots: it may be loading."""
    assert assess_long_silence(node(runner()), node(runner()), 10.0) is None
    assert assess_long_silence(node(server=None), node(server=None), 10.0) is None
