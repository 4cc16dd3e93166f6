"""Whether an answer rests on what the tools have shown: its numbers, paths, names and words. Pure.

A model that has seen three files and says "12" is wrong however well it puts it, and one that talks about
something else has answered nothing. What can be looked up is looked up.
"""

import re
from collections.abc import Iterable, Sequence

#: Numbers, paths, file names, and words that are no prose: with digits, dots, underscores or colons inside.
_NAMES = re.compile(r"/?[\w.-]+(?:[/:=@][\w.-]+)+/?|\w+(?:[._-]\w+)+|\d+(?:[.,]\d+)?%?|\w*\d\w*")
_WORDS = re.compile(r"[^\W\d_]{4,}")
_PROSE = re.compile(r"[^\W\d_]+(?:-[^\W\d_]+)*")
_LIST_MARK = re.compile(r"^\s*\d{1,2}[.)]\s", re.MULTILINE)
_NUMBER = re.compile(r"\d+")
YES_OR_NO = re.compile(r"\W*(?:is|are|was|were|do|does|did|can|has|have)\b|.*\bли\b", re.IGNORECASE)
#: Words are compared by their beginnings: endings change with case and number.
_STEM_CHARS = 5
#: The part of an answer's words that must stand in the goal or the results, where both are in one language.
_SHARED = 0.4
#: A sentence of a summary says what one sentence of the source says: so many of its words stand there.
_SUPPORTED = 0.8
_SENTENCE_ENDS = re.compile(r"(?<=[.!?])\s+|\n+")
NO = re.compile(
    r"\b(?:no|not|never|without|cannot|nobody|none|nothing|neither|нет|не|ни|без|никто|ничего|нельзя)\b|n't\b",
    re.IGNORECASE,
)


def ungrounded(answer: str, goal: str, texts: Sequence[str]) -> str | None:
    """Return why an answer does not rest on the texts, as a part of a sentence; None where it does.

    A number may also count the lines of a text, or those of one shape.
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
