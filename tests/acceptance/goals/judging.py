"""Whether a goal ended with a right answer, an honest failure, or what only claims to be an answer."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from opskit.engine.goal import RunResult

#: The whole of a file is no answer; a summary is shorter than its source, its name not counted.
MAX_CHARS = 500
SUMMARY_SHARE, NAME_CHARS = 0.6, 60
_NUMBERS = re.compile(r"\d+(?:[.,]\d+)?")
_NO_ANSWER = "No model gave an honest answer"


class Verdict(StrEnum):
    RIGHT = "right"
    HONEST_FAILURE = "honest failure"
    FALSE_SUCCESS = "false success"


@dataclass(frozen=True)
class Truth:
    """What must stand in an answer, and what a wrong one says instead: patterns that ignore case.

    `source` is the text that a summary is of.
    """

    states: Sequence[str]
    never: Sequence[str] = ()
    source: str = ""

    @property
    def max_chars(self) -> float:
        return min(MAX_CHARS, SUMMARY_SHARE * len(self.source) + NAME_CHARS) if self.source else MAX_CHARS


def judged(result: RunResult | None, truth: Truth, world: str) -> Verdict:
    """Judge a run; None is one that failed. `world` is all that can be seen: other numbers are invented."""
    if result is None or result.output.startswith(_NO_ANSWER):
        return Verdict.HONEST_FAILURE
    text = result.output
    right = (
        len(text) <= truth.max_chars
        and all(re.search(pattern, text, re.IGNORECASE) for pattern in truth.states)
        and not any(re.search(pattern, text, re.IGNORECASE) for pattern in truth.never)
        and all(
            number in world or any(re.search(pattern, number) for pattern in truth.states)
            for number in _NUMBERS.findall(text)
        )
    )
    return Verdict.RIGHT if right else Verdict.FALSE_SUCCESS
