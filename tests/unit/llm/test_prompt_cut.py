"""A prompt that was read only in part: when it is said, and when it is not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opskit.llm.prompt import PromptCut, least_tokens, prompt_cut
from opskit.providers.base import CallCause, End, Message, Token, Usage
from tests.parts.rig import fails, named, tried
from tests.parts.scripted import Scripted, says

GOOD = "It keeps colliding entries in a list per bucket."
ENGLISH = "Tell me which of these long sentences matters most, and why it does. "
RUSSIAN = "Почему небо синее, объясни подробно и приведи примеры из собственной жизни. "


def user(text: str) -> tuple[Message, ...]:
    return (Message("user", text),)


def judged(text: str, read: int | None, context: int | None = None, *, counts_cached: bool = False) -> bool:
    usage = Usage(prompt_tokens=read, counts_cached=counts_cached)
    return prompt_cut(user(text), usage, context) is not None


class TestHowManyTokensAtLeast:
    @pytest.mark.parametrize(
        ("text", "tokens"),
        [
            (ENGLISH * 80, 1200),
            (RUSSIAN * 80, 4500),
            ("def function_name(argument): return argument.value + 1\n" * 80, 1200),
            ("123456789 " * 80, 800),
            (" " * 4000 + "=" * 4000, 128),
            ("don't isn’t " * 80, 400),
        ],
    )
    def test_it_is_never_more_than_a_real_tokenizer_counts(self, text, tokens):
        """SmolLM2 counts `tokens` for these; a larger vocabulary still has a token for each word."""
        assert least_tokens(user(text)) <= tokens

    @given(st.text())
    def test_it_is_never_more_than_the_characters(self, text):
        """Each token has one character or more."""
        assert least_tokens(user(text)) <= len(text)


class TestWhatIsSaid:
    def test_a_prompt_longer_than_the_context_was_cut(self):
        """More words than the context has tokens."""
        usage = Usage(prompt_tokens=2050)
        cut = prompt_cut(user(ENGLISH * 1000), usage, 4096)
        assert cut == PromptCut(13_000, 2050, 4096)
        for number in ("13000", "2050", "4096"):
            assert number in cut.text

    @pytest.mark.parametrize("read", [2050, 2051])
    def test_a_count_that_only_a_cut_leaves(self, read):
        """Ollama keeps four or five tokens and half of the rest, whatever the language."""
        assert judged(RUSSIAN * 300, read, 4096)

    def test_a_count_with_the_cache_in_it_is_believed(self):
        """A server that counts cached tokens too has not read what it does not count."""
        assert judged(ENGLISH * 100, 500, counts_cached=True)


class TestWhatIsNotSaid:
    @pytest.mark.parametrize("read", [None, 1, 20, 1500])
    def test_a_prompt_out_of_the_cache_is_not_accused(self, read):
        """It fits into the context: older servers do not count what they had already read."""
        assert not judged(ENGLISH * 100, read, 4096)

    def test_without_the_context_nothing_is_certain(self):
        """The cache may hold all of it."""
        assert not judged(ENGLISH * 1000, 20)

    def test_a_count_that_is_hardly_too_low_is_not_accused(self):
        """Another idea of what a word is explains it."""
        assert not judged(ENGLISH * 100, 1200, counts_cached=True)

    @given(
        st.text() | st.text("ab .'-_"), st.integers(0, 100), st.none() | st.integers(1, 10_000), st.booleans()
    )
    def test_a_prompt_that_was_read_whole_is_never_accused(self, text, template, context, counts_cached):
        """Whatever its tokens are, there is one for each word at least."""
        assert not judged(text, least_tokens(user(text)) + template, context, counts_cached=counts_cached)


def reads(tokens: int) -> tuple[Token, End]:
    return (Token(GOOD), End("stop", Usage(prompt_tokens=tokens)))


class TestInTheRouter:
    async def test_the_answer_says_what_was_cut(self, rig):
        """The answer stands, with the numbers beside it and in the log."""
        built = rig({"ollama": Scripted({"a": [reads(2050)]}, contexts={"a": 4096})})
        answer = await built.ask(ENGLISH * 1000)
        assert answer.text == GOOD
        assert answer.prompt_cut == PromptCut(13_000, 2050, 4096)
        fields = built.tagged("LLM_RESPONSE")[0].fields
        assert (fields["prompt_cut"], fields["prompt_tokens"], fields["context_tokens"]) == (True, 2050, 4096)

    async def test_a_prompt_that_was_read_says_nothing(self, rig):
        """No field, and the server is not asked for its context again."""
        node = Scripted({"a": [reads(30)]}, contexts={"a": 4096})
        built = rig({"ollama": node})
        assert (await built.ask("How are you?")).prompt_cut is None
        assert "prompt_cut" not in built.tagged("LLM_RESPONSE")[0].fields
        assert node.looked == 1

    async def test_a_server_that_does_not_tell_its_context_is_believed_to_have_the_configured_one(self, rig):
        """It has that, or less."""
        node = Scripted({"a": [reads(2050)]})
        answer = await rig({"ollama": node}, num_ctx=4096).ask(ENGLISH * 1000)
        assert answer.prompt_cut is not None

    async def test_a_silent_list_of_loaded_models_costs_no_answer(self, rig):
        """What cannot be told is not told."""
        node = Scripted({"a": [reads(2050)]}, tells_residency=False)
        assert (await rig({"ollama": node}).ask(ENGLISH * 1000)).prompt_cut is None

    async def test_strict_it_is_an_error_and_the_next_model_is_asked(self, rig):
        """The model that read only a part has not answered; one with a larger context may."""
        nodes = {
            "ollama": Scripted({"a": [reads(2050)]}, contexts={"a": 4096}),
            "llamacpp": Scripted({"b": [says(GOOD)]}),
        }
        answer = await rig(nodes).ask(ENGLISH * 1000, strict_context=True, **named("a"))
        assert tried(answer) == [("ollama", "a", "context_exceeded"), ("llamacpp", "b", None)]
        assert [call.may_cut for node in nodes.values() for call in node.calls] == [False, False]

    async def test_strict_nothing_is_shown_of_an_answer_to_a_part(self, rig):
        """What was cut is known at the end only."""
        node = Scripted({"a": [reads(2050)]}, contexts={"a": 4096})
        pieces, outcome = await rig({"ollama": node}).streamed(ENGLISH * 1000, strict_context=True)
        assert pieces == []
        assert outcome.attempts[0].fault == "context_exceeded"
        assert "num_ctx" in (outcome.remedy or "")

    async def test_a_bad_answer_to_a_part_of_the_prompt_says_so(self, rig):
        """The cut may be why it is bad."""
        script = (Token("It keeps"), End("length", Usage(prompt_tokens=2050)))
        node = Scripted({"a": [script]}, contexts={"a": 4096})
        refusal = await rig({"ollama": node}).refused(ENGLISH * 1000)
        assert refusal.attempts[0].fault == "cut_off"
        assert "the server read 2050" in refusal.attempts[0].detail

    async def test_a_fault_says_nothing_of_the_prompt(self, rig):
        """There are no counts to judge by."""
        node = Scripted({"a": [fails(CallCause.STATUS, "server busy", 503)]}, contexts={"a": 16})
        refusal = await rig({"ollama": node}).refused(ENGLISH)
        assert refusal.attempts[0].fault == "busy"
