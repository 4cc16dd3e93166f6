"""Whether two answers say the same."""

import pytest

from opskit.agent.agreement import AGREES, most_agreed, similarity

CAPITAL = "What is the capital of France?"


@pytest.mark.parametrize(
    ("goal", "left", "right", "agree"),
    [
        (CAPITAL, "Paris", "The capital of France is Paris.", True),
        (CAPITAL, "Paris", "Paris, a large and beautiful city on the banks of the Seine", True),
        (CAPITAL, "The capital of France is Paris", "The capital of France is Lyon", False),
        (CAPITAL, "It is Paris", "It is not Paris", False),
        ("Какая столица Франции?", "Париж", "Столица Франции — Париж.", True),
        ("Какая столица Франции?", "Столица — Париж", "Столица — Лион", False),
        ("Paris or Lyon?", "Paris", "It is Paris", True),
        ("Paris or Lyon?", "Paris", "Lyon", False),
        ("Is it up?", "yes", "Yes, it is", True),
        ("Is it up?", "yes", "no", False),
        ("Работает?", "да", "нет", False),
        ("What is 6 times 7?", "42", "6 times 7 is 42.", True),
        ("What is 6 times 7?", "42", "41", False),
        ("How much?", "3,5 GiB", "3.5 GiB", True),
        ("In which year did it end?", "It ended in 1945", "It ended in 1944", False),
        (
            "Describe a container",
            "A container runs a process with its own file system and network on a shared kernel",
            "A container isolates a process, with a file system and network of its own, on a shared kernel",
            True,
        ),
        (
            "Describe a container",
            "A container runs a process with its own file system and network on a shared kernel",
            "Bananas grow in warm countries and are picked while they are green and hard",
            False,
        ),
    ],
)
def test_answers_agree_by_what_they_add_to_the_goal(goal: str, left: str, right: str, agree: bool):
    """Words of the goal count for nothing, a number and a negation for everything, in either order."""
    assert (similarity(left, right, goal) >= AGREES) is agree
    assert similarity(left, right, goal) == similarity(right, left, goal)


def test_the_most_agreed_answer_is_the_first_of_equals():
    """One answer agrees with itself."""
    assert most_agreed(["Lyon", "Paris", "It is Paris"], CAPITAL) == (1, pytest.approx(2 / 3))
    assert most_agreed(["Lyon", "Paris"], CAPITAL) == (0, 0.5)
    assert most_agreed(["Lyon"], CAPITAL) == (0, 1.0)
