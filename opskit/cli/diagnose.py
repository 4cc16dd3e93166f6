"""`opskit diagnose`: the fuller view for a person, and a bundle of it for a bug report."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from opskit.cli import context, render
from opskit.cli.inputs import check_output, choice
from opskit.cli.options import SharedOptions, shares
from opskit.errors import UsageError
from opskit.text import size

if TYPE_CHECKING:
    from opskit.diagnose.bundle import Written
    from opskit.diagnose.report import DiagnoseRequest, DiagnosticReport


@shares("sandbox")
def diagnose(
    shared: SharedOptions,
    areas: Annotated[
        list[str] | None,
        typer.Argument(metavar="AREA...", help="system, containers, api, network, models; all by default."),
    ] = None,
    lines: Annotated[int, typer.Option(min=0, max=10_000, help="Log lines of each container.")] = 5,
    ask: Annotated[bool, "Ask every model that is loaded a short question."] = False,
    bundle: Annotated[
        Path | None, "FILE.tar.gz", "Write it all, with logs and files, for a bug report; secrets are masked."
    ] = None,
    force: Annotated[bool, "Replace a bundle that exists."] = False,
) -> None:
    """Show machine, containers, network and models in tables.

    Secrets are masked everywhere. Asks servers by GET only and no model for a token, unless --ask is given.
    """
    from opskit.diagnose.report import AREAS, DiagnoseRequest, areas_of

    for name in areas or ():
        choice(name, (*AREAS, "all"), "area")
    if bundle is not None:
        if not force and os.path.lexists(bundle):
            raise UsageError(f"{bundle} exists", remedy="give --force to replace it, or another name")
        check_output(bundle)
    elif force:
        raise UsageError("--force replaces a bundle", remedy="give --bundle FILE.tar.gz as well")
    result, written = context.run(
        _diagnose(DiagnoseRequest(areas_of(areas or ()), lines, ask), bundle, shared, force=force)
    )
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
            render.heading(table.title if table.title == area.name else f"{area.name}: {table.title}")
            render.table(table.columns, table.rows)
            render.lines(table.lines)
    if result.problems:
        render.heading("what is not well")
    render.lines(map(advice, result.problems))
    if written is not None:
        render.heading(f"bundle {written.path} ({size(written.size_bytes)}, mode 0600)")
        rows = [(member.name, size(len(member.content)), member.note) for member in written.members]
        render.table(("member", "size", ""), rows)
        render.line("look through it before you hand it on: secrets are masked by value and by shape")
    render.line("")
    render.line(render.printable(result.conclusion), style=render.STYLES[result.report.status.value])
