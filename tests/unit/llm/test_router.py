"""Who is asked, in which order, and what follows a failure (SPEC A3, A4, B8-B11, D4)."""

import asyncio

import pytest

from opskit.llm.answer import Session
from opskit.llm.plan import ModelRequest
from opskit.providers.base import DEFAULT_MODEL, CallCause, End, Reasoning, Token, Usage
from tests.parts.rig import fails, named, tried
from tests.parts.scripted import Pause, Scripted, says

GOAL = "Explain in one plain sentence how a hash table deals with collisions."
GOOD = "It keeps colliding entries in a list per bucket."
GIB = 1024**3


CRASH = fails(CallCause.STATUS, "model runner has unexpectedly stopped", 500)
REFUSED = fails(CallCause.REFUSED, phase="connect")


class TestWhoIsAsked:
    async def test_a_plain_question_gets_its_answer(self, rig):
        """One model, one call, one answer that says who gave it."""
        one = Scripted({"a": [(Token("It keeps "), Token("lists."), End("stop"))]})
        answer = await rig({"ollama": one}).ask(GOAL)
        assert (answer.text, answer.node, answer.model) == ("It keeps lists.", "ollama", "a")
        assert tried(answer) == [("ollama", "a", None)]
        assert [call.model for call in one.calls] == ["a"]

    async def test_the_model_asked_for_by_name_answers(self, rig):
        """A name outranks category, power and residency."""
        one = Scripted({"phi3:mini": [says(GOOD)], "llama3.3:70b": [says(GOOD)]}, resident=["llama3.3:70b"])
        answer = await rig({"ollama": one}).ask(GOAL, **named("phi3:mini"))
        assert answer.model == "phi3:mini"

    async def test_a_named_model_that_failed_gives_way(self, rig):
        """SPEC A3: the next available model is sought, MLX first."""
        ollama = Scripted({"a": [CRASH], "phi3.5:3.8b": [says(GOOD)]})
        mlx = Scripted({DEFAULT_MODEL: [says(GOOD)]})
        answer = await rig({"ollama": ollama, "mlx": mlx}).ask(GOAL, **named("a"))
        assert tried(answer) == [("ollama", "a", "runner_crashed"), ("mlx", DEFAULT_MODEL, None)]
        assert [attempt.fallback for attempt in answer.attempts] == [False, True]

    async def test_a_model_that_nobody_lists_is_refused_with_near_names(self, rig):
        """MODEL_001, and nothing is sent to anybody: no other model is guessed."""
        one = Scripted({"qwen2.5-coder:32b": [says(GOOD)], "phi3:mini": [says(GOOD)]})
        refusal = await rig({"ollama": one}).refused(GOAL, **named("qwen2.5-coder:23b"))
        assert refusal.code == "MODEL_001"
        assert "qwen2.5-coder:32b" in refusal.message
        assert "phi3:mini" not in refusal.message
        assert one.calls == []
        assert one.loads == []

    async def test_a_model_that_does_not_fit_is_skipped_with_the_numbers(self, rig):
        """MODEL_003: what it needs and what there is, before anything is loaded."""
        one = Scripted({"big": [says(GOOD)]}, resident=(), sizes={"big": 40 * GIB})
        built = rig({"ollama": one}, memory=8 * GIB)
        refusal = await built.refused(GOAL, **named("big"))
        assert refusal.code == "MODEL_003"
        assert "8.0 GiB can be had" in refusal.message
        assert one.loads == one.calls == []

    async def test_a_smaller_model_answers_where_the_better_one_does_not_fit(self, rig):
        """Without a name the choice goes on to what fits."""
        sizes = {"llama3.3:70b": 40 * GIB, "phi3:mini": 2 * GIB}
        one = Scripted({name: [says(GOOD)] for name in sizes}, resident=(), sizes=sizes)
        answer = await rig({"ollama": one}, memory=8 * GIB).ask(GOAL)
        assert answer.model == "phi3:mini"

    async def test_memory_of_another_machine_is_not_measured_here(self, rig):
        """A remote node decides by itself what fits."""
        one = Scripted({"big": [says(GOOD)]}, resident=(), sizes={"big": 40 * GIB})
        answer = await rig({"ollama": one}, memory=8 * GIB, url="http://10.1.2.3:11434").ask(GOAL)
        assert answer.model == "big"

    async def test_a_cloud_model_is_not_asked_unasked(self, rig):
        """With nothing else there the request is refused, and says why."""
        one = Scripted({"cloudy": [says(GOOD)]}, cloud=["cloudy"])
        refusal = await rig({"ollama": one}).refused(GOAL)
        assert refusal.code == "MODEL_001"
        assert "cloud" in refusal.message
        assert one.calls == []

    async def test_nobody_there_is_told_with_the_command_to_start(self, rig):
        """MODEL_001 names each node, what is wrong with it, and what to type."""
        one = Scripted({})
        one.listing = REFUSED
        refusal = await rig({"ollama": one}).refused(GOAL)
        assert refusal.code == "MODEL_001"
        assert "refused" in refusal.message
        assert "ollama serve" in refusal.remedy

    async def test_a_node_that_came_up_a_moment_ago_answers(self, rig):
        """No request is refused on the strength of old news."""
        one = Scripted({"a": [says(GOOD)]})
        one.listing = REFUSED
        built = rig({"ollama": one})
        await built.refused(GOAL)
        one.listing = ()
        await asyncio.sleep(1.5)
        assert (await built.ask(GOAL)).text == GOOD


