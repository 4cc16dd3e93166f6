"""Words of goals, Russian and English: what they mean, by `words.toml`, and whether two are the same."""

import itertools
import re
import tomllib
from difflib import SequenceMatcher
from functools import cache
from pathlib import Path
from typing import Any

from opskit.agent.grounding import is_cyrillic

_FILE = Path(__file__).with_name("words.toml")
_LATIN = dict(zip("абвгдежзийклмнопрстуфхцыэюя", "abvgdejziiklmnoprstufhcyeua", strict=True)) | {
    "ё": "e", "ч": "c", "ш": "s", "щ": "s", "ъ": "", "ь": "",
}  # fmt: skip
_VOWELS = re.compile(r"[aeiouy]|(.)(?=\1)")
_SOFT_C = re.compile("c(?=[eiy])")
_SAME_WORD, _LEAST_PREFIX, _LONGEST_ENDING = 0.6, 4, 3


def means(word: str, *kinds: str) -> bool:
    """Tell whether a word has one of these meanings."""
    return any(_pattern(kind).fullmatch(word) for kind in kinds)


@cache
def _pattern(kind: str) -> re.Pattern[str]:
    return re.compile("|".join(_kinds()[kind].split()), re.IGNORECASE)


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
