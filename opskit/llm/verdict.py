"""Is this text an answer? Pure judgement on text: empty, only thinking, a call, echo, loop, cut off.

An answer that says nothing is empty, one that only gives its prompt back is an echo (SPEC B11). To reject a
right answer is worse than to pass a rare echo: "Good morning!" answers itself, "2+2=4" goes on from "2+2=".
"""

import json
import re
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Any, Final

from opskit.llm.echo import is_echo, may_become_echo, parsed, payloads_left_out
from opskit.llm.visible import is_blank, may_become_blank, unmarked, visible, without_thinking
from opskit.llm.wording import PATTERNS
from opskit.text import lazy_pattern

#: The finish reason of an answer that a filter of the server broke off.
CONTENT_FILTER: Final = "content_filter"


class Verdict(StrEnum):
    """What is wrong with a text that arrived without a fault."""

    EMPTY = "empty"
    ONLY_THINKING = "only_thinking"
    CALL = "call"
    ECHO = "echo"
    LOOP = "loop"
    CUT_OFF = "cut_off"


def judge(
    text: str,
    prompts: Sequence[str],
    *,
    finish_reason: str = "stop",
    length_is_fine: bool = False,
    thought: bool = False,
) -> Verdict | None:
    """None when the text may be passed on.

    `prompts` are the texts that must not come back: the goal and the whole prompt. `length_is_fine` is for
    callers who asked for a few tokens only. `thought` means that the model thought aloud outside the text.
    """
    said = without_thinking(text, prompts)
    answer = unmarked(said)
    if _is_call(text, said, answer, prompts):
        return Verdict.CALL
    if _is_empty(said, answer, prompts):
        if is_loop(without_thinking(text)):
            return Verdict.LOOP
        if thought or said != text:
            return Verdict.ONLY_THINKING
        cut = text.strip() and _is_cut(finish_reason, length_is_fine=length_is_fine)
        return Verdict.CUT_OFF if cut else Verdict.EMPTY
    if any(is_echo(answer, prompt) for prompt in payloads_left_out(prompts)):
        return Verdict.ECHO
    if is_loop(answer) if finish_reason == "length" else loops(answer, prompts):
        return Verdict.LOOP
    return Verdict.CUT_OFF if _is_cut(finish_reason, length_is_fine=length_is_fine) else None


def may_be_shown(text: str, prompts: Sequence[str], hold_back: int) -> bool:
    """Whether a text that still grows can no longer be judged empty, a call or an echo, however it goes on.

    At least `hold_back` characters of it must be visible; a tag that may just be opening counts as hidden.
    """
    wanted = _wanted(prompts)
    shown = visible(text, prompts, growing=True)
    if len(shown) < max(hold_back, 1) or may_become_blank(shown, **wanted):
        return False
    if _may_become_call(text, shown, prompts):
        return False
    return not may_become_echo(shown, prompts)


def runs_away(text: str, prompts: Sequence[str]) -> bool:
    """Whether a text that is still growing repeats itself for so long that waiting for its end is no use."""
    return loops(text, prompts, growing=True)


def _is_cut(finish_reason: str, *, length_is_fine: bool) -> bool:
    """Tell whether the server ended the answer: at the limit of tokens, by a filter, or as it gave up."""
    return finish_reason in (CONTENT_FILTER, "abort") or (finish_reason == "length" and not length_is_fine)


def _is_empty(said: str, answer: str, prompts: Sequence[str]) -> bool:
    wanted = _wanted(prompts)
    if wanted["symbol_wanted"]:
        answer = said.strip()
    elif any(parsed(prompt).has_tags for prompt in prompts):
        answer = unmarked(said, keep_tags=True)
    return is_blank(answer, **wanted)


def _wanted(prompts: Sequence[str]) -> dict[str, bool]:
    """What the prompts ask for that would otherwise say nothing."""
    parsed_prompts = [parsed(prompt) for prompt in prompts]
    return {
        "value_wanted": any(prompt.wants_value for prompt in parsed_prompts),
        "symbol_wanted": any(prompt.wants_symbol for prompt in parsed_prompts),
    }


#: What begins a call of a function in the notations of the families of models, which servers turn into a
#: call only where functions were offered; in quotes it is only spoken of.
_NOTATION = lazy_pattern(
    r"(?<![`\"'«“])(?:<\|?(?:tool|function)_calls?(?:_begin)?\|?>|<\|python_tag\|>|\[TOOL_CALLS?\]"
    r"|<｜tool▁calls?▁begin｜>|<function=[\w.-]|<invoke name=|^```tool_(?:code|call)\b"
    r"|^[ \t]*Action[ \t]*:[ \t]*[\w.-]+[ \t]*\n\s*Action[ _]Input[ \t]*:)",
    re.IGNORECASE | re.MULTILINE,
)
#: JSON, or a line of `Action:`, that still grows and may become a call.
_BEGINNING = lazy_pattern(
    r"[\s\[{]*(?:[\[{]\s*\"(?:\w*\Z|(?:name|type|function|tool|id|arguments|parameters|tool_calls)\")|[\[{]\s*\Z)"
    r"|\s*(?:Action\b|A\w{0,4}\Z)",
    re.IGNORECASE,
)
#: A prompt with one of these words may want such a text.
_WANTED = lazy_pattern(
    r"tool|function|\bcall|json|schema|\bapi\b|argument|parameter|\baction|инструмент|функци|вызо[вз]|схем|аргумент"
    r"|параметр",
    re.IGNORECASE,
)
_ARGUMENTS = ("arguments", "parameters", "args")


