"""Is this text an answer? Empty, echoed and cut-off texts (SPEC B11), with tables of right and bad pairs."""

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from opskit.llm.echo import is_echo, may_become_echo
from opskit.llm.verdict import Verdict, judge, may_be_shown
from opskit.llm.visible import visible, without_thinking
from tests.parts.answer_pairs import (
    CALLS,
    ECHOES,
    EMPTY,
    GOALS,
    LONG,
    NO_CALLS,
    ONLY_THINKING,
    RIGHT,
    RUSSIAN,
)

#: Few letters and tags, so that texts and prompts often begin alike and are often empty.
pieces = st.sampled_from(
    [
        *(
            "a",
            "b",
            " ",
            "\n",
            "ab ",
            "<",
            ">",
            "[",
            "]",
            "/",
            "|",
            "`",
            "```",
            "hm",
            "é",
            ".",
            ":",
            "?",
            '"',
            "1. ",
        ),
        *(
            "<think>",
            "</think>",
            "<thought>",
            "[THINK]",
            "[/THINK]",
            "<|channel|>",
            "analysis",
            "final",
            "<|end|>",
        ),
        *(
            "<|im_end|>",
            "<|im_start|>",
            "assistant",
            "<eos>",
            "[/INST]",
            "<br/>",
            "<!--",
            "-->",
            "\u200b",
            "**",
        ),
        *(
            "null",
            "no",
            "{",
            "}",
            '{"a":',
            '""',
            "(",
            "empty",
            "user",
            "you",
            "asked",
            "sure",
            "what ",
            "is ",
            "or ",
        ),
        *("can ", "you ", "please ", "tell ", "me ", "help ", "hi"),
    ]
)
alike = st.lists(pieces, max_size=12).map("".join)
goals = st.sampled_from([*GOALS, *(prompt for _, prompt in RIGHT)])
shown_pairs = st.sampled_from(
    [*RIGHT, *ECHOES, *((answer, goal) for answer in (*EMPTY, *ONLY_THINKING) for goal in GOALS)]
)

NEVER_SHOWN = (Verdict.ECHO, Verdict.EMPTY, Verdict.ONLY_THINKING)


class TestCalls:
    @pytest.mark.parametrize("text", CALLS)
    def test_a_call_that_nobody_offered_is_no_answer(self, text):
        """Whatever the notation; and a call that stands alone is never shown before its end."""
        assert judge(text, [LONG]) is Verdict.CALL
        if not text.startswith("I will"):
            assert not any(may_be_shown(text[:end], [LONG], 0) for end in range(len(text) + 1))

    @pytest.mark.parametrize("text, prompt", NO_CALLS)
    def test_what_was_asked_for_or_only_looks_like_a_call_passes(self, text, prompt):
        """Data with a name, a notation that is spoken of, and a call that somebody wants to see."""
        assert judge(text, [prompt]) is None

    @pytest.mark.parametrize("text", CALLS)
    def test_a_prompt_that_speaks_of_functions_may_have_its_call(self, text):
        """A client may describe its functions in the prompt."""
        assert judge(text, ["You may call the function search.", LONG]) is not Verdict.CALL


class TestRightAnswers:
    @pytest.mark.parametrize("answer, prompt", RIGHT)
    def test_a_right_answer_passes(self, answer, prompt):
        """Greetings, completions, choices, repetition, translation, quotes, values and tables pass."""
        assert judge(answer, [prompt]) is None

    def test_a_system_message_that_works_on_texts_gets_them_back(self):
        """A word that is the same in both languages is its translation; else the goal is an echo."""
        asked = "Translate what the user writes into German."
        goal = "Internet problem"
        assert judge(goal, [goal, f"{asked}\n{goal}"]) is None
        assert judge(goal, [goal, f"You are a helpful assistant.\n{goal}"]) is Verdict.ECHO
        assert judge(f"{asked}\n{goal}", [goal, f"{asked}\n{goal}"]) is Verdict.ECHO


