"""Budgets, loads, queues and rests, on a clock that costs nothing (SPEC B9, B10)."""

import asyncio

import pytest

from opskit.llm.answer import Session
from opskit.llm.plan import ModelRequest
from opskit.providers.base import DEFAULT_MODEL, CallCause, End, Progress, Reasoning, Token
from opskit.providers.kinds import OLLAMA
from tests.parts.rig import fails, named, tried
from tests.parts.scripted import Pause, Scripted, says

GOAL = "Explain in one plain sentence how a hash table deals with collisions."
GOOD = "It keeps colliding entries in a list per bucket."
ANSWER = says(GOOD)
SILENCE = (Pause(None),)


def now() -> float:
    return asyncio.get_running_loop().time()


class TestLoads:
    async def test_a_cold_model_is_loaded_before_it_is_asked(self, rig):
        """SPEC B9: a load of 80 s is neither a timeout nor a hang."""
        one = Scripted({"a": [ANSWER]}, resident=(), load={"a": (Pause(80.0),)}, sizes={"a": 4 * 1024**3})
        answer = await rig({"ollama": one}).ask(GOAL)
        assert answer.text == GOOD
        assert answer.attempts[0].load_s == 80.0
        assert one.loads == ["a"]

    async def test_many_requests_cause_one_load(self, rig):
        """Whoever else wants the model waits for the same load."""
        one = Scripted({"a": [ANSWER]}, resident=(), load={"a": (Pause(30.0),)})
        built = rig({"ollama": one})
        answers = await asyncio.gather(*(built.ask(GOAL) for _ in range(10)))
        assert len(answers) == 10
        assert one.loads == ["a"]

    async def test_a_load_survives_the_request_that_caused_it(self, rig):
        """Who gives up does not make the server start from zero."""
        one = Scripted({"a": [ANSWER]}, resident=(), load={"a": (Pause(50.0),)})
        built = rig({"ollama": one})
        caller = asyncio.create_task(built.ask(GOAL))
        await asyncio.sleep(20.0)
        caller.cancel()
        await asyncio.gather(caller, return_exceptions=True)
        await asyncio.sleep(31.0)
        assert one.loaded == {"a"}
        assert (await built.ask(GOAL)).attempts[0].load_s in (None, 0.0)
        assert one.loads.count("a") <= 2

    async def test_while_it_loads_a_resident_model_answers(self, rig):
        """Patience ends where somebody else is ready; the load goes on for the next request."""
        one = Scripted(
            {"qwen2.5-coder:32b": [ANSWER], "b": [ANSWER]},
            resident=["b"],
            load={"qwen2.5-coder:32b": (Pause(50.0),)},
        )
        built = rig({"ollama": one}, load_patience_s=10.0)
        answer = await built.ask(GOAL, request=ModelRequest(category="coding"))
        assert tried(answer) == [("ollama", "qwen2.5-coder:32b", "loading"), ("ollama", "b", None)]
        assert answer.seconds == pytest.approx(10.0)
        await asyncio.sleep(60.0)
        assert (await built.ask(GOAL, request=ModelRequest(category="coding"))).model == "qwen2.5-coder:32b"
        assert one.loads == ["qwen2.5-coder:32b"]

    async def test_the_time_of_a_load_is_not_the_request_s(self, rig):
        """The total budget excludes loads."""
        one = Scripted({"a": [ANSWER]}, resident=(), load={"a": (Pause(55.0),)})
        assert (await rig({"ollama": one}, total_s=5.0).ask(GOAL)).text == GOOD

    async def test_a_load_above_its_budget_is_a_load_timeout(self, rig):
        """And the next model answers."""
        one = Scripted({"llama3.3:70b": [ANSWER]}, resident=(), load={"llama3.3:70b": SILENCE})
        answer = await rig({"ollama": one, "mlx": Scripted({"b": [ANSWER]})}).ask(
            GOAL, **named("llama3.3:70b")
        )
        assert tried(answer)[0] == ("ollama", "llama3.3:70b", "load_timeout")

    async def test_a_server_that_loads_inside_the_request_is_given_the_time(self, rig):
        """LM Studio and their kin load with the first token: the budget is that of a load."""
        slow = (Pause(70.0), *ANSWER)
        one = Scripted({"a": [slow]}, resident=(), loads_on_demand=False)
        assert (await rig({"openai": one}).ask(GOAL)).text == GOOD
        assert one.loads == []

    async def test_a_model_unloaded_in_a_quiet_hour_is_loaded_again_first(self, rig):
        """Old news of what is resident do not turn a load into a hang."""
        one = Scripted({"a": [ANSWER]}, load={"a": (Pause(40.0),)})
        built = rig({"ollama": one})
        await built.ask(GOAL)
        one.loaded.clear()
        await asyncio.sleep(1800.0)
        await built.ask(GOAL)
        assert one.loads == ["a"]


