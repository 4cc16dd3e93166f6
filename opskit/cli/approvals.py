"""`opskit approvals` and `opskit approve`: commands of the agent that a person has to allow."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from opskit.cli import context, render
from opskit.cli.options import ConfigOption, DebugOption, JsonOption, VerboseOption

if TYPE_CHECKING:
    from collections.abc import Mapping


def approvals(
    config: ConfigOption = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """List the commands that runs of the agent wait for: here, and at Victoria when she answers."""
    del debug  # read by main
    context.run(_approvals(config, json=json))


def approve(
    approval: Annotated[str, typer.Argument(metavar="ID", help="As `opskit approvals` shows it.")],
    deny: Annotated[bool, typer.Option("--deny", help="Refuse the command: its run fails.")] = False,
    config: ConfigOption = None,
    json: JsonOption = False,
    verbose: VerboseOption = False,
    debug: DebugOption = False,
) -> None:
    """Allow exactly this command, once, and show what its run comes to.

    What changed since it was asked for (words, folder, program file) is asked for again. Exit status 3 where
    the run needs another approval.
    """
    del debug  # read by main
    context.run(_approve(approval, config, deny=deny, json=json, verbose=verbose))


async def _approvals(config: str | None, *, json: bool) -> None:
    from opskit.result import SCHEMA_VERSION
    from opskit.server.local_runs import pending

    async with context.opened(config) as app:
        waiting = await pending(app, render.note)
    if json:
        render.document({"schema_version": SCHEMA_VERSION, "ok": True, "approvals": waiting})
        return
    for approval in waiting:
        _show(approval)
    if not waiting:
        render.line("no run waits for an approval")


def _show(approval: "Mapping[str, Any]") -> None:
    import shlex

    from opskit.text import span

    command, age = shlex.join(map(str, approval.get("argv") or ())), float(approval.get("age_s") or 0)
    render.line(render.printable(f"{approval.get('approval_id')}  {command}"))
    for name in ("cwd", "program", "why", "rule", "goal"):
        render.line(render.printable(f"  {name:8} {approval.get(name)}"))
    render.line(f"  {'asked':8} {span(age)} ago, by a run of {approval.get('agent')}")


async def _approve(approval_id: str, config: str | None, *, deny: bool, json: bool, verbose: bool) -> None:
    from opskit.cli.run import show_result, show_step
    from opskit.result import SCHEMA_VERSION
    from opskit.server.local_runs import approve as approve_run

    async with context.opened(config, verbose=verbose) as app:
        result = await approve_run(app, approval_id, allow=not deny, on_step=show_step, on_note=render.note)
    if result is not None:
        show_result(result, json=json)
    elif json:
        decided = {"approval_id": approval_id, "decision": "denied"}
        render.document({"schema_version": SCHEMA_VERSION, "ok": True, **decided})
    else:
        render.line(f"denied {approval_id}: its run has failed")
