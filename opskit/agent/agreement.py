"""How far two answers agree, and two goals are alike, by the stems of their words. Pure."""

import re
from collections.abc import Sequence

from opskit.llm.wording import WORDS

_WORDS = re.compile(r"\d+(?:[.,]\d+)*|[^\W\d_]+")
#: Endings that change with case, number and person, behind the three letters that remain at least.
_ENDING = re.compile(
    r"(?<=\w{3})(?:иями|иях|иям|ями|ами|ого|его|ому|ему|ыми|ими|ях|ах|ям|ам|ией|ей|ой|ов|ев|ом|ем|ый|ий|ая|яя|"
    r"ое|ее|ые|ие|ия|ию|ую|юю|ют|ут|ят|ат|ет|ит|ть|[аяоеыиуюьй]|ing|ed|es|s)$"
)
#: An answer with so few words of its own is contained in another, or it is not.
_SHORT = 3
AGREES = 0.5
_SAME = 0.9


def similarity(left: str, right: str, goal: str) -> float:
    """Return how far two answers say the same, from 0 to 1.

    Short ones agree where the words of one stand in the other, longer ones by the share of common words. A
    negation on one side only, or numbers that exclude one another, are a contradiction.
    """
    lefts, rights = _all(left), _all(right)
    if lefts == rights:
        return 1.0
    if bool(lefts & WORDS.negations) != bool(rights & WORDS.negations):
        return 0.0
    numbers = _numbers(lefts), _numbers(rights)
    if all(numbers) and not (numbers[0] <= numbers[1] or numbers[1] <= numbers[0]):
        return 0.0
    own, others = _own(lefts, goal), _own(rights, goal)
    if not own or not others:
        return 0.0
    common = len(own & others)
    shorter = min(len(own), len(others))
    return common / shorter if shorter <= _SHORT else common / len(own | others)


def most_agreed(answers: Sequence[str], goal: str) -> tuple[int, float]:
    """Return which answer the most others agree with, the first of several, and the part that agrees."""
    rows = [
        [similarity(answer, other, goal) for place, other in enumerate(answers) if place != number]
        for number, answer in enumerate(answers)
    ]
    agreeing = [sum(value >= AGREES for value in row) for row in rows]
    best = max(range(len(answers)), key=lambda number: (agreeing[number], sum(rows[number]), -number))
    return best, (1 + agreeing[best]) / len(answers)


def alike(left: str, right: str) -> bool:
    """Tell whether two texts are the same but for a word or two."""
    lefts, rights = _all(left), _all(right)
    return len(lefts & rights) >= _SAME * len(lefts | rights)


def on_subject(text: str, other: str) -> bool:
    """Tell whether a text has anything to do with another."""
    return bool(_own(_all(text), "") & _own(_all(other), ""))


def stems(goal: str) -> frozenset[str]:
    """Return the stems of the words that a goal is about, to look for goals like it."""
    return frozenset(map(_stem, _all(goal) - WORDS.fillers - WORDS.asking))


def likeness(left: str, right: str) -> float:
    """Return how many of the stems of two goals are common, from 0 to 1. Another number is another goal."""
    lefts, rights = stems(left), stems(right)
    common = len(lefts & rights)
    return common / len(lefts | rights) if common and _numbers(lefts) == _numbers(rights) else 0.0


def _all(text: str) -> frozenset[str]:
    return frozenset(_WORDS.findall(text.casefold().replace("ё", "е").replace(",", ".")))


def _numbers(words: frozenset[str]) -> frozenset[str]:
    return frozenset(word for word in words if word[0].isdigit())


def _own(words: frozenset[str], goal: str) -> frozenset[str]:
    """Return the stems of what the words add to the goal; all where they only choose from it."""
    own = words - WORDS.fillers
    return frozenset(map(_stem, own - _all(goal) or own))


def _stem(word: str) -> str:
    return _ENDING.sub("", word)
