"""Questions whose answer is what a tool shows: a count, an error, a setting, a state, a summary. Pure.

Only a goal of which every word is understood is such a question: with one more word it asks something else,
and a model has to read it. Words are Russian and English, and are compared by their beginnings.
"""

import re
from enum import StrEnum

from opskit.logs.record import is_level, level_of
from opskit.records import Record


class QuestionKind(StrEnum):
    """What is asked about a file, a folder or a container."""

    COUNT = "count"
    ERROR = "error"
    VALUE = "value"
    SUMMARY = "summary"
    STATE = "state"


class Question(Record):
    """A question. `what` is the thing counted; `terms` are the text that is counted, or the name of a value.

    `last` asks for the newest only.
    """

    kind: QuestionKind
    what: str = ""
    terms: tuple[str, ...] = ()
    last: bool = False


_QUOTED = re.compile(r"[\"«“`']([^\"»”`'\n]{1,120})[\"»”`']")
_PATH = re.compile(
    r"(?<![\w:/.@-])(?:(?:~?/)?[\w.@+-]+(?:/[\w.@+-]+)+/?|\.?[\w@+-]+(?:\.[\w-]+)*\.[A-Za-z]\w{0,5}\b(?!\.\w))"
)
#: Behind the word for it a file or a folder is named, whatever its name looks like.
_NAMED = re.compile(
    r"\b(?:files?|folder|directory|log|файл\w*|папк\w*|каталог\w*|директори\w*|лог[еау]?)\s+([\w.@+/-]*[\w/])",
    re.IGNORECASE,
)
_WORD = re.compile(r"[\w-]+")
#: An identifier, as no word of a sentence looks: ERROR, user_id, E1205.
_LITERAL = re.compile(r"[A-Z][A-Z0-9_-]+|\w*[\d_]\w*", re.ASCII)
_OF_LITERAL = re.compile(
    r"(?:\b(?:word|string|text|слов(?:о|а|ом)|строк(?:а|и|ой)|текст(?:а|ом)?)|\bcontain(?:s|ing)?|\bmention(?:s|ing)?|\bсодерж\w+)"
    r"\s+([\w-]+)|\btimes\s+(?:does|do|is|was)\s+([\w-]+)\s+(?:occur|appear|mentioned|found|stand)",
    re.IGNORECASE,
)


class _Words(Record):
    """Patterns of words, compiled when they are first needed: most runs name no file."""

    patterns: str

    def has(self, word: str) -> bool:
        return re.fullmatch("|".join(self.patterns.split()), word, re.IGNORECASE) is not None


#: Words that change nothing in any question.
_FILLING = _Words(
    r"""a an the is are was were be been do does did has have had there any it its this that in of on at to
    from for by with please me us i and say tell show see look find check give read named called inside which
    what files? folder directory logs? set sets written stated
    в во на по с со из и к у о об а же ли это этот эта этой этом мне нам есть был[аио]? будет там всего
    как(?:ой|ая|ое|ие|ую|ом) скажи покажи смотри посмотри найди проверь дай прочитай прочти пожалуйста
    файл[аеу]? папк[аеуи] каталог[еа]? директори[июя] лог[аеу]? логах журнал[аеу]?
    указан[аоы]? записан[аоы]? задан[аоы]? стоит"""
)
_COUNT = _Words("count number how many much сколько количество число посчитай подсчитай сосчитай")
_THINGS = {
    "lines": _Words("lines? rows? строк[аиу]? строчек"),
    "files": _Words("files? файл(?:ов|а|ы)?"),
    "folders": _Words(
        "(?:sub)?folders? (?:sub)?director(?:y|ies) (?:под)?(?:папок|папки|каталогов|директорий)"
    ),
    "entries": _Words("entries items элемент(?:ов|а) объект(?:ов|а) записей"),
    "error": _Words("errors? ошиб(?:ок|ки)"),
    "warning": _Words("warnings? предупреждени[йея]"),
    "times": _Words("times раза?"),
}
_COUNTING = _Words(
    r"""contain(?:s|ing)? occurs? appears? mentioned word string text
    слов(?:о|а|ом|ами) строк(?:а|и|ой) текст(?:а|ом)? содерж\w+ встреча\w+ упомина\w+ находится лежит"""
)
_ASKS_ERROR = _Words(
    r"errors? wrong fail(?:s|ed|ure)? problems? fault ошибк[аиуе] сбо[йя] проблем[аыу] упал[аои]? сломал\w+"
)
_LAST = _Words(r"newest latest last recent последн\w+")
_ERROR = _Words(
    f"{_ASKS_ERROR.patterns} {_LAST.patterns} went happened why not случилось произошло не почему прошло"
)
_ASKS_VALUE = _Words(
    "which what who whose when where кто когда где как(?:ой|ая|ое|ие|ую|ом) чему каков[аоы]?"
)
_ASKS_SUMMARY = _Words(
    r"summar\w+ brief\w* gist about overview кратк\w+ коротк\w+ перескаж\w+ резюм\w+ суть ч[её]м сводк\w+"
)
_SUMMARY = _Words(
    rf"""{_ASKS_SUMMARY.patterns} short\w* sentences? words one two three few main points? essence
    двух тр[её]х предложени\w+ словах содержание"""
)
#: Without one of these a goal may want something done to the container.
_ASKS_STATE = _Words(
    r"""why what which is are was has does did state status explain show tell happened
    почему что каком? состояни\w+ статус\w* ли жив работает объясни покажи скажи"""
)
_STATE = _Words(
    r"""why containers? states? status run(?:s|ning)? stop\w* exit\w* end(?:ed)? crash\w* die[ds]? dead down
    up wrong happened happening fail\w* work\w* not restart\w* paused? (?:un)?healthy explain doing
    контейнер\w* почему состояни\w+ статус\w* работает работал запущен\w* останов\w+ упал\w* не что случилось
    происходит перезапуска\w+ завершил\w+ объясни жив умер стал"""
)