class TestDefaultsOfARequest:
    async def test_they_are_the_same_for_every_model(self, rig):
        """A fallback is asked for what the first choice was asked for."""
        first = Scripted({"a": [CRASH]})
        second = Scripted({"b": [says(GOOD)]})
        built = rig({"ollama": first, "openai": second}, temperature=0.0, seed=7, max_tokens=99)
        await built.ask(GOAL, **named("a"))
        calls = [*first.calls, *second.calls]
        assert [(call.temperature, call.seed, call.max_tokens) for call in calls] == [(0.0, 7, 99)] * 2
        assert [line.fields["seed"] for line in built.tagged("LLM_CALL")] == [7, 7]

    async def test_a_category_has_its_own_limit(self, rig):
        """Other categories keep the general one."""
        node = Scripted({"a": [says(GOOD)]})
        built = rig({"ollama": node}, max_tokens=99, max_tokens_by_category={"fast": 8})
        await built.ask(GOAL, request=ModelRequest(category="fast"))
        await built.ask(GOAL, request=ModelRequest(category="coding"))
        assert [call.max_tokens for call in node.calls] == [8, 99]

    async def test_what_the_question_names_comes_first(self, rig):
        """A temperature of zero is a value."""
        node = Scripted({"a": [says(GOOD)]})
        built = rig({"ollama": node}, temperature=0.9, seed=7, max_tokens_by_category={"default": 8})
        await built.ask(GOAL, temperature=0.0, seed=0, max_tokens=5)
        call = node.calls[0]
        assert (call.temperature, call.seed, call.max_tokens) == (0.0, 0, 5)

    async def test_without_configuration_the_server_decides(self, rig):
        """Neither temperature nor seed is sent."""
        node = Scripted({"a": [says(GOOD)]})
        await rig({"ollama": node}).ask(GOAL)
        assert (node.calls[0].temperature, node.calls[0].seed) == (None, None)


