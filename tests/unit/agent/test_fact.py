"""When a small model was sure of a fact, by the probabilities that a real one gave."""

import pytest

from opskit.agent.fact import is_sure
from opskit.providers.base import Token


def tokens(text: str) -> tuple[Token, ...]:
    """`The/.9 capital` is two tokens; one without a number was certain."""
    words = [word.partition("/") for word in text.split(" ")]
    return tuple(
        Token(f" {word}" if number else word, float(value or 1.0))
        for number, (word, _, value) in enumerate(words)
    )


@pytest.mark.parametrize(
    ("goal", "answer", "sure"),
    [
        ("What is the capital of France?", "The capital of France is Paris/.95", True),
        ("How many continents are there?", "The/.3 answer/.2 is/.43 16/.29", False),
        (
            "What is the largest planet?",
            "The largest planet is Jupiter/.56 but actually/.46 Saturn/.38",
            False,
        ),
        (
            "In which year did World War II end?",
            "It ended/.5 with the Second/.41 World War in 1945/.91",
            True,
        ),
        ("How many days are in a week?", "seven/.9", True),
        ("How many days are in a week?", "seven/.4", False),
        ("Which port does HTTPS use?", "HTTPS or Hypertext/.9 Protocol is/.5 used/.5 for/.6", False),
        ("Какая столица Франции?", "Какая/.3 столица Франции?", False),
        ("Какая столица Франции?", "столица Франции?", False),
        ("What is the square root of 144?", "This/.1 is/.2 on/.2 the/.3 base/.2 10/.8 of/.4 it/.1", False),
    ],
)
def test_the_words_that_carry_the_fact_decide(goal: str, answer: str, sure: bool):
    """The number or the name that the goal does not have; a sure ending of an unsure text is none."""
    assert is_sure(tokens(answer), goal) is sure