class TestContext:
    async def test_a_loaded_model_keeps_the_context_it_was_loaded_with(self, rig):
        """Another length would make the server load it again (wire facts A3)."""
        one = Scripted({"a": [ANSWER]}, contexts={"a": 8192})
        await rig({"ollama": one}, num_ctx=4096).ask(GOAL)
        assert [call.num_ctx for call in one.calls] == [8192]

    async def test_a_cold_model_is_loaded_and_asked_with_the_configured_context(self, rig):
        """The same length in both calls, and also in the next request."""
        one = Scripted({"a": [ANSWER]}, resident=())
        built = rig({"ollama": one}, num_ctx=4096)
        await built.ask(GOAL)
        assert (await one.resident())[0].context_length == 4096
        await asyncio.sleep(1.0)
        await built.ask(GOAL)
        assert [call.num_ctx for call in one.calls] == [4096, 4096]

    async def test_nobody_s_wish_is_not_sent(self, rig):
        """The server's own default needs no number."""
        one = Scripted({"a": [ANSWER]}, resident=())
        await rig({"ollama": one}).ask(GOAL)
        assert [call.num_ctx for call in one.calls] == [None]


class TestSilence:
    async def test_silence_behind_a_healthy_port_is_wedged(self, rig):
        """Health answers, tokens do not come: that is not called down, nor merely slow."""
        one = Scripted({"a": [SILENCE]})
        refusal = await rig({"ollama": one}).refused(GOAL)
        assert tried(refusal) == [("ollama", "a", "wedged")]
        assert refusal.seconds < 21.0

    async def test_silence_after_an_answer_that_was_left_says_so(self, rig):
        """What opskit itself did is named where it may be the cause, with the way out."""
        looping = tuple(Token("and so on and so on ") for _ in range(400))
        one = Scripted({"a": [looping, SILENCE]})
        built = rig({"ollama": one}, failures=5)
        assert tried(await built.refused(GOAL)) == [("ollama", "a", "loop")]
        refusal = await built.refused(GOAL)
        assert tried(refusal) == [("ollama", "a", "wedged")]
        assert "left unfinished" in refusal.attempts[0].detail
        assert "`ollama stop a`" in refusal.attempts[0].detail

    async def test_silence_everywhere_is_a_timeout(self, rig):
        """A server that does not even answer its version is not called wedged."""
        one = Scripted({"a": [SILENCE]})
        one.health = SILENCE
        assert tried(await rig({"ollama": one}).refused(GOAL)) == [("ollama", "a", "first_token_timeout")]

    async def test_a_dead_generation_thread_is_wedged(self, rig):
        """mlx_lm.server's health page says 503 then."""
        one = Scripted({DEFAULT_MODEL: [SILENCE]})
        one.health = fails(CallCause.STATUS, "unavailable", 503)
        refusal = await rig({"mlx": one}).refused(GOAL)
        assert tried(refusal) == [("mlx", DEFAULT_MODEL, "wedged")]
        assert "generation thread" in refusal.message

    async def test_a_long_prompt_is_given_its_prefill(self, rig):
        """One second more for each 400 characters."""
        one = Scripted({"a": [(Pause(60.0), *ANSWER)]})
        assert (await rig({"ollama": one}).ask("word " * 4000)).text == GOOD

    async def test_progress_is_a_sign_of_life(self, rig):
        """A server that counts its prefill is not given up, however long it takes."""
        slow = (*(step for n in range(20) for step in (Pause(15.0), Progress(n, 20))), *ANSWER)
        assert (await rig({"mlx": Scripted({"a": [slow]})}, total_s=600.0).ask(GOAL)).text == GOOD

    async def test_thinking_is_a_sign_of_life(self, rig):
        """A reasoning model may think for minutes, as long as it does so aloud."""
        slow = (*(step for n in range(10) for step in (Pause(15.0), Reasoning("hm"))), *ANSWER)
        assert (await rig({"mlx": Scripted({"a": [slow]})}).ask(GOAL)).text == GOOD

    async def test_the_total_budget_ends_everything(self, rig):
        """Also an answer that keeps coming."""
        drip = (*(step for _ in range(1000) for step in (Token("x"), Pause(5.0))), End("stop"))
        refusal = await rig({"ollama": Scripted({"a": [drip]}), "mlx": Scripted({"b": [drip]})}).refused(GOAL)
        assert [fault for *_, fault in tried(refusal)] == ["total_timeout"]
        assert refusal.seconds == pytest.approx(300.0)
        assert refusal.code == "MODEL_002"


