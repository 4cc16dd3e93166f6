"""Docker Compose, version 1 or 2: the program, with one project given by absolute paths."""

import os
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from opskit.errors import OpskitError
from opskit.records import Record
from opskit.system.program import NotStarted, ProgramResult, run

_NO_DAEMON = (
    "cannot connect to the docker daemon",
    "couldn't connect to docker daemon",
    "connection refused",
    "connection aborted",
    "error while fetching server api version",
)
INSTALL = "install the compose plug-in: `apt-get install docker-compose`, or Docker Desktop"


class Compose(Record):
    """The program of Compose, with the arguments that name the project.

    `command` is what a person would type; every path in it is absolute, because the working folder of a
    scheduled job is `/`. Calling it runs `command` with more arguments in the project's folder.
    """

    command: tuple[str, ...]
    version: str
    files: tuple[Path, ...]
    env: Mapping[str, str]

    @property
    def folder(self) -> Path:
        return self.files[0].parent

    @property
    def modern(self) -> bool:
        return is_modern(self.version)

    async def __call__(self, *arguments: str) -> ProgramResult:
        return await run((*self.command, *arguments), cwd=self.folder, env=self.env)

    async def digests(self, resolved: str) -> ProgramResult:
        """Digest what `config` wrote, as Compose 2 does for `up`: with environment files read.

        Of the files themselves its `config --hash` digests the names of these.
        """
        program = self.command[: self.command.index("-f")]
        command = (*program, "-f", "-", "config", "--hash", "*")
        return await run(command, cwd=self.folder, env=self.env, stdin=resolved.encode())

    async def services(self) -> list[str]:
        """Return the names of the services that the files declare.

        Raises ValueError, with the complaint of Compose, when the files are not valid.
        """
        done = await self("config", "--services")
        if done.exit:
            raise ValueError(done.complaint)
        return sorted(done.out.split())

    async def container_ids(self) -> list[str]:
        """Return the ids of the project's containers, stopped ones too. Raises OpskitError DOCKER_*."""
        everything = ("--all",) if self.modern else ()
        done = await self("ps", *everything, "-q")
        if done.exit:
            no_daemon = any(words in done.complaint.lower() for words in _NO_DAEMON)
            raise OpskitError(
                "DOCKER_001" if no_daemon else "DOCKER_003",
                f"compose ps failed: {done.complaint}",
                remedy="`docker version` shows whether the daemon answers",
            )
        return done.out.split()


async def find(
    files: Sequence[Path], *, project: str | None = None, env: Mapping[str, str] | None = None
) -> Compose:
    """Find the plug-in when there is one, else the program `docker-compose`; nothing is changed.

    `files` are laid over one another in order, at least one. Raises NotStarted (HOST_001) when there is
    neither program.
    """
    environ = dict(os.environ if env is None else env)
    paths = tuple(path.absolute() for path in files)
    options = [argument for path in paths for argument in ("-f", str(path))]
    options += ["-p", project] if project else []
    search_path = environ.get("PATH")
    docker = shutil.which("docker", path=search_path)
    old = shutil.which("docker-compose", path=search_path)
    if docker is not None:
        version = await run((docker, "compose", "version", "--short"), env=environ)
        if version.exit == 0:
            number = plain_version(version.out) or "2"
            return Compose(("docker", "compose", *options), number, paths, environ)
    if old is None:
        missing = NotStarted("there is neither `docker compose` nor `docker-compose`")
        missing.remedy = INSTALL
        raise missing
    version = await run((old, "version", "--short"), env=environ)
    return Compose(("docker-compose", *options), plain_version(version.out), paths, environ)


def plain_version(text: str) -> str:
    """Return a version as Compose writes it on containers: distributions add to it (`2.26.1-4`). Pure."""
    return re.split(r"[-+~\s]", text.strip().removeprefix("v"), maxsplit=1)[0]


def is_modern(version: str) -> bool:
    """Tell whether a version is of Compose 2 or later. Pure."""
    return bool(version) and not version.startswith("1.")
