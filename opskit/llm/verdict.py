"""Is this text an answer? Pure judgement on text: empty, only thinking, echo, loop, cut off.

An answer that says nothing is empty, one that only gives its prompt back is an echo (SPEC B11). To reject a
right answer is worse than to pass a rare echo: "Good morning!" answers itself, "2+2=4" goes on from "2+2=".
"""

from collections.abc import Sequence
from enum import StrEnum

from opskit.llm.echo import is_echo, may_become_echo, parsed, payloads_left_out
from opskit.llm.loop import is_loop, loops
from opskit.llm.visible import is_blank, may_become_blank, unmarked, visible, without_thinking


class Verdict(StrEnum):
    """What is wrong with a text that arrived without a fault."""

    EMPTY = "empty"
    ONLY_THINKING = "only_thinking"
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
    if _is_empty(text, prompts):
        if is_loop(without_thinking(text)):
            return Verdict.LOOP
        if thought or without_thinking(text, prompts) != text:
            return Verdict.ONLY_THINKING
        cut = finish_reason == "length" and text.strip() and not length_is_fine
        return Verdict.CUT_OFF if cut else Verdict.EMPTY
    answer = visible(text, prompts)
    if any(is_echo(answer, prompt) for prompt in payloads_left_out(prompts)):
        return Verdict.ECHO
    if is_loop(answer) if finish_reason == "length" else loops(answer, prompts):
        return Verdict.LOOP
    if finish_reason == "length" and not length_is_fine:
        return Verdict.CUT_OFF
    return None


def may_be_shown(text: str, prompts: Sequence[str], hold_back: int) -> bool:
    """Whether a text that is still growing can no longer be judged empty or an echo, however it goes on.

    At least `hold_back` characters of it must be visible; a tag that may just be opening counts as hidden.
    """
    wanted = _wanted(prompts)
    shown = visible(text, prompts, growing=True)
    if len(shown) < max(hold_back, 1) or may_become_blank(shown, **wanted):
        return False
    return not may_become_echo(shown, prompts)


def runs_away(text: str, prompts: Sequence[str]) -> bool:
    """Whether a text that is still growing repeats itself for so long that waiting for its end is no use."""
    return loops(text, prompts, growing=True)


def _is_empty(text: str, prompts: Sequence[str]) -> bool:
    wanted = _wanted(prompts)
    said = without_thinking(text, prompts)
    if not wanted["symbol_wanted"]:
        said = unmarked(said, keep_tags=any(parsed(prompt).has_tags for prompt in prompts))
    return is_blank(said.strip(), **wanted)


def _wanted(prompts: Sequence[str]) -> dict[str, bool]:
    """What the prompts ask for that would otherwise say nothing."""
    parsed_prompts = [parsed(prompt) for prompt in prompts]
    return {
        "value_wanted": any(prompt.wants_value for prompt in parsed_prompts),
        "symbol_wanted": any(prompt.wants_symbol for prompt in parsed_prompts),
    }
