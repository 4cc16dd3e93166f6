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
#: Words are compared by their beginnings: endings change with case and number.
_STEM_CHARS = 5
#: The part of an answer's words that must stand in the goal or the results, where both are in one language.
_SHARED = 0.4


def ungrounded(answer: str, goal: str, texts: Sequence[str]) -> str | None:
    """Return why an answer does not rest on the texts, as a part of a sentence; None where it does.

    A number may also count the lines of a text, or those of one shape.
    """
    shown = "\n".join((goal, *texts)).casefold()
    names = [token.strip(".,:;-") for token in _NAMES.findall(_LIST_MARK.sub("", answer))]
    names = [name for name in names if name and not _PROSE.fullmatch(name)]
    counts = set(_counts(texts))
    for name in names:
        word = name.casefold()
        known = word in shown or word.replace(",", ".") in shown
        if not known and not (word.isdigit() and int(word) in counts):
            return f"{name!r} stands in no result"
    if names:
        return None
    said, results = _stems(answer), _stems("\n".join(texts))
    new = said - _stems(goal)
    if not results or _script(answer) != _script("\n".join(texts)):
        return "the answer names nothing of the results" if new and results else None
    if not new & results and len(said & results) < _SHARED * len(said):
        return "the answer names nothing of the results"
    if len(said & (results | _stems(goal))) < _SHARED * len(said):
        return "most of the answer stands in no result"
    return None


def _stems(text: str) -> set[str]:
    return {word[:_STEM_CHARS] for word in _WORDS.findall(text.casefold())}


def _script(text: str) -> bool:
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
