"""What simulated models say and how it is cut into tokens."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opskit.sandbox.faults import SandboxFault, SandboxFaultKind
from opskit.sandbox.generation import Ending, default_reply, tokenise, write_script


def said(goal):
    """Answer one goal."""
    return default_reply([{"role": "user", "content": goal}], "m")


@pytest.mark.parametrize(
    "goal,answer",
    [
        ("Reply with the single word ready.", "ready"),
        ("Ответь одним словом: готов", "готов"),
        ("What is 6 times 7?", "42"),
        ("Сколько будет 2 + 2?", "4"),
        ("What is the capital of France?", "Paris"),
    ],
)
def test_a_plain_question_has_a_right_answer(goal, answer):
    """Questions that a check asks are answered as a healthy model would."""
    assert said(goal) == answer


def test_a_goal_is_answered_in_its_language_with_its_number_of_words():
    """The sentence names how many words the goal has, in Russian for a Cyrillic goal."""
    assert "3 words" in said("describe this system")
    assert "2 слова" in said("опиши систему")


@given(st.text())
def test_no_answer_is_an_echo_of_a_longer_goal(goal):
    """An answer is never empty, and never the goal itself."""
    answer = said(goal)
    assert answer.strip()
    assert answer.strip() != goal.strip()


@given(st.text())
def test_tokens_joined_are_the_text(text):
    """Nothing is lost or added by streaming."""
    assert "".join(tokenise(text)) == text


@given(st.integers(0, 40))
def test_a_limit_is_kept_and_told(limit):
    """An answer has at most so many tokens, and says so when it was cut."""
    words = "word " * 20
    script = write_script(None, [], "m", lambda *_: words, limit)
    whole = len(tokenise(words))
    assert len(script.tokens) == min(limit, whole)
    assert script.reason == ("length" if limit <= whole else "stop")


@given(st.integers(0, 500), st.integers(0, 500) | st.none())
def test_a_loop_ends_at_the_nearer_limit(after, limit):
    """A loop has exactly as many tokens as the fault or the request allows."""
    script = write_script(
        SandboxFault(SandboxFaultKind.LOOP, after_tokens=after), [], "m", default_reply, limit
    )
    assert len(script.tokens) == min(after, after if limit is None else limit)
    assert (script.reason, script.ending) == ("length", Ending.DONE)
