"""Areas of the view and their sections, read side by side by the runner of checks, each within its limit.

A section that hangs or fails becomes a finding and a table that says so; the others are shown.
"""

import time
import unicodedata
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from opskit.checks import runner
from opskit.checks.check_shape import default_expectation
from opskit.checks.kinds import KINDS
from opskit.checks.runner import LATE, holds
from opskit.checks.spec import Check, CheckContext, assessing
from opskit.diagnose.redaction import Redactor
from opskit.errors import OpskitError
from opskit.facts.survey import Survey
from opskit.records import Record, replace
from opskit.result import Finding, Report, Status
from opskit.text import printable

#: A wider cell is not padded to in plain text: one long path would push every other column away.
_WIDEST = 60


class TableSection(Record):
    """A table for people, with lines below it; either may be empty."""

    title: str
    columns: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    lines: tuple[str, ...] = ()

    def redacted(self, redactor: Redactor) -> "TableSection":
        # Lines of a log belong together: a private key spans several.
        lines = redactor.text("\n".join(self.lines)).split("\n") if self.lines else ()
        rows = tuple(tuple(map(redactor.text, row)) for row in self.rows)
        return replace(self, rows=rows, lines=tuple(lines))

    def plain(self) -> Iterator[str]:
        """Return the table as lines of text, with its columns in line."""
        yield f"## {self.title}"
        rows = [self.columns, *self.rows] if any(self.columns) else list(self.rows)
        cells = [[printable(cell) for cell in row] for row in rows] if self.rows else []
        widths = [min(_WIDEST, max(map(_width, column))) for column in zip(*cells, strict=True)]
        for row in cells:
            padded = (cell + " " * (width - _width(cell)) for cell, width in zip(row, widths, strict=True))
            yield "  ".join(padded).rstrip()
        yield from self.lines


#: A column by its heading: a key of the items, or a function of one.
Columns = Mapping[str, str | Callable[[Any], object]]


def table(title: str, items: Iterable[Any], columns: Columns, none: str = "there is none") -> TableSection:
    """Return a table with a row for each item."""
    rows = tuple(
        tuple(_cell(item[cell] if isinstance(cell, str) else cell(item)) for cell in columns.values())
        for item in items
    )
    return TableSection(title, tuple(columns), rows, () if rows else (none,))


def _cell(value: object) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return "" if value is None else str(value)


class Section(Record):
    """What one part of an area holds: for programs, for people, and what is not well."""

    data: Any
    tables: tuple[TableSection, ...] = ()
    findings: tuple[Finding, ...] = ()


class SectionSource(Record):
    """How a section is read: its key in JSON, its title, its reader, and how long that may take.

    It is read after the sections named in `after`, and only if none of `requires` (`containers docker`)
    has a finding. A required section is shown only when it keeps others from being read.
    """

    area: str
    key: str
    title: str
    read: Callable[[Survey], Awaitable[Section]]
    limit_s: float
    requires: tuple[str, ...] = ()
    after: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return f"{self.area} {self.key}"


class Area(Record):
    """One area as it was read. `data` has a key for each section, null for one that could not be read."""

    name: str
    seconds: float
    data: Mapping[str, Any] = {}
    tables: tuple[TableSection, ...] = ()
    findings: tuple[Finding, ...] = ()

    @property
    def judged(self) -> tuple[Finding, ...]:
        """Its findings; an area without any is well."""
        well = Finding(self.name, self.name, Status.PASS, "ok", "nothing is amiss", seconds=self.seconds)
        return self.findings or (well,)

    def as_json(self) -> dict[str, Any]:
        status = Report(self.name, self.judged).status
        return {"status": status.value, "seconds": round(self.seconds, 3), **self.data}

    def redacted(self, redactor: Redactor) -> "Area":
        """Return the same, fit to be shown and given away."""
        return replace(
            self,
            data=redactor.value(self.data),
            tables=tuple(table.redacted(redactor) for table in self.tables),
            findings=tuple(redacted_finding(finding, redactor) for finding in self.findings),
        )

    def plain(self) -> str:
        """Return the area as a text file."""
        lines = [f"# {self.name} ({self.seconds:.2f} s)"]
        for table in self.tables:
            lines += ["", *table.plain()]
        problems = [finding for finding in self.findings if finding.status not in (Status.PASS, Status.SKIP)]
        if problems:
            lines += ["", "## findings", *map(advice, problems)]
        return "\n".join(lines) + "\n"