class TestEcho:
    @pytest.mark.parametrize("answer, prompt", ECHOES)
    def test_an_answer_that_adds_nothing_is_an_echo(self, answer, prompt):
        """The prompt, its beginning, its copies, with marks, labels or "You asked" around them."""
        assert judge(answer, [prompt]) is Verdict.ECHO

    @given(goal=st.sampled_from([LONG, RUSSIAN, *GOALS[:3]]), ends=st.tuples(alike, alike))
    def test_no_wrapping_makes_an_answer_of_a_prompt(self, goal, ends):
        """White space, quotes, marks and tokens around a prompt add nothing."""
        before, after = (
            "".join(char for char in end if not char.isalnum() and char not in "<[◁") for end in ends
        )
        assert judge(before + goal + after, [goal]) is Verdict.ECHO

    @given(st.text())
    @example("<A>")
    @example("<b> against &nbsp;")
    def test_a_text_that_asks_is_an_echo_of_itself(self, text):
        """SPEC B11 (1): whatever surrounds it, a question given back is no answer."""
        question = f"What is {text}?"
        assert is_echo(question, question)
        assert is_echo(f"  {question}\n", question)

    @given(st.text(min_size=1))
    def test_a_blank_side_is_no_echo(self, text):
        """An empty answer is empty, not an echo; an empty prompt cannot be echoed."""
        assert not is_echo("  \n", text)
        assert not is_echo(text, " ")

    @pytest.mark.parametrize("goal", [LONG, RUSSIAN])
    def test_each_beginning_of_two_words_or_more_is_an_echo(self, goal):
        """SPEC B11 (2): the prompt begins with the answer, wherever it breaks off."""
        first = goal.index(" ") + 2
        assert all(judge(goal[:end], [goal]) is Verdict.ECHO for end in range(first, len(goal) + 1))

    def test_any_of_several_prompts_can_be_echoed(self):
        """The last user message and the whole prompt must both not come back."""
        prompts = ["how are you?", "be brief\nhow are you?"]
        assert all(judge(prompt, prompts) is Verdict.ECHO for prompt in prompts)

    @given(goal=goals, fact=st.text("xyz", min_size=1).map(lambda word: f"qq{word}"))
    def test_one_word_of_its_own_makes_an_answer(self, goal, fact):
        """A word that is neither of the prompt nor of a report of it is what the answer adds."""
        assert judge(f"{goal} {fact}", [goal]) is None
        assert judge(f"You asked: {goal} It is {fact}.", [goal]) is None

    @given(prompt=st.text(min_size=1), answer=st.text("xyz", min_size=1))
    def test_a_text_that_begins_otherwise_is_no_echo(self, prompt, answer):
        """Nothing is an echo that has a word which the prompt does not have."""
        assume(not any(char in prompt.casefold() for char in "xyz"))
        assert not is_echo(answer, prompt)


