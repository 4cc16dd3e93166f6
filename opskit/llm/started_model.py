"""The model that a server of this machine was started with, where its list of models does not tell."""

import asyncio
from collections.abc import Sequence
from pathlib import PurePath

from opskit.config.schema import NodeConfig
from opskit.providers.base import DEFAULT_MODEL, ModelInfo, name_default
from opskit.system.host import is_loopback
from opskit.system.network import endpoint


async def with_started_model(node: NodeConfig, models: tuple[ModelInfo, ...]) -> tuple[ModelInfo, ...]:
    """Return the models with the name of the default one, out of the command line of the server."""
    unnamed = any(model.name == DEFAULT_MODEL and not model.aliases for model in models)
    if not unnamed or not is_loopback(node.url):
        return models
    from opskit.system.sockets import listening_process

    process = await asyncio.to_thread(listening_process, endpoint(node.url)[1])
    return models if process is None else name_default(models, model_in_command(process.command))


def model_in_command(command: Sequence[str]) -> str | None:
    """Return the `--model` of an `mlx_lm.server` command line; None for any other process. Pure."""
    names = {PurePath(word).name for word in command}
    if not names & {"mlx_lm", "mlx_lm.server"} and not any("mlx_lm/server" in word for word in command):
        return None
    for word, following in zip(command, [*command[1:], ""], strict=True):
        if word == "--model" and following:
            return following
        if word.startswith("--model="):
            return word.removeprefix("--model=") or None
    return None
