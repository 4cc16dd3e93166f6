"""`opskit watch`: a live view of the stack, or its news as lines of JSON."""

from typing import TYPE_CHECKING, Annotated

import typer

from opskit.cli import context
from opskit.cli.options import SharedOptions, shares

if TYPE_CHECKING:
    from opskit.errors import Exit


@shares("sandbox")
def watch(
    shared: SharedOptions,
    sources: Annotated[
        list[str] | None,
        typer.Argument(
            help="Logs to read, named as in `opskit logs`. Our own log and the containers of the stack when "
            "none is given."
        ),
    ] = None,
    every: Annotated[str, "Look so often: 500ms, 5s, 1m."] = "5s",
    count: Annotated[int | None, typer.Option("--count", min=1, help="End after N looks.")] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(
            "--only",
            metavar="AREA",
            help="nodes, agents, requests, errors, machine, containers, or the name of a node or an agent, "
            "which then must be well; repeatable.",
        ),
    ] = None,
) -> None:
    """Show the stack live: nodes, models, requests, errors.

    Asks no model for a token and loads nothing. On a terminal one screen (q quits), else or with --json one
    JSON object for each event. Exit status: 1 when a required or named target is not well at the end, 3 when
    nothing could be seen.
    """
    from opskit.cli import watch_run
    from opskit.watch.watching import interval_s

    work = watch_run.run(sources or (), only or (), interval_s(every), count, shared)
    status: Exit = context.run(work)
    raise typer.Exit(int(status))
