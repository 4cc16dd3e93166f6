"""When a small model was sure of a fact, by the probabilities that a real one gave."""

import pytest

from opskit.agent.fact import asks_fact, is_sure, meaning
from opskit.agent.method import about_machine
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
        ("Convert 5 GiB to bytes.", "5 GiB are 40/.9 bytes", False),
        ("What is the mean of 4, 8 and 15?", "The mean is 12/.99", False),
        ("Сколько будет 17 * 23?", "Будет 371/.99", False),
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


@pytest.mark.parametrize(
    "goal",
    [
        "What does EWOULDBLOCK mean?",
        "Что значит ENOTCONN?",
        "Convert 5 GiB to bytes.",
        "Calculate 17 * 23",
        "Переведи 5 ГБ в байты",
        "rm -rf /",
        "docker ps -a",
    ],
)
def test_a_small_model_has_to_be_sure_of_what_it_claims(goal: str):
    """Of a meaning and of a result as of a fact; a command of a shell is no talk."""
    assert asks_fact(goal)


@pytest.mark.parametrize(
    "goal", ["List five fruits.", "Good morning!", "Переведи на английский: диск заполнен", "Write a poem"]
)
def test_what_claims_nothing_needs_no_certainty(goal: str):
    """A small model may talk."""
    assert not asks_fact(goal)


@pytest.mark.parametrize(
    ("goal", "says"),
    [
        ("What does ECONNREFUSED mean?", "nothing listens"),
        ("What does exit code 137 of a container mean?", "SIGKILL"),
        ("Что значит ошибка 'No space left on device' и что делать?", "disk is full"),
    ],
)
def test_the_meaning_of_an_error_comes_from_the_catalogue(goal: str, says: str):
    """With what to type; no model is asked."""
    answer = meaning(goal)
    assert answer is not None
    assert says in answer
    assert "Remedy: " in answer


@pytest.mark.parametrize(
    "goal", ["What does busy mean?", "What is a container?", "What is the capital of Japan?"]
)
def test_words_of_every_day_are_left_to_a_model(goal: str):
    """Although opskit has states of these names."""
    assert meaning(goal) is None


@pytest.mark.parametrize(
    "goal",
    [
        "Are there uncommitted changes in this repository?",
        "Who made the last commit?",
        "На какой ветке этот репозиторий?",
    ],
)
def test_a_question_about_a_repository_needs_a_look(goal: str):
    """No model knows it."""
    assert about_machine(goal)
