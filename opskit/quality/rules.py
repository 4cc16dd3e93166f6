"""What can be wrong with a piece of code: what Python's own parser says, and what the rules of ruff find.

ruff runs as a process of its own over standard input, without any configuration of the place it runs in, and
without heed for `noqa` comments: generated code must not excuse itself.
"""

import ast
import asyncio
import json
import os
import sys
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from typing import Any

from opskit.quality.source import CodeSource, ReadSources
from opskit.records import Record, asdict, field
from opskit.result import Finding, Report, Status
from opskit.system.program import NotStarted, run

#: For one module; the worst file within the limit of size takes about 3 s.
TIMEOUT_S = 30.0
_MAX_OUTPUT = 256 * 1024 * 1024

_SELECT = ("D101", "D102", "D103", "D106", "D419", "ANN", "S", "TID251", "F", "B")
_IGNORE = (
    "ANN401",  # Any is a type hint
    "S101",  # assert is how tests speak
    "S311",  # random numbers are seldom for secrets
    "S603",  # said of every process by the list below
    "S607",  # the same
)
#: Whatever starts a process; S602 and its kin speak of shells only. A name that is imported from its module
#: is reported at the import, and not again where it is called.
_STARTS_PROCESS = (
    *(f"subprocess.{name}" for name in ("run", "Popen", "call", "check_call", "check_output")),
    *(f"subprocess.{name}" for name in ("getoutput", "getstatusoutput")),
    "asyncio.create_subprocess_exec",
    "asyncio.create_subprocess_shell",
    "pty.spawn",
)
#: Careless, not dangerous by itself: all interfaces, temporary names, swallowed errors, weak hashes.
_CARELESS = frozenset({"S104", "S108", "S110", "S112", "S324"})
#: Python compiles none of these, although its grammar lets them pass.
_NOT_PYTHON = frozenset({"F404", "F622", "F701", "F702", "F704", "F706", "F707", "E999", "invalid-syntax"})
#: Python's own way to any module by name; none of ruff's rules looks at it.
_IMPORT = "__import__"


class Category(StrEnum):
    """The questions asked of generated code (SPEC C11)."""

    SYNTAX = "syntax"
    DOCSTRINGS = "docstrings"
    TYPE_HINTS = "type hints"
    DANGEROUS = "dangerous calls"
    BUGS = "likely bugs"


class Issue(Record):
    """One place that is wrong; `line` and `column` count from 1, in the text as it was given."""

    source: str
    line: int
    column: int
    category: Category
    rule: str
    message: str

    def as_json(self) -> dict[str, Any]:
        content = asdict(self)
        return {"file": content.pop("source"), **content}


class Parsed(Record):
    """One source after parsing, with what the parser and its tree show."""

    source: CodeSource
    issues: tuple[Issue, ...] = ()

    @property
    def parses(self) -> bool:
        return not any(issue.category is Category.SYNTAX for issue in self.issues)


def parse(source: CodeSource) -> Parsed:
    """Parse a piece. What cannot be parsed is an issue with its place and a reason on one line."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            tree = ast.parse(source.code)
        except SyntaxError as exc:
            return Parsed(source, (_broken(source, exc.msg, exc.lineno, exc.offset),))
        except ValueError as exc:
            return Parsed(source, (_broken(source, str(exc)),))
        except (RecursionError, MemoryError):
            return Parsed(source, (_broken(source, "nested too deeply for Python"),))
    if source.code.isascii() and _IMPORT not in source.code:
        return Parsed(source)
    calls = (node for node in ast.walk(tree) if isinstance(node, ast.Call) and _imports_by_name(node.func))
    dangerous = Category.DANGEROUS, _IMPORT, f"`{_IMPORT}` loads any module by name"
    return Parsed(source, tuple(_issue(source, c.lineno, _column(source, c), *dangerous) for c in calls))


def _broken(source: CodeSource, reason: str, line: int | None = 1, column: int | None = 1) -> Issue:
    reason = " ".join(reason.split())[:200]
    return _issue(source, max(1, line or 1), max(1, column or 1), Category.SYNTAX, "syntax-error", reason)


def _issue(source: CodeSource, line: int, column: int, category: Category, rule: str, message: str) -> Issue:
    """Return an issue at a place of the source, in lines and columns of the original text."""
    return Issue(source.name, line + source.line, column + source.column, category, rule, message)


def _column(source: CodeSource, node: ast.expr) -> int:
    """Python counts bytes, people count characters."""
    line = source.code.split("\n")[node.lineno - 1]
    return len(line.encode()[: node.col_offset].decode("utf-8", "replace")) + 1


def _imports_by_name(called: ast.expr) -> bool:
    return _IMPORT in (getattr(called, "id", ""), getattr(called, "attr", ""))


class Module(Record):
    """Code that parses: a file, or all code blocks of one answer put together.

    The blocks of an answer go on from each other: `import os` stands in the first, `os.system(...)` in the
    second. So they are judged as one module, in which every line keeps the number it has in the answer.
    `shifts` says for a line how far the original stands further to the right.
    """

    name: str
    code: str
    pieces: int = 1
    shifts: Mapping[int, int] = field(default_factory=dict)


def modules(parsed: Sequence[Parsed]) -> tuple[Module, ...]:
    """Return the modules of all pieces that parse, in order of their names' first appearance."""
    sources: dict[str, list[CodeSource]] = {}
    for piece in parsed:
        if piece.parses:
            sources.setdefault(piece.source.name, []).append(piece.source)
    return tuple(_module(name, pieces) for name, pieces in sources.items())


