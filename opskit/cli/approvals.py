"""`opskit approvals` and `opskit approve`: commands of the agent that a person has to allow."""

import shlex
from typing import Annotated

import typer

from opskit.cli import render
from opskit.cli.inputs import checked_id
from opskit.cli.options import SharedOptions, shares
from opskit.result import SCHEMA_VERSION
from opskit.text import span


@shares()
def approvals(shared: SharedOptions) -> None:
    """List the commands of the agent that wait for a person.

    Those of runs here, and of runs at Victoria when she answers.
    """
    from opskit.server.local_runs import pending

    waiting = shared.run(lambda app: pending(app, render.note))

    def page() -> None:
        for approval in waiting:
            words, age_s = map(str, approval.get("argv") or ()), float(approval.get("age_s") or 0)
            names = ("cwd", "program", "why", "rule", "goal")
            render.lines([f"{approval.get('approval_id')}  {shlex.join(words)}"])
            render.lines(f"  {name:8} {approval.get(name)}" for name in names)
            render.lines([f"  {'asked':8} {span(age_s)} ago, by a run of {approval.get('agent')}"])
        if not waiting:
            render.line("no run waits for an approval")

    shared.show({"schema_version": SCHEMA_VERSION, "ok": True, "approvals": waiting}, page)


@shares("verbose")
def approve(
    shared: SharedOptions,
    approval: Annotated[str, typer.Argument(metavar="ID", help="As `opskit approvals` shows it.")],
    deny: Annotated[bool, "Refuse the command: its run fails."] = False,
) -> None:
    """Allow one waiting command, once, and show its run.

    What changed since it was asked for (words, folder, program file) is asked for again. Exit status 3 where
    the run needs another approval.
    """
    from opskit.cli.run import show_result, show_step
    from opskit.server.local_runs import approve as approve_run

    name = checked_id(approval, "approval")
    result = shared.run(
        lambda app: approve_run(app, name, allow=not deny, on_step=show_step, on_note=render.note)
    )
    if result is not None:
        show_result(result, json=shared.json)
        return
    decided = {"schema_version": SCHEMA_VERSION, "ok": True, "approval_id": name, "decision": "denied"}
    shared.show(decided, lambda: render.line(f"denied {name}: its run has failed"))
