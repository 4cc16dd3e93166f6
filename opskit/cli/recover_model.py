"""`opskit recover model NAME`: stop, remove, start again, wait for the load, and chat to prove it."""

from typing import TYPE_CHECKING, Annotated

import typer

from opskit.cli import context, procedure_view, render
from opskit.cli.inputs import duration
from opskit.cli.options import ConfigOption, DebugOption, JsonOption

if TYPE_CHECKING:
    from opskit.recovery.procedure import ProcedureResult


def model(
    name: Annotated[
        str, typer.Argument(help="A container or service (starcoder-chat), a node, or a model of a node.")
    ],
    wait: Annotated[str, typer.Option("--wait", help="How long it may take to be well (5m, 90s).")] = "5m",
    url: Annotated[
        str | None,
        typer.Option("--url", help="Where to chat with it, when that is not known.", show_default=False),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", "-n", help="Show the commands that would be run; change nothing.")
    ] = False,
    config: ConfigOption = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Bring one model back: its service is made anew, its server restarted, or its weights loaded again.

    Nothing is pulled, built or deleted; a real chat proves it. Exits 0, 1 (not well), 3 (nothing was asked).
    """
    del debug  # read by main
    from opskit.cli.inputs import name_of_model

    wait_s = duration(wait, "--wait")
    done = context.run(
        _model(name_of_model(name) or name, wait_s, url, config, yes=yes, dry=dry_run, quiet=json)
    )
    procedure_view.shown(done, as_json=json)
    raise typer.Exit(int(done.exit))


async def _model(
    name: str, wait_s: float, url: str | None, path: str | None, *, yes: bool, dry: bool, quiet: bool
) -> "ProcedureResult":
    import os
    import sys

    from opskit.config.load import ensure_state_dir
    from opskit.config.url import normalise
    from opskit.recovery.model import found, recover, warned
    from opskit.recovery.procedure import procedure

    loaded = context.load_config(path)
    where = None if url is None else normalise(url).url
    folder = ensure_state_dir(loaded.state_dir)
    say = (lambda _text: None) if quiet else render.note
    async with procedure(
        "recover model", name, loaded, os.environ, folder, dry=dry, platform=sys.platform, say=say
    ) as it:
        target = await found(it, name)
        if not dry:
            procedure_view.agreed([warned(target)], "Go on?", yes=yes)
        return await recover(it, target, wait_s=wait_s, url=where)
