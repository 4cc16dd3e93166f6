"""The Docker daemon as seen from here: where it is looked for, and what it says of itself."""

import asyncio
import errno
import hashlib
import json
import os
import shutil
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from opskit.errors import OpskitError
from opskit.facts.container import docker_time
from opskit.facts.survey import Survey
from opskit.records import Record, replace
from opskit.system.docker_runtime import Runtime
from opskit.system.process import Process

_OTHER_S = 2.0
_USUAL_SOCKETS = ("/var/run/docker.sock", "/run/docker.sock")


class DockerAddress(Record, kw_only=True):
    """Where Docker is looked for. Only files were read for it.

    `chosen_by` decides that: DOCKER_HOST, DOCKER_CONTEXT, a context's name, default. `problem` says why the
    address is not known. `socket` is None for an address that is none on this machine.
    """

    shown: str = ""
    chosen_by: str = "default"
    problem: str = ""
    socket: str | None = None
    socket_exists: bool = False
    is_permitted: bool = True
    has_program: bool = False

    @property
    def is_unused(self) -> bool:
        """Tell whether there is no program, no address and no socket: nobody uses Docker here."""
        chosen = self.has_program or self.chosen_by == "DOCKER_HOST"
        return not (chosen or self.problem or self.socket_exists)

    @property
    def is_here(self) -> bool:
        """Tell whether there is anything of Docker that could answer: program, socket or far address."""
        return self.has_program or self.socket is None or self.socket_exists or bool(self.problem)


class DockerDaemon(Record, kw_only=True):
    """What a daemon said of itself; `error` is why it said nothing. `clock_ahead_s` is against our clock.

    `runtime` is what runs one that said nothing, `stopped_process` its process where somebody stopped that.
    """

    address: DockerAddress
    error: OpskitError | None = None
    runtime: Runtime | None = None
    stopped_process: Process | None = None
    version: str | None = None
    api_version: str | None = None
    operating_system: str = ""
    root: str | None = None
    containers: int | None = None
    running: int | None = None
    stopped: int | None = None
    images: int | None = None
    storage: str | None = None
    memory_bytes: int | None = None
    cpus: int | None = None
    warnings: tuple[str, ...] = ()
    clock_ahead_s: float | None = None
    seconds: float = 0.0

    @property
    def answers(self) -> bool:
        """Tell whether it answered, at an address that is the one that was meant."""
        return self.error is None and not self.address.problem

    @property
    def problem(self) -> str:
        return self.address.problem or ("" if self.error is None else self.error.message)

    @property
    def is_absent(self) -> bool:
        """Tell whether nobody listens there, unlike a daemon that may not be asked or is silent."""
        return self._errno in (errno.ENOENT, errno.ECONNREFUSED)

    @property
    def is_silent(self) -> bool:
        """Tell whether it accepted a connection and gave no answer."""
        return self.error is not None and isinstance(self.error.__cause__, TimeoutError)

    @property
    def is_cut_off(self) -> bool:
        """Tell whether connections to it are accepted and end before its reply."""
        cause = None if self.error is None else self.error.__cause__
        is_other = isinstance(cause, ValueError | KeyError | TypeError | AttributeError | TimeoutError)
        is_reset = self._errno in (errno.ECONNRESET, errno.EPIPE)
        return is_reset or not (cause is None or is_other or isinstance(cause, OSError))

    @property
    def is_refused(self) -> bool:
        """Tell whether this user may not ask it."""
        return not self.address.is_permitted or self._errno in (errno.EACCES, errno.EPERM)

    @property
    def _errno(self) -> int | None:
        return None if self.error is None else getattr(self.error.__cause__, "errno", None)

    @property
    def is_desktop(self) -> bool:
        return "Desktop" in self.operating_system


async def read_docker_daemon(survey: Survey) -> DockerDaemon:
    """Ask the daemon of this survey. Never raises for what it does."""
    address = await asyncio.to_thread(docker_address, survey.environ)
    began = time.monotonic()
    for is_last in (False, True):
        try:
            docker = await survey.docker()
            version, info = await docker.version(), await docker.info()
            break
        except OpskitError as error:
            silent = DockerDaemon(address=address, error=error, seconds=time.monotonic() - began)
            daemon = await asyncio.to_thread(_with_runtime, silent, survey.environ)
            # Slow is not dead.
            if is_last or not daemon.is_silent or daemon.stopped_process is not None:
                return daemon
    clock = docker_time(info.get("SystemTime"))
    return DockerDaemon(
        address=address,
        version=version.get("Version"),
        api_version=version.get("ApiVersion"),
        operating_system=str(info.get("OperatingSystem") or ""),
        root=str(info.get("DockerRootDir") or "") or None,
        containers=info.get("Containers"),
        running=info.get("ContainersRunning"),
        stopped=info.get("ContainersStopped"),
        images=info.get("Images"),
        storage=info.get("Driver"),
        memory_bytes=info.get("MemTotal"),
        cpus=info.get("NCPU"),
        warnings=tuple(info.get("Warnings") or ()),
        clock_ahead_s=None if clock is None else (clock - datetime.now(UTC)).total_seconds(),
        seconds=time.monotonic() - began,
    )


