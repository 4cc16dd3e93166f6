"""`opskit sandbox`: a simulated stack to try things on."""

from typing import TYPE_CHECKING, Annotated

import typer

from opskit.cli import context, render
from opskit.cli.options import SharedOptions, shares
from opskit.errors import UsageError
from opskit.result import plain_document

if TYPE_CHECKING:
    from opskit.sandbox.faults import FaultSpec

app = typer.Typer(no_args_is_help=True)


@app.command()
@shares()
def up(
    shared: SharedOptions,
    fault: Annotated[
        list[str] | None, typer.Option(help="NODE[:MODEL]=FAULT[,key=value]; repeatable.")
    ] = None,
) -> None:
    """Start simulated Ollama, MLX, Victoria and Veronica and keep them until Ctrl-C.

    Prints the environment to export; faults look like `ollama:big:32b=crash` or `mlx=zombie`.
    """
    from opskit.sandbox.faults import parse_fault

    try:
        faults = [parse_fault(spec) for spec in fault or ()]
    except ValueError as exc:
        raise UsageError(str(exc), remedy="`opskit sandbox faults` lists them") from exc
    context.run(_up(faults, json=shared.json))


@app.command()
@shares()
def faults(shared: SharedOptions) -> None:
    """List the faults and which server can show each."""
    from opskit.sandbox.faults import SHOWN_BY, SandboxFaultKind

    rows = [
        (kind.value, ", ".join(node for node, kinds in SHOWN_BY.items() if kind in kinds))
        for kind in SandboxFaultKind
    ]
    document = plain_document("sandbox faults", faults={name: nodes.split(", ") for name, nodes in rows})
    shared.show(document, lambda: render.table(("fault", "shown by"), rows))


async def _up(faults: "list[FaultSpec]", *, json: bool) -> None:
    import asyncio
    import signal

    from opskit.sandbox.stage import Stage

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    try:
        stage = Stage(faults)
    except ValueError as exc:
        raise UsageError(str(exc), remedy="`opskit sandbox faults` lists what each server can show") from exc
    async with stage:
        environment = stage.environment()
        if json:
            render.document(plain_document("sandbox up", environment=environment))
        else:
            for name, value in environment.items():
                render.line(f"export {name}={value}")
        render.flush()
        render.note("the sandbox is up; Ctrl-C ends it")
        await stop.wait()
