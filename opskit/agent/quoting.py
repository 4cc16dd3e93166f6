"""Answers that need no model: the goal names a thing, and the result of the tool is the answer. Pure."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from difflib import SequenceMatcher
from typing import Any

from opskit.agent.grounding import is_cyrillic, sentences, stems, supported
from opskit.agent.question import Question, QuestionKind, asked_about, paths_named
from opskit.agent.step import AgentStep
from opskit.agent.tools.tool import ToolResult
from opskit.logs.shape import shape

_CONTAINER = re.compile(r"\b(?:containers?|контейнер\w*)\b", re.IGNORECASE)
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*[A-Za-z0-9]")
_MAX_PATHS = 2
_MAX_ERRORS = 3
#: A summary is no longer than this, nor than this part of its source.
_SUMMARY_CHARS, _SUMMARY_SHARE = 450, 0.5
_LOG_LINES = 2
#: `port: 80`, `port = 80`, `"port": 80`, `export PORT=80`.
_SETTING = re.compile(r"\s*(?:[-*]\s+|export\s+)?[\"']?(\w[\w .-]{0,60}?)[\"']?\s*[:=]\s*(\S.*)")
_KEY_WORD = re.compile(r"[^\W_]{3,}")
_LATIN = dict(zip("абвгдежзийклмнопрстуфхцыэюя", "abvgdejziiklmnoprstufhcyeua", strict=True)) | {
    "ё": "e", "ч": "c", "ш": "s", "щ": "s", "ъ": "", "ь": "",
}  # fmt: skip
_NAME_OR_NUMBER = re.compile(r"\b(?:[A-ZА-ЯЁ]\w*|\w*\d[\w.]*\w|\d)\b")
_VOWELS = re.compile(r"[aeiouy]|(.)(?=\1)")
_SAME_WORD, _LEAST_PREFIX, _LONGEST_ENDING = 0.6, 4, 3


def first_steps(goal: str) -> list[AgentStep]:
    """Return the steps that a goal itself names: the file, the folder or the container that it is about."""
    if _CONTAINER.search(goal):
        names = [name for name in _NAME.findall(goal) if asked_about(goal, name, container=True)]
        steps = [AgentStep("the goal names it", "show_container", {"container": name}) for name in names]
        return steps if len(steps) == 1 else []
    return [_look(goal, path) for path in paths_named(goal)[:_MAX_PATHS]]


def _look(goal: str, path: str) -> AgentStep:
    question = asked_about(goal, path)
    kind = question.kind if question else QuestionKind.VALUE
    folder = question is not None and question.what in ("files", "folders", "entries")
    tool = "list_directory" if folder else "read_file"
    args = {"path": path}
    if question is not None and not folder and kind in (QuestionKind.COUNT, QuestionKind.ERROR):
        tool, args = "search_file", {"path": path, "pattern": question.terms[0] if question.terms else ""}
    return AgentStep("the goal names it", tool, args)


def direct_answer(goal: str, step: AgentStep, result: ToolResult) -> str | None:
    """Return the answer where the result of a step is one; in Russian for a goal in Russian."""
    container = step.args.get("container")
    question = asked_about(goal, str(container or step.args.get("path")), container=container is not None)
    if question is None or not result.ok:
        return None
    russian, evidence = is_cyrillic(goal), result.evidence
    match question.kind:
        case QuestionKind.STATE:
            return _state(evidence, result.lines, russian=russian)
        case QuestionKind.COUNT:
            return _count(question, evidence, russian=russian)
        case QuestionKind.ERROR:
            return _error(question, evidence, result.lines, russian=russian)
        case QuestionKind.VALUE:
            return _value(question, str(evidence.get("path")), result.lines, russian=russian)
    return None


def summary_source(goal: str, step: AgentStep, result: ToolResult) -> str | None:
    """Return the text of which a goal wants a summary."""
    question = asked_about(goal, str(step.args.get("path")))
    wanted = question is not None and question.kind is QuestionKind.SUMMARY
    return result.text if wanted and result.ok and result.lines else None


def summary(goal: str, path: str, source: str, written: str) -> tuple[str, bool]:
    """Return a summary, and whether it is the one that a model has written.

    A model's is taken where each of its sentences says what one sentence of the source says; else the
    sentences of the source that say most of it stand for it.
    """
    said = sentences(written)
    short = len(said) > 1 and len(written) < _SUMMARY_SHARE * len(source)
    if short and all(supported(sentence, source) for sentence in said):
        return written, True
    quoted = " ".join(_main_sentences(source))
    head = f"{path}, словами самого файла: " if is_cyrillic(goal) else f"{path}, in its own words: "
    return head + quoted, False


def _main_sentences(source: str) -> list[str]:
    """Return the first sentence, and those whose words stand most often in the text, in their order."""
    said = sentences(source)
    frequency = Counter(stem for sentence in said for stem in stems(sentence))
    weights = {
        number: sum(frequency[stem] for stem in stems(sentence)) / (len(stems(sentence)) + 2)
        for number, sentence in enumerate(said)
    }
    chosen, room = set[int](), min(_SUMMARY_CHARS, _SUMMARY_SHARE * len(source))
    for number in sorted(weights, key=lambda number: (number > 0, -weights[number])):
        if not chosen or len(said[number]) <= room:
            chosen.add(number)
            room -= len(said[number])
    return [said[number] for number in sorted(chosen)]


def _count(question: Question, evidence: Mapping[str, Any], *, russian: bool) -> str | None:
    path, what = evidence["path"], question.what
    term = question.terms[0] if question.terms else ""
    if what in ("files", "folders", "entries"):
        kinds = evidence.get("kinds", {})
        number = evidence["entries"] if what == "entries" else kinds.get(what.removesuffix("s"), 0)
        named = {"files": "файлов", "folders": "папок", "entries": "элементов"}[what]
        return f"{path}: {named} — {number}." if russian else f"The number of {what} in {path} is {number}."
    if evidence.get("cut"):
        return None
    if what in ("lines", "times"):
        number = evidence["matches" if term else "lines"] if what == "lines" else evidence["times"]
    elif levels := evidence["levels"]:
        number, term = levels.get(what, 0) + (levels.get("critical", 0) if what == "error" else 0), what
    else:
        return None
    if russian:
        named = "вхождений" if what == "times" else "строк"
        return f"{path}: {named}{f' «{term}»' if term else ''} — {number}."
    named = "occurrences of" if what == "times" else "lines with" if term else "lines"
    return f"The number of {named}{f' {term!r}' if term else ''} in {path} is {number}."


def _error(
    question: Question, evidence: Mapping[str, Any], lines: Sequence[tuple[int, str]], *, russian: bool
) -> str:
    path = evidence["path"]
    if not lines:
        return (
            f"{path}: ни одна строка не говорит об ошибке."
            if russian
            else f"No line of {path} tells of an error."
        )
    newest = {shape(line.encode()): (number, line) for number, line in lines}
    chosen = sorted(newest.values())[-1 if question.last else -_MAX_ERRORS :]
    word = "строка" if russian else "line"
    return "\n".join(f"{path}, {word} {number}: {line.strip()}" for number, line in chosen)


def _value(question: Question, path: str, lines: Sequence[tuple[int, str]], *, russian: bool) -> str | None:
    filled = [(number, line.strip()) for number, line in lines if line.strip()]
    settings = [
        (number, line, match.group(1)) for number, line in filled if (match := _SETTING.fullmatch(line))
    ]
    if len(filled) == 1:
        settings = [(*filled[0], path.rpartition("/")[2].partition(".")[0])]
    named = [(number, line) for number, line, key in settings if _is_named(key, question.terms)]
    if len(named) != 1:
        return None
    return f"{path}, {'строка' if russian else 'line'} {named[0][0]}: {named[0][1]}"


def strays(goal: str, path: str, lines: Sequence[tuple[int, str]], answer: str) -> bool:
    """Tell whether an answer names something that stands in no line with a word that was asked about."""
    question = asked_about(goal, path)
    if question is None or question.kind is not QuestionKind.VALUE:
        return False
    terms, known = [term.casefold() for term in question.terms], f"{goal} the a an it in".casefold().split()
    asked = [line for _, text in lines if any(term in (line := text.casefold()) for term in terms)]
    names = [name for word in _NAME_OR_NUMBER.findall(answer) if (name := word.casefold()) not in known]
    return bool(asked) and not any(all(name in line for name in names) for line in asked)


def _is_named(key: str, terms: Sequence[str]) -> bool:
    """Tell whether a key consists of the same words as the terms, units such as `_s` apart."""
    words = _KEY_WORD.findall(key)
    return len(words) == len(terms) and all(map(_same_word, words, terms))


def _same_word(word: str, term: str) -> bool:
    """Compare two words: endings do not count, nor does the alphabet that a word was borrowed into."""
    word, term = word.casefold(), term.casefold()
    if is_cyrillic(word) == is_cyrillic(term):
        common = SequenceMatcher(None, word, term).find_longest_match(0, len(word), 0, len(term))
        ending = max(len(word), len(term)) - common.size
        begins = common.a == common.b == 0 and common.size >= _LEAST_PREFIX
        return word == term or (begins and ending <= _LONGEST_ENDING)
    word, term = _latin(word), _latin(term)
    near = SequenceMatcher(None, word, term).ratio() >= _SAME_WORD
    bones = sorted((_VOWELS.sub("", text) for text in (word, term)), key=len)
    return near and len(bones[0]) > 1 and bones[1].startswith(bones[0]) and len(bones[1]) - len(bones[0]) <= 1


def _latin(word: str) -> str:
    return "".join(_LATIN.get(char, char) for char in word).replace("x", "ks").replace("w", "v")


def _state(evidence: Mapping[str, Any], lines: Sequence[tuple[int, str]], *, russian: bool) -> str:
    """Tell a container's state as it was judged, and the end of its log."""
    name, status, detail = evidence["container"], evidence["status"], evidence["detail"]
    code, word = evidence["exit_code"], "код завершения" if russian else "exit code"
    ended = "" if code is None else f", {word} {code}"
    end = "; ".join(line for _, line in lines[-_LOG_LINES:])
    if russian:
        text = f"Контейнер {name}: {status}{ended}" + (f" ({detail})" if detail else "") + "."
        return text + (f" Конец его журнала: {end}" if end else "")
    text = f"The container {name} is {status}{ended}" + (f": {detail}" if detail else "") + "."
    return text + (f" The end of its log: {end}" if end else "")
