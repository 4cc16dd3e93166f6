"""Whether an answer rests on what the tools have shown: its numbers, paths, names and words. Pure.

A model that has seen three files and says "12" is wrong however well it puts it, and one that talks about
something else has answered nothing. What can be looked up is looked up.
"""

import itertools
import re
import tomllib
from collections.abc import Iterable, Sequence
from difflib import SequenceMatcher
from functools import cache
from pathlib import Path
from typing import Any

from opskit.text import lazy_pattern

#: Numbers, paths, file names, and words that are no prose: with digits, dots, underscores or colons inside.
_NAMES = lazy_pattern(r"/?[\w.-]+(?:[/:=@][\w.-]+)+/?|\w+(?:[._-]\w+)+|\d+(?:[.,]\d+)?%?|\w*\d\w*")
_WORDS = lazy_pattern(r"[^\W\d_]{4,}")
_PROSE = lazy_pattern(r"[^\W\d_]+(?:-[^\W\d_]+)*")
_LIST_MARK = lazy_pattern(r"^\s*\d{1,2}[.)]\s", re.MULTILINE)
_NUMBER = lazy_pattern(r"\d+")
YES_OR_NO = lazy_pattern(r"\W*(?:is|are|was|were|do|does|did|can|has|have)\b|.*\bли\b", re.IGNORECASE)
#: Words are compared by their beginnings: endings change with case and number.
_STEM_CHARS = 5
#: The part of an answer's words that must stand in the goal or the results, where both are in one language.
_SHARED = 0.4
#: A sentence of a summary says what one sentence of the source says: so many of its words stand there.
_SUPPORTED = 0.8
_SENTENCE_ENDS = lazy_pattern(r"(?<=[.!?])\s+|\n+")
NO = lazy_pattern(
    r"\b(?:no|not|never|without|cannot|nobody|none|nothing|neither|нет|не|ни|без|никто|ничего|нельзя)\b|n't\b",
    re.IGNORECASE,
)


def ungrounded(answer: str, goal: str, texts: Sequence[str]) -> str | None:
    """Return why an answer does not rest on the texts, as a part of a sentence; None where it does.

    A number may also count the lines of a text, or the lines of one shape.
    """
    shown = "\n".join((goal, *texts)).casefold()
    names = [token.strip(".,:;-") for token in _NAMES.findall(_LIST_MARK.sub("", answer))]
    names = [name.casefold() for name in names if name and not _PROSE.fullmatch(name)]
    counts, numbers = set(_counts(texts)), set(_NUMBER.findall(shown))
    for word in names:
        known = word in numbers if word.isdigit() else word in shown or word.replace(",", ".") in shown
        if not known and not (word.isdigit() and int(word) in counts):
            return f"{word!r} stands in no result"
    if any(word not in goal.casefold() for word in names):
        return None
    said, results, asked = stems(answer), stems("\n".join(texts)), stems(goal)
    new = {stem for stem in said if not any(stem.startswith(word) or word.startswith(stem) for word in asked)}
    if not new and not YES_OR_NO.match(goal):
        return "the answer says nothing that the goal does not say"
    if not results or is_cyrillic(answer) != is_cyrillic("\n".join(texts)):
        return "the answer names nothing of the results" if new and results else None
    if not new & results and len(said & results) < _SHARED * len(said):
        return "the answer names nothing of the results"
    if len(said & (results | stems(goal))) < _SHARED * len(said):
        return "most of the answer stands in no result"
    return None


def lacks_time(answer: str, goal: str) -> bool:
    """Tell whether a goal asks when, and the answer tells no time, nor that there is none."""
    asks = re.match(r"\W*(?:when|at what time|когда|во сколько)\b", goal, re.IGNORECASE)
    tells = NO.search(answer) or any(means(word, "tells_time") for word in re.findall(r"\w+", answer))
    return asks is not None and not tells and not _NUMBER.search(answer)


def sentences(text: str) -> list[str]:
    """Return the sentences of a text, its headings left out."""
    parts = (part.strip() for part in _SENTENCE_ENDS.split(text))
    return [part for part in parts if part and not part.startswith(("#", "```", "---"))]


