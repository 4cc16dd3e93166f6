"""What a fault costs a model, its node and the caller: by the whole router over scripted nodes."""

import pytest

from opskit.llm.answer import Session
from opskit.providers.base import CallCause, Token
from tests.parts.rig import fails, named, tried
from tests.parts.scripted import Scripted, says

GOAL = "Explain in one plain sentence how a hash table deals with collisions."
GOOD = "It keeps colliding entries in a list per bucket."

CONTEXT = fails(CallCause.STATUS, "request (671 tokens) exceeds the available context size (256 tokens)", 400)
OPTION = fails(CallCause.STATUS, 'option "num_predict" must be of type integer', 500)
UNPARSABLE = (
    Token("It "),
    *fails(
        CallCause.IN_BAND, "The model produced output that does not match the expected peg-native format", 500
    ),
)
BROKEN_FILE = fails(CallCause.STATUS, "invalid file magic", 500)
TEMPLATE = fails(CallCause.STATUS, 'template: :1:10: executing "" at <.X>: cannot evaluate field X', 500)
TOO_NEW = fails(CallCause.STATUS, "unknown model architecture: 'brandnew'", 500)
UNKNOWN_500 = fails(CallCause.STATUS, "something that nobody has seen yet", 500)
NO_KEY = fails(CallCause.STATUS, "Invalid API Key", 401)

OF_THE_REQUEST = [
    (CONTEXT, "context_exceeded"),
    (OPTION, "bad_request"),
    (UNPARSABLE, "unparsable_answer"),
    (UNKNOWN_500, "server_error"),
]
OF_THE_MODEL = [
    (BROKEN_FILE, "broken_model_file"),
    (TEMPLATE, "broken_template"),
    (TOO_NEW, "unknown_architecture"),
]


class TestFaultsOfOneRequest:
    @pytest.mark.parametrize("script, fault", OF_THE_REQUEST)
    async def test_the_next_model_answers_this_request(self, rig, script, fault):
        """SPEC A3: the search goes on, whatever the first model could not do."""
        one = Scripted({"llama3.3:70b": [script], "b": [says(GOOD)]})
        answer = await rig({"ollama": one}).ask(GOAL)
        assert tried(answer) == [("ollama", "llama3.3:70b", fault), ("ollama", "b", None)]

    @pytest.mark.parametrize("script, fault", OF_THE_REQUEST)
    async def test_the_model_is_asked_again_by_the_next_request(self, rig, script, fault):
        """A healthy model is not lost for the session, and the circuit of its node stays closed."""
        one = Scripted({"llama3.3:70b": [script, says(GOOD)], "b": [says(GOOD)]})
        built, session = rig({"ollama": one}), Session()
        await built.ask(GOAL, session)
        assert session.failed == set()
        assert built.router.health.nodes == {}
        again = await built.ask(GOAL, session)
        assert tried(again) == [("ollama", "llama3.3:70b", None)]

    @pytest.mark.parametrize("script", [CONTEXT, OPTION, UNPARSABLE])
    async def test_no_number_of_them_opens_a_circuit(self, rig, script):
        """They say nothing of the model's health, so that ten in a row leave no trace."""
        one = Scripted({"llama3.3:70b": [script], "b": [says(GOOD)]})
        built = rig({"ollama": one})
        for _ in range(10):
            assert (await built.ask(GOAL)).attempts[0].model == "llama3.3:70b"
        assert built.router.health.models == {}

    async def test_unknown_errors_in_a_row_rest_the_model(self, rig):
        """A 500 that nobody knows is not forgiven for ever: the model's circuit counts it."""
        one = Scripted({"llama3.3:70b": [UNKNOWN_500], "b": [says(GOOD)]})
        built = rig({"ollama": one}, failures=2)
        for _ in range(2):
            await built.ask(GOAL)
        assert tried(await built.ask(GOAL)) == [("ollama", "b", None)]
        assert built.router.health.nodes == {}

    async def test_an_unparsable_answer_is_asked_for_once_more(self, rig):
        """Where there is no other model, the same one is: it may well write something else."""
        one = Scripted({"a": [UNPARSABLE, says(GOOD)]})
        answer = await rig({"ollama": one}).ask(GOAL)
        assert tried(answer) == [("ollama", "a", "unparsable_answer"), ("ollama", "a", None)]


