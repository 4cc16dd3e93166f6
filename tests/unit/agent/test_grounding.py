"""Which answers rest on what was shown."""

import pytest

from opskit.agent.grounding import ungrounded

LISTING = "a.txt\nb.txt\nlogs/app.log"
REPORT = (
    "[node-refused:mlx] the MLX server at 127.0.0.1:8080 refuses connections\n"
    "  remedy: mlx_lm.server --model DIR"
)
GOAL = "What is wrong with the stack?"


@pytest.mark.parametrize(
    ("answer", "goal", "texts"),
    [
        ("There are 3 entries.", "How many?", [LISTING]),
        ("a.txt, b.txt and logs/app.log", "Which files?", [LISTING]),
        ("1. a.txt\n2. b.txt", "Which files?", [LISTING]),
        ("The MLX server at 127.0.0.1:8080 refuses connections.", GOAL, [REPORT]),
        ("MLX-сервер не отвечает: 127.0.0.1:8080 отказывает, запустите mlx_lm.server", GOAL, [REPORT]),
        ("The server refuses connections.", GOAL, [REPORT]),
        ("Nothing is wrong.", GOAL, ["Nothing is wrong."]),
        ("The value is 3,5.", "What?", ["load 3.5"]),
        ("It is a well-known server that refuses connections", GOAL, [REPORT]),
    ],
)
def test_an_answer_out_of_the_results_is_taken(answer: str, goal: str, texts: list[str]):
    """Copied names, counted lines, other words for the same."""
    assert ungrounded(answer, goal, texts) is None


@pytest.mark.parametrize(
    ("answer", "goal", "texts"),
    [
        ("There are 12 files.", "How many?", [LISTING]),
        ("c.txt is the newest.", "Which files?", [LISTING]),
        ("The port is 9090.", GOAL, [REPORT]),
        ("The stack is not a stack, it is a list of files.", GOAL, [REPORT]),
        ("The stack is wrong.", GOAL, [REPORT]),
        ("Стек не является стеком, это список.", GOAL, [REPORT]),
        ("Everything works perfectly and all systems are green", GOAL, [REPORT]),
        ("See https://example.com/help", GOAL, [REPORT]),
    ],
)
def test_an_answer_out_of_nowhere_is_not(answer: str, goal: str, texts: list[str]):
    """Invented numbers, names, addresses, and talk about something else."""
    assert ungrounded(answer, goal, texts) is not None