class TestQueues:
    async def test_behind_a_request_that_gets_tokens_one_waits_longer(self, rig):
        """A busy model is not a wedged one: the budget grows up to that of a queue."""
        busy = (
            *(step for n in range(8) for step in (Token(f"part {n} of a long text, "), Pause(5.0))),
            End("stop"),
        )
        queued = (Pause(45.0), *ANSWER)
        built = rig({"ollama": Scripted({"a": [busy, queued]})}, queue_s=60.0)
        first = asyncio.create_task(built.ask(GOAL))
        await asyncio.sleep(1.0)
        second = await built.ask(GOAL)
        assert tried(second) == [("ollama", "a", None)]
        assert (await first).text.startswith("part 0")

    async def test_a_queue_has_its_end_too(self, rig):
        """Nobody waits for ever because somebody else is being answered."""
        busy = (
            *(step for n in range(40) for step in (Token(f"part {n} of a long text, "), Pause(5.0))),
            End("stop"),
        )
        built = rig({"ollama": Scripted({"a": [busy, SILENCE]})}, queue_s=60.0)
        first = asyncio.create_task(built.ask(GOAL))
        await asyncio.sleep(1.0)
        refusal = await built.refused(GOAL, max_fallbacks=0)
        assert refusal.seconds == pytest.approx(60.0)
        await first

    async def test_a_rate_limit_is_waited_for_when_nobody_else_is_there(self, rig):
        """As long as the server asked for, and not a second less."""
        limited = fails(CallCause.STATUS, "slow down", 429, retry_after_s=7.0)
        answer = await rig({"openai": Scripted({"a": [limited, ANSWER]})}).ask(GOAL)
        assert tried(answer) == [("openai", "a", "rate_limited"), ("openai", "a", None)]
        assert answer.seconds == pytest.approx(7.0)

    async def test_a_rate_limit_is_not_waited_for_when_another_node_is_there(self, rig):
        """And the limited node's other models are not tried either."""
        limited = fails(CallCause.STATUS, "slow down", 429, retry_after_s=7.0)
        nodes = {
            "openai": Scripted({"llama3.3:70b": [limited], "c": [ANSWER]}),
            "ollama": Scripted({"b": [ANSWER]}),
        }
        answer = await rig(nodes).ask(GOAL)
        assert tried(answer) == [("openai", "llama3.3:70b", "rate_limited"), ("ollama", "b", None)]
        assert answer.seconds == 0.0

    async def test_a_rate_limit_longer_than_a_queue_is_refused_at_once(self, rig):
        """An hour is not waited for."""
        limited = fails(CallCause.STATUS, "slow down", 429, retry_after_s=3600.0)
        refusal = await rig({"openai": Scripted({"a": [limited]})}).refused(GOAL)
        assert refusal.seconds == 0.0

    async def test_a_busy_server_is_asked_again_when_nobody_else_is_there(self, rig):
        """A full queue empties."""
        busy = fails(CallCause.STATUS, "server busy, please try again.", 503)
        answer = await rig({"ollama": Scripted({"a": [busy, ANSWER]})}).ask(GOAL)
        assert tried(answer) == [("ollama", "a", "busy"), ("ollama", "a", None)]

    async def test_twenty_requests_spread_over_two_nodes(self, rig):
        """Neither node gets everything, also when both are full."""
        slow = (Pause(3.0), *ANSWER)
        one, two = Scripted({"a": [slow]}, kind=OLLAMA), Scripted({"a": [slow]}, kind=OLLAMA)
        built = rig({"ollama1": one, "ollama2": two})
        answers = await asyncio.gather(*(built.ask(GOAL) for _ in range(20)))
        assert len(answers) == 20
        assert len(one.calls) == len(two.calls) == 10


