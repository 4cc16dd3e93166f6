"""What commands do before their work: load the configuration, choose where tagged lines go, run async."""

import contextlib
import os
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from opskit.app import App
    from opskit.config.schema import Config

T = TypeVar("T")


def run(work: Coroutine[Any, Any, T]) -> T:
    """The one event loop of a command. Raises KeyboardInterrupt for a command that Ctrl-C has ended."""
    try:
        import asyncio  # 18 ms that `--help` does not need

        from opskit.cli.interrupt import LoopInterrupts

        runner = asyncio.Runner()
        interrupts = LoopInterrupts(runner.get_loop())

        async def command() -> T:
            interrupts.task = asyncio.current_task()
            return await work

        try:
            with interrupts.armed(), runner:
                return runner.run(command())
        except BaseException:
            if interrupts.came:
                raise KeyboardInterrupt from None
            raise
    finally:
        work.close()


def load_config(path: str | None) -> "Config":
    """The configuration of this command; its notes go to stderr."""
    from opskit.cli import render
    from opskit.config.load import load

    loaded = load(path, environ=os.environ, cwd=Path.cwd())
    for text in loaded.notes:
        render.note(f"note: {text}")
    return loaded.config


@contextlib.asynccontextmanager
async def opened(path: str | None, *, verbose: bool = False, sandbox: bool = False) -> AsyncIterator["App"]:
    """The configured stack, or a simulated one that lives as long as the command.

    With `verbose` tagged lines go to stderr as well.
    """
    async with (
        configured(path, sandbox=sandbox) as config,
        application(config, path, verbose=verbose) as app,
    ):
        yield app


def application(
    config: "Config",
    path: str | None = None,
    *,
    verbose: bool = False,
    sink: Callable[[str], None] | None = None,
) -> "App":
    """The parts of a command over a configuration that is loaded; to be entered. `sink` gets tagged lines."""
    from opskit.app import App
    from opskit.cli import render

    shown = _to_stderr if verbose or config.debug else None
    sinks = [wanted for wanted in (sink or shown,) if wanted is not None]
    return App(config, sinks=sinks, environ=os.environ, cwd=Path.cwd(), config_path=path, on_note=render.note)


@contextlib.asynccontextmanager
async def configured(path: str | None, *, sandbox: bool = False) -> AsyncIterator["Config"]:
    """The configuration; with `sandbox` its nodes and agents are simulated ones, up while this is open."""
    config = load_config(path)
    if not sandbox:
        yield config
        return
    from opskit.sandbox.stage import Stage

    async with Stage() as stage:
        yield on_stage(config, stage.environment())


def on_stage(config: "Config", environment: Mapping[str, str]) -> "Config":
    """The same configuration over the servers of a stage, and over no others."""
    from opskit.config.schema import AgentConfig, NodeConfig
    from opskit.records import replace

    return replace(
        config,
        nodes=(
            NodeConfig("ollama", environment["OLLAMA_API_URL"], "ollama"),
            NodeConfig("mlx", environment["MLX_API_URL"], "mlx"),
        ),
        agents=(
            AgentConfig("victoria", environment["VICTORIA_URL"]),
            AgentConfig("veronica", environment["VERONICA_URL"]),
        ),
    )


def _to_stderr(line: str) -> None:
    sys.stderr.write(line + "\n")
