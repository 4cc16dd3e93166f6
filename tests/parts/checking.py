"""Running checks without the command: one kind for real, or a whole checklist written on the spot."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from opskit.checks import runner
from opskit.checks.checklist import Checklist, load
from opskit.config.load import load as load_config
from opskit.config.schema import Config
from opskit.facts.survey import Survey
from opskit.result import Finding
from tests.parts.command import environment


def configuration(folder: Path, env: Mapping[str, str] | None = None) -> Config:
    return load_config(None, environ=environment(folder, env), cwd=folder, in_docker=False).config


def written(folder: Path, *checks: Mapping[str, Any], **top: Any) -> Checklist:
    """A checklist file with these checks, loaded."""
    path = folder / "list.yaml"
    path.write_text(yaml.safe_dump({"checks": list(checks), **top}, allow_unicode=True, sort_keys=False))
    return load([str(path)], given={}, environ={"PATH": os.environ["PATH"]}, cwd=folder)


async def findings(
    checklist: Checklist,
    folder: Path,
    *,
    env: Mapping[str, str] | None = None,
    config: Config | None = None,
    **options: Any,
) -> list[Finding]:
    environ = {"PATH": os.environ["PATH"], **(env or {})}
    async with Survey(config or configuration(folder), environ, state_folder=folder, cwd=folder) as survey:
        return await runner.run(checklist.checks, survey, **options)


async def check(
    folder: Path,
    kind: str,
    params: Mapping[str, Any] | None = None,
    expect: Mapping[str, Any] | None = None,
    *,
    env: Mapping[str, str] | None = None,
    config: Config | None = None,
    **more: Any,
) -> Finding:
    """The finding of one check."""
    one: dict[str, Any] = {"name": "it", "kind": kind, **more}
    if params is not None:
        one["with"] = dict(params)
    if expect is not None:
        one["expect"] = dict(expect)
    (found,) = await findings(written(folder, one), folder, env=env, config=config)
    return found


def statuses(found: Sequence[Finding]) -> dict[str, str]:
    return {one.check: one.status.value for one in found}
