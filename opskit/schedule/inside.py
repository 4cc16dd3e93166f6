"""What one process sees: in the shell, and from where the job runs. And what differs, with what to do.

As a program it looks once and writes one JSON document. Its one argument is a list of paths, as JSON in
base64: no shell, unit or plist has an opinion about such characters.
"""

import asyncio
import base64
import contextlib
import errno
import json
import locale
import os
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

import msgspec

from opskit.config.load import load
from opskit.config.schema import Config
from opskit.config.url import without_password
from opskit.errors import OpskitError
from opskit.records import Record, asdict
from opskit.schedule.environment import PROGRAMS
from opskit.system.host import is_loopback
from opskit.system.network import connects

_CONNECT_S = 3.0
_DOCKER_S = 4.0
_AGAIN = "`opskit schedule install` computes PATH and variables again from this shell"
_FULL_DISK_ACCESS = (
    "move it out of Documents, Desktop and Downloads, or grant the interpreter Full Disk Access "
    "(System Settings, Privacy & Security)"
)
_LOCAL_NETWORK = (
    "allow the interpreter in System Settings, Privacy & Security, Local Network; where it is not listed, "
    "reach the node through a tunnel on loopback (`ssh -L`)"
)

Access = Literal["readable", "denied", "absent"]


class ServerReach(Record):
    """A node or an agent: `problem` is None when it accepts a connection. `loopback` is this machine.

    `curl` tells whether Apple's own curl gets through where we do not; None when it was not asked.
    """

    url: str
    problem: str | None = None
    errno: int | None = None
    loopback: bool = True
    curl: bool | None = None

    def denied_by_privacy(self, platform: str) -> bool:
        """Whether macOS keeps the local network from this program (ops facts 11): EHOSTUNREACH, 65 there."""
        if platform != "darwin" or self.loopback or self.problem != "unreachable":
            return False
        return self.curl is True or self.errno in (65, errno.EHOSTUNREACH)


class ProcessView(Record):
    """What one process sees. `unset` are the secrets of the configuration that hold nothing here."""

    path: str
    cwd: str
    home: str
    encoding: str
    programs: dict[str, str | None]
    files: dict[str, Access]
    servers: dict[str, ServerReach]
    config: str | None
    config_problem: str = ""
    unset: tuple[str, ...] = ()
    docker: str = ""
    docker_problem: str = ""


class Difference(Record):
    """`harmful` is a difference that lets the job fail, or work on something else than the shell does."""

    topic: str
    text: str
    remedy: str = _AGAIN
    harmful: bool = True


class InsideComparison(Record):
    """The view of the shell and that of the job. `problem` says why there is none of the job to compare.

    `emulated` where there is no scheduler: the environment of the job, without it.
    """

    shell: ProcessView | None = None
    job: ProcessView | None = None
    emulated: bool = False
    found: tuple[Difference, ...] = ()
    problem: str = ""
    seconds: float = 0.0


def arguments(files: Sequence[str]) -> tuple[str, ...]:
    """Return what to call the interpreter with."""
    encoded = base64.urlsafe_b64encode(json.dumps(list(files)).encode()).decode()
    return ("-m", "opskit.schedule.inside", encoded)


def view_from(written: str) -> ProcessView:
    """Return what the program saw. Raises ValueError for anything else, such as that of another version."""
    return msgspec.json.decode((written.strip().splitlines() or [""])[-1], type=ProcessView)


async def look(
    config: Config | None, files: Sequence[str], environ: Mapping[str, str], *, platform: str = sys.platform
) -> ProcessView:
    """Look at `files`, at Docker, and at the servers of the configuration that this environment leads to.

    `config` is used where the caller has loaded it already. Loads, starts and changes nothing.
    """
    problem, unset = "", set[str]()
    named = {} if config is None or config.path is None else {"OPSKIT_CONFIG": config.path}
    try:
        loaded = load(None, environ={**environ, **named}, cwd=Path.cwd())
        unset = {origin.unset for origin in loaded.origins.values() if origin.unset}
        config = config or loaded.config
    except OpskitError as error:
        problem = "" if config is not None else error.message
    nodes, agents = ((), ()) if config is None else (config.nodes, config.agents)
    addresses = {node.name: without_password(node.proxy) if node.proxy else node.url for node in nodes}
    addresses |= {agent.name: agent.url for agent in agents}
    async with asyncio.TaskGroup() as group:
        docker = group.create_task(_docker(environ))
        reaches = {name: group.create_task(_server(url, platform)) for name, url in addresses.items()}
    host, docker_problem = docker.result()
    return ProcessView(
        path=environ.get("PATH", ""),
        cwd=str(Path.cwd()),
        home=environ.get("HOME", ""),
        encoding=locale.getpreferredencoding(do_setlocale=False).upper(),
        programs={name: shutil.which(name, path=environ.get("PATH")) for name in PROGRAMS},
        files={path: access(Path(path)) for path in files},
        servers={name: task.result() for name, task in reaches.items()},
        config=None if config is None or config.path is None else str(Path(config.path).absolute()),
        config_problem=problem,
        unset=tuple(sorted(unset)),
        docker=host,
        docker_problem=docker_problem,
    )


def access(path: Path) -> Access:
    """Denied is not absent: a folder that may not be entered hides whether the file is there."""
    try:
        path.open("rb").close()
    except IsADirectoryError:
        return "readable" if os.access(path, os.R_OK | os.X_OK) else "denied"
    except OSError as error:
        return "denied" if isinstance(error, PermissionError) else "absent"
    return "readable"


