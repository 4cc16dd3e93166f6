"""Texts that repeat themselves until nobody listens, and texts that only look so."""

import random
import string

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from opskit.llm.verdict import GROWING_LOOP, LOOP_WINDOW, Verdict, is_loop, judge, runs_away

SENTENCE = "I am sorry, but as a model I cannot do that. "
SHORT = "Let me check that. "

CODE = """
def area(shape: Shape) -> float:
    if isinstance(shape, Circle):
        return math.pi * shape.radius**2
    if isinstance(shape, Square):
        return shape.side**2
    raise TypeError(shape)


def total(shapes: list[Shape]) -> float:
    result = 0.0
    for shape in shapes:
        result += area(shape)
    return result
            }
        }
    }
}
"""
TABLE = "| name | size |\n|------|------|\n" + "".join(f"| row{n} | {n * 7} |\n" for n in range(40))
POEM = """
The sea was calm, the sea was wide,
    O carry me home, O carry me home.
The moon went down behind the tide,
    O carry me home, O carry me home.
The wind got up, the sail was torn,
    O carry me home, O carry me home.
We waited for the light of morn,
    O carry me home, O carry me home.
"""


class TestLoops:
    @pytest.mark.parametrize(
        "unit, times",
        [
            ("the ", 40),
            ("нет ", 30),
            (SHORT, 10),
            (SENTENCE, 5),
            ("- check the configuration file\n", 8),
            ("* да\n", 40),
            (SENTENCE + "Is there anything else?\n\n", 5),
            ("a", 400),
            ("!" * 30, 60),
        ],
    )
    def test_a_unit_repeated_is_a_loop(self, unit, times):
        """Words, sentences, list items and single characters."""
        assert judge(unit * times, ["goal"]) is Verdict.LOOP

    @pytest.mark.parametrize("cut", [1, 3, 7, 11, 17])
    def test_a_ragged_end_hides_no_loop(self, cut):
        """A loop that was cut in the middle of its unit is still one."""
        assert is_loop(SHORT * 12 + SHORT[:cut])
        assert is_loop(SENTENCE * 6 + SENTENCE[:cut])

    def test_a_good_beginning_excuses_no_loop(self):
        """A text that starts well and falls into a loop is a loop."""
        assert is_loop(CODE + POEM + SENTENCE * 8)

    @given(st.text(string.ascii_letters + " .", min_size=1, max_size=60))
    def test_any_unit_with_a_letter_loops_in_the_end(self, unit):
        """Whatever is repeated to the end of the window, it is found."""
        assume(any(map(str.isalpha, unit)))
        assert is_loop(unit * (LOOP_WINDOW // len(unit) + 1))


class TestNoLoops:
    @pytest.mark.parametrize(
        "text",
        [
            CODE,
            TABLE,
            POEM,
            "ha ha ha",
            "ha " * 10,
            "Title\n" + "=" * 80,
            "-" * 200,
            "a\n" + "-----\n" * 30,
            "[" + ", ".join(["0"] * 200) + "]",
            "[" + ", ".join('{"x": 0, "ok": true}' for _ in range(40)) + "]",
            "\n".join(". " * 10 for _ in range(10)),
            "\n".join("0, 0, 0, 0, 0, 0, 0, 0" for _ in range(20)),
            ", ".join(str(n) for n in range(500)),
            "\n".join(f"{n}. item" for n in range(1, 60)),
            "",
            "a" * 59,
        ],
    )
    def test_honest_repetition_passes(self, text):
        """Code, tables, rules, arrays, drawings, refrains, laughter and lists of numbers are answers."""
        assert not is_loop(text)

    @pytest.mark.parametrize(
        "goal", ["повтори 30 раз слово привет", "write hello 30 times", "repeat after me"]
    )
    def test_a_goal_that_asks_for_repetition_gets_it(self, goal):
        """Repetition is the answer where it was asked for, as long as it ends by itself."""
        text = "hello " * 30
        assert judge(text, ["say something"]) is Verdict.LOOP
        assert judge(text, [goal]) is None
        assert judge(text, [goal], finish_reason="length") is Verdict.LOOP

    def test_random_text_is_no_loop(self):
        """Chance makes no loop."""
        source = random.Random(7)
        assert not any(is_loop("".join(source.choices("ab ", k=3000))) for _ in range(20))


class TestWindow:
    def test_only_the_end_of_a_text_is_searched(self):
        """The cost is bounded: what stands before the window does not count."""
        source = random.Random(7)
        tail = "".join(source.choices(string.ascii_letters, k=LOOP_WINDOW))
        loop = "a" * 100_000
        assert not is_loop(loop + tail)
        assert is_loop(tail * 25 + loop[:LOOP_WINDOW])

    @given(st.text("ab ", max_size=50), st.text("ab. ", min_size=1, max_size=30), st.integers(1, 60))
    def test_what_stands_before_the_window_changes_nothing(self, before, unit, times):
        """A longer text is judged like its last characters."""
        text = unit * times
        padded = before + "." * LOOP_WINDOW + text
        assert is_loop(padded) == is_loop(padded[-LOOP_WINDOW:])


class TestWhileItGrows:
    def test_a_matrix_is_not_stopped_in_its_middle(self):
        """Rows of zeros look like a loop until the bracket that ends them."""
        text = "[\n" + "    [0, 0, 0, 0, 0, 0, 0, 0, 0, 0],\n" * 30
        assert not runs_away(text, ["write a 30 by 10 zero matrix"])
        assert not runs_away('[\n{"ok": true, "x": null},\n' * 30, ["goal"])

    def test_a_loop_is_stopped_before_it_ends(self):
        """Nobody waits for thousands of tokens of the same."""
        assert runs_away(SENTENCE * (GROWING_LOOP // len(SENTENCE) + 1), ["goal"])
        assert runs_away("<think>" + "the " * 600, ["goal"])
        assert runs_away("!" * LOOP_WINDOW, ["goal"])

    def test_wanted_repetition_is_not_stopped(self):
        """A goal that asks for it is judged at the end."""
        assert not runs_away("hello " * 500, ["write hello 500 times"])
