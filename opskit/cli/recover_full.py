"""`opskit recover full`: a Compose project down, built anew, up, and judged by its health."""

from typing import TYPE_CHECKING, Annotated

import typer

from opskit.cli import context, procedure_view, render
from opskit.cli.inputs import duration
from opskit.cli.options import ConfigOption, DebugOption, JsonOption

if TYPE_CHECKING:
    from opskit.recovery.full import RebuildOptions
    from opskit.recovery.procedure import ProcedureResult


def full(
    project: Annotated[
        str | None,
        typer.Option(
            "--project",
            help="Which one of `stack.compose`, when there are several.",
            show_default=False,
        ),
    ] = None,
    prune_volumes: Annotated[
        bool,
        typer.Option("--prune-volumes", help="Delete its volumes too; asks for the project's name."),
    ] = False,
    build_timeout: Annotated[
        str, typer.Option("--build-timeout", help="How long the build may take.")
    ] = "30m",
    wait: Annotated[str, typer.Option("--wait", help="How long it may take to be healthy.")] = "5m",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask, except for volumes.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", "-n", help="Show the commands that would be run; change nothing.")
    ] = False,
    config: ConfigOption = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Take one project down, clean what is its own, build without cache, start it, and wait for its health.

    Nothing is pulled, and nothing of other projects is touched. Exits 0, 1 (a phase or a service failed).
    """
    del debug  # read by main
    from opskit.recovery.full import RebuildOptions

    wish = RebuildOptions(
        prune_volumes,
        duration(build_timeout, "--build-timeout"),
        duration(wait, "--wait"),
    )
    done = context.run(_full(project, wish, config, yes=yes, dry=dry_run, quiet=json))
    procedure_view.shown(done, as_json=json)
    raise typer.Exit(int(done.exit))


async def _full(
    project: str | None, wish: "RebuildOptions", path: str | None, *, yes: bool, dry: bool, quiet: bool
) -> "ProcedureResult":
    import os
    import sys

    from opskit.config.load import ensure_state_dir
    from opskit.recovery.full import chosen, full, prospect, warned
    from opskit.recovery.procedure import procedure

    loaded = context.load_config(path)
    key = chosen(list(loaded.stack.compose), project)
    folder = ensure_state_dir(loaded.state_dir)
    say = (lambda _text: None) if quiet else render.note
    async with procedure(
        "recover full", key, loaded, os.environ, folder, dry=dry, platform=sys.platform, say=say
    ) as it:
        plan = await prospect(it, key)
        if not dry:
            what = warned(plan, wish)
            render.note("`opskit backup create` keeps a copy of its files first")
            procedure_view.agreed(what, "Go on?", yes=yes)
            if wish.prune_volumes:
                procedure_view.typed(what[-1], plan.work.name)
        return await full(it, plan, wish)
