"""Texts that repeat themselves until nobody listens, and texts that only look so."""

import random
import string

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from opskit.llm.verdict import GROWING_DATA, LOOP_WINDOW, Verdict, is_loop, judge, runs_away

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

    @pytest.mark.parametrize("word", ["the", "нет", "no", "ready", "configuration"])
    @pytest.mark.parametrize("between", [" ", "\n", ", ", ". "])
    def test_one_word_twenty_times_is_a_loop(self, word, between):
        """Whatever stands between the words, also after a good beginning."""
        assert is_loop("Well. " + between.join([word] * 20))
        assert not is_loop("Well. " + between.join([word] * 6))

    @pytest.mark.parametrize("item", ["Check the configuration.", "яблоко", "**Euclid's proof**"])
    @pytest.mark.parametrize(
        "label", ["{}. {}\n", "{}) {}\n", "Step {}: {}\n", "Question {}\n{}\n", "{}. {} "]
    )
    def test_the_same_item_under_each_number_is_a_loop(self, item, label):
        """A list that counts and says the same each time."""
        text = "".join(label.format(number, item) for number in range(1, 30))
        assert is_loop(text)
        assert all(is_loop(text[:-cut]) for cut in range(1, 12))

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
            "\n".join(f"{n}. item {n}" for n in range(1, 60)),
            "\n".join(f"{n}. {word}" for n, word in enumerate(["true", "false", "true", "true"] * 4, 1)),
            "\n".join(f"Day {n}" for n in range(1, 32)),
            "1. apple 2. apple pie 3. apple juice",
            "ha ha ha ha ha ha ha ha ha ha ha ha ha ha ha ha ha ha ha ha ha ha!",
            "ха-ха-ха-ха-ха-ха-ха-ха-ха-ха",
            "nooooooooooooooooooooooooooooooo",
            "no no no no no no no no no no",
            "[" + ", ".join(["null"] * 100) + "]",
            "| a | b |\n|---|---|\n" + "| yes | no |\n" * 12,
            "X O X O X O X O\nO X O X O X O X\n" * 4,
            "",
            "a" * 59,
        ],
    )
    def test_honest_repetition_passes(self, text):
        """Code, tables, rules, arrays, drawings, refrains, laughter and lists of numbers are answers."""
        assert not is_loop(text)

    @pytest.mark.parametrize(
        "goal",
        [
            "повтори 30 раз слово привет",
            "write hello 30 times",
            "repeat after me",
            "Say it 40 times: hello",
            "Print 30 lines of hello",
            "Напиши hello тридцать раз",
            "say hello thirty times",
            "Give me a list of 30 hellos",
        ],
    )
    def test_a_goal_that_asks_for_repetition_gets_it(self, goal):
        """Repetition is the answer where it was asked for, as long as it ends by itself."""
        text = "hello " * 30
        assert judge(text, ["say something"]) is Verdict.LOOP
        assert judge(text, [goal]) is None
        assert judge(text, [goal], finish_reason="length") is Verdict.LOOP

    @pytest.mark.parametrize(
        "goal", ["What is 5 times 7?", "Я ем 3 раза в день. Составь меню.", "Name 5 fruits."]
    )
    def test_a_number_in_a_goal_is_no_leave_to_loop(self, goal):
        """What is repeated much more often than was asked for is a loop."""
        assert judge("hello " * 60, [goal]) is Verdict.LOOP
        assert runs_away("hello " * 90, [goal])

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

    @pytest.mark.parametrize(
        "text",
        [
            "the " * 100,
            "нет, " * 100,
            SHORT * 30,
            SENTENCE * 10,
            "- check the configuration file\n" * 20,
            "мёкс-" * 90,
            "".join(f"{n}. Check it.\n" for n in range(1, 60)),
            "".join(f"Question {n}\nWhat is the capital?\n" for n in range(1, 60)),
        ],
    )
    def test_a_short_unit_is_noticed_within_four_hundred_characters(self, text):
        """Wherever the text is cut, and after a good beginning too."""
        assert all(runs_away(text[:end], ["goal"]) for end in range(330, 400))
        assert all(runs_away(CODE + POEM + text[:end], ["goal"]) for end in range(330, 400, 7))

    def test_a_loop_is_stopped_before_it_ends(self):
        """Data that is repeated is stopped too, later."""
        assert runs_away("{ok: yes}, " * (GROWING_DATA // 11 + 1), ["goal"])
        assert runs_away("<think>" + "the " * 600, ["goal"])
        assert runs_away("!" * LOOP_WINDOW, ["goal"])

    def test_wanted_repetition_is_not_stopped(self):
        """A goal that asks for it is judged at the end."""
        assert not runs_away("hello " * 500, ["write hello 500 times"])
        assert not runs_away("hello " * 90, ["say it 90 times: hello"])
        assert not runs_away("да " * 150, ["Напиши «да» 150 раз"])

    def test_data_is_not_stopped_in_its_middle(self):
        """An open code block or bracket, a table and an array have an end to come."""
        assert not runs_away("```python\n" + "    print(total)\n" * 60, ["goal"])
        assert not runs_away("x = [\n" + "    true,\n" * 60, ["goal"])
        assert not runs_away("null, " * 100, ["goal"])
        assert not runs_away("| yes | no |\n" * 60, ["goal"])
