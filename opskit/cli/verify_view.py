"""What `opskit verify` prints: reports in their formats, kinds, checks and lists."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from opskit.cli import render

if TYPE_CHECKING:
    from collections.abc import Sequence

    from opskit.checks.checklist import Checklist
    from opskit.checks.spec import Check
    from opskit.result import Report

_TABLE_ROWS = 500


def report_in(report: "Report", form: str, output: Path | None) -> int:
    from opskit.checks import formats

    if output is not None:
        written(output, formats.FORMATS[form](report))
        render.note(f"{formats.summary(report)}; written to {output}")
    elif form == "text" and len(report.findings) <= _TABLE_ROWS:
        render.report(report, as_json=False)
        render.line(formats.summary(report))
    else:
        render.piece(formats.FORMATS[form](report))
    return formats.exit_status(report, form)


def written(output: Path, text: str) -> None:
    from opskit.errors import UsageError
    from opskit.system.textfile import write_text

    try:
        write_text(output, text)
    except OSError as exc:
        reason = exc.strerror or str(exc)
        raise UsageError(f"{output} cannot be written: {reason}", remedy="give another --output") from exc


def kinds(*, as_json: bool) -> None:
    from opskit.checks.schema import kinds as all_kinds

    described = all_kinds()
    if as_json:
        render.document(_document("kinds", described))
        return
    for kind in described:
        render.line(f"{kind['kind']}: {kind['summary']}")
        for key, what in kind["with"].items():
            render.line(f"    with   {key}: {what}")
        for key, meaning in kind["yields"].items():
            render.line(f"    yields {key}: {meaning}")
        render.line(f"    without expect: {kind['expects']}; timeout {kind['timeout_s']:g} s")


def shipped_lists(*, as_json: bool) -> None:
    from opskit.checks.checklist import shipped

    names = list(shipped())
    if as_json:
        render.document(_document("checklists", names))
        return
    for name in names:
        render.line(name)


def listing(checklist: "Checklist", chosen: "Sequence[Check]", *, as_json: bool) -> None:
    rows = [
        (
            check.name,
            check.kind.name,
            check.severity.value,
            ", ".join(check.tags),
            ", ".join(check.requires),
            check.target,
        )
        for check in chosen
    ]
    columns = ("check", "kind", "severity", "tags", "requires", "target")
    if as_json:
        content = [dict(zip(columns, row, strict=True)) for row in rows]
        render.document({**_document("checks", content), "titles": list(checklist.titles)})
        return
    render.table(columns, rows)


def _document(key: str, content: Any) -> dict[str, Any]:
    return {
        "schema_version": 1,
        "command": "verify",
        "ok": True,
        "status": "pass",
        "findings": [],
        key: content,
    }
