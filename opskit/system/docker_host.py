"""Where the Docker daemon listens, as the Docker command line itself would decide it."""

import os
import ssl
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from opskit.errors import OpskitError


@dataclass(frozen=True, slots=True)
class Host:
    """An address of a daemon: `socket` is the path of a unix socket, `url` the base of its HTTP requests.

    `ssh` is the URL to reach it through, when the daemon is on another machine behind ssh.
    """

    shown: str
    url: str = "http://docker"
    socket: str | None = None
    ssh: str | None = None
    tls: ssl.SSLContext | None = None


def resolve(environment: Mapping[str, str] | None = None) -> Host:
    """The host of DOCKER_HOST, else of DOCKER_CONTEXT, else of the context in use. Reads files.

    Raises OpskitError(DOCKER_001) for a context, a certificate or an address that cannot be used.
    """
    from docker.context import ContextAPI
    from docker.errors import DockerException
    from docker.utils import kwargs_from_env, parse_host

    known = dict(os.environ if environment is None else environment)
    try:
        found: dict[str, Any] = kwargs_from_env(environment=known)
        if "base_url" not in found:
            found = ContextAPI.kwargs_from_context(environment=known) | found
        tls = found.get("tls")
        address = parse_host(found.get("base_url"), False, tls=bool(tls))
        return _host(address, _tls_context(tls) if tls else None)
    except (DockerException, ssl.SSLError, OSError, ValueError) as exc:
        raise OpskitError(
            "DOCKER_001",
            f"the Docker host cannot be told: {exc}",
            remedy="check DOCKER_HOST and DOCKER_CONTEXT; `docker context ls` shows what there is",
        ) from exc


def start_remedy(platform: str = sys.platform) -> str:
    """The command that starts Docker on this system."""
    if platform == "darwin":
        return (
            "start it: `open -ga Docker` (Docker Desktop), `orb start` (OrbStack) or `colima start`; "
            "`docker context ls` shows which one is in use"
        )
    return "start it: `sudo systemctl start docker`; `docker context ls` shows which daemon is in use"


def _host(address: str, tls: ssl.SSLContext | None) -> Host:
    scheme, _, rest = address.partition("://")
    if scheme in ("http+unix", "unix"):
        path = "/" + rest.lstrip("/")
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
