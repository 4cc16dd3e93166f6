"""The English and Russian words by which a prompt shows what it asks for: `words.toml`, read when needed."""

import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any


@cache
def _tables() -> dict[str, dict[str, Any]]:
    import tomllib

    return tomllib.loads(Path(__file__).with_name("words.toml").read_text("utf-8"))


class _Vocabularies:
    """The lists of words as attributes, each read once: a stream asks for them with each token."""

    def __getattr__(self, name: str) -> frozenset[str]:
        words = _tables()["words"][name].split()
        inner = [getattr(self, word[1:]) for word in words if word.startswith("@")]
        own = (word for word in words if not word.startswith("@"))
        vocabulary = frozenset(own).union(*inner)
        setattr(self, name, vocabulary)
        return vocabulary


class _Patterns:
    """The patterns as attributes, each compiled once."""

    def __getattr__(self, name: str) -> re.Pattern[str]:
        pattern = re.compile("".join(_tables()["patterns"][name]))
        setattr(self, name, pattern)
        return pattern


WORDS = _Vocabularies()
PATTERNS = _Patterns()


def is_order(word: str) -> bool:
    """Tell whether a clause that begins with this word wants something done."""
    return word in WORDS.orders or PATTERNS.russian_order.fullmatch(word) is not None


def makes_new(words: Sequence[str]) -> bool:
    """Tell whether a clause cannot be answered by words out of what precedes it."""
    return bool(words) and words[0] in WORDS.makes_new and not (len(words) > 1 and words[1] in WORDS.measures)


_LONG_WORDS = 30
_SHORT_CHARS = 60
#: What the router chooses models for.
CATEGORIES = ("reasoning", "coding", "fast", "default")
_ROUTED = {"coding": "coding", "planning": "reasoning", "reasoning": "reasoning"}


def goal_category(goal: str) -> str:
    """Return coding, planning, reasoning, complex (several parts), execution, fast (short) or general."""
    head = goal[:4000]
    for category in _ROUTED:
        if getattr(PATTERNS, category).search(head):
            return category
    if has_parts(goal):
        return "complex"
    if PATTERNS.execution.search(head):
        return "execution"
    return "fast" if len(goal) <= _SHORT_CHARS else "general"


def parted(goal: str) -> tuple[str, str]:
    """Return the question of a goal and the text that it is about: what stands behind its first line.

    So a goal comes out with what was piped in; without an empty line behind the first there is no text.
    """
    question, _, text = goal.strip().partition("\n\n")
    return (goal, "") if "\n" in question.strip() or not text.strip() else (question.strip(), text)


def has_parts(goal: str) -> bool:
    """Tell whether a goal has several parts, or is so long that it may have."""
    return len(goal.split()) > _LONG_WORDS or PATTERNS.sequence.search(goal) is not None


def categorise(goal: str) -> str:
    """One of CATEGORIES. Coding outranks reasoning; a short plain goal is fast."""
    return _ROUTED.get(goal_category(goal)) or ("fast" if len(goal) <= _SHORT_CHARS else "default")
