"""What `opskit diagnose` prints: one document, or sections and one last line."""

from typing import TYPE_CHECKING

from opskit.cli import render
from opskit.result import Status

if TYPE_CHECKING:
    from opskit.diagnose.archive import Written
    from opskit.diagnose.area import Area
    from opskit.diagnose.diagnosis import DiagnosticReport

_STYLES = {Status.FAIL: "bold red", Status.INCONCLUSIVE: "magenta", Status.WARN: "yellow"}


def show(result: "DiagnosticReport", written: "Written | None", *, as_json: bool) -> None:
    if as_json:
        bundle = None if written is None else written.as_json()
        render.document({**result.as_json(), "bundle": bundle})
        return
    for area in result.areas:
        _area(area)
    _advice(result)
    if written is not None:
        _bundle(written)
    render.line("")
    render.line(render.printable(result.conclusion), style=_STYLES.get(result.report.status, "green"))


def _area(area: "Area") -> None:
    for section in area.sections:
        title = section.title if section.title == area.name else f"{area.name}: {section.title}"
        render.heading(title)
        if section.rows:
            # What nobody has takes no room.
            told = [at for at in range(len(section.columns)) if any(row[at] for row in section.rows)]
            render.table(
                [section.columns[at] for at in told], [[row[at] for at in told] for row in section.rows]
            )
        for text in section.lines:
            render.line(render.printable(text))


def _advice(result: "DiagnosticReport") -> None:
    """What is not well, worst first, each with what to type next."""
    told = result.told
    if told:
        render.heading("what is not well")
    for one in told:
        following = f" Next: {one.remedy}" if one.remedy else ""
        text = f"{one.status.value}: {one.target} ({one.state}): {one.detail}.{following}"
        # Commands are there to be copied: a styled line would be broken to the terminal's width.
        render.line(render.printable(text))


def _bundle(written: "Written") -> None:
    render.heading(f"bundle {written.path} ({written.shown_size}, mode 0600)")
    rows = [(one.name, one.shown_size, one.note) for one in written.members]
    render.table(("member", "size", ""), rows)
    render.line("look through it before you hand it on: secrets are masked by value and by shape")
