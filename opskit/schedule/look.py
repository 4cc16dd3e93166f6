"""One look at the world from where this process stands: done in the shell and in the scheduler's context."""

import asyncio
import errno
import locale
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from opskit.config.load import load
from opskit.config.schema import Config
from opskit.errors import OpskitError
from opskit.schedule.folders import SOUGHT
from opskit.system.host import is_loopback
from opskit.system.network import connects

_CONNECT_S = 3.0
_DOCKER_S = 4.0
#: Programs whose absence changes what recovery can do.
PROGRAMS = tuple(name for name in SOUGHT if not name.startswith("docker-credential"))

Access = Literal["readable", "denied", "absent"]


@dataclass(frozen=True, slots=True)
class ServerReach:
    """A node or an agent: `problem` is None when it accepts a connection. `loopback` is this machine.

    `curl` tells whether Apple's own curl gets through where we do not; None when it was not asked.
    """

    url: str
    problem: str | None = None
    errno: int | None = None
    loopback: bool = True
    curl: bool | None = None


@dataclass(frozen=True, slots=True)
class ProcessView:
    """What one process sees. `unset` are the secrets of the configuration that hold nothing here."""

    path: str = ""
    cwd: str = ""
    home: str = ""
    encoding: str = ""
    programs: dict[str, str | None] = field(default_factory=dict)
    files: dict[str, Access] = field(default_factory=dict)
    servers: dict[str, ServerReach] = field(default_factory=dict)
    config: str | None = None
    config_problem: str = ""
    unset: tuple[str, ...] = ()
    docker: str = ""
    docker_problem: str = ""

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def seen_from(document: Mapping[str, Any]) -> ProcessView:
    """What `as_json` wrote. Raises TypeError, KeyError or AttributeError for what it did not."""
    fields = dict(document)
    fields["servers"] = {name: ServerReach(**one) for name, one in fields["servers"].items()}
    fields["unset"] = tuple(fields["unset"])
    return ProcessView(**fields)


async def look(
    config: Config | None, files: Sequence[str], environ: Mapping[str, str], *, platform: str = sys.platform
) -> ProcessView:
    """Look at `files`, at Docker, and at the servers of the configuration that this environment leads to.

    `config` is used where the caller has loaded it already. Loads, starts and changes nothing.
    """
    problem = ""
    unset: tuple[str, ...] = ()
    try:
        loaded = load(None, environ=_with(environ, config), cwd=Path.cwd())
        unset = tuple(sorted({one.unset for one in loaded.origins.values() if one.unset}))
        config = config or loaded.config
    except OpskitError as error:
        problem = "" if config is not None else error.message
    urls: dict[str, str] = {}
    if config is not None:
        urls = {node.name: node.url for node in config.nodes}
        urls |= {agent.name: agent.url for agent in config.agents}
    async with asyncio.TaskGroup() as tasks:
        docker = tasks.create_task(_docker(environ))
        servers = {name: tasks.create_task(_server(url, platform)) for name, url in urls.items()}
    host, docker_problem = docker.result()
    return ProcessView(
        path=environ.get("PATH", ""),
        cwd=str(Path.cwd()),
        home=environ.get("HOME", ""),
        encoding=locale.getpreferredencoding(do_setlocale=False).upper(),
        programs={name: shutil.which(name, path=environ.get("PATH")) for name in PROGRAMS},
        files={path: access(Path(path)) for path in files},
        servers={name: task.result() for name, task in servers.items()},
        config=None if config is None or config.path is None else str(Path(config.path).absolute()),
        config_problem=problem,
        unset=unset,
        docker=host,
        docker_problem=docker_problem,
    )


def access(path: Path) -> Access:
    """Denied is not absent: a folder that may not be entered hides whether the file is there."""
    try:
        with path.open("rb"):
            return "readable"
    except IsADirectoryError:
        return "readable" if os.access(path, os.R_OK | os.X_OK) else "denied"
    except PermissionError:
        return "denied"
    except OSError:
        return "absent"


def _with(environ: Mapping[str, str], config: Config | None) -> Mapping[str, str]:
    """A configuration that was named on the command line stays the one that is looked at."""
    return environ if config is None or config.path is None else {**environ, "OPSKIT_CONFIG": config.path}


async def _docker(environ: Mapping[str, str]) -> tuple[str, str]:
    """The address of the daemon, and why it does not answer."""
    from opskit.system.docker import Docker
    from opskit.system.docker_host import resolve

    try:
        host = (await asyncio.to_thread(resolve, environ)).shown
    except OpskitError as error:
        return "", error.message
    try:
        async with asyncio.timeout(_DOCKER_S), Docker(environ, timeout_s=_DOCKER_S) as door:
            await door.version()
    except TimeoutError:
        return host, f"no answer within {_DOCKER_S:g} s"
    except OpskitError as error:
        return host, error.message
    return host, ""


async def _server(url: str, platform: str) -> ServerReach:
    result = await connects(url, timeout_s=_CONNECT_S)
    loopback = is_loopback(url)
    curl = None
    if platform == "darwin" and not loopback and result.problem == "unreachable":
        curl = await _curl(url)
    return ServerReach(url, result.problem, result.errno, loopback, curl)


async def _curl(url: str) -> bool | None:
    """Programs of Apple are exempt from Local Network Privacy: they tell a denial from a dead network."""
    from opskit.system.program import NotStarted, run

    try:
        async with asyncio.timeout(_CONNECT_S + 1.0):
            done = await run(("/usr/bin/curl", "-s", "-o", "/dev/null", "--max-time", f"{_CONNECT_S:g}", url))
    except (NotStarted, TimeoutError):
        return None
    return done.exit == 0


def denied_by_privacy(server: ServerReach, platform: str) -> bool:
    """Whether macOS keeps the local network from this program (ops facts 11): EHOSTUNREACH, 65 there."""
    if platform != "darwin" or server.loopback or server.problem != "unreachable":
        return False
    return server.curl is True or server.errno in (65, errno.EHOSTUNREACH)