class TestEmptyAndCutOff:
    @pytest.mark.parametrize("goal", GOALS)
    @pytest.mark.parametrize("text", EMPTY)
    def test_a_text_that_says_nothing_is_empty(self, text, goal):
        """Control tokens, unseen characters, bare markup, null and a lone label are no answer."""
        assert judge(text, [goal]) is Verdict.EMPTY

    @pytest.mark.parametrize("reason", ["stop", "length"])
    @pytest.mark.parametrize("text", ONLY_THINKING)
    def test_thoughts_without_an_answer_are_only_thinking(self, text, reason):
        """Whether the model stopped by itself or met its limit: it is not the same as silence."""
        assert judge(text, GOALS[:1], finish_reason=reason) is Verdict.ONLY_THINKING

    @pytest.mark.parametrize("text", ["", "\n\n", "```\n```"])
    def test_thoughts_beside_an_empty_text_are_only_thinking(self, text):
        """Servers send thoughts apart from the text; a few tokens being fine does not change it."""
        assert judge(text, GOALS[:1], thought=True, length_is_fine=True) is Verdict.ONLY_THINKING

    def test_an_answer_beside_thoughts_passes(self):
        """Thinking is no fault of an answer."""
        assert judge("Four.", ["2+2?"], thought=True) is None

    @given(st.lists(st.sampled_from(EMPTY), min_size=1, max_size=4))
    def test_what_is_empty_stays_so_together(self, texts):
        """Nothing and nothing is nothing."""
        assume(not any(any(map(str.isalpha, visible(text))) for text in texts))
        assert judge("\n\n".join(texts), [LONG]) in (Verdict.EMPTY, Verdict.LOOP)

    def test_an_answer_after_thinking_passes(self):
        """A reasoning model's answer is one."""
        assert judge("<think>2+2...</think>\n\nFour.", ["2+2?"]) is None
        assert without_thinking("<think>2+2...</think>Four.") == "Four."

    def test_a_tag_that_is_talked_about_hides_nothing(self):
        """A tag in quotes, or one that the prompt names, opens no thoughts."""
        assert judge("`<think>` marks the thoughts of a model.", ["What is this tag?"]) is None
        assert judge("<reasoning>2 + 2 = 4</reasoning>", ["Think in <reasoning> tags: 2 + 2?"]) is None

    def test_an_answer_that_ran_into_its_limit_is_cut_off(self):
        """`length` is not an end, unless the caller asked for a few tokens only."""
        assert judge("There once was", ["story"], finish_reason="length") is Verdict.CUT_OFF
        assert judge("There once was", ["story"], finish_reason="length", length_is_fine=True) is None

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

    @settings(max_examples=400)
    @given(
        text=alike | st.text(),
        prompts=st.lists(alike | st.text() | goals, min_size=1, max_size=2),
        hold_back=st.integers(0, 8),
    )
    @example(text="ab ab <think>hm</think>", prompts=["ab ab ab ab"], hold_back=1)
    @example(text="<think>hm</think>", prompts=["a"], hold_back=1)
    @example(text="<", prompts=["<"], hold_back=0)
    @example(text="<!-->hm-->-->", prompts=["what"], hold_back=0)
    @example(text="<!--what ```<a_b><-->", prompts=["what"], hold_back=0)
    def test_no_beginning_of_a_rejected_text_is_shown(self, text, prompts, hold_back):
        """If the final text is an echo or empty, all its beginnings were held back."""
        if judge(text, prompts) in NEVER_SHOWN:
            assert not any(may_be_shown(text[:end], prompts, hold_back) for end in range(len(text) + 1))

    @settings(max_examples=300)
    @given(goal=goals, parts=st.lists(st.integers(0, 5), min_size=1, max_size=5), more=alike)
    def test_no_beginning_of_a_wrapped_prompt_is_shown(self, goal, parts, more):
        """The same for copies and pieces of a prompt among labels, reports and marks."""
        known = (goal, "You asked: ", "User: ", "\n", goal[: len(goal) // 2], more)
        text = " ".join(known[part] for part in parts)
        if judge(text, [goal]) in NEVER_SHOWN:
            assert not any(may_be_shown(text[:end], [goal], 0) for end in range(len(text) + 1))

    @given(pair=shown_pairs)
    def test_no_beginning_of_a_bad_pair_is_shown(self, pair):
        """The same for the tables."""
        text, prompt = pair
        if judge(text, [prompt]) in NEVER_SHOWN:
            assert not any(may_be_shown(text[:end], [prompt], 0) for end in range(len(text) + 1))

    @given(text=alike, prompts=st.lists(alike, min_size=1, max_size=2))
    @example(text="<!--<|end|>ab <!---->.", prompts=[""])
    def test_what_may_be_shown_stays_so(self, text, prompts):
        """A text that cannot become an echo does not become one by growing."""
        seen = [visible(text[:end], prompts, growing=True) for end in range(len(text) + 1)]
        shown = [not may_become_echo(one, prompts) for one in seen if one]
        assert shown == sorted(shown)

    def test_an_ordinary_answer_is_shown_soon(self):
        """Holding back costs a plain answer its first characters only."""
        answer = "A hash table keeps colliding entries in a list."
        assert not may_be_shown(answer[:23], [LONG], 24)
        assert may_be_shown(answer[:24], [LONG], 24)

    @pytest.mark.parametrize(
        "prompt, answer",
        [
            ("2+2=", "2+2=4, because two and two"),
            ("Good morning!", "Good morning! What can I do"),
            ("New York or Boston: which is larger?", "New York is larger by far."),
            ("def add(a, b):", "def add(a, b):\n    return a + b"),
            ("Repeat after me: I am a robot and I sing.", "I am a robot and I sing."),
            ("The capital of France is", "The capital of France is Paris"),
            ("Return null and a word.", "null and a word as you wish"),
            (RUSSIAN, "Хеш-таблица хранит записи"),
        ],
    )
    def test_an_answer_that_goes_on_is_shown_as_soon_as_it_does(self, prompt, answer):
        """What begins like the prompt is let go by the first word that it adds."""
        assert may_be_shown(answer + " ", [prompt], 4)

    def test_a_lesser_than_sign_is_only_held_for_a_moment(self):
        """`a < b` is not mistaken for a tag that opens."""
        assert not may_be_shown("if x <", ["q"], 6)
        assert may_be_shown("if x < y then", ["q"], 6)
