"""Which supervisor keeps the service behind a port running, and how it restarts it. Pure.

A service that is killed comes back only if its supervisor wants it to, and one that is started past its
supervisor fights with it for the port; so every restart goes through the supervisor, or not at all.
"""

import re
import shlex
from collections.abc import Collection, Mapping
from pathlib import PurePosixPath
from typing import Literal

from opskit.records import Record
from opskit.system.sockets import PROXIES, Owner

Kind = Literal["container", "app", "brew", "launchd", "systemd", "stray"]
Domain = Literal["user", "system"]

#: Labels of Homebrew: the second since its version 6.
_BREW = ("homebrew.mxcl.", "sh.brew.")
#: The program of an application lies in its bundle.
_BUNDLE = re.compile(r"/(?P<name>[^/]+)\.app/Contents/")
#: Labels that launchd gives to applications that a person opened: they are no jobs to restart.
_OPENED = "application."
#: Jobs of macOS itself are never restarted, though it may hold a port (AirPlay has 5000).
_APPLE = "com.apple."
#: Units in which unrelated programs run: whatever was started by ssh, cron or recovery itself.
_HOSTS = re.compile(
    r"(sshd?(@.*)?|cron|crond|atd|getty@.*|serial-getty@.*|user@.*|docker|containerd|podman|snapd"
    r"|opskit-recover|opskit-inside-.*)\.service"
)


class Service(Record):
    """A supervised service. `name` is a container, application, formula, label or unit; None when unknown.

    `domain` is `user` for what belongs to a session of `user`. A stray process was started by hand, or by
    something that cannot be asked.
    """

    kind: Kind
    name: str | None = None
    domain: Domain = "user"
    user: str = ""


def service_of(owner: Owner, *, platform: str, container: str | None = None) -> Service:
    """Return the supervisor of the process that holds a port.

    `container` is the name that Docker shows for the port (`Docker.holder_of`): processes that hold
    ports for containers do not tell which.
    """
    if container or owner.container or owner.name in PROXIES:
        return Service("container", container or owner.container, "system", owner.user)
    domain: Domain = "system" if owner.user == "root" else "user"
    if platform == "darwin":
        label = owner.unit or ""
        if label and not label.startswith((_OPENED, _APPLE)):
            brew = next((label.removeprefix(prefix) for prefix in _BREW if label.startswith(prefix)), None)
            return Service("brew" if brew else "launchd", brew or label, domain, owner.user)
        bundle = _BUNDLE.search(owner.command)
        if bundle is not None and not label.startswith(_APPLE):
            return Service("app", bundle["name"], "user", owner.user)
    elif owner.unit and not _HOSTS.fullmatch(owner.unit):
        return Service("systemd", owner.unit, "user" if owner.user_unit else "system", owner.user)
    return Service("stray", None, domain, owner.user)


def restart_command(service: Service, *, user: str, uid: int) -> tuple[str, ...] | None:
    """Return the command that restarts it; None where there is no supervisor, or this user may not ask it.

    `user` and `uid` are of this process. An application is only opened: a command for one that hangs is
    `quit_command`, first. systemd never asks for a password here: no person would answer.
    """
    if service.name is None:
        return None
    own = service.user in ("", user)
    match service.kind:
        case "container":
            return ("docker", "restart", service.name)
        case "app":
            return ("open", "-ga", service.name) if own else None
        case "brew":
            return ("brew", "services", "restart", service.name) if own else None
        case "launchd" if service.domain == "system":
            return ("launchctl", "kickstart", "-k", f"system/{service.name}") if uid == 0 else None
        case "launchd":
            return ("launchctl", "kickstart", "-k", f"gui/{uid}/{service.name}") if own else None
        case "systemd" if service.domain == "user":
            return ("systemctl", "--user", "restart", service.name) if own else None
        case "systemd":
            return ("systemctl", "--no-ask-password", "restart", service.name)
    return None


def restart_by_hand(service: Service, *, user: str, uid: int) -> str | None:
    """Return what a person types to restart it, in backquotes; None where nothing keeps it."""
    as_root = service.domain == "system" and service.kind in ("systemd", "launchd")
    command = restart_command(service, user=service.user or user, uid=0 if as_root else uid)
    if command is None:
        return None
    words = ["sudo"] * (as_root and uid != 0) + [word for word in command if word != "--no-ask-password"]
    commands = [shlex.join(words)]
    if (ending := quit_command(service)) is not None:
        commands.insert(0, shlex.join(ending))
    is_foreign = service.domain == "user" and service.user not in ("", user)
    return ", then ".join(f"`{line}`" for line in commands) + (f" as {service.user}" if is_foreign else "")


def quit_command(service: Service) -> tuple[str, ...] | None:
    """Return how to ask an application to end, so that opening it restarts it; None for all others."""
    if service.kind != "app" or service.name is None or '"' in service.name or "\\" in service.name:
        return None
    return ("osascript", "-e", f'quit app "{service.name}"')


def at_rest(
    name: str,
    *,
    brew: Collection[str] = (),
    labels: Collection[str] = (),
    units: Mapping[str, Domain] | None = None,
    applications: Collection[str] = (),
) -> Service | None:
    """Return what would run `name` (such as `ollama`) when nothing holds its port; None when unknown.

    What was started before comes first: a formula with a file, a loaded label, a unit; then an application
    (paths such as `/Applications/Ollama.app`). `brew` are formulas with such a file, `units` maps a
    unit to the systemd that knows it.
    """
    if name in brew:
        return Service("brew", name)
    foreign = (*_BREW, _OPENED, _APPLE)
    for label in labels:
        if name in label.lower().split(".") and not label.startswith(foreign):
            return Service("launchd", label)
    unit = f"{name}.service"
    if units and unit in units:
        return Service("systemd", unit, units[unit])
    stems = [PurePosixPath(path).stem for path in applications]
    application = next((stem for stem in stems if stem.lower() == name.lower()), None)
    return None if application is None else Service("app", application)
