"""A request that waits for its first token is judged by what its server shows, not by the clock alone."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from opskit.llm.answer import NoAnswer
from opskit.llm.waiting import WaitEvidence
from opskit.providers.base import CallCause
from opskit.providers.node import Node
from tests.parts.rig import fails, named, tried
from tests.parts.scripted import Pause, Scripted, says

GOAL = "Explain in one plain sentence how a hash table deals with collisions."
GOOD = "It keeps colliding entries in a list per bucket."
ANSWER = says(GOOD)
SILENCE = (Pause(None),)
OVERLOADED = fails(CallCause.STATUS, "server busy, please try again.", 503)
BUSY = WaitEvidence("busy", "a is busy: it generates", rate="20 tokens/s")
LOADING = WaitEvidence("loading", "process 8 is loading a")
STOPPED = WaitEvidence(
    "wedged", "process 7 is stopped", "`kill -CONT 7` lets it go on", patience_s=25.0, whole_node=True
)
HANGS = WaitEvidence("wedged", "the scheduler hangs", "`ollama stop a` frees it", patience_s=6.0)


def shows(*stages: tuple[float, WaitEvidence | None]):
    """Show each piece of evidence for so many seconds of a request, the last one for ever."""

    def watch(_node: Node, _model: str) -> Callable[[], Awaitable[WaitEvidence | None]]:
        clock = asyncio.get_running_loop().time
        began = clock()

        async def look() -> WaitEvidence | None:
            passed = clock() - began
            for seconds, evidence in stages:
                if passed < seconds:
                    return evidence
                passed -= seconds
            return stages[-1][1]

        return look

    return watch


def two(*first, loaded=("a",)):
    """A server with the model `a`, which answers by these scripts, and another that answers at once."""
    return Scripted({"a": list(first), "b": [ANSWER]}, resident=loaded)


async def test_a_server_that_works_is_waited_for_longer_than_a_silent_one(rig):
    """It is busy with others: no other model is asked, though one is loaded and would answer at once."""
    one = two((Pause(50.0), *ANSWER), loaded=("a", "b"))
    answer = await rig({"ollama": one}, watch=shows((99, BUSY))).ask(GOAL, **named("a"))
    assert tried(answer) == [("ollama", "a", None)]


async def test_sixteen_at_once_wait_in_the_queue_of_one_model(rig):
    """None of them is told that the server hangs, and no other model is loaded for them."""
    one = two(*[(Pause(3.0 * place), *ANSWER) for place in range(1, 17)])
    built = rig({"ollama": one}, watch=shows((99, BUSY)))
    answers = await asyncio.gather(*(built.ask(GOAL, **named("a")) for _ in range(16)))
    assert [tried(answer) for answer in answers] == [[("ollama", "a", None)]] * 16
    assert one.loads == []


async def test_a_queue_ends_with_its_budget_and_opens_no_circuit(rig):
    """Then the next model answers; the one that was busy has not failed."""
    one = two(SILENCE, ANSWER, loaded=("a", "b"))
    built = rig({"ollama": one}, watch=shows((999, BUSY)), queue_s=40.0, failures=1)
    answer = await built.ask(GOAL, **named("a"))
    assert tried(answer) == [("ollama", "a", "busy"), ("ollama", "b", None)]
    assert answer.seconds == pytest.approx(40.0, abs=1.0)
    assert "20 tokens/s" in answer.attempts[0].detail
    assert tried(await built.ask(GOAL, **named("a"))) == [("ollama", "a", None)]


async def test_a_server_that_puts_itself_right_is_not_left(rig):
    """Ollama replaces a process that hangs, but only while somebody waits for it (wire facts A8)."""
    one = two((Pause(24.0), *ANSWER), loaded=("a", "b"))
    watch = shows((20, STOPPED), (3, LOADING), (9, None))
    assert tried(await rig({"ollama": one}, watch=watch).ask(GOAL, **named("a"))) == [("ollama", "a", None)]


async def test_what_stays_stopped_is_named_and_its_whole_server_left(rig):
    """The other model of that server would hang too; another server answers."""
    nodes = {"ollama": two(SILENCE, loaded=("a", "b")), "mlx": Scripted({"c": [ANSWER]})}
    answer = await rig(nodes, watch=shows((999, STOPPED))).ask(GOAL, **named("a"))
    assert tried(answer) == [("ollama", "a", "wedged"), ("mlx", "c", None)]
    assert "process 7 is stopped" in answer.attempts[0].detail
    assert "kill -CONT 7" in answer.attempts[0].detail
    assert answer.seconds < 30


async def test_the_remedy_of_a_refusal_is_that_of_the_evidence(rig):
    """What wakes the process, not a general text."""
    refusal = await rig({"ollama": Scripted({"a": [SILENCE]})}, watch=shows((999, STOPPED))).refused(GOAL)
    assert isinstance(refusal, NoAnswer)
    assert (refusal.code, refusal.remedy) == ("MODEL_002", "`kill -CONT 7` lets it go on")


async def test_a_scheduler_that_hangs_is_left_for_the_next_model(rig):
    """Only the model that it keeps from its process is held up."""
    one = two(SILENCE, loaded=("a", "b"))
    answer = await rig({"ollama": one}, watch=shows((999, HANGS))).ask(GOAL, **named("a"))
    assert tried(answer) == [("ollama", "a", "wedged"), ("ollama", "b", None)]
    assert answer.seconds < 10


async def test_a_moment_without_evidence_ends_no_wait(rig):
    """One look that tells nothing is no silence of a server that worked a second ago."""
    one = Scripted({"a": [(Pause(50.0), *ANSWER)]})
    watch = shows((40, BUSY), (2, None), (99, BUSY))
    assert tried(await rig({"ollama": one}, watch=watch).ask(GOAL)) == [("ollama", "a", None)]


async def test_a_load_that_waits_for_a_stopped_process_is_told_soon(rig):
    """The load itself would take its whole budget to fail."""
    one = Scripted({"a": [ANSWER]}, resident=(), load={"a": SILENCE})
    refusal = await rig({"ollama": one}, watch=shows((999, STOPPED))).refused(GOAL)
    assert tried(refusal) == [("ollama", "a", "wedged")]
    assert refusal.seconds < 30


async def test_whoever_waits_hears_why_and_so_does_the_log(rig):
    """The state, the rate that was measured, and for how long it has waited."""
    heard: list[str] = []
    built = rig({"ollama": Scripted({"a": [(Pause(25.0), *ANSWER)]})}, watch=shows((99, BUSY)))
    await built.ask(GOAL, on_wait=heard.append)
    assert heard[0] == ("a on ollama has not answered yet: a is busy: it generates; 20 tokens/s (waited 2 s)")
    assert 2 <= len(heard) <= 4
    assert len(built.tagged("LLM_WAIT")) == len(heard)


async def test_a_node_that_works_is_waited_for_before_its_models_are_known(rig):
    """An overloaded machine is slow to list them; that is no node that is not there."""
    one = Scripted({"a": [ANSWER]})
    one.listing = fails(CallCause.TIMEOUT, "no reply within 3 s")
    built = rig({"ollama": one}, watch=shows((99, BUSY)))
    asking = asyncio.create_task(built.ask(GOAL))
    await asyncio.sleep(10.0)
    one.listing = ()
    assert tried(await asking) == [("ollama", "a", None)]


class TestOverload:
    async def test_the_same_model_is_asked_again_before_another_is_loaded(self, rig):
        """To load a model makes the queue of its server longer."""
        one = two(OVERLOADED, OVERLOADED, OVERLOADED, OVERLOADED, OVERLOADED, ANSWER)
        answer = await rig({"ollama": one}).ask(GOAL, **named("a"))
        assert tried(answer) == [*[("ollama", "a", "busy")] * 5, ("ollama", "a", None)]
        assert one.loads == []

    async def test_what_the_server_asks_for_is_waited(self, rig):
        """Retry-After of a 503, to the second."""
        limited = fails(CallCause.STATUS, "server busy", 503, retry_after_s=7.0)
        answer = await rig({"ollama": two(limited, ANSWER)}).ask(GOAL, **named("a"))
        assert tried(answer) == [("ollama", "a", "busy"), ("ollama", "a", None)]
        assert answer.seconds == pytest.approx(7.0)

    async def test_after_the_queue_budget_another_model_is_loaded(self, rig):
        """Nobody waits for ever."""
        one = two(OVERLOADED)
        answer = await rig({"ollama": one}, queue_s=20.0).ask(GOAL, **named("a"))
        assert tried(answer)[-1] == ("ollama", "b", None)
        assert one.loads == ["b"]
        assert 10 < answer.seconds <= 20

    async def test_a_model_that_another_server_has_loaded_answers_at_once(self, rig):
        """It costs neither of them anything."""
        nodes = {"ollama": two(OVERLOADED), "mlx": Scripted({"c": [ANSWER]})}
        answer = await rig(nodes).ask(GOAL, **named("a"))
        assert tried(answer) == [("ollama", "a", "busy"), ("mlx", "c", None)]
        assert answer.seconds == 0.0