class TestFailover:
    @pytest.mark.parametrize(
        "script, why",
        [
            (REFUSED, "refused"),
            (fails(CallCause.NAME, phase="connect"), "unreachable"),
            (fails(CallCause.TIMEOUT, phase="connect"), "connect_timeout"),
            (fails(CallCause.RESET), "reset"),
            (fails(CallCause.CLOSED), "empty_reply"),
            (CRASH, "runner_crashed"),
            (fails(CallCause.STATUS, "out of memory", 500), "out_of_memory"),
            (fails(CallCause.STATUS, "server busy", 503), "busy"),
            (fails(CallCause.STATUS, "slow down", 429), "rate_limited"),
            (fails(CallCause.STATUS, "model 'a' not found", 404), "not_installed"),
            (fails(CallCause.STATUS, "who are you", 401), "unauthorised"),
            (fails(CallCause.STATUS, "no", 400), "bad_request"),
            (fails(CallCause.STATUS, "generation thread died", 404), "wedged"),
            (fails(CallCause.PAYLOAD), "bad_payload"),
            (fails(CallCause.NOT_LISTED), "not_listed"),
            ((Token(GOOD), *fails(CallCause.ENDED)), "truncated"),
            ((Token(GOOD), *fails(CallCause.IN_BAND, "mlx runner failed", 200)), "runner_crashed"),
            ((Token(GOOD), Pause(None)), "idle_timeout"),
            ((Token(GOOD),), "truncated"),
            ((), "truncated"),
            (says(""), "empty"),
            (says("<think>hm</think>"), "only_thinking"),
            ((Reasoning("hm"), End("stop")), "only_thinking"),
            (says(GOAL), "echo"),
            (says(GOAL[:40]), "echo"),
            (says("I cannot do that. " * 12), "loop"),
            (says(GOOD, reason="length"), "cut_off"),
        ],
    )
    async def test_whatever_goes_wrong_the_next_model_answers(self, rig, script, why):
        """Each fault and each bad text is named, and leads to the next node."""
        nodes = {"mlx": Scripted({"a": [script]}), "ollama": Scripted({"b": [says(GOOD)]})}
        answer = await rig(nodes, order=("mlx", "ollama")).ask(GOAL)
        assert tried(answer) == [("mlx", "a", why), ("ollama", "b", None)]
        assert answer.text == GOOD

    async def test_thinking_that_met_the_limit_names_the_limit(self, rig):
        """How much it thought, which limit ended it, and what to raise."""
        script = (Reasoning("first, "), Reasoning("second"), End("length", Usage(completion_tokens=60)))
        refusal = await rig({"ollama": Scripted({"a": [script]})}, max_tokens=60).refused(GOAL)
        assert refusal.attempts[0].detail == (
            "13 characters of thinking and no answer: it met its limit (length, max_tokens 60)"
        )
        assert "router.max_tokens" in (refusal.remedy or "")

    async def test_thinking_that_filled_the_context_does_not_blame_max_tokens(self, rig):
        """Fewer tokens than were allowed, and `length` all the same."""
        script = (Reasoning("hm"), End("length", Usage(completion_tokens=50)))
        refusal = await rig({"ollama": Scripted({"a": [script]})}, max_tokens=60).refused(GOAL)
        assert "50 of 60 tokens" in refusal.attempts[0].detail
        assert "context" in refusal.attempts[0].detail

    async def test_thinking_that_ended_by_itself_blames_no_limit(self, rig):
        """More tokens would not have helped."""
        script = (Reasoning("hm"), End("stop"))
        refusal = await rig({"ollama": Scripted({"a": [script]})}).refused(GOAL)
        assert refusal.attempts[0].detail == "2 characters of thinking and no answer"
        assert "ask again" in (refusal.remedy or "")
        assert "max_tokens" not in (refusal.remedy or "")

    async def test_at_most_three_fallbacks(self, rig):
        """SPEC A3: four attempts in all, each another model, then an honest refusal."""
        one = Scripted({name: [CRASH] for name in "abcdef"})
        refusal = await rig({"ollama": one}).refused(GOAL)
        assert refusal.code == "MODEL_004"
        assert len(refusal.attempts) == len(one.calls) == 4
        assert len({call.model for call in one.calls}) == 4

    async def test_a_caller_may_forbid_fallbacks(self, rig):
        """`max_fallbacks=0` asks the named model only."""
        one = Scripted({"a": [CRASH], "b": [says(GOOD)]})
        refusal = await rig({"ollama": one}).refused(GOAL, **named("a"), max_fallbacks=0)
        assert tried(refusal) == [("ollama", "a", "runner_crashed")]

    async def test_a_crashed_model_is_not_used_again_in_its_session(self, rig):
        """SPEC A3: the failed set belongs to the session, not to the process."""
        one = Scripted({"llama3.3:70b": [CRASH, says(GOOD)], "b": [says(GOOD)]})
        built, session = rig({"ollama": one}), Session()
        assert (await built.ask(GOAL, session)).model == "b"
        assert session.failed == {("ollama", "llama3.3:70b")}
        assert (await built.ask(GOAL, session)).model == "b"
        assert (await built.ask(GOAL, Session())).model == "llama3.3:70b"

    async def test_the_mlx_leg_may_be_switched_off(self, rig):
        """SPEC A6: USE_MLX_FALLBACK=false; a first choice may still be MLX."""
        mlx = Scripted({"a": [says(GOOD)]})
        ollama = Scripted({"llama3.3:70b": [CRASH]})
        built = rig({"ollama": ollama, "mlx": mlx}, use_mlx_fallback=False)
        assert tried(await built.refused(GOAL, **named("llama3.3:70b")))[-1][0] == "ollama"
        assert mlx.calls == []
        assert (await built.ask(GOAL, **named("a"))).node == "mlx"

    async def test_a_dead_node_takes_its_other_models_along(self, rig):
        """A refused connection is met once, not once for each model."""
        mlx = Scripted({"a": [REFUSED], "b": [REFUSED], "c": [REFUSED]})
        answer = await rig({"mlx": mlx, "ollama": Scripted({"d": [says(GOOD)]})}).ask(GOAL)
        assert [attempt.node for attempt in answer.attempts] == ["mlx", "ollama"]

    async def test_a_lone_model_that_does_not_answer_is_called_late(self, rig):
        """MODEL_002 and MODEL_003 name their causes, MODEL_004 is for the mixed ones."""
        silent = Scripted({"a": [(Pause(None),)]})
        assert (await rig({"ollama": silent}).refused(GOAL)).code == "MODEL_002"
        hungry = Scripted({"a": [fails(CallCause.STATUS, "out of memory", 500)]})
        assert (await rig({"ollama": hungry}).refused(GOAL)).code == "MODEL_003"
        echoing = Scripted({"a": [says(GOAL)]})
        refusal = await rig({"ollama": echoing}).refused(GOAL)
        assert refusal.code == "MODEL_004"
        assert "echo" in refusal.message

    async def test_a_text_that_runs_away_is_stopped(self, rig):
        """A loop is not listened to until its end."""
        endless = Scripted({"a": [(*(Token("I cannot do that. ") for _ in range(5000)), Pause(None))]})
        refusal = await rig({"ollama": endless}).refused(GOAL)
        assert tried(refusal) == [("ollama", "a", "loop")]
        assert refusal.seconds == 0.0