def _module(name: str, pieces: Sequence[CodeSource]) -> Module:
    lines: list[str] = []
    shifts: dict[int, int] = {}
    for source in pieces:
        lines += [""] * (source.line - len(lines))
        code = source.code.removesuffix("\n").split("\n")
        if source.column:
            shifts |= dict.fromkeys(range(len(lines) + 1, len(lines) + len(code) + 1), source.column)
        lines += code
    return Module(name, "\n".join(lines) + "\n", len(pieces), shifts)


class NotJudgedError(Exception):
    """The rules could not be applied; the message says why."""


def find_ruff() -> str | None:
    """Return the ruff of this Python, None when it is not installed."""
    try:
        from ruff.__main__ import find_ruff_bin  # where every release since 0.9 has it

        return str(find_ruff_bin())
    except (ImportError, FileNotFoundError):
        return None


async def judge(binary: str, module: Module, *, timeout_s: float = TIMEOUT_S) -> tuple[Issue, ...]:
    """Return what the rules find in a module that parses. Raises NotJudgedError."""
    out = await _run(binary, module, timeout_s)
    issues = [_rule_issue(module, row) for row in _rows(out)]
    shells = {(i.line, i.column) for i in issues if i.category is Category.DANGEROUS and i.rule[0] == "S"}
    return tuple(i for i in issues if i.rule != "TID251" or (i.line, i.column) not in shells)


async def _run(binary: str, module: Module, timeout_s: float) -> str:
    code = module.code.encode("utf-8", "replace")
    try:
        done = await run(
            (binary, *_arguments(module)),
            stdin=code,
            env={"NO_COLOR": "1"},
            max_output=_MAX_OUTPUT,
            timeout_s=timeout_s,
        )
    except NotStarted as error:
        raise NotJudgedError(f"ruff failed: {error.message}") from error
    if done.timed_out:
        raise NotJudgedError(f"ruff was stopped after {timeout_s:.0f} s")
    if done.exit not in (0, 1) or done.cut:
        raise NotJudgedError(f"ruff failed: {'it finds too much' if done.cut else done.complaint}")
    return done.out


def _arguments(module: Module) -> list[str]:
    banned = ", ".join(f'"{name}" = {{msg = "it starts a process"}}' for name in _STARTS_PROCESS)
    ignored = [*_IGNORE]
    if module.pieces > 1:
        ignored += ["F404", "F811"]  # blocks of one answer may begin again, and show one thing twice
    if module.name.endswith("__init__.py"):
        ignored.append("F401")  # an import there is an export
    return [
        "check",
        "--isolated",
        "--no-cache",
        "--no-fix",
        "--ignore-noqa",
        f"--select={','.join(_SELECT)}",
        f"--ignore={','.join(ignored)}",
        f"--target-version=py3{sys.version_info.minor}",
        "--config=lint.flake8-annotations.mypy-init-return = true",
        f"--config=lint.flake8-tidy-imports.banned-api = {{{banned}}}",
        "--output-format=json-lines",
        # A name of ours: rules treat tests and private modules differently.
        "--stdin-filename=code.py",
        "-",
    ]


def _rows(out: str) -> Iterator[Mapping[str, Any]]:
    for line in out.removesuffix("\n").split("\n") if out else ():
        try:
            row = json.loads(line)
        except ValueError as exc:
            raise NotJudgedError("ruff answered with something else than JSON") from exc
        if isinstance(row, dict):
            yield row


def _rule_issue(module: Module, row: Mapping[str, Any]) -> Issue:
    rule = str(row.get("code") or "invalid-syntax")
    where = row.get("location") or {}
    line = int(where.get("row", 1))
    column = int(where.get("column", 1)) + module.shifts.get(line, 0)
    message = " ".join(str(row.get("message", "")).split())
    message = message.replace(" is banned: it starts a process", " starts a process")
    return Issue(module.name, line, column, _category(rule), rule, message)


def _category(rule: str) -> Category:
    """Return the question that a rule answers."""
    if rule in _NOT_PYTHON:
        return Category.SYNTAX
    if rule.startswith("ANN"):
        return Category.TYPE_HINTS
    if rule.startswith("D"):
        return Category.DOCSTRINGS
    if rule == "TID251" or (rule.startswith("S") and rule not in _CARELESS):
        return Category.DANGEROUS
    return Category.BUGS