def paths_named(goal: str) -> list[str]:
    """Return what a goal names as a file or a folder, in order."""
    found = {match.start(): match.group() for match in _PATH.finditer(goal)}
    found |= {
        match.start(1): match.group(1) for match in _NAMED.finditer(goal) if _looks_named(match.group(1))
    }
    names = (name.rstrip(".,:;!?") for _, name in sorted(found.items()))
    return list(dict.fromkeys(name for name in names if name))


def _looks_named(word: str) -> bool:
    return not any(words.has(word) for words in (_FILLING, _COUNTING, _ERROR, _STATE, _SUMMARY))


def asked_about(goal: str, place: str, *, container: bool = False) -> Question | None:
    """Return the question that a goal asks about one place; None where a word of it is not understood."""
    quoted = _QUOTED.findall(goal.replace(place, " "))
    rest = _QUOTED.sub(" ", goal.replace(place, " "))
    literal = [*quoted, *(first or second for first, second in _OF_LITERAL.findall(rest))]
    words = [word for word in _WORD.findall(rest) if word not in literal]
    if container:
        asks = any(_ASKS_STATE.has(word) for word in words) and not quoted
        return Question(QuestionKind.STATE) if asks and _covered(words, _STATE) else None
    last = any(_LAST.has(word) for word in words)
    if any(_COUNT.has(word) for word in words):
        return _counted(words, literal)
    if literal:
        return None
    about = {part.casefold() for part in re.split(r"[/.]", place)}
    if any(_ASKS_ERROR.has(word) for word in words):
        known = [word for word in words if word.casefold() not in about]
        return Question(QuestionKind.ERROR, last=last) if _covered(known, _ERROR) else None
    if any(_ASKS_SUMMARY.has(word) for word in words):
        return Question(QuestionKind.SUMMARY) if _covered(words, _SUMMARY) else None
    terms = tuple(word for word in words if not _FILLING.has(word) and not _ASKS_VALUE.has(word))
    asks = any(_ASKS_VALUE.has(word) for word in words)
    return Question(QuestionKind.VALUE, terms=terms) if asks and terms else None


def _counted(words: list[str], literal: list[str]) -> Question | None:
    words = [word for word in words if not _COUNT.has(word)]
    literal = [*literal, *(word for word in words if _LITERAL.fullmatch(word) and not is_level(word))]
    words = [word for word in words if word not in literal]
    if len(levels := [word for word in words if word.isupper() and is_level(word)]) == 1 and not literal:
        known = _Words(f"{_THINGS['lines'].patterns} {levels[0]}")
        level = level_of(levels[0])
        return Question(QuestionKind.COUNT, str(level)) if _covered(words, known) else None
    things = [name for name, pattern in _THINGS.items() if any(pattern.has(word) for word in words)]
    # "How many files are in the folder": what is counted comes first, and its place may be of another kind.
    first = min(things, key=lambda name: _position(words, _THINGS[name]), default=None)
    if first is None or len(literal) > 1 or (first == "times" and not literal):
        return None
    known = _Words(f"{_THINGS[first].patterns} {_COUNTING.patterns}")
    if not _covered(words, known) or (literal and first not in ("lines", "times")):
        return None
    return Question(QuestionKind.COUNT, first, tuple(literal))


def _position(words: list[str], pattern: _Words) -> int:
    return next(number for number, word in enumerate(words) if pattern.has(word))


def _covered(words: list[str], known: _Words) -> bool:
    return all(_FILLING.has(word) or known.has(word) for word in words)