class TestLog:
    async def test_each_step_of_a_request_leaves_its_line(self, rig):
        """SPEC A1: call, crash, fallback, call, response, with names and numbers."""
        mlx, ollama = Scripted({"a": [CRASH]}), Scripted({"b": [says(GOOD)]})
        built = rig({"mlx": mlx, "ollama": ollama})
        await built.ask(GOAL)
        assert [line.tag for line in built.lines] == [
            "LLM_CALL",
            "LLM_CRASH",
            "FALLBACK",
            "LLM_CALL",
            "LLM_RESPONSE",
        ]
        change = built.tagged("FALLBACK")[0].fields
        assert (change["from_model"], change["to_model"], change["why"]) == ("a", "b", "runner_crashed")
        assert [line.fields["fallback"] for line in built.tagged("LLM_CALL")] == [False, True]
        assert built.tagged("LLM_RESPONSE")[0].fields["preview"] == GOOD

    async def test_a_refused_text_is_told_as_such(self, rig):
        """SPEC B11: on an echo, warn."""
        built = rig({"ollama": Scripted({"a": [says(GOAL)]})})
        await built.refused(GOAL)
        assert built.tagged("LLM_PARSE")[0].fields["verdict"] == "echo"

    async def test_a_missing_mlx_is_told_once_in_five_minutes(self, rig):
        """SPEC B10: not on every call."""
        mlx = Scripted({})
        mlx.listing = REFUSED
        built = rig({"mlx": mlx, "ollama": Scripted({"b": [says(GOOD)]})})
        for _ in range(5):
            await built.ask(GOAL)
            await asyncio.sleep(30.0)
        assert len(built.tagged("LLM_ERROR")) == 1
        await asyncio.sleep(160.0)
        await built.ask(GOAL)
        assert len(built.tagged("LLM_ERROR")) == 2