def redacted_finding(finding: Finding, redactor: Redactor) -> Finding:
    return replace(
        finding,
        target=redactor.text(finding.target),
        detail=redactor.text(finding.detail),
        remedy=redactor.text(finding.remedy) if finding.remedy else finding.remedy,
        evidence=redactor.value(finding.evidence),
    )


def advice(finding: Finding) -> str:
    """Write what is not well, and what to type next."""
    following = f" Next: {finding.remedy}" if finding.remedy else ""
    return f"{finding.status.value}: {finding.target} ({finding.state}): {finding.detail}.{following}"


async def read_areas(
    names: Sequence[str], sources: Sequence[SectionSource], survey: Survey
) -> tuple[Area, ...]:
    """Read everything at once; as slow as the slowest section, which its limit ends. Never raises."""
    sections: dict[str, Section] = {}

    async def observe(source: SectionSource, context: CheckContext) -> Finding:
        began = time.monotonic()
        section = sections[source.name] = await source.read(context.survey)
        status = Report(source.area, section.findings).status if section.findings else Status.PASS
        return Finding(source.area, source.title, status, seconds=time.monotonic() - began)

    checks = [
        assessing(
            "section",
            observe,
            source,
            source.title,
            name=source.name,
            requires=source.requires,
            after=source.after,
            timeout_s=source.limit_s,
        )
        for source in sources
    ]
    judged = await runner.run(checks, survey)
    findings = {source.name: finding for source, finding in zip(sources, judged, strict=True)}
    required = {name for source in sources for name in source.requires}
    areas = []
    for area in names:
        shown = [
            source
            for source in sources
            if source.area == area
            and all(holds(findings[name]) for name in source.requires)
            and not (source.name in required and holds(findings[source.name]))
        ]
        parts = [sections.get(source.name) or unread(source, findings[source.name]) for source in shown]
        areas.append(
            Area(
                name=area,
                seconds=max((findings[source.name].seconds for source in shown), default=0.0),
                data={source.key: part.data for source, part in zip(shown, parts, strict=True)},
                tables=tuple(table for part in parts for table in part.tables),
                findings=tuple(finding for part in parts for finding in part.findings),
            )
        )
    return tuple(areas)


def unread(source: SectionSource, why: Finding) -> Section:
    """Return the section that says why there is nothing to show."""
    finding = replace(
        why,
        check=source.area,
        target=source.title,
        status=Status.INCONCLUSIVE,
        state="unseen",
        remedy=OpskitError(why.code or "GEN_001", why.detail, remedy=why.remedy).remedy,
        evidence={key: value for key, value in why.evidence.items() if key == "traceback"},
    )
    lines = (f"cannot be looked at: {why.detail}",)
    return Section(None, (TableSection(source.title, lines=lines),), (finding,))


async def observe_kind(
    kind: str, survey: Survey, *, timeout_s: float = 5.0, **params: Any
) -> tuple[Finding, Mapping[str, Any] | None]:
    """Return what a check of this kind finds, and the values that it sees: None where it sees nothing.

    `params` are its parameters, which must be right.
    """
    known = KINDS[kind]
    check = Check(kind, known, known.params(**params), default_expectation(known), timeout_s=timeout_s)
    finding, values = await runner.observed(check, survey)
    # What did not answer here was not seen; a checklist would call it failed.
    return replace(finding, status=Status.INCONCLUSIVE) if finding.state == LATE else finding, values


def _width(text: str) -> int:
    """Count the columns of a terminal: Chinese and emoji take two."""
    return sum(2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text)
