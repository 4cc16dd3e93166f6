"""Is this text an answer? Empty, echoed and cut-off texts (SPEC B11)."""

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from opskit.llm.verdict import (
    ECHO_LIMIT,
    SHORT_WORD,
    Verdict,
    is_echo,
    judge,
    may_be_shown,
    may_become_echo,
    without_thinking,
)

LONG = "Explain in a few plain sentences how a hash table deals with collisions, please."

#: Few letters and tags, so that texts and prompts often begin alike.
pieces = st.sampled_from(
    ["a", "b", " ", "\n", "ab ", "<", "<think>", "</think>", "<thinking>", "hm", "é", "."]
)
alike = st.lists(pieces, max_size=14).map("".join)


class TestEcho:
    @given(st.text())
    def test_a_text_is_always_an_echo_of_itself(self, text):
        """SPEC B11 (1): the prompt given back is no answer, whatever white space surrounds it."""
        assume(text.strip())
        assert is_echo(text, text)
        assert is_echo(f"  {text}\n", text)

    @given(st.text(min_size=1))
    def test_a_blank_side_is_no_echo(self, text):
        """An empty answer is empty, not an echo; an empty prompt cannot be echoed."""
        assert not is_echo("  \n", text)
        assert not is_echo(text, " ")

    @pytest.mark.parametrize(
        "answer, prompt",
        [
            (LONG[:40], LONG),
            ("Объясни, как устроена", "Объясни, как устроена хеш-таблица"),
            ("Прив", "Привет"),
            ("Explain in a", LONG),
        ],
    )
    def test_the_beginning_of_the_prompt_is_an_echo(self, answer, prompt):
        """SPEC B11 (2): a short answer that the prompt begins with."""
        assert judge(answer, [prompt]) is Verdict.ECHO

    @pytest.mark.parametrize(
        "answer, prompt",
        [(LONG + " Sure.", LONG), ("Как дела сегодня? Хорошо", "Как дела сегодня?"), ("Приветик", "Привет")],
    )
    def test_the_prompt_with_a_little_more_is_an_echo(self, answer, prompt):
        """SPEC B11 (2), the other way round: a short answer that begins with the prompt."""
        assert judge(answer, [prompt]) is Verdict.ECHO

    @pytest.mark.parametrize(
        "answer, prompt",
        [
            ("Да", "Готова ли функция?"),
            ("Да", "Да или нет?"),
            ("Готово", "Сделай отчёт"),
            ("Готово", "Готово?"),
            ("Yes", "Yes or no?"),
            ("Привет! Чем помочь?", "Привет"),
            ("Hello! How can I help?", "Hello"),
            ("4", "4 или 5?"),
        ],
    )
    def test_a_short_legitimate_answer_passes(self, answer, prompt):
        """SPEC B11: "Да", "Готово" and a greeting are answers, also where the prompt begins with the word."""
        assert judge(answer, [prompt]) is None

    def test_only_a_whole_short_word_is_spared(self):
        """Two words, or one longer than any plain answer, are an echo again."""
        assert is_echo("да нет", "да нет наверное")
        assert is_echo("д" * (SHORT_WORD + 1), "д" * (SHORT_WORD + 1) + " и точка")

    def test_an_answer_of_two_hundred_characters_is_no_echo_by_prefix(self):
        """SPEC B11: from 200 characters on only the whole prompt is an echo."""
        prompt = "Tell me a story. "
        short, long = (prompt + "x" * (size - len(prompt)) for size in (ECHO_LIMIT - 1, ECHO_LIMIT))
        assert is_echo(short, prompt)
        assert not is_echo(long, prompt)
        assert not is_echo(long, long + " and more")
        assert is_echo(long, long)

    def test_any_of_several_prompts_can_be_echoed(self):
        """The last user message and the whole prompt must both not come back."""
        assert judge("be brief\nhow are you?", ["how are you?", "be brief\nhow are you?"]) is Verdict.ECHO

    @given(prompt=st.text(min_size=1), answer=st.text("xyz", min_size=1))
    def test_a_text_that_begins_otherwise_is_no_echo(self, prompt, answer):
        """Nothing is an echo that shares no beginning with the prompt."""
        assume(prompt.strip()[:1] not in ("", "x", "y", "z"))
        assert not is_echo(answer, prompt)


