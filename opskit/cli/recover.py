"""`opskit recover`: repair what is broken, once, and leave alone what is not."""

import contextlib
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from opskit.cli import context, render
from opskit.cli.inputs import confirm, duration, name_of_model, type_word
from opskit.cli.options import DryOption, SharedOptions, YesOption, shares
from opskit.errors import Exit, OpskitError
from opskit.result import plain_document
from opskit.text import counted

if TYPE_CHECKING:
    from opskit.config.schema import Config
    from opskit.recovery.outcome import RecoveryRun
    from opskit.recovery.procedure import Procedure
    from opskit.recovery.run import Levels

#: What became of targets, by the words of the recovery.
_ABOUT = {
    "ok": "well",
    "repaired": "repaired",
    "waiting": "starting or busy",
    "left_alone": "left alone",
    "paused": "paused",
    "would_repair": "would be repaired",
    "not_yet": "to be tried again",
    "failed": "not mended",
    "manual": "for a person",
    "gave_up": "given up",
    "inconclusive": "not judged",
}

app = typer.Typer(no_args_is_help=False, invoke_without_command=True)


@app.callback()
@shares()
def recover(
    shared: SharedOptions,
    ctx: typer.Context,
    dry_run: DryOption = False,
    only: Annotated[list[str] | None, "STEP", "Repair only this step; repeatable."] = None,
    now: Annotated[bool, "Repair also what a person stopped, took down or edited just now."] = False,
    budget: Annotated[str | None, "End within this time (240s, 4m)."] = None,
    detailed_exitcode: Annotated[bool, "Exit 4 instead of 0 when something was repaired."] = False,
    quiet_lock: Annotated[bool, "Exit 0 instead of 75 when another recovery runs."] = False,
) -> None:
    """Repair what is broken, once.

    In this order: Wi-Fi, internet, Docker, network, Compose projects, model nodes, agents.
    Exits 0 (well, or repaired), 1 (broken), 3 (could not be judged), 5 (given up), 75 (another one runs).
    """
    if ctx.invoked_subcommand is not None:
        return
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
        async with shared.application(loaded, folder=Path(loaded.state_dir)) as root:
            return await reconcile(root.survey, options, platform=sys.platform, note=render.note)

    try:
        run = context.run(work())
    except OpskitError as error:
        if error.code == "RECOVER_001" and quiet_lock:
            # Another run holds the lock, and that is no news for a timer.
            skipped, note = plain_document("recover", status="skip", detail=error.message), error.message
            shared.end(Exit.OK, skipped, lambda: render.note(f"{note}: nothing to do"))
        raise
    status, content = run.exit(detailed=detailed_exitcode), run.as_json(detailed=detailed_exitcode)
    shared.end(status, content, lambda: _show_run(run))


@shares(of=app, short_help="Bring Victoria's levels back.")
def levels(shared: SharedOptions, dry_run: DryOption = False) -> None:
    """Check Victoria's three levels; when one is off, restart her container once and wait until it is on."""
    from opskit.recovery.run import levels as check

    result: Levels = shared.run(
        lambda app: check(app.survey, dry=dry_run, platform=sys.platform, note=render.note)
    )

    def page() -> None:
        if result.now is not None:
            render.table(("level", "before", "now"), result.rows)
        _show_run(result.run, absent=True)

    shared.end(result.exit, result.as_json(), page)


