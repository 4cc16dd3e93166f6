"""`opskit recover full`, `model` and `levels`: procedures that a person asks for, narrated and judged."""

import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from opskit.cli import context, render
from opskit.cli.confirm import confirm, type_word
from opskit.cli.inputs import duration
from opskit.cli.options import ConfigOption, DebugOption, JsonOption

if TYPE_CHECKING:
    from opskit.recovery.full import RebuildOptions
    from opskit.recovery.levels import Levels
    from opskit.recovery.procedure import ProcedureResult

DryOption = Annotated[
    bool, typer.Option("--dry-run", "-n", help="Show the commands that would be run; change nothing.")
]


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
    dry_run: DryOption = False,
    config: ConfigOption = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Take one project down, clean what is its own, build without cache, start it, and wait for its health.

    Nothing is pulled, and nothing of other projects is touched. Exits 0, 1 (a phase or a service failed).
    """
    del debug  # read by main
    from opskit.recovery.full import RebuildOptions

    options = RebuildOptions(
        prune_volumes, duration(build_timeout, "--build-timeout"), duration(wait, "--wait")
    )
    _end(context.run(_full(project, options, config, yes=yes, dry=dry_run, say=_say(json))), as_json=json)


async def _full(
    project: str | None,
    options: "RebuildOptions",
    path: str | None,
    *,
    yes: bool,
    dry: bool,
    say: Callable[[str], None],
) -> "ProcedureResult":
    from opskit.config.load import ensure_state_dir
    from opskit.recovery.full import choose_project, plan_rebuild, rebuild
    from opskit.recovery.procedure import procedure

    loaded = context.load_config(path)
    key = choose_project(list(loaded.stack.compose), project)
    folder = ensure_state_dir(loaded.state_dir)
    async with procedure(
        "recover full", key, loaded, os.environ, folder, dry=dry, platform=sys.platform, say=say
    ) as it:
        plan = await plan_rebuild(it, key)
        if not dry:
            what = plan.warnings(options)
            render.note("`opskit backup create` keeps a copy of its files first")
            confirm(what, yes=yes)
            if options.prune_volumes:
                type_word(what[-1], plan.project.name, leave_out="--prune-volumes")
        return await rebuild(it, plan, options)


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
    dry_run: DryOption = False,
    config: ConfigOption = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Bring one model back: its service is made anew, its server restarted, or its weights loaded again.

    Nothing is pulled, built or deleted; a real chat proves it. Exits 0, 1 (not well), 3 (nothing was asked).
    """
    del debug  # read by main
    from opskit.cli.inputs import name_of_model

    wait_s, name = duration(wait, "--wait"), name_of_model(name) or name
    _end(context.run(_model(name, wait_s, url, config, yes=yes, dry=dry_run, say=_say(json))), as_json=json)


async def _model(
    name: str,
    wait_s: float,
    url: str | None,
    path: str | None,
    *,
    yes: bool,
    dry: bool,
    say: Callable[[str], None],
) -> "ProcedureResult":
    from opskit.config.load import ensure_state_dir
    from opskit.config.url import normalise
    from opskit.recovery.model import find, recover
    from opskit.recovery.procedure import procedure

    loaded = context.load_config(path)
    chat_url = None if url is None else normalise(url).url
    folder = ensure_state_dir(loaded.state_dir)
    async with procedure(
        "recover model", name, loaded, os.environ, folder, dry=dry, platform=sys.platform, say=say
    ) as it:
        target = await find(it, name)
        if not dry:
            confirm([target.warning], yes=yes)
        return await recover(it, target, wait_s=wait_s, url=chat_url)


def _say(quiet: bool) -> Callable[[str], None]:
    return (lambda _text: None) if quiet else render.note


def _end(result: "ProcedureResult", *, as_json: bool) -> None:
    """Print the verdicts, what remains to do, and in a dry run the commands; exit with its status."""
    if as_json:
        render.document(result.as_json())
    elif result.dry:
        for command in result.planned:
            render.line(f"would run `{command.shown}`")
        render.line(f"{result.target}: {_counted(len(result.planned))}; nothing was changed")
    else:
        render.findings(result.findings)
        for finding in result.findings:
            for text in finding.evidence.get("log", ()):
                render.line(f"  {finding.target} | {render.printable(str(text))}")
        for note in result.notes:
            render.line(f"{result.target}: {render.printable(note)}")
        bad = [finding.target for finding in result.findings if finding.status == "fail"]
        verdict = f"not well: {', '.join(bad)}" if bad else "well again"
        render.line(f"{result.target}: {verdict}; {_counted(len(result.ran))} in {result.seconds:.1f} s")
    raise typer.Exit(int(result.exit))


def _counted(commands: int) -> str:
    return f"{commands} command{'s' if commands != 1 else ''}"


def levels(
    dry_run: DryOption = False,
    config: ConfigOption = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Check Victoria's three levels; when one is off, restart her container once and wait until it is on."""
    del debug  # read by main
    result = context.run(_levels(config, dry=dry_run))
    if json:
        render.document(result.as_json())
    else:
        from opskit.cli import recover_view

        if result.now is not None:
            render.table(("level", "before", "now"), result.rows)
        recover_view.run(result.run, as_json=False, detailed=False, absent=True)
    raise typer.Exit(int(result.exit))


async def _levels(path: str | None, *, dry: bool) -> "Levels":
    from opskit.config.load import ensure_state_dir
    from opskit.recovery.levels import levels as check

    loaded = context.load_config(path)
    folder = ensure_state_dir(loaded.state_dir)
    return await check(loaded, os.environ, folder, dry=dry, platform=sys.platform, note=render.note)