def supported(sentence: str, source: str, goal: str = "") -> bool:
    """Tell whether one sentence of the source says what this one says: its words, its names, its negations.

    Words that stand in several sentences can be put together to what none of them says. Those of the goal
    do not count where the source does not have them: "the deploy" of one line with the day of another.
    """
    words = stems(sentence) - (stems(goal) - stems(source))
    names = _named(sentence) - (_named(goal) - _named(source))
    return any(
        len(words & stems(other)) >= _SUPPORTED * len(words)
        and names <= _named(other)
        and bool(NO.search(sentence)) == bool(NO.search(other))
        for other in sentences(source)
    )


def _named(text: str) -> set[str]:
    return {token.strip(".,:;-").casefold() for token in _NAMES.findall(text)} - {""}


def stems(text: str) -> set[str]:
    """Return the beginnings of the words of a text."""
    return {word[:_STEM_CHARS] for word in _WORDS.findall(text.casefold())}


def is_cyrillic(text: str) -> bool:
    """Tell whether a text is mostly Cyrillic."""
    letters = [char for char in text if char.isalpha()]
    return sum("\u0400" <= char <= "\u04ff" for char in letters) * 2 > len(letters)


def _counts(texts: Sequence[str]) -> Iterable[int]:
    """Return how many lines each text has, in all and of each shape, such as the entries of a listing."""
    for text in texts:
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        yield len(lines)
        shapes: dict[str, int] = {}
        for line in lines:
            shape = re.sub(r"[\w.-]+", "x", line)[:40]
            shapes[shape] = shapes.get(shape, 0) + 1
        yield from shapes.values()


_FILE = Path(__file__).with_name("words.toml")
_LATIN = dict(zip("абвгдежзийклмнопрстуфхцыэюя", "abvgdejziiklmnoprstufhcyeua", strict=True)) | {
    "ё": "e", "ч": "c", "ш": "s", "щ": "s", "ъ": "", "ь": "",
}  # fmt: skip
_VOWELS = lazy_pattern(r"[aeiouy]|(.)(?=\1)")
_SOFT_C = lazy_pattern("c(?=[eiy])")
_SAME_WORD, _LEAST_PREFIX, _LONGEST_ENDING = 0.6, 4, 3


def means(word: str, *kinds: str) -> bool:
    """Tell whether a word has one of these meanings."""
    folded = word.casefold()
    return any(folded in plain or pattern.fullmatch(folded) for plain, pattern in map(_vocabulary, kinds))


@cache
def _vocabulary(kind: str) -> tuple[frozenset[str], re.Pattern[str]]:
    """Return the words of a kind, and the pattern of those with several endings: a long one takes 4 ms."""
    words = _kinds()[kind].split()
    plain = frozenset(word for word in words if word.isalpha())
    return plain, re.compile("|".join(word for word in words if word not in plain) or "(?!)")


@cache
def _kinds() -> dict[str, Any]:
    return tomllib.loads(_FILE.read_text("utf-8"))


def same_word(word: str, term: str) -> bool:
    """Compare two words: endings do not count, nor does the alphabet that a word was borrowed into."""
    word, term = _singular(word.casefold()), _singular(term.casefold())
    if word == term:
        return True
    if is_cyrillic(word) == is_cyrillic(term):
        pairs = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(word, term, strict=False))
        common = sum(1 for _ in pairs)
        ending = max(len(word), len(term)) - common
        declined = common == _LEAST_PREFIX - 1 and ending == 1 and is_cyrillic(word)
        return declined or (common >= _LEAST_PREFIX and ending <= _LONGEST_ENDING)
    word, term = _latin(word), _latin(term)
    near = SequenceMatcher(None, word, term).ratio() >= _SAME_WORD
    bones = sorted((_VOWELS.sub("", text) for text in (word, term)), key=len)
    return near and len(bones[0]) > 1 and bones[1].startswith(bones[0]) and len(bones[1]) - len(bones[0]) <= 1


def _singular(word: str) -> str:
    return f"{word[:-3]}y" if word.endswith("ies") else word.removesuffix("s") if len(word) > 3 else word


def _latin(word: str) -> str:
    """Write a word in Latin letters, each sound by one of them."""
    text = "".join(_LATIN.get(char, char) for char in _SOFT_C.sub("s", word))
    return text.replace("x", "ks").replace("w", "v")