@shares(of=app, short_help="Bring one model back; a chat proves it.")
def model(
    shared: SharedOptions,
    name: Annotated[
        str, typer.Argument(help="A container or service (starcoder-chat), a node, or a model of a node.")
    ],
    wait: Annotated[str, "How long it may take to be well (5m, 90s)."] = "5m",
    url: Annotated[str | None, "Where to chat with it, when that is not known."] = None,
    yes: YesOption = False,
    dry_run: DryOption = False,
) -> None:
    """Bring one model back: its service is created again, its server restarted, or its weights loaded again.

    Nothing is pulled, built or deleted; a real chat proves it. Exits 0, 1 (not well), 3 (nothing was asked).
    """
    from opskit.config.url import normalise
    from opskit.recovery.model import find
    from opskit.recovery.model import recover as recover_model

    wait_s, name = duration(wait, "--wait"), name_of_model(name) or name
    loaded = shared.load()
    chat_url = None if url is None else normalise(url).url

    async def work() -> "Procedure":
        async with _procedure("recover model", name, loaded, shared, dry=dry_run) as procedure:
            target = await find(procedure, name)
            if not dry_run:
                confirm([target.warning], yes=yes)
            return await recover_model(procedure, target, wait_s=wait_s, url=chat_url)

    result = context.run(work())
    shared.end(result.exit, result.as_json(), lambda: _show_procedure(result))


@shares(of=app, short_help="Take a project down and build it again.")
def full(
    shared: SharedOptions,
    project: Annotated[str | None, "Which one of `stack.compose`, when there are several."] = None,
    prune_volumes: Annotated[bool, "Delete its volumes too; asks for the project's name."] = False,
    build_timeout: Annotated[str, "How long the build may take."] = "30m",
    wait: Annotated[str, "How long it may take to be healthy."] = "5m",
    yes: Annotated[bool, "--yes", "-y", "Do not ask, except for volumes."] = False,
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

    async def work() -> "Procedure":
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
    shared.end(result.exit, result.as_json(), lambda: _show_procedure(result))


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


def _show_procedure(result: "Procedure") -> None:
    """Print the verdicts, what remains to do, and in a dry run the commands."""
    if result.dry:
        for command in result.planned:
            render.line(f"would run `{command.shown}`")
        render.line(f"{result.target}: {counted(len(result.planned), 'command')}; nothing was changed")
        return
    render.findings(result.findings)
    for finding in result.findings:
        render.lines(f"  {finding.target} | {text}" for text in finding.evidence.get("log", ()))
    render.lines(f"{result.target}: {note}" for note in result.notes)
    bad = [finding.target for finding in result.findings if finding.status == "fail"]
    verdict = f"not well: {', '.join(bad)}" if bad else "well again"
    took = f"{counted(len(result.ran), 'command')} in {result.seconds:.1f} s"
    render.line(f"{result.target}: {verdict}; {took}")


def _show_run(content: "RecoveryRun", *, absent: bool = False) -> None:
    """The outcomes; what is not part of this stack is left out of the text, unless `absent`."""
    shown = [outcome for outcome in content.outcomes if absent or outcome.result != "absent"]
    rows = []
    for outcome in shown:
        what = outcome.cause or ("well" if outcome.result == "ok" else outcome.state)
        result = outcome.result.value.replace("_", " ")
        rows.append((outcome.target, result, f"{outcome.seconds:.1f}", what))
    render.table(("target", "result", "seconds", "what"), rows)
    for outcome in shown:
        for command in outcome.planned:
            render.line(f"{outcome.target}: would run `{command.shown}`")
        for done in outcome.ran:
            end = "" if done.exit == 0 else f": {done.said}"
            render.line(f"{outcome.target}: ran `{done.command.shown}` in {done.seconds:.1f} s{end}")
        is_open = not outcome.planned and (not outcome.ran or outcome.result == "failed")
        if outcome.remedy and is_open and outcome.as_finding().status not in ("pass", "skip"):
            render.lines([f"{outcome.target}: {outcome.remedy}"])
    present = {result: words for result, words in _ABOUT.items() if content.counts.get(result)}
    counts = [f"{content.counts[result]} {words}" for result, words in present.items()]
    was = "command was" if content.mutations == 1 else "commands were"
    changed = f"{content.mutations} {was} run" if content.mutations else "nothing was changed"
    about = ", ".join(counts) or "nothing of the stack is on this machine"
    render.line(f"{about}; {changed}; {content.seconds:.1f} s")