def _is_call(text: str, said: str, shown: str, prompts: Iterable[str]) -> bool:
    """Tell whether a text is, or leads to, a call of a function that no prompt speaks of.

    `said` is what is left of it without thoughts, and `shown` without its markup as well.
    """
    is_written = _NOTATION.search(said) or text.rstrip().endswith("<|call|>") or _is_json_call(shown)
    return bool(is_written) and not any(map(_WANTED.search, prompts))


def _may_become_call(text: str, shown: str, prompts: Iterable[str]) -> bool:
    """Tell whether a text that still grows could end as a call; `shown` is what is visible of it."""
    begins = _BEGINNING.match(shown) or _NOTATION.search(text)
    return begins is not None and not any(map(_WANTED.search, prompts))


def _is_json_call(text: str) -> bool:
    """Tell whether a text is one call in JSON after the other, or a list of calls, and nothing else."""
    calls: list[Any] = []
    if text[:1] not in ("{", "["):
        return False
    try:
        while text:
            value, end = json.JSONDecoder(strict=False).raw_decode(text)
            calls += value if isinstance(value, list) else [value]
            text = text[end:].lstrip(" \n\t,;")
    except (ValueError, RecursionError):
        return False
    return bool(calls) and all(map(_is_named, calls))


def _is_named(call: Any) -> bool:
    if not isinstance(call, Mapping):
        return False
    if isinstance(inner := call.get("function"), Mapping):
        return _is_named(inner)
    name = call.get("name") or call.get("tool") or call.get("function")
    given = next((call[key] for key in _ARGUMENTS if key in call), None)
    return isinstance(name, str) and isinstance(given, Mapping)


#: How much of the end of a text is searched for a loop, in characters.
LOOP_WINDOW = 4000
#: A text that still grows and speaks in words is a loop when it has repeated itself for so long.
GROWING_LOOP = 280
#: A text that still grows may be in the middle of a table or an array, which must repeat itself this long.
GROWING_DATA = 2000
#: Rows of digits, dots and rules, and rows of a table, may repeat themselves this long.
DATA_LOOP = 1200
ROWS_LOOP = 600
#: So many last characters must stand once more before a text is looked at closely.
_LAST = 24
#: So many times one word is a loop.
WORD_TIMES = 20
#: A list of numbers with nothing but one word beside them must be this long.
COUNTER_TIMES = 60

_WORDS_AS_NUMBERS = {
    "twenty": 20, "двадцать": 20, "thirty": 30, "тридцать": 30, "forty": 40, "сорок": 40, "fifty": 50,
    "пятьдесят": 50, "hundred": 100, "сто": 100, "сотню": 100, "thousand": 1000, "тысячу": 1000,
}  # fmt: skip
_NUMBER = lazy_pattern(rf"\d{{1,6}}|\b(?:{'|'.join(_WORDS_AS_NUMBERS)})\b", re.IGNORECASE)
#: Lines that only count: "7.", "Day 7:".
_COUNTER = lazy_pattern(r"[ \t]*(?:[^\W\d]+ )?#[.):]*[ \t]*")
#: The number of an item: "7. ", "(7) ", "Step 7: ", "Question 7" on a line of its own.
_LABEL = lazy_pattern(
    r"^([ \t]*[-*#(]*[ \t]*(?:[^\W\d]+ )?)\d+(?=[ \t]*[.):]|[ \t]*$)|(?<=\s)\d+(?=[.)]\s|[.)]?\Z)",
    re.MULTILINE,
)
#: What tables, arrays, calls and markup are made of, and prose is not.
_DATA = lazy_pattern(r"[\[\]{}|<>\\]|\w\(|\"\s*[,:]|;\s*$", re.MULTILINE)
_CONSTANTS = lazy_pattern(r"\W*(?:(?:null|none|nil|true|false|nan|x|o)\W+)+", re.IGNORECASE)
_LAUGHTER = lazy_pattern(
    r"\W*(?:(?:ha|he|hi|ho|hee|heh|ja|la|na|tra|ба|ха|хи|хе|хо|ла|на|тра)+\W*)+", re.IGNORECASE
)


