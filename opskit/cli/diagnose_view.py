"""What `opskit diagnose` prints: one document, or tables and one last line."""

from typing import TYPE_CHECKING

from opskit.cli import render
from opskit.diagnose.area import advice
from opskit.result import Status

if TYPE_CHECKING:
    from opskit.diagnose.area import TableSection
    from opskit.diagnose.bundle import Written
    from opskit.diagnose.report import DiagnosticReport

_STYLES = {Status.FAIL: "bold red", Status.INCONCLUSIVE: "magenta", Status.WARN: "yellow"}


def show(result: "DiagnosticReport", written: "Written | None", *, as_json: bool) -> None:
    if as_json:
        bundle = None if written is None else written.as_json()
        render.document({**result.as_json(), "bundle": bundle})
        return
    for area in result.areas:
        for table in area.tables:
            _table(table, "" if table.title == area.name else f"{area.name}: ")
    if result.problems:
        render.heading("what is not well")
    for finding in result.problems:
        # Commands are there to be copied: a styled line would be broken to the terminal's width.
        render.line(render.printable(advice(finding)))
    if written is not None:
        render.heading(f"bundle {written.path} ({written.shown_size}, mode 0600)")
        rows = [(member.name, member.shown_size, member.note) for member in written.members]
        render.table(("member", "size", ""), rows)
        render.line("look through it before you hand it on: secrets are masked by value and by shape")
    render.line("")
    render.line(render.printable(result.conclusion), style=_STYLES.get(result.report.status, "green"))


def _table(table: "TableSection", area: str) -> None:
    render.heading(f"{area}{table.title}")
    if table.rows:
        # A column that is empty in every row takes no room.
        used = [at for at in range(len(table.columns)) if any(row[at] for row in table.rows)]
        render.table([table.columns[at] for at in used], [[row[at] for at in used] for row in table.rows])
    for text in table.lines:
        render.line(render.printable(text))
