"""`opskit recover full`, `model` and `levels`: procedures that a person asks for, narrated and judged."""

import contextlib
import sys
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Annotated

import typer

from opskit.cli import context, render
from opskit.cli.confirm import confirm, type_word
from opskit.cli.inputs import duration
from opskit.cli.options import DryOption, SharedOptions, YesOption, shares
from opskit.text import counted

if TYPE_CHECKING:
    from opskit.config.schema import Config
    from opskit.recovery.levels import Levels
    from opskit.recovery.procedure import Procedure, ProcedureResult


@shares()
def full(
    shared: SharedOptions,
    project: Annotated[
        str | None, typer.Option("--project", help="Which one of `stack.compose`, when there are several.")
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
) -> None:
    """Take one project down, clean what is its own, build without cache, start it, and wait for its health.

    Nothing is pulled, and nothing of other projects is touched. Exits 0, 1 (a phase or a service failed).
    """
    from opskit.recovery.full import RebuildOptions, choose_project, plan_rebuild, rebuild

    options = RebuildOptions(
        prune_volumes, duration(build_timeout, "--build-timeout"), duration(wait, "--wait")
    )
    loaded = shared.load()
    key = choose_project(list(loaded.stack.compose), project)

    async def work() -> "ProcedureResult":
        async with _procedure("recover full", key, loaded, shared, dry=dry_run) as procedure:
            plan = await plan_rebuild(procedure, key)
            if not dry_run:
                what = plan.warnings(options)
                render.note("`opskit backup create` keeps a copy of its files first")
                confirm(what, yes=yes)
                if prune_volumes:
                    type_word(what[-1], plan.project.name, leave_out="--prune-volumes")
            return await rebuild(procedure, plan, options)

    result = context.run(work())
    shared.end(result.exit, result.as_json(), lambda: _show(result))


@shares()
def model(
    shared: SharedOptions,
    name: Annotated[
        str, typer.Argument(help="A container or service (starcoder-chat), a node, or a model of a node.")
    ],
    wait: Annotated[str, typer.Option("--wait", help="How long it may take to be well (5m, 90s).")] = "5m",
    url: Annotated[
        str | None, typer.Option("--url", help="Where to chat with it, when that is not known.")
    ] = None,
    yes: YesOption = False,
    dry_run: DryOption = False,
) -> None:
    """Bring one model back: its service is created again, its server restarted, or its weights loaded again.

    Nothing is pulled, built or deleted; a real chat proves it. Exits 0, 1 (not well), 3 (nothing was asked).
    """
    from opskit.cli.inputs import name_of_model
    from opskit.config.url import normalise
    from opskit.recovery.model import find, recover

    wait_s, name = duration(wait, "--wait"), name_of_model(name) or name
    loaded = shared.load()
    chat_url = None if url is None else normalise(url).url

    async def work() -> "ProcedureResult":
        async with _procedure("recover model", name, loaded, shared, dry=dry_run) as procedure:
            target = await find(procedure, name)
            if not dry_run:
                confirm([target.warning], yes=yes)
            return await recover(procedure, target, wait_s=wait_s, url=chat_url)

    result = context.run(work())
    shared.end(result.exit, result.as_json(), lambda: _show(result))


@contextlib.asynccontextmanager
async def _procedure(
    name: str, target: str, config: "Config", shared: SharedOptions, *, dry: bool
) -> "AsyncIterator[Procedure]":
    from opskit.recovery.procedure import procedure

    say = (lambda _text: None) if shared.json else render.note
    async with (
        shared.application(config) as app,
        procedure(name, target, app.survey, dry=dry, platform=sys.platform, say=say) as opened,
    ):
        yield opened


def _show(result: "ProcedureResult") -> None:
    """Print the verdicts, what remains to do, and in a dry run the commands."""
    if result.dry:
        for command in result.planned:
            render.line(f"would run `{command.shown}`")
        render.line(f"{result.target}: {counted(len(result.planned), 'command')}; nothing was changed")
    else:
        render.findings(result.findings)
        for finding in result.findings:
            for text in finding.evidence.get("log", ()):
                render.line(f"  {finding.target} | {render.printable(str(text))}")
        for note in result.notes:
            render.line(f"{result.target}: {render.printable(note)}")
        bad = [finding.target for finding in result.findings if finding.status == "fail"]
        verdict = f"not well: {', '.join(bad)}" if bad else "well again"
        render.line(
            f"{result.target}: {verdict}; {counted(len(result.ran), 'command')} in {result.seconds:.1f} s"
        )


@shares()
def levels(shared: SharedOptions, dry_run: DryOption = False) -> None:
    """Check Victoria's three levels; when one is off, restart her container once and wait until it is on."""
    from opskit.recovery.levels import levels as check

    result: Levels = shared.run(
        lambda app: check(app.survey, dry=dry_run, platform=sys.platform, note=render.note)
    )

    def page() -> None:
        from opskit.cli.recover import show_run

        if result.now is not None:
            render.table(("level", "before", "now"), result.rows)
        show_run(result.run, absent=True)

    shared.end(result.exit, result.as_json(), page)
