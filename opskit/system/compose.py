"""Docker Compose, version 1 or 2: which program it is, and one project told to it by absolute paths."""

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from opskit.errors import OpskitError
from opskit.system.program import NotStarted, ProgramResult, run

_NO_DAEMON = (
    "cannot connect to the docker daemon",
    "couldn't connect to docker daemon",
    "connection refused",
    "connection aborted",
    "error while fetching server api version",
)


@dataclass(frozen=True, slots=True)
class Compose:
    """The program that was found, with the arguments that name the project.

    `command` is what a person would type; every path in it is absolute, because the working folder of a
    scheduled job is `/`. Calling it runs `command` with more arguments in the project's folder.
    """

    command: tuple[str, ...]
    modern: bool
    folder: Path
    env: Mapping[str, str]

    async def __call__(self, *arguments: str) -> ProgramResult:
        return await run((*self.command, *arguments), cwd=self.folder, env=self.env)

    async def services(self) -> list[str]:
        """Names of the services that the files declare. Raises ValueError, with compose's complaint, when

        the files are not valid.
        """
        done = await self("config", "--services")
        if done.exit:
            raise ValueError(done.complaint)
        return sorted(done.out.split())

    async def container_ids(self) -> list[str]:
        """The containers of the project, stopped ones too. Raises OpskitError DOCKER_*."""
        everything = ("--all",) if self.modern else ()
        return _checked(await self("ps", *everything, "-q")).out.split()


async def find(
    files: Sequence[Path], *, project: str | None = None, env: Mapping[str, str] | None = None
) -> Compose:
    """The plug-in when there is one, else the program `docker-compose`; nothing is changed.

    `files` are laid over one another in order, at least one. Raises NotStarted (HOST_001) when there is
    neither program.
    """
    environ = dict(os.environ if env is None else env)
    paths = [path.absolute() for path in files]
    folder = paths[0].parent
    rest = [argument for path in paths for argument in ("-f", str(path))]
    rest += ["-p", project] if project else []
    where = environ.get("PATH")
    docker, old = shutil.which("docker", path=where), shutil.which("docker-compose", path=where)
    if docker is not None and (await run((docker, "compose", "version"), env=environ)).exit == 0:
        return Compose(("docker", "compose", *rest), True, folder, environ)
    if old is None:
        missing = NotStarted("there is neither `docker compose` nor `docker-compose`")
        missing.remedy = "install the compose plug-in: `apt-get install docker-compose`, or Docker Desktop"
        raise missing
    version = await run((old, "version", "--short"), env=environ)
    modern = version.out.strip().lstrip("v").startswith("2")
    return Compose(("docker-compose", *rest), modern, folder, environ)


def _checked(done: ProgramResult) -> ProgramResult:
    if done.exit:
        no_daemon = any(words in done.complaint.lower() for words in _NO_DAEMON)
        raise OpskitError(
            "DOCKER_001" if no_daemon else "DOCKER_003",
            f"compose ps failed: {done.complaint}",
            remedy="`docker version` shows whether the daemon answers",
        )
    return done
