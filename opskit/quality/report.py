"""The judgement on code: one finding for each category, and every place that led to it."""

import asyncio
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from opskit.quality import ruff
from opskit.quality.issue import Category, Issue
from opskit.quality.module import Module, modules
from opskit.quality.reading import ReadSources
from opskit.quality.source import CodeSource
from opskit.quality.syntax import Parsed, parse
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
_ORDER = {
    category: place
    for place, category in enumerate(
        (Category.SYNTAX, Category.DANGEROUS, Category.BUGS, Category.TYPE_HINTS, Category.DOCSTRINGS)
    )
}


@dataclass(frozen=True, slots=True)
class Quality:
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
    """Parse every source and apply the rules of ruff to those that parse.

    `binary` None means that ruff is not installed: what only its rules can tell is then inconclusive.
    `strict` lets warnings fail.
    """
    parsed = [parse(source) for source in reading.sources]
    sound = [one for one in parsed if one.parses]
    issues = [issue for one in parsed for issue in one.issues]
    problems = [Finding("read", n, Status.INCONCLUSIVE, "unread", why) for n, why in reading.unread]
    if binary is not None:
        whole = modules(parsed)
        for module, result in zip(whole, await _all(binary, whole), strict=True):
            if isinstance(result, ruff.NotJudged):
                problems.append(Finding("rules", module.name, Status.INCONCLUSIVE, "not judged", str(result)))
            else:
                issues.extend(result)
    issues.sort(key=lambda i: (_ORDER[i.category], i.source, i.line, i.column, i.rule))
    target = _target(reading.sources)
    findings = [
        _finding(
            category, target, issues, parsed=parsed, sound=sound, ruled=binary is not None, strict=strict
        )
        for category in Category
    ]
    return Quality(Report("quality", (*findings, *problems)), reading.sources, tuple(issues))


async def _all(binary: str, whole: Sequence[Module]) -> list[tuple[Issue, ...] | ruff.NotJudged]:
    room = asyncio.Semaphore(min(4, os.cpu_count() or 1))

    async def one(module: Module) -> tuple[Issue, ...] | ruff.NotJudged:
        async with room:
            try:
                return await ruff.judge(binary, module)
            except ruff.NotJudged as exc:
                return exc

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(module)) for module in whole]
    return [task.result() for task in tasks]


def _finding(
    category: Category,
    target: str,
    issues: Sequence[Issue],
    *,
    parsed: Sequence[Parsed],
    sound: Sequence[Parsed],
    ruled: bool,
    strict: bool,
) -> Finding:
    rules = Counter(issue.rule for issue in issues if issue.category is category)
    count = sum(rules.values())
    evidence = {"count": count, "rules": dict(rules.most_common())}
    if count:
        status = Status.FAIL if strict else _WORST[category]
        detail = ", ".join(f"{rule} x {times}" for rule, times in rules.most_common(5))
        code = "REV_002" if category is Category.SYNTAX else None
        return Finding(
            category.value, target, status, "found", detail, code, _REMEDIES[category], evidence=evidence
        )
    if category is Category.SYNTAX:
        return Finding(category.value, target, Status.PASS, "clean", _all_parse(parsed), evidence=evidence)
    if not sound and parsed:
        return Finding(category.value, target, Status.SKIP, "not judged", "nothing of it parses")
    if not ruled:
        why = "ruff is not installed"
        return Finding(category.value, target, Status.INCONCLUSIVE, "not judged", why, None, INSTALL)
    return Finding(category.value, target, Status.PASS, "clean", _of_sound(parsed, sound), evidence=evidence)


def _all_parse(parsed: Sequence[Parsed]) -> str:
    return "it parses" if len(parsed) == 1 else f"all {len(parsed)} pieces parse"


def _of_sound(parsed: Sequence[Parsed], sound: Sequence[Parsed]) -> str:
    return "" if len(parsed) == len(sound) else f"of the {len(sound)} pieces that parse, {len(parsed)} in all"


def _target(sources: Sequence[CodeSource]) -> str:
    names = list(dict.fromkeys(source.name for source in sources))
    if len(names) != 1:
        return f"{len(names)} files"
    blocks = sum(1 for source in sources if source.line)
    return f"{names[0]} ({blocks} code block{'s' if blocks > 1 else ''})" if blocks else names[0]