def is_loop(text: str, *, growing: bool = False) -> bool:
    """Tell whether the text ends in a repetition that no answer needs.

    The shorter the unit, the more repetitions are allowed: "ha ha ha" and table rules are no loops, Ollama's
    own guard stops at 30 equal tokens (wire facts A5). The numbers of list items count as equal. `growing`
    asks for more of it, and for much more where it may be data: a table, an array, a code block.
    """
    return _repeats(text, growing=growing) > 0


def loops(text: str, prompts: Sequence[str], *, growing: bool = False) -> bool:
    """Tell whether the text loops, and more often than a prompt asks for."""
    times = _repeats(text, growing=growing)
    return times > 0 and times > _wanted_times(prompts)


def _wanted_times(prompts: Sequence[str]) -> float:
    """How many repetitions the prompts ask for: with a margin, for models count badly."""
    if not any(map(PATTERNS.asked_to_repeat.search, prompts)):
        return 0
    numbers = [_number(number) for prompt in prompts for number in _NUMBER.findall(prompt)]
    return 4 * max(numbers) + 10 if numbers else float("inf")


def _number(text: str) -> int:
    return int(text) if text.isdecimal() else _WORDS_AS_NUMBERS[text.lower()]


def _repeats(text: str, *, growing: bool) -> float:
    tail = text.rstrip()[-LOOP_WINDOW:]
    if len(tail) < 2 * WORD_TIMES - 1:
        return 0
    is_data = growing and _is_inside_data(text)
    repeats = _periods(tail, growing=growing, is_data=is_data)
    if not repeats:
        labelled = _LABEL.sub(r"\1#", tail)
        if labelled != tail:
            repeats = _periods(labelled, growing=growing, is_data=is_data)
    return repeats


def _periods(tail: str, *, growing: bool, is_data: bool) -> float:
    """Return how often the end of a text is repeated when that is too often, else 0.

    Where the last characters stand once more, a unit may end: the nearest such places are tried as periods.
    """
    last, end = tail[-_LAST:], len(tail) - 1
    tried: list[tuple[int, int]] = []
    while (at := tail.rfind(last, 0, end)) >= 0:
        period, end = len(tail) - _LAST - at, at + _LAST - 1
        if 4 * period > len(tail):
            break
        if any(period % other == 0 and period < extent for other, extent in tried):
            continue
        extent = _extent(tail, period)
        tried.append((period, extent))
        if extent >= 4 * period:
            needed = _needed(tail[-4 * period :], period, growing=growing, is_data=is_data)
            if extent >= needed:
                return extent / period
    return 0


def _extent(tail: str, period: int) -> int:
    """Return how many characters at the end of a text repeat with this period."""
    return (
        bisect_left(
            range(period, len(tail)),
            x=True,
            key=lambda size: tail[-size - 1 : -period] != tail[len(tail) - size - 1 + period :],
        )
        + period
    )


def _needed(sample: str, period: int, *, growing: bool, is_data: bool) -> float:
    """Return how long a repetition must be to be a loop; `sample` holds four units, however they are cut."""
    if not any(map(str.isalpha, sample)):
        return LOOP_WINDOW if is_data else GROWING_DATA if growing else DATA_LOOP
    words = sample.split()[1:-1] or [sample]
    shown = " ".join(words)
    least = GROWING_LOOP if growing else 0
    if is_data or _DATA.search(sample) or _CONSTANTS.fullmatch(shown + " "):
        least = GROWING_DATA if growing else ROWS_LOOP
    return max(least, _length_of(sample, period, words))


def _length_of(sample: str, period: int, words: Sequence[str]) -> float:
    """Return the length from which a unit of prose is repeated too often at the end of an answer."""
    if period >= 40:
        return 4 * period
    lines = sample.split("\n")[1:-1]
    if lines and all(map(_COUNTER.fullmatch, lines)):
        return COUNTER_TIMES * period - 1
    if period >= 12:
        return max(120, 7 * period)
    if len(words) == 1 or _LAUGHTER.fullmatch(" ".join(words)):
        return max(120, 24 * period)
    if len(set(words)) == 1:
        return WORD_TIMES * period - 1
    return max(60, 12 * period)


def _is_inside_data(text: str) -> bool:
    """Tell whether a growing text is in an open code block or bracket, which still have to be closed."""
    return text.count("```") % 2 == 1 or any(
        text.count(left) > text.count(right) for left, right in ("[]", "{}")
    )


def verdict_remedy(verdict: Verdict, *, model: str, limited: bool) -> str:
    """Return what helps against an answer that is none.

    `limited` means that the token limit ended it.
    """
    other = "or choose another model (`opskit models test` finds models that work)"
    if verdict is Verdict.ONLY_THINKING:
        other = "or choose a model that does not think (`opskit models list`)"
    if limited and verdict in (Verdict.ONLY_THINKING, Verdict.CUT_OFF):
        return (
            f"raise `router.max_tokens` (or its context, where that is full) for {model} to finish, {other}"
        )
    return f"ask again, {other}"
