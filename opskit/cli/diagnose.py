"""`opskit diagnose`: the fuller view for a person, and a bundle of it for a bug report."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from opskit.cli import context, render
from opskit.cli.inputs import check_output
from opskit.cli.options import SharedOptions, shares
from opskit.errors import UsageError
from opskit.result import Status
from opskit.text import size

if TYPE_CHECKING:
    from opskit.diagnose.area import TableSection
    from opskit.diagnose.bundle import Written
    from opskit.diagnose.report import DiagnoseRequest, DiagnosticReport

_STYLES = {Status.FAIL: "bold red", Status.INCONCLUSIVE: "magenta", Status.WARN: "yellow"}


@shares("sandbox")
def diagnose(
    shared: SharedOptions,
    areas: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="AREA...", help="system, containers, api, network, models; `all`, which is the default."
        ),
    ] = None,
    lines: Annotated[int, typer.Option(min=0, max=10_000, help="Log lines of each container.")] = 5,
    ask: Annotated[bool, typer.Option(help="Ask every model that is loaded a short question.")] = False,
    bundle: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.tar.gz",
            help="Write it all for a bug report as well, with logs and files, secrets masked.",
        ),
    ] = None,
    force: Annotated[bool, typer.Option(help="Replace a bundle that exists.")] = False,
) -> None:
    """Show machine, containers, network and models in tables.

    Secrets are masked everywhere. Asks servers by GET only and no model for a token, unless --ask is given.
    """
    from opskit.diagnose.report import AREAS, DiagnoseRequest, areas_of

    try:
        chosen = areas_of(areas or [])
    except ValueError as exc:
        known = ", ".join((*AREAS, "all"))
        raise UsageError(f"there is no area {str(exc)!r}", remedy=f"use one of: {known}") from exc
    if bundle is not None:
        if not force and os.path.lexists(bundle):
            raise UsageError(f"{bundle} exists", remedy="give --force to replace it, or another name")
        check_output(bundle)
    elif force:
        raise UsageError("--force replaces a bundle", remedy="give --bundle FILE.tar.gz as well")
    result, written = context.run(_diagnose(DiagnoseRequest(chosen, lines, ask), bundle, shared, force=force))
    document = {**result.as_json(), "bundle": None if written is None else written.as_json()}
    shared.end(result.report.exit, document, lambda: _show(result, written))


async def _diagnose(
    request: "DiagnoseRequest", bundle: Path | None, shared: SharedOptions, *, force: bool
) -> "tuple[DiagnosticReport, Written | None]":
    from opskit.config.load import load
    from opskit.diagnose import report
    from opskit.diagnose.bundle import write
    from opskit.tags import TagLog

    async with shared.configured() as loaded:
        # Only the log of requests needs the state folder.
        log = None if request.ask else TagLog()
        async with shared.application(loaded, log=log, folder=Path(loaded.state_dir)) as app:
            result = await report.diagnose(app, request)
            if bundle is None:
                return result, None
            origins = load(shared.config, environ=os.environ, cwd=Path.cwd()).origins
            return await write(bundle, result, app.survey, origins, force=force)


def _show(result: "DiagnosticReport", written: "Written | None") -> None:
    from opskit.diagnose.area import advice

    for area in result.areas:
        for table in area.tables:
            _table(table, "" if table.title == area.name else f"{area.name}: ")
    if result.problems:
        render.heading("what is not well")
    for finding in result.problems:
        # Commands are there to be copied: a styled line would be broken to the terminal's width.
        render.line(render.printable(advice(finding)))
    if written is not None:
        render.heading(f"bundle {written.path} ({size(written.size_bytes)}, mode 0600)")
        rows = [(member.name, size(len(member.content)), member.note) for member in written.members]
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
