"""Who holds which port of this machine: one reading of the socket table, and one owner in detail."""

import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

#: Processes that hold ports in the name of containers.
PROXIES = ("docker-proxy", "com.docker.backend", "com.docker.vpnkit", "OrbStack Helper", "limactl")
_CONTAINER = re.compile(r"(?:docker|libpod|containerd|crio|cri)[-/:]*([0-9a-f]{64})")
_UNIT = re.compile(r"/([^/]+\.service)(?:/|$)", re.MULTILINE)
_LAUNCHCTL_S = 3.0


@dataclass(frozen=True, slots=True)
class PortSocket:
    """One socket that accepts connections (TCP) or datagrams (UDP). `pid` None means that it is not told."""

    protocol: str
    address: str
    port: int
    pid: int | None


@dataclass(frozen=True, slots=True)
class SocketTable:
    """What was listened on at `taken` (monotonic seconds). `complete` is False where rights are missing."""

    taken: float
    held: Mapping[tuple[str, int], tuple[PortSocket, ...]] = field(default_factory=dict)
    complete: bool = True

    @classmethod
    def read(cls, taken: float) -> "SocketTable":
        """Blocks for as long as it takes to look at every process."""
        held: dict[tuple[str, int], list[PortSocket]] = {}
        complete = True
        try:
            found: list[tuple[Any, int | None]] = [
                (one, one.pid) for one in psutil.net_connections(kind="inet")
            ]
        except psutil.AccessDenied:
            found, complete = _process_by_process(), False
        for one, pid in found:
            protocol = "tcp" if one.type == 1 else "udp"
            if not one.laddr or (protocol == "tcp" and one.status != psutil.CONN_LISTEN):
                continue
            if protocol == "udp" and one.raddr:
                continue
            held.setdefault((protocol, one.laddr.port), []).append(
                PortSocket(protocol, one.laddr.ip, one.laddr.port, pid)
            )
        return cls(taken, {key: tuple(value) for key, value in held.items()}, complete)

    def at(self, protocol: str, port: int) -> tuple[PortSocket, ...]:
        return self.held.get((protocol, port), ())


@dataclass(frozen=True, slots=True)
class Owner:
    """The process behind a port. `unit` is a systemd unit or a launchd label, `container` an id.

    `user_unit`: the unit belongs to the systemd of a user, not to that of the system.
    """

    pid: int
    name: str
    command: str
    user: str
    unit: str | None = None
    container: str | None = None
    user_unit: bool = False


def owner(pid: int) -> Owner | None:
    """None when the process is gone or may not be looked at."""
    try:
        process = psutil.Process(pid)
        with process.oneshot():
            name, command, user = process.name(), " ".join(process.cmdline()), process.username()
    except psutil.Error:
        return None
    if sys.platform == "darwin":
        return Owner(pid, name, command, user, unit=_launchd(pid))
    group = _cgroup(pid)
    unit, container = groups(group)
    return Owner(pid, name, command, user, unit, container, user_unit="/user@" in group)


def groups(text: str) -> tuple[str | None, str | None]:
    """The systemd unit and the container of a process, out of its `/proc/PID/cgroup`."""
    container = _CONTAINER.search(text)
    units = [unit for unit in _UNIT.findall(text) if not unit.startswith("user@")]
    return (units[-1] if units else None), (container[1] if container else None)


def launchd_label(listing: str, pid: int) -> str | None:
    """The job that runs as `pid`, out of `launchctl list` (PID, status, label)."""
    for line in listing.splitlines():
        parts = line.split("\t")
        if len(parts) == 3 and parts[0] == str(pid):
            return parts[2]
    return None


def _cgroup(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cgroup").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _launchd(pid: int) -> str | None:
    try:
        done = subprocess.run(
            ["/bin/launchctl", "list"], capture_output=True, text=True, timeout=_LAUNCHCTL_S, check=False
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return launchd_label(done.stdout, pid)


def _process_by_process() -> list[tuple[Any, int | None]]:
    """On macOS only the sockets of processes that one may look into are shown."""
    found: list[tuple[Any, int | None]] = []
    for process in psutil.process_iter():
        try:
            found += [(one, process.pid) for one in process.net_connections(kind="inet")]
        except psutil.Error:
            continue
    return found