class TestRests:
    async def test_a_wedged_model_is_not_met_twice(self, rig):
        """The second request goes to the other node at once."""
        nodes = {"mlx": Scripted({"a": [SILENCE]}), "ollama": Scripted({"b": [ANSWER]})}
        built = rig(nodes)
        assert (await built.ask(GOAL)).seconds > 19.0
        again = await built.ask(GOAL)
        assert again.seconds == 0.0
        assert tried(again) == [("ollama", "b", None)]

    async def test_a_rested_model_is_tried_by_the_router_itself(self, rig):
        """No request pays for the trial; after it the model is used again."""
        sick = Scripted({"a": [SILENCE, ANSWER]})
        built = rig({"mlx": sick, "ollama": Scripted({"b": [ANSWER]})}, open_s=5.0)
        await built.ask(GOAL)
        await asyncio.sleep(6.0)
        assert (await built.ask(GOAL)).node == "ollama"
        await asyncio.sleep(1.0)
        assert sick.calls[-1].max_tokens == 1
        assert (await built.ask(GOAL)).node == "mlx"
        assert len(sick.calls) == 3

    async def test_a_failed_trial_makes_the_rest_longer(self, rig):
        """Twice as long, and still no request pays."""
        sick = Scripted({"a": [SILENCE]})
        built = rig({"mlx": sick, "ollama": Scripted({"b": [ANSWER]})}, open_s=5.0)
        await built.ask(GOAL)
        for _ in range(60):
            await asyncio.sleep(1.0)
            assert (await built.ask(GOAL)).seconds == 0.0
        assert 2 <= len(sick.calls) <= 4

    async def test_resting_models_are_the_last_resort(self, rig):
        """Better a doubtful model than none at all."""
        one = Scripted({"a": [SILENCE, ANSWER]})
        built = rig({"ollama": one})
        await built.refused(GOAL)
        assert (await built.ask(GOAL)).text == GOOD

    async def test_fast_failures_attract_no_traffic(self, rig):
        """A node that fails in no time gets two requests, not two hundred."""
        broken = Scripted({"llama3.3:70b": [fails(CallCause.STATUS, "bad gateway", 502)]})
        built = rig({"ollama1": broken, "ollama2": Scripted({"b": [ANSWER]})}, open_s=5.0)
        for _ in range(50):
            assert (await built.ask(GOAL, Session())).node == "ollama2"
        assert len(broken.calls) == 2


class TestCancellation:
    @pytest.mark.parametrize(
        "script", [SILENCE, (Token("word " * 10), Pause(None)), (Progress(1, 2), Pause(None))]
    )
    @pytest.mark.parametrize("after", [0.0, 0.5, 17.0])
    async def test_a_cancelled_request_leaves_no_task(self, rig, script, after):
        """Wherever it is cancelled, nothing goes on for nobody and nothing is miscounted."""
        built = rig({"ollama": Scripted({"a": [script]})})
        request = asyncio.create_task(built.ask(GOAL))
        await asyncio.sleep(after)
        request.cancel()
        await asyncio.gather(request, return_exceptions=True)
        assert request.cancelled()
        await asyncio.sleep(1.0)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert built.router._in_flight["ollama"] == 0
        assert built.router.health.why("ollama", "a", now()) == ""

    async def test_closing_ends_loads_scans_and_trials(self, rig):
        """What the router started ends with it."""
        one = Scripted({"a": [ANSWER]}, resident=(), load={"a": SILENCE})
        built = rig({"ollama": one})
        request = asyncio.create_task(built.ask(GOAL))
        await asyncio.sleep(1.0)
        await built.router.aclose()
        await asyncio.gather(request, return_exceptions=True)
        assert asyncio.all_tasks() == {asyncio.current_task()}
