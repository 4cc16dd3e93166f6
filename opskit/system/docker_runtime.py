"""What runs the Docker daemon of this machine: Docker Desktop, OrbStack, Colima, or a system service."""

import contextlib
import shutil
import socket
import struct
import sys
import time
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Literal

from opskit.records import Record
from opskit.system.docker_host import Host, start_remedy
from opskit.system.host import is_loopback
from opskit.system.process import Process, find_processes, read_process
from opskit.system.program import output_of

_APP = "/Docker.app/Contents/"
_DAEMONS = frozenset(
    {"dockerd", "com.docker.backend", "com.docker.virtualization", "limactl", "OrbStack Helper"}
)
_PLUGIN_S = 5.0
_CONNECT_S = 1.0


class RuntimeKind(StrEnum):
    """Who starts and stops the daemon. `service` is the system's, `user_service` one user's (rootless)."""

    DESKTOP = "Docker Desktop"
    ORBSTACK = "OrbStack"
    COLIMA = "Colima"
    SERVICE = "the Docker service"
    USER_SERVICE = "the rootless Docker service"
    REMOTE = "a Docker on another machine"
    UNKNOWN = "a Docker that opskit does not know"


class Runtime(Record):
    """What runs the daemon.

    `profile` is Colima's. `socket` is where the daemon listens, None when it is not a unix socket. `managed`:
    systemd runs here; without it a service can be neither started nor restarted.
    """

    kind: RuntimeKind
    socket: str | None = None
    profile: str | None = None
    managed: bool = False
    mac: bool = False


class Machine(Record):
    """What decides the runtime: the system, the folders of its user, the programs on its PATH.

    `booted` is there when systemd runs as the first process; `apps` holds the applications of a Mac.
    """

    platform: str
    home: Path
    path: str | None
    booted: Path = Path("/run/systemd/system")
    apps: tuple[Path, ...] = (Path("/Applications"),)
    runtime_folder: str | None = None
    colima_home: str | None = None

    @classmethod
    def of(cls, platform: str, environ: Mapping[str, str]) -> "Machine":
        home = Path(environ.get("HOME") or Path.home())
        return cls(
            platform,
            home,
            environ.get("PATH"),
            apps=(Path("/Applications"), home / "Applications"),
            runtime_folder=environ.get("XDG_RUNTIME_DIR"),
            colima_home=environ.get("COLIMA_HOME"),
        )

    def has(self, program: str) -> bool:
        return shutil.which(program, path=self.path) is not None


def runtime(host: Host, machine: Machine) -> Runtime:
    """Return what serves this address, by where it leads. Reads links and folders, asks no program."""
    mac = machine.platform == "darwin"
    if host.socket is None:
        # Over ssh it counts as another machine, even when it is this one: its service is not restarted here.
        return Runtime(
            RuntimeKind.REMOTE if host.ssh or not is_loopback(host.url) else RuntimeKind.UNKNOWN, mac=mac
        )
    path = _target(Path(host.socket))
    if (profile := _colima_profile(path, machine)) is not None:
        return Runtime(RuntimeKind.COLIMA, host.socket, profile, mac=mac)
    if ".orbstack" in path.parts:
        return Runtime(RuntimeKind.ORBSTACK, host.socket, mac=mac)
    if mac:
        in_home = path == machine.home / ".docker/run/docker.sock" or "com.docker.docker" in path.parts
        kind = RuntimeKind.DESKTOP if in_home else _installed(machine)
        return Runtime(kind, host.socket, "default" if kind is RuntimeKind.COLIMA else None, mac=True)
    managed = machine.booted.is_dir() and machine.has("systemctl")
    if path == machine.home / ".docker/desktop/docker.sock":
        return Runtime(RuntimeKind.DESKTOP, host.socket, managed=managed)
    if machine.runtime_folder and path == _target(Path(machine.runtime_folder)) / "docker.sock":
        return Runtime(RuntimeKind.USER_SERVICE, host.socket, managed=managed)
    if str(path) in ("/run/docker.sock", "/var/run/docker.sock"):
        return Runtime(RuntimeKind.SERVICE, host.socket, managed=managed)
    return Runtime(RuntimeKind.UNKNOWN, host.socket)


