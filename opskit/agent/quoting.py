"""Answers that need no model: the goal names a thing, and the result of the tool is the answer. Pure."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from difflib import SequenceMatcher
from typing import Any

from opskit.agent.grounding import NO, is_cyrillic, means, same_word, sentences, stems, supported
from opskit.agent.method import about_stack
from opskit.agent.querying import query
from opskit.agent.question import (
    Question,
    QuestionKind,
    asked_about,
    asks_difference,
    paths_named,
    state_of,
    subject_of,
    words_that_matter,
)
from opskit.agent.step import AgentStep
from opskit.agent.tools.tool import ToolResult
from opskit.facts.data_file import DataFile, NamedValue, Records, data_file
from opskit.llm.wording import parted
from opskit.logs.shape import shape

_CONTAINER = re.compile(r"\b(?:containers?|контейнер\w*)\b", re.IGNORECASE)
_CONTAINERS = re.compile(r"\b(?:containers|контейнер(?:ы|ов|ах))\b", re.IGNORECASE)
_STATES = ("running", "exited", "paused")
_MAX_PATHS = 2
_MAX_ERRORS = 3
_MAX_DIFFERENT = 12
#: More lines are not gone through word for word while others wait.
_MAX_READ_LINES = 20_000
#: One word alone may stand anywhere.
_LEAST_TERMS, _SHARE_OF_WORDS = 2, 0.4
_OF_FOLDERS = ("files", "folders", "entries")
_ANY_WORD = re.compile(r"[\w-]+")
#: A summary is no longer than this, nor than this part of its source.
_SUMMARY_CHARS, _SUMMARY_SHARE = 450, 0.5
_LOG_LINES = 2
_KEY_WORD = re.compile(r"[^\W_]{3,}")
_NAME_OR_NUMBER = re.compile(r"\b(?:[A-ZА-ЯЁ]\w*|\w*\d[\w.]*\w|\d)\b")


def first_steps(goal: str) -> list[AgentStep]:
    """Return the steps that a goal itself names: the file, the folder or the container that it is about."""
    goal = parted(goal)[0]
    paths = paths_named(goal)[:_MAX_PATHS]
    if _CONTAINER.search(goal) or not (paths or about_stack(goal)):
        subject = subject_of(goal)
        names = state_of(goal) if subject is None else [subject]
        steps = [AgentStep("the goal names it", "show_container", {"container": name}) for name in names]
        if _CONTAINERS.search(goal) and not paths and any(map(_asks_for_some, _ANY_WORD.findall(goal))):
            return [AgentStep("the goal asks about all of them", "list_containers", {})]
        return steps if len(steps) == 1 else []
    return [look_at(goal, path) for path in paths]


def _asks_for_some(word: str) -> bool:
    return means(word, "count", "asks_value", "lists")


def look_at(goal: str, path: str) -> AgentStep:
    """Return the step that looks at one place for what a goal asks."""
    question = asked_about(goal, path)
    kind = question.kind if question else QuestionKind.VALUE
    what, is_file = question.what if question else "", "." in path.rpartition("/")[2]
    tool = (
        "list_directory"
        if what in ("files", "folders") or (what == "entries" and not is_file)
        else "read_file"
    )
    args = {"path": path}
    if question and what not in _OF_FOLDERS and kind in (QuestionKind.COUNT, QuestionKind.ERROR):
        tool, args = "search_file", {"path": path, "pattern": question.terms[0] if question.terms else ""}
        args |= {
            name: clock for name, clock in zip(("after", "before"), question.window, strict=True) if clock
        }
    return AgentStep("the goal names it", tool, args)


def direct_answer(goal: str, step: AgentStep, result: ToolResult) -> str | None:
    """Return the answer where the result of a step is one; in Russian for a goal in Russian."""
    container = step.args.get("container")
    question = asked_about(goal, str(container or step.args.get("path")), container=container is not None)
    if container is not None and container == result.evidence.get("absent") == subject_of(goal):
        names = result.evidence["names"]
        if is_cyrillic(goal.replace(container, "")):
            return f"Контейнера {container} в Docker нет (есть: {names}); вне Docker ничего не проверено."
        return f"Docker has no container {container} (it has: {names}); nothing was looked at outside of it."
    if result.ok and step.tool == "list_containers":
        return _of_all(goal, result.evidence["containers"])
    if not result.ok or (question and any(question.window) and not result.evidence.get("one_day")):
        return None
    evidence, answer = result.evidence, None
    russian = is_cyrillic(goal.replace(str(step.args.get("path")), ""))
    is_state = question is not None and question.kind is QuestionKind.STATE
    if is_state or (question is None and container is not None and container == subject_of(goal)):
        # Asked in other words: its state and its last lines are what can be said of it.
        answer = _state(evidence, result.lines, russian=russian)
    elif step.tool != "read_file" and question is not None and question.kind is QuestionKind.COUNT:
        answer = _count(question, evidence, russian=russian)
    elif step.tool == "search_file" and question is not None:
        answer = _error(question, evidence, result.lines, russian=russian)
    elif step.tool == "read_file" and (question is None or question.kind is not QuestionKind.SUMMARY):
        answer = _read(goal, question, str(evidence.get("path")), result.lines, russian=russian)
    return answer


def _of_all(goal: str, rows: Sequence[Mapping[str, str]]) -> str | None:
    """Return what the containers together give as an answer: how many, which."""
    plural = "контейнеров" if is_cyrillic(goal) else "containers"

    def in_words_of_docker(match: re.Match[str]) -> str:
        return next((state for state in _STATES if means(match[0], f"is_{state}")), match[0])

    goal = _ANY_WORD.sub(in_words_of_docker, goal)
    records = Records(plural, tuple((0, row) for row in rows), plural)
    return query(goal, "Docker", DataFile(records=[records]))


def _read(
    goal: str, question: Question | None, path: str, lines: Sequence[tuple[int, str]], *, russian: bool
) -> str | None:
    """Return the answer that a file gives: a setting, records, or the one sentence that has all words."""
    if len(lines) > _MAX_READ_LINES:
        return None
    data = data_file(path, "\n".join(text for _, text in lines))
    names = question.terms if question and question.kind is QuestionKind.VALUE else ()
    if answer := _value(goal, path, data, lines, names, russian=russian) or query(goal, path, data):
        return answer
    terms = words_that_matter(goal, path)
    if len(terms) < _LEAST_TERMS or NO.search(goal):
        return None
    # What a heading says, the sentences below it need not say again.
    titles = " ".join(line for _, line in lines if line.startswith("#"))
    titled = [term for term in terms if any(same_word(word, term) for word in _ANY_WORD.findall(titles))]
    said = [
        (number, sentence)
        for number, line in lines
        for sentence in sentences(line)
        if _says_all(sentence, terms, titled)
    ]
    word = "строка" if russian else "line"
    return f"{path}, {word} {said[0][0]}: {said[0][1]}" if len(said) == 1 else None


def compared(goal: str, steps: Sequence[tuple[AgentStep, ToolResult]]) -> str | None:
    """Return in which lines two files differ, where a goal asks for that."""
    if len(steps) != 2 or not all(result.ok and result.lines for _, result in steps):
        return None
    paths = [str(step.args.get("path")) for step, _ in steps]
    if not asks_difference(goal, paths):
        return None
    (old, new), russian = (
        [[line.rstrip() for _, line in result.lines] for _, result in steps],
        is_cyrillic(goal),
    )
    word, parts = "строка" if russian else "line", list[str]()
    for kind, a, b, c, d in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if kind != "equal":
            parts += [f"{paths[0]}, {word} {number + 1}: {old[number]}" for number in range(a, b)]
            parts += [f"{paths[1]}, {word} {number + 1}: {new[number]}" for number in range(c, d)]
    if not parts:
        names = " и ".join(paths) if russian else " and ".join(paths)
        return f"{names}: содержимое одинаково." if russian else f"The content of {names} is the same."
    left = len(parts) - _MAX_DIFFERENT
    more = (f"… ещё строк: {left}" if russian else f"... {left} lines more") if left > 0 else ""
    return "\n".join([*parts[:_MAX_DIFFERENT], *filter(None, [more])])


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
    """Return the first sentence, and the sentences of the most frequent words, in their order."""
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
    if what in _OF_FOLDERS:
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
    chosen = lines[:1] if question.first else sorted(newest.values())[-1 if question.last else -_MAX_ERRORS :]
    word = "строка" if russian else "line"
    return "\n".join(f"{path}, {word} {number}: {line.strip()}" for number, line in chosen)


def _says_all(sentence: str, terms: Sequence[str], titled: Sequence[str]) -> bool:
    """Tell whether a sentence has all words but those of a title; in a long sentence two are not enough."""
    words = _ANY_WORD.findall(sentence)
    says = {term for term in terms if any(same_word(word, term) for word in words)}
    if len(says) < _LEAST_TERMS or not says.issuperset(term for term in terms if term not in titled):
        return False
    return len(says) > _LEAST_TERMS or len(says) >= _SHARE_OF_WORDS * len(stems(sentence))


def _value(
    goal: str,
    path: str,
    data: DataFile,
    lines: Sequence[tuple[int, str]],
    terms: Sequence[str],
    *,
    russian: bool,
) -> str | None:
    """Return the one setting that is called as the goal calls it, by its own name or by all around it."""
    filled = [(number, line.strip()) for number, line in lines if line.strip()]
    settings = data.settings
    if len(filled) == 1:
        settings = [NamedValue(filled[0][0], (path.rpartition("/")[2].partition(".")[0],), filled[0][1])]
    named = [setting for setting in settings if _is_named(setting.names[-1], terms)]
    wanted = words_that_matter(goal, path)
    if len(named) != 1 and wanted:
        named = [setting for setting in settings if _is_named(setting.names[-1], wanted)]
    if len(named) != 1 and wanted:
        named = [setting for setting in settings if _is_inside(setting.names, wanted)]
    if len(named) != 1:
        return None
    setting, word = named[0], "строка" if russian else "line"
    shown, own = f"{'.'.join(setting.names)}: {setting.value}", dict(filled).get(setting.line, "{")
    shown = own if len(setting.names) == 1 and own[0] not in "{[" else shown
    return f"{path}, {word} {setting.line}: {shown}"


def _is_inside(names: Sequence[str], terms: Sequence[str]) -> bool:
    """Tell whether all terms are among the words of the names, one of them in the last name."""
    words, last = (_KEY_WORD.findall(text) for text in (" ".join(names), names[-1]))
    return all(any(same_word(word, term) for word in words) for term in terms) and any(
        same_word(word, term) for word in last for term in terms
    )


def lines_asked(goal: str, path: str, lines: Sequence[tuple[int, str]]) -> list[str]:
    """Return the lines with a word that a goal asks about; all of them where it has no such word."""
    words = _ANY_WORD.findall(goal.replace(path, " "))
    terms = [word for word in words if not means(word, "filling", "asks_value", "saying", "count", "records")]
    return [
        text
        for _, text in lines
        if not terms
        or stems(text) & stems(" ".join(terms))
        or any(same_word(word, term) for word in _ANY_WORD.findall(text) for term in terms)
    ]


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
    return len(words) == len(terms) and all(map(same_word, words, terms))


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