class TestEmptyAndCutOff:
    @pytest.mark.parametrize(
        "text", ["", " \n\t", "<think>so</think>", "<think>so", "<THINKING>a</Thinking> "]
    )
    def test_nothing_but_thinking_is_empty(self, text):
        """Thinking aloud is no answer."""
        assert judge(text, ["q"]) is Verdict.EMPTY

    def test_thinking_does_not_hide_an_echo(self):
        """What follows the thinking is what is judged."""
        assert judge(f"<think>let me see</think>{LONG}", [LONG]) is Verdict.ECHO

    def test_an_answer_after_thinking_passes(self):
        """A reasoning model's answer is one."""
        assert judge("<think>2+2...</think>\n\nFour.", ["2+2?"]) is None
        assert without_thinking("<think>2+2...</think>Four.") == "Four."

    def test_an_answer_that_ran_into_its_limit_is_cut_off(self):
        """`length` is not an end, unless the caller asked for a few tokens only."""
        assert judge("Once upon a", ["story"], finish_reason="length") is Verdict.CUT_OFF
        assert judge("Once upon a", ["story"], finish_reason="length", length_is_fine=True) is None

    def test_thinking_that_ran_into_the_limit_is_cut_off(self):
        """More tokens would have helped: that is not the same as an empty answer."""
        assert judge("<think>first, ", ["story"], finish_reason="length") is Verdict.CUT_OFF

    @given(
        st.text() | alike,
        st.lists(st.text() | alike, max_size=3),
        st.sampled_from(["stop", "length", ""]),
        st.booleans(),
    )
    def test_judging_never_raises_and_does_not_change_its_mind(self, text, prompts, reason, fine):
        """Any text gets one verdict, always the same."""
        first = judge(text, prompts, finish_reason=reason, length_is_fine=fine)
        assert first is judge(text, prompts, finish_reason=reason, length_is_fine=fine)
        assert first is None or isinstance(first, Verdict)


class TestHoldingBack:
    """What a stream relies on: nothing is shown that turns out to be an echo or empty."""

    @given(prompt=st.text() | alike, more=alike)
    def test_each_beginning_of_an_echo_may_still_become_one(self, prompt, more):
        """If the final text is an echo, all its beginnings were held back."""
        for text in (prompt, prompt + more, more, prompt[: len(prompt) // 2]):
            if is_echo(text, prompt):
                assert all(may_become_echo(text[:end], [prompt]) for end in range(len(text)))

    @given(text=alike, prompts=st.lists(alike, min_size=1, max_size=2), hold_back=st.integers(0, 8))
    @example(text="ab ab <think>hm</think>", prompts=["ab ab ab ab"], hold_back=1)
    @example(text="<think>hm</think>", prompts=["a"], hold_back=1)
    @example(text="<", prompts=["<"], hold_back=0)
    def test_no_beginning_of_a_rejected_text_is_shown(self, text, prompts, hold_back):
        """The same with thinking in it, and for texts that turn out to be empty."""
        if judge(text, prompts) in (Verdict.ECHO, Verdict.EMPTY):
            assert not any(may_be_shown(text[:end], prompts, hold_back) for end in range(len(text) + 1))

    @given(text=alike, prompts=st.lists(alike, min_size=1, max_size=2))
    def test_what_may_be_shown_stays_so(self, text, prompts):
        """A text that cannot become an echo does not become one by growing."""
        shown = [not may_become_echo(text[:end], prompts) for end in range(len(text) + 1)]
        assert shown == sorted(shown)

    def test_an_ordinary_answer_is_shown_soon(self):
        """Holding back costs a plain answer its first characters only."""
        answer = "A hash table keeps colliding entries in a list."
        assert not may_be_shown(answer[:23], [LONG], 24)
        assert may_be_shown(answer[:24], [LONG], 24)

    def test_a_lesser_than_sign_is_only_held_for_a_moment(self):
        """`a < b` is not mistaken for a tag that opens."""
        assert not may_be_shown("if a <", ["q"], 6)
        assert may_be_shown("if a < b", ["q"], 6)