def _with_runtime(daemon: DockerDaemon, environ: Mapping[str, str]) -> DockerDaemon:
    """Add what runs a daemon that does not answer."""
    from opskit.system import docker_host, docker_runtime

    if daemon.address.problem:
        return daemon
    machine = docker_runtime.Machine.of(sys.platform, environ)
    stopped = None
    if daemon.is_silent and daemon.address.socket is not None:
        stopped = docker_runtime.stopped_daemon(daemon.address.socket)
    return replace(
        daemon, runtime=docker_runtime.runtime(docker_host.resolve(environ), machine), stopped_process=stopped
    )


async def read_other_daemons(survey: Survey) -> tuple[str, ...]:
    """Return the usual sockets of this machine at which a daemon answers, without that of the survey."""
    address = (await survey.get(read_docker_daemon)).address
    sockets = await asyncio.to_thread(_other_sockets, survey.environ, address.socket)
    answering = await asyncio.gather(*map(_answers, sockets))
    return tuple(path for path, answers in zip(sockets, answering, strict=True) if answers)


async def has_docker_network(survey: Survey, name: str) -> bool:
    """Tell whether Docker has a network of that name. Raises OpskitError DOCKER_*."""
    return await (await survey.docker()).found("network", name) is not None


def docker_address(environ: Mapping[str, str]) -> DockerAddress:
    """Return where Docker is looked for, and whether its socket is there and may be used. Reads files."""
    from opskit.system.docker_host import resolve

    chosen_by = next((name for name in ("DOCKER_HOST", "DOCKER_CONTEXT") if environ.get(name)), "")
    has_program = shutil.which("docker", path=environ.get("PATH")) is not None
    problem, host = _lost_context(environ), None
    try:
        host = resolve(environ)
    except OpskitError as error:
        problem = problem or error.message
    is_usual = host is not None and host.socket in _USUAL_SOCKETS and not problem
    chosen_by = chosen_by or ("default" if is_usual else "the Docker context in use")
    if host is None:
        return DockerAddress(chosen_by=chosen_by, problem=problem, has_program=has_program)
    exists = host.socket is not None and os.access(host.socket, os.F_OK)
    return DockerAddress(
        shown=host.shown,
        chosen_by=chosen_by,
        problem=problem,
        socket=host.socket,
        socket_exists=exists,
        is_permitted=not exists or os.access(str(host.socket), os.R_OK | os.W_OK),
        has_program=has_program,
    )


def _lost_context(environ: Mapping[str, str]) -> str:
    """Say what is wrong with the chosen context: the SDK takes the default one for a name it does not know.

    The command line keeps a context in a folder that bears the SHA-256 of its name.
    """
    if environ.get("DOCKER_HOST"):
        return ""
    folder = Path(environ.get("DOCKER_CONFIG") or _home(environ) / ".docker")
    name = environ.get("DOCKER_CONTEXT", "")
    if not name:
        try:
            content: Any = json.loads((folder / "config.json").read_text(encoding="utf-8"))
            name = str(content.get("currentContext") or "")
        except (OSError, ValueError, AttributeError):
            return ""
    digest = hashlib.sha256(name.encode()).hexdigest()
    if name in ("", "default") or (folder / "contexts/meta" / digest).is_dir():
        return ""
    return f"there is no Docker context {name!r}"


def _other_sockets(environ: Mapping[str, str], asked: str | None) -> list[str]:
    """Return where the daemons of this machine usually listen, without the one that was asked."""
    home = _home(environ)
    runtime = Path(environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}")
    usual = (
        Path(_USUAL_SOCKETS[0]),
        home / ".docker/run/docker.sock",
        home / ".docker/desktop/docker.sock",
        home / ".orbstack/run/docker.sock",
        home / ".colima/default/docker.sock",
        runtime / "docker.sock",
    )
    sockets = {os.path.realpath(path): str(path) for path in usual if os.access(path, os.F_OK)}
    if asked is not None:
        sockets.pop(os.path.realpath(asked), None)
    return list(sockets.values())


async def _answers(socket: str) -> bool:
    from opskit.system.docker import Docker

    async with Docker({"DOCKER_HOST": f"unix://{socket}"}, timeout_s=_OTHER_S) as docker:
        try:
            await docker.version()
        except OpskitError:
            return False
    return True


def _home(environ: Mapping[str, str]) -> Path:
    return Path(environ.get("HOME") or "~").expanduser()
