"""`opskit recover`: repair what is broken, once, and leave alone what is not."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from opskit.cli import context, render
from opskit.cli.inputs import duration
from opskit.cli.options import DryOption, SharedOptions, shares
from opskit.cli.recover_procedures import full, levels, model
from opskit.errors import Exit, OpskitError
from opskit.result import plain_document

if TYPE_CHECKING:
    from opskit.recovery.outcome import RecoveryRun

#: What became of targets, by the words of the recovery.
_ABOUT = {
    "ok": "well",
    "repaired": "repaired",
    "waiting": "on their way by themselves",
    "left_alone": "left alone",
    "paused": "paused",
    "would_repair": "would be repaired",
    "not_yet": "waiting for their next try",
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
    shared.end(status, content, lambda: show_run(run))


app.command("levels", short_help="Bring Victoria's levels back.")(levels)
app.command("model", short_help="Bring one model back; a chat proves it.")(model)
app.command("full", short_help="Take a project down and build it again.")(full)


def show_run(content: "RecoveryRun", *, absent: bool = False) -> None:
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
        if (
            outcome.remedy
            and not outcome.planned
            and not outcome.ran
            and outcome.as_finding().status not in ("pass", "skip")
        ):
            render.line(f"{outcome.target}: {render.printable(outcome.remedy)}")
    render.line(_verdict(content))


def _verdict(content: "RecoveryRun") -> str:
    counts = [
        f"{count} {words}" for result, words in _ABOUT.items() if (count := content.counts.get(result, 0))
    ]
    was = "command was" if content.mutations == 1 else "commands were"
    changed = f"{content.mutations} {was} run" if content.mutations else "nothing was changed"
    about = ", ".join(counts) or "nothing of the stack is on this machine"
    return f"{about}; {changed}; {content.seconds:.1f} s"
