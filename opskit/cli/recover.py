"""`opskit recover`: repair what is broken, once, and leave alone what is not."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from opskit.cli import context
from opskit.cli.inputs import duration
from opskit.cli.options import DryOption, SharedOptions, shares
from opskit.cli.recover_procedures import full, levels, model
from opskit.errors import Exit, OpskitError

if TYPE_CHECKING:
    from opskit.recovery.outcome import RecoveryRun

app = typer.Typer(no_args_is_help=False, invoke_without_command=True)


@app.callback()
@shares()
def recover(
    shared: SharedOptions,
    ctx: typer.Context,
    dry_run: DryOption = False,
    only: Annotated[
        list[str] | None, typer.Option("--only", metavar="STEP", help="Repair only this step; repeatable.")
    ] = None,
    now: Annotated[
        bool,
        typer.Option("--now", help="Repair also what a person stopped, took down or edited just now."),
    ] = False,
    budget: Annotated[str | None, typer.Option("--budget", help="End within this time (240s, 4m).")] = None,
    detailed_exitcode: Annotated[
        bool, typer.Option("--detailed-exitcode", help="Exit 4 instead of 0 when something was repaired.")
    ] = False,
    quiet_lock: Annotated[
        bool, typer.Option("--quiet-lock", help="Exit 0 instead of 75 when another recovery runs.")
    ] = False,
) -> None:
    """Repair what is broken, once: Wi-Fi, internet, Docker, network, Compose projects, model nodes, agents.

    Exits 0 (well, or repaired), 1 (broken), 3 (could not be judged), 5 (given up), 75 (another one runs).
    """
    if ctx.invoked_subcommand is not None:
        return
    from opskit.app import App
    from opskit.cli import recover_view, render
    from opskit.recovery.run import RecoverOptions
    from opskit.recovery.run import recover as reconcile

    options = RecoverOptions(
        dry=dry_run,
        only=tuple(only or ()),
        budget_s=None if budget is None else duration(budget, "--budget"),
        now=now,
    )

    async def work() -> "RecoveryRun":
        loaded = shared.load()
        # A run goes on without a state folder, and says so.
        folder = Path(loaded.state_dir)
        async with App(
            loaded, environ=os.environ, cwd=Path.cwd(), config_path=shared.config, folder=folder
        ) as root:
            return await reconcile(root.survey, options, platform=sys.platform, note=render.note)

    try:
        run = context.run(work())
    except OpskitError as error:
        if error.code == "RECOVER_001" and quiet_lock:
            recover_view.another(error, as_json=shared.json)
            raise typer.Exit(int(Exit.OK)) from error
        raise
    recover_view.run(run, as_json=shared.json, detailed=detailed_exitcode)
    raise typer.Exit(int(run.exit(detailed=detailed_exitcode)))


app.command("levels", short_help="Bring Victoria's levels back.")(levels)
app.command("model", short_help="Bring one model back; a chat proves it.")(model)
app.command("full", short_help="Take a project down and build it again.")(full)
