"""`opskit doctor`: what is wrong at the root, what follows from it, and what to type first."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from opskit.cli import context, doctor_view, render
from opskit.cli.options import SharedOptions, shares
from opskit.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from opskit.doctor.cause import Cause
    from opskit.doctor.diagnosis import Diagnosis
    from opskit.doctor.fixing import Fixed
    from opskit.doctor.target import ExaminationTarget


@shares("sandbox")
def doctor(
    shared: SharedOptions,
    fix: Annotated[
        bool, typer.Option("--fix", help="Offer the safe fixes, one by one, and look again after each.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="With --fix: do not ask.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="With --fix: print the commands and run none.")
    ] = False,
    deep: Annotated[
        bool, typer.Option("--deep", help="Send one long prompt to a loaded Ollama model: is it read whole?")
    ] = False,
    list_: Annotated[bool, typer.Option("--list", help="List the causes that it knows.")] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Show every check with its seconds.")
    ] = False,
) -> None:
    """Examine configuration, machine, network, Docker, nodes, agents and requests; tell causes, not symptoms.

    Loads, pins and changes nothing. Exits 0 (nothing is wrong), 1 (causes found), 3 (nothing was judged).
    """
    if list_:
        doctor_view.known(as_json=shared.json)
        return
    if (yes or dry_run) and not fix:
        raise UsageError("--yes and --dry-run belong to --fix", remedy="`opskit doctor --fix --dry-run`")
    asking = _Asking(yes=yes, dry_run=dry_run) if fix else None
    diagnosis, fixed = context.run(_doctor(asking, shared, deep=deep))
    if shared.json:
        doctor_view.document(diagnosis, fixed)
    else:
        doctor_view.page(diagnosis, fixed, verbose=verbose)
    raise typer.Exit(int(diagnosis.exit))


class _Asking:
    """Puts the question of each fix. Without a terminal nothing is allowed unless `--yes` said so."""

    def __init__(self, *, yes: bool, dry_run: bool) -> None:
        self._yes = yes
        self._dry_run = dry_run

    def __call__(self, cause: "Cause") -> bool:
        if cause.fix is None:
            return False
        render.note(f"{cause.title}\n  {render.printable(cause.fix.text)}")
        if self._dry_run:
            return False
        if self._yes:
            return True
        if not sys.stdin.isatty():
            render.note("  not run: there is no terminal to ask on; --yes runs it without a question")
            return False
        return typer.confirm("  run it?", default=False, err=True)


async def _doctor(
    asking: _Asking | None, shared: SharedOptions, *, deep: bool
) -> "tuple[Diagnosis, Sequence[Fixed]]":
    import os
    from contextlib import AsyncExitStack

    from opskit.doctor.target import examination_target
    from opskit.records import replace
    from opskit.system.threads import children_without_threads

    target = examination_target(
        shared.config, environ=os.environ, cwd=Path.cwd(), platform=sys.platform, deep=deep
    )
    async with AsyncExitStack() as stack:
        if shared.sandbox:
            from opskit.sandbox.stage import Stage

            stage = await stack.enter_async_context(Stage())
            staged = context.on_stage(target.config, stage.environment())
            target = replace(target, loaded=replace(target.loaded, config=staged))
        stack.enter_context(children_without_threads())
        diagnosis = await _examined(target, quiet=shared.json or not sys.stderr.isatty())
        if asking is None:
            return diagnosis, ()
        from opskit.doctor.fixing import fix

        return await fix(target, diagnosis, asking)


async def _examined(target: "ExaminationTarget", *, quiet: bool) -> "Diagnosis":
    """Examine where a person at a terminal can watch."""
    from contextlib import ExitStack

    from opskit.doctor.examination import examine

    with ExitStack() as stack:
        bars: list[render.Bar] = []
        return await examine(
            target,
            on_start=lambda total: bars.append(stack.enter_context(render.progress(total, quiet=quiet))),
            on_finding=lambda finding: bars[0].step(finding.check),
        )
