"""Areas as plain text, for a file: tables with their columns in line. Pure."""

import unicodedata
from collections.abc import Iterator, Sequence

from opskit.diagnose.area import Area, TableSection
from opskit.result import Finding, Status

#: A wider cell is not padded to: one long path would push every other column away.
_WIDEST = 60


def of_area(area: Area) -> str:
    lines = [f"# {area.name} ({area.seconds:.2f} s)"]
    for section in area.sections:
        lines += ["", *of_section(section)]
    told = [one for one in area.findings if one.status not in (Status.PASS, Status.SKIP)]
    if told:
        lines += ["", "## findings", *map(of_finding, told)]
    return "\n".join(lines) + "\n"


def of_section(section: TableSection) -> Iterator[str]:
    yield f"## {section.title}"
    if section.rows:
        yield from _table(section.columns, section.rows)
    yield from section.lines


def of_finding(finding: Finding) -> str:
    """What is not well, and what to type next."""
    following = f" Next: {finding.remedy}" if finding.remedy else ""
    return f"{finding.status.value}: {finding.target} ({finding.state}): {finding.detail}.{following}"


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    every = [columns, *rows] if any(columns) else list(rows)
    cells = [[_one_line(cell) for cell in row] for row in every]
    widths = [min(_WIDEST, max(map(_width, column))) for column in zip(*cells, strict=True)]
    for row in cells:
        padded = (cell + " " * (width - _width(cell)) for cell, width in zip(row, widths, strict=True))
        yield "  ".join(padded).rstrip()


def _one_line(text: str) -> str:
    return "".join(char if char.isprintable() else " " for char in text)


def _width(text: str) -> int:
    """In columns of a terminal: Chinese and emoji take two."""
    return sum(2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text)
