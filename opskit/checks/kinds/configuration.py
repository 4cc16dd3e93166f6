"""The kind that checks opskit's own configuration."""

import asyncio
from dataclasses import dataclass
from typing import Any

from opskit.checks.spec import CheckContext, Kind, Observation
from opskit.config.fields import CONFIG, Text
from opskit.errors import ConfigError


@dataclass(frozen=True, slots=True)
class ConfigParams:
    """`file` None is the configuration of this run."""

    __pydantic_config__ = CONFIG

    file: Text | None = None


async def _config(params: ConfigParams, scene: CheckContext) -> Observation:
    return await asyncio.to_thread(_look, params, scene)


def _look(params: ConfigParams, scene: CheckContext) -> Observation:
    from opskit.config.load import InvalidConfigError, load

    path = str(scene.path(params.file)) if params.file is not None else scene.around.config_path
    try:
        loaded = load(path, environ=scene.around.environ, cwd=scene.around.cwd)
    except ConfigError as error:
        if not isinstance(error, InvalidConfigError):
            return Observation(
                {"valid": False, "error": "unreadable"},
                problem=error.message,
                state="unreadable",
                code=error.code,
                remedy=error.remedy,
            )
        problems = [str(one) for one in error.problems]
        values: dict[str, Any] = {"valid": False, "problems": problems, "error": None}
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        return Observation(
            values, f"{problems[0]}{more}", state="invalid", code=error.code, remedy=error.remedy
        )
    config = loaded.config
    unset = [key for key, origin in loaded.origins.items() if origin.unset]
    values = {
        "valid": True,
        "problems": [],
        "path": config.path,
        "nodes": [node.name for node in config.nodes],
        "agents": [agent.name for agent in config.agents],
        "unset_secrets": unset,
        "notes": list(loaded.notes),
        "error": None,
    }
    detail = f"{config.path or 'no file, defaults'}: {len(config.nodes)} nodes, {len(config.agents)} agents"
    return Observation(values, detail, state="ok")


KINDS = (
    Kind(
        "config",
        "the configuration of opskit is valid",
        ConfigParams,
        {
            "valid": "whether it can be used",
            "problems": "what is wrong, with file and line",
            "path": "the file in use, or null",
            "nodes": "names of the nodes",
            "agents": "names of the agents",
            "unset_secrets": "keys whose variable holds nothing",
            "notes": "what was changed while it was read",
            "error": "unreadable, or null",
        },
        {"valid": True, "unset_secrets": {"len": 0}},
        _config,
        lambda p: str(p.file or "configuration"),
    ),
)
