"""Checklists are read from YAML; every mistake is reported with its file and line."""

import fnmatch
import importlib.resources
from collections import ChainMap
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from pathlib import Path as FilePath
from typing import Any

from opskit.checks.check_shape import EACH, read_check
from opskit.checks.spec import Check
from opskit.config.document import (
    PATH_CHARS,
    Document,
    InvalidConfigError,
    Path,
    Problem,
    Report,
    names,
    printable,
    read_file,
    substitute,
    unknown,
)
from opskit.config.yaml import parse
from opskit.errors import ConfigError
from opskit.records import MutableRecord, Record, field
from opskit.text import and_more, did_you_mean

#: A checklist may be made by a program: ten thousand checks are well below these, a YAML bomb is not.
MAX_NODES = 400_000
MAX_BYTES = 16 * 1024 * 1024

_TOP = ("title", "vars", "include", "checks")
_HELP = "`opskit verify --list FILE` shows names and tags"
Names = Mapping[str, str]


class ChecklistError(ConfigError):
    """Checklists that cannot be used; the message is the first problem and says how many follow."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        first, *others = problems
        remedy = f"{first.advice}; `opskit verify --kinds` lists what there is"
        super().__init__(f"{first}{and_more(len(others))}", remedy=remedy)
        self.problems = tuple(problems)


class Checklist(Record):
    """The checks of one command in the order in which they are written, included files first."""

    titles: tuple[str, ...]
    checks: tuple[Check, ...]

    def choose(self, *, tags: Sequence[str] = (), names: Sequence[str] = ()) -> list[Check]:
        """Return the checks with one of the tags and one of the names (`*` is allowed), and all they require.

        Raises ConfigError for a tag or a name that no check has, and when nothing is chosen.
        """
        all_tags = {tag for check in self.checks for tag in check.tags}
        all_names = [check.name for check in self.checks]
        for tag in tags:
            if tag not in all_tags:
                raise ConfigError(_no_such("has the tag", tag, all_tags), remedy=_HELP)
        for pattern in names:
            if not any(_is_named(name, [pattern]) for name in all_names):
                problem = (
                    f"no check is called {printable(pattern)!r}: {did_you_mean(pattern, all_names, limit=1)}"
                )
                raise ConfigError(problem, remedy=_HELP)
        waiting = [
            check.name
            for check in self.checks
            if (not tags or set(tags) & set(check.tags)) and (not names or _is_named(check.name, names))
        ]
        if not waiting:
            first = self.checks[0].where if self.checks else "the checklist"
            problem = "no check is selected by these tags and names, and nothing checked is not a pass"
            raise ConfigError(f"{first}: {problem}", remedy=_HELP)
        requires = {check.name: check.requires for check in self.checks}
        wanted: set[str] = set()
        while waiting:
            name = waiting.pop()
            if name not in wanted:
                wanted.add(name)
                waiting.extend(requires[name])
        return [check for check in self.checks if check.name in wanted]


def _no_such(what: str, word: str, known: Collection[str]) -> str:
    return f"no check {what} {printable(word)!r}: {did_you_mean(word, known, limit=1, quote='`')}"


def _is_named(name: str, patterns: Iterable[str]) -> bool:
    return any(name == pattern or fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def shipped() -> dict[str, FilePath]:
    inside = FilePath(str(importlib.resources.files("opskit.checks") / "lists"))
    folder = inside if inside.is_dir() else FilePath(__file__).parents[2] / "checks"
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def load(
    names: Sequence[str],
    *,
    given: Names,
    environ: Names,
    cwd: FilePath,
    each: Mapping[str, Sequence[str]] | None = None,
) -> Checklist:
    """Read files, or shipped lists, by name; `each` has the values of `${each}` by the words of `repeat_for`.

    Raises ChecklistError with every problem, or CONFIG_002.
    """
    loading = _Loading(environ, each or {})
    for name in names:
        path, shown = _located(name, cwd)
        loading.file(path, shown, given, ())
    loading.connect()
    for name in given if not loading.problems else ():
        if name not in loading.variables:
            raise ConfigError(_no_such("uses the variable", name, loading.variables), remedy=_HELP)
    if loading.problems:
        raise ChecklistError(sorted(loading.problems, key=lambda problem: (problem.path, problem.line or 0)))
    return Checklist(tuple(loading.titles), tuple(loading.checks.values()))


def _located(name: str, cwd: FilePath) -> tuple[FilePath, str]:
    """Return the file of a checklist, and its name in messages."""
    path = cwd / FilePath(name).expanduser()
    lists = shipped()
    if name in lists and not path.is_file():
        return lists[name], f"{name}.yaml"
    problem = "" if path.exists() else "there is no such file, and no list of opskit has this name"
    problem = "it is a folder" if path.is_dir() else problem
    if problem:
        remedy = f"give a file, or one of: {', '.join(lists)}"
        raise ConfigError(f"{printable(name, PATH_CHARS)}: {problem}", code="CONFIG_002", remedy=remedy)
    return path, printable(name, PATH_CHARS)


class _ChecklistFile(MutableRecord):
    """One document and its problems; `broken` are names of checks that could not be read.

    Only the first problem of a place is reported: others follow from it.
    """

    document: Document
    problems: list[Problem]
    broken: set[str] = field(default_factory=set)

    def report(self, at: Path, message: str) -> None:
        problem = self.document.problem(at, message)
        if not any((other.where, other.key) == (problem.where, problem.key) for other in self.problems):
            self.problems.append(problem)


class _Loading(MutableRecord):
    environ: Names
    each: Mapping[str, Sequence[str]]
    problems: list[Problem] = field(default_factory=list)
    titles: list[str] = field(default_factory=list)
    checks: dict[str, Check] = field(default_factory=dict)
    #: Every name that a file sets or refers to.
    variables: set[str] = field(default_factory=set)
    _done: set[FilePath] = field(default_factory=set)
    _places: dict[str, tuple[_ChecklistFile, int]] = field(default_factory=dict)

    def file(self, path: FilePath, shown: str, given: Names, parents: tuple[FilePath, ...]) -> None:
        """Read one file, once, after the files that it includes."""
        real = path.resolve()
        if real in self._done:
            return
        self._done.add(real)
        try:
            document = parse(read_file(path, shown, MAX_BYTES), shown, max_nodes=MAX_NODES)
        except InvalidConfigError as exc:
            self.problems += exc.problems
            return
        file, title = _ChecklistFile(document, self.problems), document.data.get("title")
        for key in document.data:
            if key not in _TOP:
                file.report((key,), unknown(key, _TOP))
        variables = self._variables(file, given)
        declared = document.data.get("vars")
        self.variables.update(declared if isinstance(declared, dict) else (), names(str(document.data)))
        known = {**self.environ, **variables}
        if title is not None and not isinstance(title, str):
            file.report(("title",), "must be text")
        for at, text in _included(file, known):
            target = path.parent / text
            if target.resolve() in (*parents, real):
                file.report(at, f"{printable(text)} includes this file again")
                continue
            try:
                self.file(target, str(FilePath(shown).parent / text), variables, (*parents, real))
            except ConfigError as exc:
                file.report(at, exc.message)
        if isinstance(title, str):
            self.titles.append(title)
        entries = document.data.get("checks")
        if entries is None and "include" not in document.data:
            file.report(("checks",) if "checks" in document.data else (), "there are no checks")
        elif entries is not None and (not isinstance(entries, list) or not entries):
            file.report(("checks",), "must be a list of checks")
        else:
            for index, entry in enumerate(entries or ()):
                self._add(file, index, entry, known, path.parent)

    def _add(self, file: _ChecklistFile, index: int, entry: Any, names: Names, folder: FilePath) -> None:
        """Add the check of an entry: with `repeat_for` one for each node, agent or database."""
        at: Path = ("checks", index)
        if not isinstance(entry, dict):
            file.report(at, "must be a section with `name` and `kind`")
            return
        kind = entry.get("repeat_for")
        repeated = [{**names, "each": value} for value in self.each.get(str(kind), ())]
        for known in repeated if kind in EACH else [names]:
            before = len(self.problems)
            content = filled(entry, known, at, file.report)
            check = read_check(content, at, file.report, where=file.document.where(at), folder=folder)
            if check is None or len(self.problems) != before:
                file.broken.add(str(entry.get("name")))
            elif check.name in self.checks:
                first = self.checks[check.name].where
                is_itself = self._places[check.name] == (file, index)
                twice = f"{printable(check.name)} is the name of a check at {first}"
                file.report((*at, "name"), "must hold ${each}: the check is repeated" if is_itself else twice)
            else:
                self.checks[check.name] = check
                self._places[check.name] = file, index

    def connect(self) -> None:
        """Report requirements that do not exist, and a circle of them."""
        for name, check in self.checks.items():
            file, index = self._places[name]
            for number, required in enumerate(check.requires):
                if required not in self.checks and required not in file.broken:
                    at = ("checks", index, "requires", number)
                    file.report(at, unknown(required, self.checks, "check"))
        try:
            TopologicalSorter({name: check.requires for name, check in self.checks.items()}).prepare()
        except CycleError as exc:
            # graphlib names what is required first, and the first name twice.
            circle = exc.args[1][:0:-1]
            first = circle.index(min(circle, key=list(self.checks).index))
            circle = circle[first:] + circle[:first]
            file, index = self._places[circle[0]]
            way = " → ".join(printable(name) for name in [*circle, circle[0]])
            file.report(("checks", index, "requires"), f"checks that wait for one another: {way}")

    def _variables(self, file: _ChecklistFile, given: Names) -> dict[str, str]:
        """Return the variables of one file, each of which may use the variables above it.

        `given` wins over what the file says: `--var`, or the file that includes this one.
        """
        raw = file.document.data.get("vars")
        if raw is not None and not isinstance(raw, dict):
            file.report(("vars",), "must be a section of `name: value` lines")
            raw = None
        variables: dict[str, str] = {}
        for name, value in (raw or {}).items():
            if name in given:
                variables[name] = given[name]
            elif isinstance(value, dict | list) or value is None:
                file.report(("vars", name), "must be one value")
            else:
                text = str(value).lower() if isinstance(value, bool) else str(value)
                known = ChainMap(variables, dict(given), dict(self.environ))
                variables[name] = filled(text, known, ("vars", name), file.report)
        return {**given, **variables}


def _included(file: _ChecklistFile, names: Names) -> Iterator[tuple[Path, str]]:
    raw = file.document.data.get("include")
    listed = [raw] if isinstance(raw, str) else raw or []
    if not isinstance(listed, list):
        file.report(("include",), "must be a path or a list of paths")
        return
    for index, path in enumerate(listed):
        at: Path = ("include", index) if isinstance(raw, list) else ("include",)
        if isinstance(path, str) and path:
            yield at, filled(path, names, at, file.report)
        else:
            file.report(at, "must be a path: text in quotes")


def filled(value: Any, names: Names, at: Path, report: Report) -> Any:
    """Return the value with every `${name}` in it replaced; a name without a value is reported."""
    if isinstance(value, dict):
        return {key: filled(item, names, (*at, key), report) for key, item in value.items()}
    if isinstance(value, list):
        return [filled(item, names, (*at, index), report) for index, item in enumerate(value)]
    if not isinstance(value, str) or "$" not in value:
        return value
    result = substitute(value, names)
    if result.problem:
        report(at, result.problem)
    elif result.unset:
        name = result.unset[0]
        report(at, f"{name} is neither in `vars` nor in the environment: write ${{{name}:-default}}")
    return result.text