class TestFaultsOfOneModel:
    @pytest.mark.parametrize("script, fault", OF_THE_MODEL)
    async def test_the_model_is_not_asked_again_in_the_session(self, rig, script, fault):
        """It would fail for ever; the other models of the same node go on."""
        one = Scripted({"llama3.3:70b": [script], "b": [says(GOOD)]})
        built, session = rig({"ollama": one}), Session()
        first = await built.ask(GOAL, session)
        assert tried(first) == [("ollama", "llama3.3:70b", fault), ("ollama", "b", None)]
        assert session.failed == {("ollama", "llama3.3:70b")}
        assert tried(await built.ask(GOAL, session)) == [("ollama", "b", None)]
        assert built.router.health.nodes == {}

    @pytest.mark.parametrize("script", [script for script, _ in OF_THE_MODEL])
    async def test_it_is_no_crash(self, rig, script):
        """The log has an [LLM_ERROR], not an [LLM_CRASH]."""
        one = Scripted({"llama3.3:70b": [script], "b": [says(GOOD)]})
        built = rig({"ollama": one})
        await built.ask(GOAL)
        assert built.tagged("LLM_CRASH") == []
        assert len(built.tagged("LLM_ERROR")) == 1


class TestRemedies:
    @pytest.mark.parametrize(
        "script, code, says_what",
        [
            (CONTEXT, "MODEL_004", ["shorten", "nodes.ollama.num_ctx"]),
            (OPTION, "MODEL_004", ["correct what the message names"]),
            (UNPARSABLE, "MODEL_004", ["ask again", "the model and the server are well"]),
            (BROKEN_FILE, "MODEL_004", ["`ollama pull a:1b`", "`df -h`"]),
            (TEMPLATE, "MODEL_004", ["`ollama show --template a:1b`"]),
            (TOO_NEW, "MODEL_004", ["update Ollama"]),
            (NO_KEY, "MODEL_001", ["nodes.ollama.api_key", "export NAME"]),
        ],
    )
    async def test_a_refusal_tells_what_helps_against_its_fault(self, rig, script, code, says_what):
        """Not the general remedy of its code: what is to be typed after this fault."""
        refusal = await rig({"ollama": Scripted({"a:1b": [script]})}).refused(GOAL)
        assert refusal.code == code
        assert [words for words in says_what if words not in (refusal.remedy or "")] == []

    async def test_numbers_of_an_exceeded_context_are_kept(self, rig):
        """How long the prompt is and what the context holds stand in the message."""
        refusal = await rig({"ollama": Scripted({"a": [CONTEXT]})}).refused(GOAL)
        assert "671" in refusal.message
        assert "256" in refusal.message

    async def test_a_wrong_key_is_not_answered_by_starting_a_node(self, rig):
        """The server runs: nothing is to be started."""
        refusal = await rig({"ollama": Scripted({"a": [NO_KEY]})}).refused(GOAL)
        assert "serve" not in (refusal.remedy or "")

    async def test_a_wrong_key_for_the_list_of_models_asks_for_the_key_too(self, rig):
        """Where not even the list is given out, no model is tried; the remedy is the same."""
        one = Scripted({})
        one.listing = NO_KEY
        refusal = await rig({"ollama": one}).refused(GOAL)
        assert refusal.code == "MODEL_001"
        assert "nodes.ollama.api_key" in (refusal.remedy or "")
        assert "serve" not in (refusal.remedy or "")

    async def test_of_two_faults_the_wanted_model_s_remedy_comes_first(self, rig):
        """What was asked for decides; a fallback's fault is told after it."""
        one = Scripted({"llama3.3:70b": [CONTEXT], "b": [TOO_NEW]})
        remedy = (await rig({"ollama": one}).refused(GOAL, **named("llama3.3:70b"))).remedy or ""
        assert remedy.index("shorten") < remedy.index("update Ollama")