def by_hand(runtime: Runtime, verb: Literal["start", "restart"], platform: str) -> str:
    """Return what a person types to start or restart a daemon. Pure."""
    match runtime.kind:
        case RuntimeKind.REMOTE:
            start = "log in to that machine and start Docker there"
            return f"{start}; `docker context ls` shows which one is in use"
        case RuntimeKind.UNKNOWN if runtime.socket is None:
            return f"{verb} the daemon that listens there, or correct DOCKER_HOST"
        case RuntimeKind.SERVICE | RuntimeKind.UNKNOWN if not runtime.mac:
            if runtime.managed:
                return f"`sudo systemctl {verb} docker`"
            return f"`sudo service docker {verb}`, or start `dockerd` as it was started before"
        case RuntimeKind.USER_SERVICE:
            return f"`systemctl --user {verb} docker`"
    is_named = runtime.kind not in (RuntimeKind.SERVICE, RuntimeKind.UNKNOWN)
    name = runtime.kind.value if is_named else "Docker"
    return start_remedy(platform) if verb == "start" else f"quit {name} and open it again"


def installed(machine: Machine) -> bool:
    """Whether there is any Docker on this machine: its command line, its daemon, or a Mac's runtime."""
    programs = ("docker", "dockerd", "orb", "colima")
    return (
        any(machine.has(program) for program in programs)
        or _app(machine, "Docker")
        or _app(machine, "OrbStack")
    )


async def has_desktop_command(environ: Mapping[str, str]) -> bool:
    """Whether `docker desktop start` exists, which came with Docker Desktop 4.37."""
    return await output_of(("docker", "desktop", "version"), timeout_s=_PLUGIN_S, env=environ) is not None


def desktop_processes() -> list[tuple[int, float]]:
    """Return the processes of Docker Desktop on a Mac, by the application that they were started from.

    Each with the moment at which it began (seconds since the epoch), so that no other is mistaken for it.
    """
    processes, _ = find_processes(program=lambda path: _APP in path)
    return sorted((process.pid, process.began) for process in processes)


def daemon_age_s() -> float | None:
    """Return the age of the youngest process that serves a Docker socket, or will; None without one."""
    processes, _ = find_processes(names=_DAEMONS)
    return processes[-1].age_s() if processes else None


def daemon_process(path: str) -> Process | None:
    """Return the process that listens at a socket of Docker; None for one that systemd handed over."""
    with contextlib.suppress(OSError, AttributeError), socket.socket(socket.AF_UNIX) as line:
        line.settimeout(_CONNECT_S)
        line.connect(path)
        credentials = line.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        process = read_process(struct.unpack("3i", credentials)[0])
        return process if process is not None and process.name in _DAEMONS else None
    return None


def stopped_daemon(path: str) -> Process | None:
    """Return the daemon behind a socket where its process is stopped, as by SIGSTOP."""
    process = daemon_process(path)
    if process is None:
        processes, _ = find_processes(names=_DAEMONS)
        process = processes[0] if len(processes) == 1 else None
    return process if process is not None and process.stopped else None


def daemon_began_s(path: str) -> float | None:
    """Return when the process that listens at a socket began, else the youngest that serves Docker."""
    if (process := daemon_process(path)) is not None:
        return process.began + _boot_error_s()
    age_s = daemon_age_s()
    return None if age_s is None else time.time() - age_s + _boot_error_s()


def _boot_error_s() -> float:
    """Return by how much starts of processes are read too early: Linux tells its own in whole seconds."""
    import psutil

    if sys.platform != "linux":
        return 0.0
    return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) - psutil.boot_time()


def _installed(machine: Machine) -> RuntimeKind:
    """Return the one installed runtime, for the common socket of a Mac while it leads nowhere."""
    candidates = [
        kind
        for kind, is_installed in (
            (RuntimeKind.DESKTOP, _app(machine, "Docker")),
            (RuntimeKind.ORBSTACK, _app(machine, "OrbStack") or machine.has("orb")),
            (RuntimeKind.COLIMA, machine.has("colima")),
        )
        if is_installed
    ]
    return candidates[0] if len(candidates) == 1 else RuntimeKind.UNKNOWN


def _app(machine: Machine, name: str) -> bool:
    return machine.platform == "darwin" and any((folder / f"{name}.app").is_dir() for folder in machine.apps)


def _colima_profile(path: Path, machine: Machine) -> str | None:
    """Return the profile whose folder holds the socket: `~/.colima/PROFILE`, or below COLIMA_HOME."""
    homes = [machine.home / ".colima", machine.home / ".config/colima"]
    homes += [Path(machine.colima_home)] if machine.colima_home else []
    for home in homes:
        if path.parent.parent == _target(home):
            return path.parent.name
    # Before profiles had folders the socket lay in the home of Colima itself.
    return "default" if path.parent in homes else None


def _target(path: Path) -> Path:
    """Return where a link leads, also when nothing is there."""
    try:
        return path.resolve()
    except (OSError, RuntimeError):
        return path
