"""What runs a command: its one event loop, and the simulated stack in the place of the configured one."""

from collections.abc import Coroutine, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
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