INSTALL = "`pip install 'opskit[quality]'`"

_WORST = {
    Category.SYNTAX: Status.FAIL,
    Category.DANGEROUS: Status.FAIL,
    Category.DOCSTRINGS: Status.WARN,
    Category.TYPE_HINTS: Status.WARN,
    Category.BUGS: Status.WARN,
}
_REMEDIES = {
    Category.SYNTAX: "fix the syntax first: Python does not run such code",
    Category.DANGEROUS: "read each of them before the code runs; try it in a container without a network: "
    "`docker run --rm -i --network none python:3 python - < FILE`",
    Category.DOCSTRINGS: "ask for a docstring in every public class and function",
    Category.TYPE_HINTS: "ask for type hints on every argument and result",
    Category.BUGS: "`ruff rule CODE` tells what each of them means",
}
#: In which order places are shown: the gravest first.
_ORDER = (Category.SYNTAX, Category.DANGEROUS, Category.BUGS, Category.TYPE_HINTS, Category.DOCSTRINGS)


class Quality(Record):
    """The judgement. `issues` are all places, the gravest category first, then by file, line and column."""

    report: Report
    sources: tuple[CodeSource, ...]
    issues: tuple[Issue, ...]

    def as_json(self) -> dict[str, Any]:
        return {
            **self.report.as_json(),
            "sources": [
                {"file": s.name, "line": s.line + 1, "lines": len(s.code.splitlines())} for s in self.sources
            ],
            "issues": [issue.as_json() for issue in self.issues],
        }


async def judged(reading: ReadSources, *, binary: str | None, strict: bool = False) -> Quality:
    """Parse every source and apply the rules of ruff to the sources that parse.

    `binary` None means that ruff is not installed: what only its rules can tell is then inconclusive.
    `strict` lets warnings fail.
    """
    pieces = [parse(source) for source in reading.sources]
    issues = [issue for piece in pieces for issue in piece.issues]
    problems = [
        Finding("read", name, Status.INCONCLUSIVE, "unread", reason) for name, reason in reading.unread
    ]
    slots = asyncio.Semaphore(min(4, os.cpu_count() or 1))

    async def judge_module(module: Module) -> None:
        async with slots:
            try:
                issues.extend(await judge(binary or "", module))
            except NotJudgedError as exc:
                problems.append(Finding("rules", module.name, Status.INCONCLUSIVE, "not judged", str(exc)))

    await asyncio.gather(*map(judge_module, modules(pieces) if binary is not None else ()))
    issues.sort(key=lambda i: (_ORDER.index(i.category), i.source, i.line, i.column, i.rule))
    target = _target(reading.sources)
    findings = [
        _category_finding(category, target, rules, strict=strict)
        if (rules := Counter(issue.rule for issue in issues if issue.category is category))
        else _clean(category, target, pieces, has_rules=binary is not None)
        for category in Category
    ]
    problems.sort(key=lambda problem: (problem.check, problem.target))
    return Quality(Report("quality", (*findings, *problems)), reading.sources, tuple(issues))


def _category_finding(category: Category, target: str, rules: Counter[str], *, strict: bool) -> Finding:
    detail = ", ".join(f"{rule} x {times}" for rule, times in rules.most_common(5))
    status, code = Status.FAIL if strict else _WORST[category], None
    if category is Category.SYNTAX:
        code = "REV_002"
    evidence = {"count": rules.total(), "rules": dict(rules.most_common())}
    return Finding(
        category.value, target, status, "found", detail, code, _REMEDIES[category], evidence=evidence
    )


def _clean(category: Category, target: str, pieces: Sequence[Parsed], *, has_rules: bool) -> Finding:
    """Return the finding of a category without an issue: it is clean, or nobody could judge it."""
    check, sound = category.value, sum(piece.parses for piece in pieces)
    detail = "" if len(pieces) == sound else f"of the {sound} pieces that parse, {len(pieces)} in all"
    if category is Category.SYNTAX:
        detail = "it parses" if len(pieces) == 1 else f"all {len(pieces)} pieces parse"
    elif not sound and pieces:
        return Finding(check, target, Status.SKIP, "not judged", "nothing of it parses")
    elif not has_rules:
        why = "ruff is not installed"
        return Finding(check, target, Status.INCONCLUSIVE, "not judged", why, remedy=INSTALL)
    return Finding(check, target, Status.PASS, "clean", detail, evidence={"count": 0, "rules": {}})


def _target(sources: Sequence[CodeSource]) -> str:
    names = list(dict.fromkeys(source.name for source in sources))
    if len(names) != 1:
        return f"{len(names)} files"
    blocks = sum(1 for source in sources if source.line)
    return f"{names[0]} ({blocks} code block{'s' if blocks > 1 else ''})" if blocks else names[0]
