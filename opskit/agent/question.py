"""Questions whose answer is what a tool shows: a count, an error, a setting, a state, a summary. Pure.

Only a goal of which every word is understood is such a question: with one more word it asks something else,
and a model has to read it. Words are Russian and English, and are compared by their beginnings.
"""

import re
from collections.abc import Sequence
from enum import StrEnum

from opskit.agent.grounding import YES_OR_NO, means, same_word
from opskit.records import Record, replace
from opskit.text import lazy_pattern


class QuestionKind(StrEnum):
    """What is asked about a file, a folder or a container."""

    COUNT = "count"
    ERROR = "error"
    VALUE = "value"
    SUMMARY = "summary"
    STATE = "state"


class Question(Record):
    """A question. `what` is the thing counted; `terms` are the text that is counted, or the name of a value.

    `last` asks for the newest only, `first` for the oldest; `window` is a time of the day, from and until.
    """

    kind: QuestionKind
    what: str = ""
    terms: tuple[str, ...] = ()
    last: bool = False
    first: bool = False
    window: tuple[str, str] = ("", "")


_QUOTED = lazy_pattern(r"[\"«“`']([^\"»”`'\n]{1,120})[\"»”`']")
_PATH = lazy_pattern(
    r"(?<![\w:/.@-])(?:(?:~?/)?[\w.@+-]+(?:/[\w.@+-]+)+/?|\.?[\w@+-]+(?:\.[\w-]+)*\.[A-Za-z]\w{0,5}\b(?!\.\w))"
)
#: Behind the word for it a file or a folder is named, whatever its name looks like.
_NAMED = lazy_pattern(
    r"\b(?:files?|folder|directory|log|файл\w*|папк\w*|каталог\w*|директори\w*|лог[еау]?)\s+([\w.@+/-]*[\w/])",
    re.IGNORECASE,
)
_WORD = lazy_pattern(r"[\w-]+")
_NAME = lazy_pattern(r"[A-Za-z0-9][\w.-]*[A-Za-z0-9]")
#: An identifier, as no word of a sentence looks: ERROR, user_id, E1205.
_LITERAL = lazy_pattern(r"[A-Z][A-Z0-9_-]+|\w*[\d_]\w*", re.ASCII)
_OF_LITERAL = lazy_pattern(
    r"(?:\b(?:word|string|text|слов(?:о|а|ом)|строк(?:а|и|ой)|текст(?:а|ом)?)|\bcontain(?:s|ing)?|\bmention(?:s|ing)?|\bсодерж\w+)"
    r"\s+([\w-]+)|\btimes\s+(?:does|do|is|was)\s+([\w-]+)\s+(?:occur|appear|mentioned|found|stand)",
    re.IGNORECASE,
)

_CLOCK = r"(\d{1,2}:\d\d(?::\d\d)?)"
_WINDOW = lazy_pattern(
    rf"\b(?:between|from|с|между)\s+{_CLOCK}\s+(?:and|to|till|until|до|по|и)\s+{_CLOCK}"
    rf"|\b(?:after|since|from|после|с)\s+{_CLOCK}|\b(?:before|until|till|до)\s+{_CLOCK}",
    re.IGNORECASE,
)


_LOWER_NAME = r"(?P<name>[a-z][a-z0-9]*(?:[-_.][a-z0-9]+)+)(?![\w-])"
_SUBJECT = lazy_pattern(
    rf"\W*(?:(?:[Ii]s|[Ww]as|[Hh]as|[Dd]oes|[Dd]id|[Cc]an)\s+)?(?:[Tt]he\s+)?{_LOWER_NAME}"
)
_NUMBERED = lazy_pattern(rf"(?<![\w-])(?=[a-z._-]*\d){_LOWER_NAME}")
_NAME_AMONG_RUSSIAN = lazy_pattern(rf"(?<![\w-])(?<![a-z] ){_LOWER_NAME}")
_COMPARES = lazy_pattern("than|чем|лучше|хуже")
_MOST_SAID = 10
_THINGS = ("lines", "files", "folders", "entries", "error", "warning", "times")
_ERROR = ("asks_error", "about_error", "first", "last")
_SUMMARY = ("asks_summary", "about_summary")


def paths_named(goal: str) -> list[str]:
    """Return what a goal names as a file or a folder, in order."""
    paths = {match.start(): match.group() for match in _PATH.finditer(goal)}
    others = ("filling", "counting", "about_state", *_ERROR, *_SUMMARY)
    paths |= {match.start(1): match[1] for match in _NAMED.finditer(goal) if not means(match[1], *others)}
    names = (name.rstrip(".,:;!?") for _, name in sorted(paths.items()))
    return list(dict.fromkeys(name for name in names if name))


def state_of(goal: str) -> list[str]:
    """Return the words that may be the name of a container whose state a goal asks for."""
    if not _any(_WORD.findall(goal), "asks_state"):
        return []
    names = [name for name in _NAME.findall(goal) if not means(name, "filling", "about_state")]
    return [name for name in names if asked_about(goal, name, container=True)]


