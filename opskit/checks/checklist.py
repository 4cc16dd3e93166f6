"""Reading checklists: YAML in, checks out, and every mistake told with its file and line."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path as FilePath

from opskit.checks.check_shape import CheckShape
from opskit.checks.expectation import Expectation, compile_expectation
from opskit.checks.fields import validated
from opskit.checks.graph import cycle
from opskit.checks.kinds import KINDS
from opskit.checks.shipped import ChecklistError, bytes_of, found
from opskit.checks.spec import Check, Kind, Severity
from opskit.checks.variables import Names, filled, resolved
from opskit.config.problems import InvalidConfigError, Path, Problem, dotted, printable
from opskit.config.shape import unknown
from opskit.config.yaml import Document, parse
from opskit.errors import ConfigError

#: A checklist may be made by a program: ten thousand checks are well below it, a YAML bomb is not.
MAX_NODES = 400_000
_TOP = ("title", "vars", "include", "checks")


@dataclass(frozen=True, slots=True)
class Checklist:
    """The checks of one command, those of included files first, in the order in which they are written."""

    titles: tuple[str, ...]
    checks: tuple[Check, ...]


def load(names: Sequence[str], *, given: Names, environ: Mapping[str, str], cwd: FilePath) -> Checklist:
    """Read files, or shipped lists, by name. Raises ChecklistError with every problem, or CONFIG_002."""
    loading = _Loading(dict(given), environ)
    for name in names:
        path, shown = found(name, cwd)
        loading.file(path, shown, given, ())
    loading.connect()
    if loading.problems:
        raise ChecklistError(sorted(loading.problems, key=lambda one: (one.path, one.line or 0)))
    return Checklist(tuple(loading.titles), tuple(loading.checks.values()))


@dataclass(slots=True)
class _Loading:
    given: dict[str, str]
    environ: Mapping[str, str]
    problems: list[Problem] = field(default_factory=list)
    titles: list[str] = field(default_factory=list)
    checks: dict[str, Check] = field(default_factory=dict)
    _done: set[FilePath] = field(default_factory=set)
    _places: dict[str, tuple["_ChecklistFile", int]] = field(default_factory=dict)

    def file(self, path: FilePath, shown: str, given: Names, parents: tuple[FilePath, ...]) -> None:
        """One file and what it includes; the second time it is there already."""
        real = path.resolve()
        if real in self._done:
            return
        self._done.add(real)
        try:
            document = parse(bytes_of(path, shown), shown, max_nodes=MAX_NODES)
        except InvalidConfigError as exc:
            self.problems += exc.problems
            return
        file = _ChecklistFile(document, self.problems)
        for key in document.data:
            if key not in _TOP:
                file.report((key,), unknown(printable(key), list(_TOP)))
        names = self._names(file, given)
        title = document.data.get("title")
        if title is not None and not isinstance(title, str):
            file.report(("title",), "must be text")
        self._include(file, path, names, (*parents, real))
        if isinstance(title, str):
            self.titles.append(title)
        for index, check in file.checks({**self.environ, **names}, path.parent):
            if check.name in self.checks:
                first = self.checks[check.name].where
                file.report(
                    ("checks", index, "name"), f"{printable(check.name)} is the name of a check at {first}"
                )
                continue
            self.checks[check.name] = check
            self._places[check.name] = file, index

    def connect(self) -> None:
        """What `requires` says must exist and must not go round in a circle."""
        for name, check in self.checks.items():
            file, index = self._places[name]
            for number, other in enumerate(check.requires):
                if other not in self.checks and not file.broken(other):
                    where = ("checks", index, "requires", number)
                    file.report(
                        where,
                        unknown(printable(other), list(self.checks)).replace(
                            "unknown key", "unknown check", 1
                        ),
                    )
        circle = cycle({name: check.requires for name, check in self.checks.items()})
        if circle:
            file, index = self._places[circle[0]]
            way = " → ".join(printable(name) for name in [*circle, circle[0]])
            file.report(("checks", index, "requires"), f"checks that wait for one another: {way}")

    def _names(self, file: "_ChecklistFile", given: Names) -> dict[str, str]:
        raw = file.document.data.get("vars")
        if raw is not None and not isinstance(raw, dict):
            file.report(("vars",), "must be a section of `name: value` lines")
            raw = None
        return resolved(raw or {}, given, self.environ, file.report)

    def _include(
        self, file: "_ChecklistFile", path: FilePath, names: Names, parents: tuple[FilePath, ...]
    ) -> None:
        raw = file.document.data.get("include")
        listed = [raw] if isinstance(raw, str) else raw or []
        if not isinstance(listed, list):
            file.report(("include",), "must be a path or a list of paths")
            return
        for index, one in enumerate(listed):
            place: Path = ("include", index) if isinstance(raw, list) else ("include",)
            if not isinstance(one, str) or not one:
                file.report(place, "must be a path: text in quotes")
                continue
            text = filled(one, {**self.environ, **names}, place, file.report)
            target = path.parent / text
            if target.resolve() in parents:
                file.report(place, f"{printable(text)} includes this file again")
                continue
            try:
                self.file(target, str(FilePath(file.document.shown).parent / text), names, parents)
            except ConfigError as exc:
                file.report(place, exc.message)


@dataclass(slots=True)
class _ChecklistFile:
    """One document, and where its problems go."""

    document: Document
    problems: list[Problem]
    _broken: set[str] = field(default_factory=set)

    def report(self, at: Path, message: str) -> None:
        mark = self.document.mark(at)
        line, column = (mark.line, mark.column) if mark else (None, None)
        self.problems.append(Problem(self.document.shown, line, dotted(at), message, column=column))

    def broken(self, name: str) -> bool:
        """Whether there is a check of this name that could not be read: that was told already."""
        return name in self._broken

    def checks(self, names: Names, folder: FilePath) -> Iterator[tuple[int, Check]]:
        raw = self.document.data.get("checks")
        if raw is None:
            if "include" not in self.document.data:
                self.report(("checks",) if "checks" in self.document.data else (), "there are no checks")
            return
        if not isinstance(raw, list) or not raw:
            self.report(("checks",), "must be a list of checks")
            return
        for index, one in enumerate(raw):
            check = self._check(index, one, names, folder)
            if check is not None:
                yield index, check
            elif isinstance(one, dict):
                self._broken.add(str(one.get("name")))

    def _check(self, index: int, raw: object, names: Names, folder: FilePath) -> Check | None:
        at: Path = ("checks", index)
        if not isinstance(raw, dict):
            self.report(at, "must be a section with `name` and `kind`")
            return None
        before = len(self.problems)
        content = {key: filled(value, names, (*at, key), self.report) for key, value in raw.items()}
        own = {key: value for key, value in content.items() if key not in CheckShape.OF_THE_KIND}
        shape = validated(CheckShape, own, at, self.report)
        kind = self._kind(content.get("kind"), at)
        if kind is None:
            return None
        params = validated(kind.params, content.get("with"), (*at, "with"), self.report)
        place, wanted = (*at, "expect"), content.get("expect")
        expect = (
            compile_expectation(wanted, kind.yields, place, self.report)
            if "expect" in content
            else default_expectation(kind)
        )
        if shape is None or params is None or len(self.problems) > before:
            return None
        mark = self.document.mark(at)
        check = Check(
            shape.name,
            kind,
            params,
            expect,
            where=f"{self.document.shown}:{mark.line}" if mark else self.document.shown,
            folder=folder,
            requires=shape.requires,
            timeout_s=shape.timeout or kind.timeout_s,
            severity=Severity(shape.severity),
            tags=shape.tags,
            skip=_reason(shape.skip),
            remedy=shape.remedy,
        )
        if shape.retry is None:
            return check
        return replace(check, retries=shape.retry.count, delay_s=shape.retry.delay)

    def _kind(self, name: object, at: Path) -> Kind | None:
        if not isinstance(name, str):
            return None
        if name not in KINDS:
            self.report(
                (*at, "kind"), unknown(printable(name), list(KINDS)).replace("unknown key", "unknown kind", 1)
            )
        return KINDS.get(name)


def default_expectation(kind: Kind) -> Expectation:
    """What holds for a check that says nothing of it."""
    return compile_expectation(kind.expects, kind.yields, (), _never)


def _never(at: Path, message: str) -> None:
    raise AssertionError(f"{dotted(at)}: {message}")


def _reason(skip: bool | str) -> str | None:
    if isinstance(skip, str):
        return skip
    return "the checklist skips it" if skip else None
