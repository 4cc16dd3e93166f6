"""Where the Docker daemon listens, as the Docker command line itself decides it, and the way there by ssh."""

import asyncio
import contextlib
import os
import shutil
import socket
import ssl
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from opskit.errors import OpskitError
from opskit.records import Record

_STDERR_BYTES = 2000
#: An ssh whose connection has ended exits within this time.
_ENDING_S = 2.0
_USUAL_SOCKET = "unix:///var/run/docker.sock"


class Host(Record):
    """An address of a daemon: `socket` is the path of a unix socket, `url` the base of its HTTP requests.

    `ssh` is the URL to reach it through, when the daemon is on another machine behind ssh.
    """

    shown: str
    url: str = "http://docker"
    socket: str | None = None
    ssh: str | None = None
    tls: ssl.SSLContext | None = None


def resolve(environment: Mapping[str, str] | None = None) -> Host:
    """Return the host of DOCKER_HOST, else of DOCKER_CONTEXT, else of the context in use. Reads files.

    Raises OpskitError(DOCKER_001) for a context, a certificate or an address that cannot be used.
    """
    variables = dict(os.environ if environment is None else environment)
    if (address := _plain_socket(variables)) is not None:
        return _host(address, None)
    # Half of what a short command imports: only contexts, certificates and other machines need it.
    from docker.context import ContextAPI
    from docker.errors import DockerException
    from docker.utils import kwargs_from_env, parse_host

    try:
        settings: dict[str, Any] = kwargs_from_env(environment=variables)
        if "base_url" not in settings:
            settings = ContextAPI.kwargs_from_context(environment=variables) | settings
        tls = settings.get("tls")
        address = parse_host(settings.get("base_url"), False, tls=bool(tls))
        return _host(address, _tls_context(tls) if tls else None)
    except (DockerException, ssl.SSLError, OSError, ValueError) as exc:
        raise OpskitError(
            "DOCKER_001",
            f"the Docker host is not usable: {exc}",
            remedy="check DOCKER_HOST and DOCKER_CONTEXT; `docker context ls` shows what there is",
        ) from exc


def _plain_socket(variables: Mapping[str, str]) -> str | None:
    """Return the socket of this machine where nothing but a path has to be known; None elsewhere."""
    host = variables.get("DOCKER_HOST", "")
    if variables.get("DOCKER_TLS_VERIFY") or variables.get("DOCKER_CERT_PATH"):
        return None
    if host:
        return host if host.startswith("unix:///") else None
    settings = Path(os.environ.get("DOCKER_CONFIG") or "~/.docker").expanduser() / "config.json"
    return None if variables.get("DOCKER_CONTEXT") or settings.exists() else _USUAL_SOCKET


def start_remedy(platform: str = sys.platform) -> str:
    """Return the command that starts Docker on this system."""
    if platform == "darwin":
        return (
            "start it: `open -ga Docker` (Docker Desktop), `orb start` (OrbStack) or `colima start`; "
            "`docker context ls` shows which one is in use"
        )
    return "start it: `sudo systemctl start docker`; `docker context ls` shows which daemon is in use"


class Tunnel:
    """The daemon of another machine behind a private unix socket, by `docker system dial-stdio` over ssh.

    Each connection to the socket becomes one ssh process whose stdio *is* the connection.

    No byte passes through this process.
    """

    def __init__(self, url: str, folder: Path) -> None:
        self._command = _ssh_command(url)
        self._folder = folder
        self._listener = socket.socket(socket.AF_UNIX)
        self._processes: set[asyncio.Task[None]] = set()
        self._accepting: asyncio.Task[None] | None = None
        self.path = str(folder / "docker.sock")
        self._complaint = ""

    @classmethod
    async def start(cls, url: str) -> Self:
        """Listen; ssh itself is first started by the first connection."""
        tunnel = cls(url, Path(tempfile.mkdtemp(prefix="opskit-ssh-")))
        tunnel._listener.bind(tunnel.path)
        tunnel._listener.listen()
        tunnel._listener.setblocking(False)
        tunnel._accepting = asyncio.create_task(tunnel._accept())
        return tunnel

    async def complaint(self) -> str:
        """Return what the last ssh that failed had to say; it ends a moment after its connection."""
        if self._processes:
            await asyncio.wait(self._processes, timeout=_ENDING_S, return_when=asyncio.FIRST_COMPLETED)
        return self._complaint

    async def aclose(self) -> None:
        """End every ssh and remove the socket."""
        tasks = [task for task in (self._accepting, *self._processes) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._listener.close()
        await asyncio.to_thread(shutil.rmtree, self._folder, True)

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            connection, _ = await loop.sock_accept(self._listener)
            task = asyncio.create_task(self._carry(connection))
            self._processes.add(task)
            task.add_done_callback(self._processes.discard)

    async def _carry(self, connection: socket.socket) -> None:
        try:
            # A child wants a blocking socket; the flag is shared by all that hold it.
            connection.setblocking(True)
            process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=connection.fileno(),
                stdout=connection.fileno(),
                stderr=asyncio.subprocess.PIPE,
            )
        except OSError as exc:
            self._complaint = f"{self._command[0]}: {exc.strerror}"
            return
        finally:
            connection.close()
        try:
            error = await process.stderr.read(_STDERR_BYTES) if process.stderr is not None else b""
            if await process.wait():
                self._complaint = " ".join(error.decode("utf-8", "replace").split())
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


def _ssh_command(url: str) -> list[str]:
    parts = urlsplit(url)
    options = ["-o", "BatchMode=yes", "-o", "ConnectTimeout=5", "-T"]
    if parts.username:
        options += ["-l", parts.username]
    if parts.port:
        options += ["-p", str(parts.port)]
    return ["ssh", *options, "--", parts.hostname or "", "docker", "system", "dial-stdio"]


def _host(address: str, tls: ssl.SSLContext | None) -> Host:
    scheme, _, location = address.partition("://")
    if scheme in ("http+unix", "unix"):
        path = "/" + location.lstrip("/")
        return Host(f"unix://{path}", socket=path)
    if scheme == "ssh":
        return Host(address, ssh=address)
    if scheme in ("http", "https"):
        return Host(address, url=address.rstrip("/"), tls=tls)
    raise ValueError(f"{address} is neither a unix socket nor a tcp or ssh address")


def _tls_context(tls: Any) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=tls.ca_cert or None)
    if tls.cert:
        context.load_cert_chain(*tls.cert)
    if not tls.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
