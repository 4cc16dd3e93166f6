"""The files of the stack: `.env` files without their values, whether Compose accepts its own (SPEC C2)."""

import asyncio
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from opskit.config.schema import Config
from opskit.diagnose.area import Section, TableSection, observe_kind
from opskit.errors import OpskitError
from opskit.facts.survey import Survey
from opskit.result import Finding, Status
from opskit.system.compose import find
from opskit.system.docker_host import resolve

_USUAL_FILES = ("compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml")


@dataclass(frozen=True, slots=True)
class ProjectSources:
    """A Compose project and its files, laid over one another."""

    name: str | None
    files: tuple[Path, ...]

    @property
    def shown(self) -> str:
        return self.name or self.files[0].parent.name or "project"


async def docker_is_used(survey: Survey) -> bool:
    """Tell whether there is a program, an address or a socket of Docker: else it is not missing here."""

    def is_used() -> bool:
        if shutil.which("docker", path=survey.environ.get("PATH")) or survey.environ.get("DOCKER_HOST"):
            return True
        try:
            socket = resolve(survey.environ).socket
        except OpskitError:
            return True
        return socket is not None and Path(socket).exists()

    return await asyncio.to_thread(is_used)


def projects(config: Config, cwd: Path) -> list[ProjectSources]:
    """Return those of the configuration; where it names none, the one in the working folder."""
    if config.stack.compose:
        return [
            ProjectSources(name, tuple(config.located(file) for file in files))
            for name, files in config.stack.compose.items()
            if files
        ]
    usual = next((cwd / name for name in _USUAL_FILES if (cwd / name).is_file()), None)
    return [] if usual is None else [ProjectSources(None, (usual,))]


def env_files(config: Config, cwd: Path) -> list[Path]:
    """Return those of the configuration, then each `.env` beside a Compose file or in the working folder."""
    beside = [project.files[0].parent / ".env" for project in projects(config, cwd) if project.files]
    paths = [config.located(path) for path in config.stack.env_files]
    paths += [path for path in (*beside, cwd / ".env") if path.is_file()]
    return list(dict.fromkeys(paths))


async def environment_files(survey: Survey) -> Section:
    """Keys that are there, empty secrets, lines that say nothing; never a value."""
    paths = env_files(survey.config, survey.cwd)
    if not paths:
        note = "none is configured (`stack.env_files`), and there is none beside the Compose files"
        return Section([], (TableSection(".env", lines=(note,)),))
    observed = await asyncio.gather(*(observe_kind("env_file", survey, path=str(path)) for path in paths))
    rows, data, findings = [], [], []
    for path, file in zip(map(str, paths), observed, strict=True):
        values, judged = file.values, file.finding
        rows.append((path, judged.detail))
        if values is None:
            data.append({"path": path, "problem": judged.detail})
        else:
            data.append(
                {
                    "path": path,
                    "names": values["keys"],
                    "without_value": values["empty"],
                    "twice": values["twice"],
                    "malformed_lines": values["malformed"],
                    "readable_by_all": values["readable_by_all"],
                }
            )
        if judged.status is not Status.PASS:
            findings.append(
                Finding(
                    "env_file", path, judged.status, judged.state, judged.detail, judged.code, judged.remedy
                )
            )
        elif values is not None and values["readable_by_all"]:
            detail, remedy = "every user of this machine may read it", f"`chmod 600 {path}`"
            findings.append(Finding("env_file", path, Status.WARN, "readable by all", detail, None, remedy))
    return Section(data, (TableSection(".env", ("file", "what is in it"), tuple(rows)),), tuple(findings))


async def compose_files(survey: Survey, limit_s: float) -> Section:
    """Whether Compose can read each project, and which services it declares."""
    stack = projects(survey.config, survey.cwd)
    if not stack:
        note = "no project is configured (`stack.compose`), and the working folder has no Compose file"
        return Section([], (TableSection("compose files", lines=(note,)),))
    validated = await asyncio.gather(*(_validate(project, survey, limit_s) for project in stack))
    rows, data = [], []
    for project, (services, finding) in zip(stack, validated, strict=True):
        state = "valid" if finding is None else finding.state
        detail = ", ".join(services) if finding is None else finding.detail
        rows.append((project.shown, ", ".join(map(str, project.files)), state, detail))
        data.append(
            {
                "project": project.shown,
                "files": [str(path) for path in project.files],
                "valid": True if finding is None else (False if finding.status is Status.FAIL else None),
                "services": list(services),
                "problem": None if finding is None else finding.detail,
            }
        )
    table = TableSection("compose files", ("project", "files", "state", "services"), tuple(rows))
    return Section(data, (table,), tuple(finding for _, finding in validated if finding is not None))


async def _validate(
    project: ProjectSources, survey: Survey, limit_s: float
) -> tuple[Sequence[str], Finding | None]:
    """Return the services of a project, and what is wrong with it."""
    status, state, code = Status.FAIL, "invalid", None
    missing = [str(path) for path in project.files if not path.is_file()]
    try:
        if missing:
            state, detail = "missing", f"there is no {', '.join(missing)}"
            remedy: str | None = "correct `stack.compose` in the configuration"
        else:
            async with asyncio.timeout(limit_s):
                compose = await find(project.files, project=project.name, env=survey.environ)
                return await compose.services(), None
    except ValueError as exc:
        detail, remedy = str(exc), "correct the file; `docker compose config --quiet` checks it"
    except OpskitError as error:
        status, state, detail = Status.INCONCLUSIVE, "unseen", error.message
        code, remedy = error.code, error.remedy
    except TimeoutError:
        status, state, detail = Status.INCONCLUSIVE, "unseen", f"Compose did not answer within {limit_s:g} s"
        code, remedy = "COMM_003", None
    return (), Finding("compose", project.shown, status, state, detail, code, remedy)