async def _docker(environ: Mapping[str, str]) -> tuple[str, str]:
    """Return the address of the daemon, and why it does not answer."""
    from opskit.system.docker import Docker
    from opskit.system.docker_host import resolve

    host = ""
    try:
        host = (await asyncio.to_thread(resolve, environ)).shown
        async with asyncio.timeout(_DOCKER_S), Docker(environ, timeout_s=_DOCKER_S) as docker:
            await docker.version()
    except TimeoutError:
        return host, f"no answer within {_DOCKER_S:g} s"
    except OpskitError as error:
        return host, error.message
    return host, ""


async def _server(url: str, platform: str) -> ServerReach:
    from opskit.system.program import NotStarted, run

    result = await connects(url, timeout_s=_CONNECT_S)
    loopback, curl = is_loopback(url), None
    if platform == "darwin" and not loopback and result.problem == "unreachable":
        # Programs of Apple are exempt from Local Network Privacy: they tell a denial from a dead network.
        argv = ("/usr/bin/curl", "-s", "-o", "/dev/null", "--max-time", f"{_CONNECT_S:g}", url)
        with contextlib.suppress(NotStarted, TimeoutError):
            async with asyncio.timeout(_CONNECT_S + 1.0):
                curl = (await run(argv)).exit == 0
    return ServerReach(url, result.problem, result.errno, loopback, curl)


def compare(shell: ProcessView, job: ProcessView, *, platform: str) -> tuple[Difference, ...]:
    """Return the differences that matter, harmful ones first. What is broken in both is none. Pure."""
    differences = (
        *_configuration(shell, job),
        *_files(shell, job, platform),
        *_programs(shell, job),
        *_docker_daemon(shell, job),
        *_servers(shell, job, platform),
        *_session(shell, job),
    )
    return tuple(sorted(differences, key=lambda difference: not difference.harmful))


def _configuration(shell: ProcessView, job: ProcessView) -> Iterator[Difference]:
    if job.config_problem and not shell.config_problem:
        yield Difference("configuration", f"the job cannot use it: {job.config_problem}")
    elif shell.config != job.config:
        yield Difference(
            "configuration",
            f"the job reads {job.config or 'no file, only defaults'}, this shell {shell.config or 'none'}",
            "`opskit schedule install --config FILE` names the file for the job",
        )
    for name in sorted(set(job.unset) - set(shell.unset)):
        remedy = "secrets are not written into the schedule: `opskit schedule install` says how to give them"
        yield Difference("secrets", f"{name} is set in this shell and not in the job", remedy, harmful=False)


def _files(shell: ProcessView, job: ProcessView, platform: str) -> Iterator[Difference]:
    for path, here in shell.files.items():
        there = job.files.get(path, "absent")
        text, remedy = f"the job may not read {path}", f"`ls -l {path}` shows who may"
        if there == "absent":
            text, remedy = f"{path} is not there for the job", "use a path that every process sees"
        elif platform == "darwin":
            text, remedy = f"macOS denies the job {path}", _FULL_DISK_ACCESS
        if here == "readable" != there:
            yield Difference("files", text, remedy)


def _programs(shell: ProcessView, job: ProcessView) -> Iterator[Difference]:
    for name, here in shell.programs.items():
        there = job.programs.get(name)
        if here and not there:
            yield Difference("programs", f"the job does not find {name}, which is {here} in this shell")
        elif here and here != there:
            text = f"the job runs {there}, this shell {here}"
            yield Difference("programs", text, f"{_AGAIN}, or remove one", harmful=False)


def _docker_daemon(shell: ProcessView, job: ProcessView) -> Iterator[Difference]:
    here, there = shell.docker or "none", job.docker or "no address"
    if job.docker_problem and not shell.docker_problem:
        where = f" ({job.docker} instead of {shell.docker})" if job.docker != shell.docker else ""
        yield Difference("docker", f"Docker answers this shell and not the job{where}: {job.docker_problem}")
    elif job.docker != shell.docker:
        yield Difference("docker", f"the job asks Docker at {there}, this shell at {here}")


def _servers(shell: ProcessView, job: ProcessView, platform: str) -> Iterator[Difference]:
    for name, here in shell.servers.items():
        there = job.servers.get(name)
        reached = f"{name} ({here.url}) is reached from this shell"
        if there is None:
            if not job.config_problem:
                yield Difference("servers", f"the job knows no {name}, which is {here.url} in this shell")
        elif there.url != here.url:
            yield Difference("servers", f"{name} is {there.url} for the job and {here.url} here")
        elif there.problem and not here.problem and there.denied_by_privacy(platform):
            text = f"macOS keeps the local network from the job: {reached}"
            yield Difference("servers", text, _LOCAL_NETWORK)
        elif there.problem and not here.problem:
            remedy = "see whether a proxy, a VPN or a firewall belongs to this session only"
            yield Difference("servers", f"{reached} and not from the job: {there.problem}", remedy)
    for name in job.servers.keys() - shell.servers.keys():
        text = f"the job looks after {name} ({job.servers[name].url}), this shell does not"
        yield Difference("servers", text)


def _session(shell: ProcessView, job: ProcessView) -> Iterator[Difference]:
    if shell.home != job.home:
        text = f"HOME is {job.home or 'not set'} for the job and {shell.home or 'not set'} here"
        yield Difference("home", text, "install the schedule as the user who runs the stack, without sudo")
    if shell.encoding != job.encoding:
        text = f"the job writes {job.encoding}, this shell {shell.encoding}"
        remedy = "opskit writes UTF-8 in both; programs that it starts may not"
        yield Difference("locale", text, remedy, harmful=False)


if __name__ == "__main__":
    paths = json.loads(base64.urlsafe_b64decode(sys.argv[1]))
    sys.stdout.write(json.dumps(asdict(asyncio.run(look(None, paths, dict(os.environ))))) + "\n")
