"""The judgement on code: one finding for each category, and every place that led to it."""

import asyncio
import os
from collections import Counter
from collections.abc import Sequence
from typing import Any

from opskit.quality.rules import Category, Issue, Module, NotJudgedError, Parsed, judge, modules, parse
from opskit.quality.source import CodeSource, ReadSources
from opskit.records import Record
from opskit.result import Finding, Report, Status

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
    if binary is not None:
        for result in await _judged(binary, modules(pieces)):
            if isinstance(result, Finding):
                problems.append(result)
            else:
                issues.extend(result)
    issues.sort(key=lambda i: (_ORDER.index(i.category), i.source, i.line, i.column, i.rule))
    target = _target(reading.sources)
    findings = [
        _found(category, target, rules, strict=strict)
        if (rules := Counter(issue.rule for issue in issues if issue.category is category))
        else _clean(category, target, pieces, has_rules=binary is not None)
        for category in Category
    ]
    return Quality(Report("quality", (*findings, *problems)), reading.sources, tuple(issues))


async def _judged(binary: str, code: Sequence[Module]) -> list[tuple[Issue, ...] | Finding]:
    """Return the issues of each module, or why there are none."""
    slots = asyncio.Semaphore(min(4, os.cpu_count() or 1))

    async def judged_one(module: Module) -> tuple[Issue, ...] | Finding:
        async with slots:
            try:
                return await judge(binary, module)
            except NotJudgedError as exc:
                return Finding("rules", module.name, Status.INCONCLUSIVE, "not judged", str(exc))

    return await asyncio.gather(*map(judged_one, code))


def _found(category: Category, target: str, rules: Counter[str], *, strict: bool) -> Finding:
    return Finding(
        check=category.value,
        target=target,
        status=Status.FAIL if strict else _WORST[category],
        state="found",
        detail=", ".join(f"{rule} x {times}" for rule, times in rules.most_common(5)),
        code="REV_002" if category is Category.SYNTAX else None,
        remedy=_REMEDIES[category],
        evidence={"count": rules.total(), "rules": dict(rules.most_common())},
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