def subject_of(goal: str) -> str | None:
    """Return what a goal says or asks something of, where it is called as services are: redis-7, db_main.

    English words have hyphens too, so that one of letters alone must be the whole subject of a short goal.
    """
    match = _SUBJECT.match(goal)
    if match is None and YES_OR_NO.match(goal):
        match = _NAME_AMONG_RUSSIAN.search(goal)
    if match is None and _any(_WORD.findall(goal), "tells_service"):
        match, *others = [*_NUMBERED.finditer(goal), None, None][:2]
        match = None if others[0] else match
    if match is None or paths_named(goal.replace(match["name"], " ")):
        return None
    name, rest = match["name"], _WORD.findall(goal[match.end() :])
    is_name = any(map(str.isdigit, name)) or len(rest) <= 2 or means(rest[0], "service")
    return name if is_name and len(rest) <= _MOST_SAID and not any(map(_COMPARES.fullmatch, rest)) else None


def tells_state(goal: str) -> bool:
    """Tell whether a word of a goal says how something stands or ended, beside the words that ask."""
    words = _WORD.findall(goal)
    return any(means(word, "about_state") and not means(word, "asks_reason") for word in words)


def asks_difference(goal: str, places: Sequence[str]) -> bool:
    """Tell whether a goal asks in what two files differ, and nothing else."""
    for place in places:
        goal = goal.replace(place, " ")
    words = _WORD.findall(goal)
    if _any(words, "asks_sameness") and not YES_OR_NO.match(goal):
        return False  # "what is the same in"
    return _any(words, "asks_difference") and _covered(words, "asks_difference", "about_difference")


def asked_about(goal: str, place: str, *, container: bool = False) -> Question | None:
    """Return the question that a goal asks about one place; None where a word of it is not understood."""
    goal = goal.replace(place, " ")
    window = next(((a or c, b or d) for a, b, c, d in _WINDOW.findall(goal)), ("", ""))
    goal = _WINDOW.sub(" ", goal)
    quoted = _QUOTED.findall(goal)
    unquoted = _QUOTED.sub(" ", goal)
    literal = [*quoted, *(first or second for first, second in _OF_LITERAL.findall(unquoted))]
    words = [word for word in _WORD.findall(unquoted) if word not in literal]
    if container:
        asks = _any(words, "asks_state") and not quoted
        return Question(QuestionKind.STATE) if asks and _covered(words, "about_state") else None
    if _any(words, "count"):
        counted = _counted(words, literal)
        return counted and replace(counted, window=window)
    if literal:
        return None
    about = {part.casefold() for part in re.split(r"[/.]", place)}
    if _any(words, "asks_error"):
        if not _covered([word for word in words if word.casefold() not in about], *_ERROR):
            return None
        last, first = _any(words, "last"), _any(words, "first")
        return Question(QuestionKind.ERROR, last=last, first=first, window=window)
    if any(window):
        return None
    if _any(words, "asks_summary") and _covered(words, *_SUMMARY):
        return Question(QuestionKind.SUMMARY)
    terms = tuple(word for word in words if not means(word, "filling", "asks_value"))
    return Question(QuestionKind.VALUE, terms=terms) if terms and _any(words, "asks_value") else None


def _counted(words: list[str], literal: list[str]) -> Question | None:
    from opskit.logs.levels import level_of

    words = [word for word in words if not means(word, "count")]
    literal = [*literal, *(word for word in words if _LITERAL.fullmatch(word) and not level_of(word))]
    words = [word for word in words if word not in literal]
    if len(levels := [word for word in words if word.isupper() and level_of(word)]) == 1 and not literal:
        level = str(level_of(levels[0]))
        same = (level,) if level in _THINGS else ()  # "warnings (WARNING)"
        others = [word for word in words if word != levels[0]]
        return Question(QuestionKind.COUNT, level) if _covered(others, "lines", "counting", *same) else None
    things = {name: place for name in _THINGS if (place := _position(words, name)) is not None}
    # "How many files are in the folder": what is counted comes first, and its place may be of another kind.
    first = min(things, key=things.__getitem__, default=None)
    if first is None or len(literal) > 1 or (first == "times" and not literal):
        return None
    if not _covered(words, first, "counting") or (literal and first not in ("lines", "times")):
        return None
    return Question(QuestionKind.COUNT, first, tuple(literal))


def words_that_matter(goal: str, place: str) -> list[str]:
    """Return the words of a question that an answer has to say; none where it asks for nothing."""
    words = _WORD.findall(goal.replace(place, " "))
    if YES_OR_NO.match(goal) or not _any(words, "count", "asks_value"):
        return []
    words = [word for word in words if not means(word, "filling", "count", "asks_value", "saying")]
    about = re.split(r"[/._-]", place)
    return [word for word in words if not any(same_word(word, part) for part in about)]


def _position(words: list[str], kind: str) -> int | None:
    return next((number for number, word in enumerate(words) if means(word, kind)), None)


def _any(words: list[str], *kinds: str) -> bool:
    return any(means(word, *kinds) for word in words)


def _covered(words: list[str], *kinds: str) -> bool:
    return all(means(word, "filling", *kinds) for word in words)
