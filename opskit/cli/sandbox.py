"""`opskit sandbox`: a simulated stack to try things on."""

from typing import Annotated

import typer

from opskit.cli import context, render
from opskit.cli.options import SharedOptions, shares
from opskit.errors import UsageError
from opskit.result import plain_document
from opskit.sandbox.faults import SHOWN_BY, SandboxFaultKind, parse_fault

app = typer.Typer(no_args_is_help=True)


@shares(of=app)
def up(
    shared: SharedOptions,
    fault: Annotated[list[str] | None, "NODE[:MODEL]=FAULT[,key=value]; repeatable."] = None,
) -> None:
    """Start simulated servers and keep them until Ctrl-C.

    They are Ollama, MLX, Victoria and Veronica. Prints the environment to export; faults look like
    `ollama:big:32b=crash` or `mlx=zombie`.
    """

    async def work() -> None:
        import asyncio
        import signal

        from opskit.sandbox.stage import Stage

        stop = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        try:
            stage = Stage(map(parse_fault, fault or ()))
        except ValueError as exc:
            raise UsageError(str(exc), remedy="`opskit sandbox faults` lists them by server") from exc
        async with stage:
            environment = stage.environment()
            exports = [f"export {name}={url}" for name, url in environment.items()]
            document = plain_document("sandbox up", environment=environment)
            shared.show(document, lambda: render.lines(exports))
            render.flush()
            render.note("the sandbox is up; Ctrl-C ends it")
            await stop.wait()

    context.run(work())


@shares(of=app)
def faults(shared: SharedOptions) -> None:
    """List the faults and which server can show each."""
    rows = [
        (kind.value, ", ".join(node for node, kinds in SHOWN_BY.items() if kind in kinds))
        for kind in SandboxFaultKind
    ]
    document = plain_document("sandbox faults", faults={name: nodes.split(", ") for name, nodes in rows})
    shared.show(document, lambda: render.table(("fault", "shown by"), rows))
