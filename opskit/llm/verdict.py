"""Is this text an answer? Pure judgement on text: empty, echo, loop, cut off.

Echo follows SPEC B11, read with its last sentence ("short legitimate answers must pass"): rule 2 taken to
the letter would reject "Да" for "Да или нет?" and "Привет! Чем помочь?" for "Привет". So a single short word
is no echo of a longer text that merely begins with it, in either direction.
"""

import re
from collections.abc import Sequence
from enum import StrEnum

#: SPEC B11: only answers below this length can be an echo by prefix.
ECHO_LIMIT = 200
#: A single word up to this length is an answer (or a greeting), not an echo.
SHORT_WORD = 16
#: How much of the end of a text is searched for a loop, in characters.
LOOP_WINDOW = 4000
#: A text that still grows may be in the middle of a long table or array: it must repeat itself this long.
GROWING_LOOP = 2000
#: Rows of digits, dots and rules are data and drawings: they may repeat themselves this long.
DATA_LOOP = 1200

_THINKING = re.compile(r"<think(?:ing)?>.*?(?:</think(?:ing)?>|\Z)", re.DOTALL | re.IGNORECASE | re.ASCII)
_LONGEST_TAG = "<thinking>"
_ASKED_TO_REPEAT = re.compile(r"\b(повтор\w*|repeat\w*|\d+\s*(раз|times)|loop|цикл\w*)\b", re.IGNORECASE)


class Verdict(StrEnum):
    """What is wrong with a text that arrived without a fault."""

    EMPTY = "empty"
    ECHO = "echo"
    LOOP = "loop"
    CUT_OFF = "cut_off"


def judge(
    text: str, prompts: Sequence[str], *, finish_reason: str = "stop", length_is_fine: bool = False
) -> Verdict | None:
    """None when the text may be passed on.

    `prompts` are the texts that must not come back: the goal and the whole prompt. `length_is_fine` is for
    callers who asked for a few tokens only.
    """
    answer = without_thinking(text).strip()
    if not answer:
        return (
            Verdict.CUT_OFF
            if finish_reason == "length" and text.strip() and not length_is_fine
            else Verdict.EMPTY
        )
    if any(is_echo(answer, prompt) for prompt in prompts):
        return Verdict.ECHO
    if is_loop(answer) and not (finish_reason == "stop" and _asked_to_repeat(prompts)):
        return Verdict.LOOP
    if finish_reason == "length" and not length_is_fine:
        return Verdict.CUT_OFF
    return None


def without_thinking(text: str) -> str:
    """The text without its <think> blocks; one left open swallows the rest, because no answer followed."""
    return _THINKING.sub("", text) if "<think" in text[:4096].lower() else text


def may_be_shown(text: str, prompts: Sequence[str], hold_back: int) -> bool:
    """Whether a text that is still growing can no longer be judged empty or an echo, however it goes on.

    At least `hold_back` characters of it must be visible; a tag that may just be opening counts as hidden.
    """
    head, mark, tail = text.rpartition("<")
    opening = mark and _LONGEST_TAG.startswith((mark + tail).lower())
    visible = without_thinking(head if opening else text)
    return len(visible.strip()) >= hold_back and not may_become_echo(visible, prompts)


def runs_away(text: str, prompts: Sequence[str]) -> bool:
    """Whether a text that is still growing repeats itself for so long that waiting for its end is no use."""
    return is_loop(text, growing=True) and not _asked_to_repeat(prompts)


def is_echo(answer: str, prompt: str) -> bool:
    """SPEC B11. Both are compared stripped."""
    answer, prompt = answer.strip(), prompt.strip()
    if not answer or not prompt:
        return False
    if answer == prompt:
        return True
    if len(answer) >= ECHO_LIMIT:
        return False
    if prompt.startswith(answer):
        return not _short_word(answer, prompt)
    if answer.startswith(prompt):
        return not _short_word(prompt, answer)
    return False


def may_become_echo(text: str, prompts: Sequence[str]) -> bool:
    """Whether a text that is still growing could end as an echo: such text must be held back."""
    answer = text.strip()
    if not answer:
        return True
    for prompt in (prompt.strip() for prompt in prompts):
        if prompt.startswith(answer) or (len(answer) < ECHO_LIMIT and prompt and answer.startswith(prompt)):
            return True
    return False


def _asked_to_repeat(prompts: Sequence[str]) -> bool:
    return any(map(_ASKED_TO_REPEAT.search, prompts))


def _short_word(word: str, text: str) -> bool:
    """A whole short word at the head of a longer text."""
    follows = text[len(word) : len(word) + 1]
    return len(word) <= SHORT_WORD and not any(map(str.isspace, word)) and not follows.isalnum()


def is_loop(text: str, *, growing: bool = False) -> bool:
    """Whether the text ends in a repetition that no answer needs.

    The end of the text is searched for its smallest periods (prefix function of the reversed text, linear
    time). The shorter the unit, the more repetitions are allowed: "ha ha ha" and table rules are no loops,
    Ollama's own guard stops at 30 equal tokens (wire facts A5). `growing` asks for much more.
    """
    tail = text.rstrip()[-LOOP_WINDOW:][::-1]
    if len(tail) < 60:
        return False
    borders = [0] * len(tail)
    border = 0
    for index in range(1, len(tail)):
        char = tail[index]
        while border and tail[border] != char:
            border = borders[border - 1]
        if tail[border] == char:
            border += 1
        borders[index] = border
        if border * 4 >= (index + 1) * 3:
            length = index + 1
            if _too_often(tail, length - border, length, growing=growing):
                return True
    return False


def _too_often(tail: str, period: int, length: int, *, growing: bool) -> bool:
    repeats = length / period
    if not any(map(str.isalpha, tail[:period])):
        return length >= (LOOP_WINDOW if growing else DATA_LOOP)
    if growing and length < GROWING_LOOP:
        return False
    if period >= 40:
        return repeats >= 4
    if period >= 12:
        return repeats >= 7 and length >= 120
    return repeats >= 24 and length >= 60
