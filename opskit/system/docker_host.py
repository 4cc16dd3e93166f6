"""Where the Docker daemon listens, as the Docker command line itself decides it."""

import os
import shlex
import ssl
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from opskit.errors import OpskitError
from opskit.records import Record

_USUAL_SOCKET = "unix:///var/run/docker.sock"


class Host(Record):
    """An address of a daemon: `socket` is the path of a unix socket, `url` the base of its HTTP requests.

    `ssh` is the URL of one on another machine behind ssh, which is not asked.
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


def over_ssh(url: str) -> OpskitError:
    """Return the error for a daemon that is only reached through ssh, with the command that forwards it."""
    return OpskitError(
        "DOCKER_001",
        f"Docker at {url} is reached through ssh, and opskit asks sockets only",
        remedy=f"`ssh -nNT -L /tmp/docker.sock:/var/run/docker.sock {shlex.quote(url)}`, "
        "then `export DOCKER_HOST=unix:///tmp/docker.sock`; or run opskit on that machine",
    )


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
