"""`opskit diagnose`: the fuller view for a person, and a bundle of it for a bug report."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from opskit.cli import context
from opskit.cli.options import SharedOptions, shares
from opskit.errors import UsageError

if TYPE_CHECKING:
    from opskit.diagnose.bundle import Written
    from opskit.diagnose.report import DiagnoseRequest, DiagnosticReport


@shares("sandbox")
def diagnose(
    shared: SharedOptions,
    areas: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="AREA...", help="system, containers, api, network, models; `all`, which is the default."
        ),
    ] = None,
    lines: Annotated[
        int, typer.Option("--lines", min=0, max=10_000, help="Log lines of each container.")
    ] = 5,
    ask: Annotated[
        bool, typer.Option("--ask", help="Ask every model that is loaded a short question.")
    ] = False,
    bundle: Annotated[
        Path | None,
        typer.Option(
            "--bundle",
            metavar="FILE.tar.gz",
            help="Write it all for a bug report as well, with logs and files, secrets masked.",
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a bundle that exists.")] = False,
) -> None:
    """Show the machine, containers, endpoints, network and models in tables; secrets are masked everywhere.

    Asks servers by GET only and no model for a token, unless --ask is given.
    """
    from opskit.cli import diagnose_view
    from opskit.diagnose.report import AREAS, DiagnoseRequest, areas_of

    try:
        chosen = areas_of(areas or [])
    except ValueError as exc:
        known = ", ".join((*AREAS, "all"))
        raise UsageError(f"there is no area {str(exc)!r}", remedy=f"use one of: {known}") from exc
    if bundle is not None:
        from opskit.diagnose.bundle import check

        check(bundle, force=force)
    elif force:
        raise UsageError("--force replaces a bundle", remedy="give --bundle FILE.tar.gz as well")
    result, written = context.run(_diagnose(DiagnoseRequest(chosen, lines, ask), bundle, shared, force=force))
    diagnose_view.show(result, written, as_json=shared.json)
    raise typer.Exit(int(result.report.exit))


async def _diagnose(
    request: "DiagnoseRequest", bundle: Path | None, shared: SharedOptions, *, force: bool
) -> "tuple[DiagnosticReport, Written | None]":
    from opskit.app import App
    from opskit.config.load import load
    from opskit.diagnose import report
    from opskit.diagnose.bundle import write
    from opskit.system.threads import children_without_threads
    from opskit.tags import TagLog

    path, cwd = shared.config, Path.cwd()
    with children_without_threads():
        async with shared.configured() as loaded:
            # Only the log of requests needs the state folder.
            folder = Path(loaded.state_dir)
            log = None if request.ask else TagLog()
            async with App(
                loaded, log=log, environ=os.environ, cwd=cwd, config_path=path, folder=folder
            ) as app:
                result = await report.diagnose(app, request)
                if bundle is None:
                    return result, None
                origins = load(path, environ=os.environ, cwd=cwd).origins
                return await write(bundle, result, app.survey, origins, force=force)
