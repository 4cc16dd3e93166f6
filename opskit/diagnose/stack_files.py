"""The files of the stack: `.env` files without their values, whether Compose accepts its own (SPEC C2)."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from opskit.config.schema import Config
from opskit.diagnose.area import Part, TableSection
from opskit.diagnose.checked_values import CheckedValues, seen
from opskit.errors import OpskitError
from opskit.facts.survey import Survey
from opskit.result import Finding, Status
from opskit.system.compose import find

_USUAL_FILES = ("compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml")


@dataclass(frozen=True, slots=True)
class ProjectSources:
    """A Compose project and its files, laid over one another."""

    name: str | None
    files: tuple[Path, ...]

    @property
    def shown(self) -> str:
        return self.name or self.files[0].parent.name or "project"


def projects(config: Config, cwd: Path) -> list[ProjectSources]:
    """Those of the configuration; where it names none, the one in the working folder."""
    if config.stack.compose:
        return [
            ProjectSources(name, tuple(config.located(file) for file in files))
            for name, files in config.stack.compose.items()
            if files
        ]
    usual = next((cwd / name for name in _USUAL_FILES if (cwd / name).is_file()), None)
    return [] if usual is None else [ProjectSources(None, (usual,))]


def env_files(config: Config, cwd: Path) -> list[Path]:
    """Those of the configuration, then the `.env` beside each Compose file and in the working folder."""
    beside = [file.parent / ".env" for project in projects(config, cwd) for file in project.files[:1]]
    found = [config.located(path) for path in config.stack.env_files]
    found += [path for path in (*beside, cwd / ".env") if path.is_file()]
    return list(dict.fromkeys(found))


async def environment_files(around: Survey) -> Part:
    """Keys that are there, empty secrets, lines that say nothing; never a value."""
    paths = env_files(around.config, around.cwd)
    looked = await asyncio.gather(*(seen("env_file", around, path=str(path)) for path in paths))
    if not paths:
        note = "none is configured (`stack.env_files`), and there is none beside the Compose files"
        return Part([], (TableSection(".env", lines=(note,)),))
    rows, data, findings = [], [], []
    for path, one in zip(paths, looked, strict=True):
        rows.append((str(path), one.finding.detail))
        data.append({"path": str(path), **_of_env(one)})
        if one.finding.status is not Status.PASS:
            findings.append(_finding("env_file", str(path), one.finding))
        elif one.values is not None and one.values["readable_by_all"]:
            detail = "every user of this machine may read it"
            findings.append(
                Finding(
                    "env_file", str(path), Status.WARN, "readable by all", detail, None, f"`chmod 600 {path}`"
                )
            )
    return Part(data, (TableSection(".env", ("file", "what is in it"), tuple(rows)),), tuple(findings))


def _of_env(one: CheckedValues) -> dict[str, Any]:
    if one.values is None:
        return {"problem": one.finding.detail}
    return {
        "names": one.values["keys"],
        "without_value": one.values["empty"],
        "twice": one.values["twice"],
        "malformed_lines": one.values["malformed"],
        "readable_by_all": one.values["readable_by_all"],
    }


async def compose_files(around: Survey, limit_s: float) -> Part:
    """Whether Compose can read each project, and which services it declares."""
    found = projects(around.config, around.cwd)
    if not found:
        note = "no project is configured (`stack.compose`), and the working folder has no Compose file"
        return Part([], (TableSection("compose files", lines=(note,)),))
    looked = await asyncio.gather(*(_valid(project, around, limit_s) for project in found))
    rows, data, findings = [], [], []
    for project, (services, finding) in zip(found, looked, strict=True):
        state = "valid" if finding is None else finding.state
        told = ", ".join(services) if finding is None else finding.detail
        rows.append((project.shown, ", ".join(map(str, project.files)), state, told))
        data.append(
            {
                "project": project.shown,
                "files": [str(path) for path in project.files],
                "valid": True if finding is None else (False if finding.status is Status.FAIL else None),
                "services": list(services),
                "problem": None if finding is None else finding.detail,
            }
        )
        if finding is not None:
            findings.append(finding)
    columns = ("project", "files", "state", "services")
    return Part(data, (TableSection("compose files", columns, tuple(rows)),), tuple(findings))


async def _valid(
    project: ProjectSources, around: Survey, limit_s: float
) -> tuple[Sequence[str], Finding | None]:
    missing = [str(path) for path in project.files if not path.is_file()]
    if missing:
        detail = f"there is no {', '.join(missing)}"
        remedy = "correct `stack.compose` in the configuration"
        return (), Finding("compose", project.shown, Status.FAIL, "missing", detail, None, remedy)
    try:
        async with asyncio.timeout(limit_s):
            compose = await find(project.files, project=project.name, env=around.environ)
            return await compose.services(), None
    except ValueError as exc:
        remedy = "correct the file; `docker compose config --quiet` checks it"
        return (), Finding("compose", project.shown, Status.FAIL, "invalid", str(exc), None, remedy)
    except OpskitError as error:
        return (), Finding(
            "compose", project.shown, Status.INCONCLUSIVE, "unseen", error.message, error.code, error.remedy
        )
    except TimeoutError:
        detail = f"Compose did not answer within {limit_s:g} s"
        return (), Finding("compose", project.shown, Status.INCONCLUSIVE, "unseen", detail, "COMM_003")


def _finding(check: str, target: str, told: Finding) -> Finding:
    return Finding(check, target, told.status, told.state, told.detail, told.code, told.remedy)
