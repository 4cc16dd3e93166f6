"""Which process holds which port of this machine, and what is known of it."""

import asyncio
import contextlib
import re
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil

from opskit.records import Record, field, replace
from opskit.system.process import Process, cores_used, open_files, read_process

#: Processes that hold ports in the name of containers.
PROXIES = ("docker-proxy", "com.docker.backend", "com.docker.vpnkit", "OrbStack Helper", "limactl")
_CONTAINER = re.compile(r"(?:docker|libpod|containerd|crio|cri)[-/:]*([0-9a-f]{64})")
_UNIT = re.compile(r"/([^/]+\.service)(?:/|$)", re.MULTILINE)
_LAUNCHCTL_S = 3.0
_SAMPLE_S = 0.3
_READS = 3


class PortSocket(Record):
    """One socket that accepts connections (TCP) or datagrams (UDP). `pid` is None without the rights."""

    protocol: str
    address: str
    port: int
    pid: int | None


class SocketTable(Record):
    """The listening sockets at `taken` (monotonic seconds). `complete` is False where rights are missing."""

    taken: float
    held: Mapping[tuple[str, int], tuple[PortSocket, ...]] = field(default_factory=dict)
    complete: bool = True

    @classmethod
    def read(cls, taken: float) -> "SocketTable":
        """Read the table. Blocks while every process is looked at.

        A process that is just being started has, until its program runs, all sockets of the one that starts
        it: the oldest that has a socket is told.
        """
        for _ in range(_READS):
            held: dict[tuple[str, int], list[PortSocket]] = {}
            connections, complete = _connections()
            is_stale = False
            for connection, pid in connections:
                is_tcp = connection.type == socket.SOCK_STREAM
                listens = connection.status == psutil.CONN_LISTEN if is_tcp else not connection.raddr
                if connection.laddr and listens:
                    protocol, (address, port) = "tcp" if is_tcp else "udp", connection.laddr
                    owner = None if pid is None else _oldest(pid, connection.fd)
                    is_stale = is_stale or (owner is None and pid is not None)
                    held.setdefault((protocol, port), []).append(PortSocket(protocol, address, port, owner))
            if not is_stale:
                break
        return cls(taken, {key: tuple(value) for key, value in held.items()}, complete)

    def at(self, protocol: str, port: int) -> tuple[PortSocket, ...]:
        return self.held.get((protocol, port), ())


class Owner(Record):
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


class Listener(Record):
    """The process that listens on a port, and whether it works or sleeps.

    `cpu` is in cores, its children's included; `stopped` tells that it is halted, `release` what ends that.
    `hindrance` is what keeps it from its work, as the end of a sentence.
    """

    pid: int
    name: str
    command: tuple[str, ...]
    stopped: bool
    cpu: float
    hindrance: str = ""
    release: str = ""

    @property
    def words(self) -> str:
        return f"process {self.pid} ({self.name})"

    @property
    def condition(self) -> str:
        return f"{self.words} {self.hindrance or ('is stopped' if self.stopped else 'is idle')}"


async def listener(port: int) -> Listener | None:
    """Watch the process that listens on `port` for a moment; None when it is unknown."""
    return await asyncio.to_thread(_listener, port)


def _listener(port: int) -> Listener | None:
    process = listening_process(port)
    try:
        cpu = 0.0 if process is None else cores_used(process.pid, _SAMPLE_S)
    except psutil.Error:
        return None
    if process is None or (process := read_process(process.pid)) is None:
        return None
    halt = process.halt
    hindrance = halt or open_files(process.pid)
    return Listener(process.pid, process.name, process.command, bool(halt), cpu, hindrance, process.release)


def listening_process(port: int) -> Process | None:
    """Return the process that listens on a port; None when it is unknown. Blocks.

    Without the rights to see other users' sockets only our own processes are found.
    """
    pid = next((held.pid for held in SocketTable.read(time.monotonic()).at("tcp", port)), None)
    return None if pid is None else read_process(pid)


def connections_to(port: int) -> int:
    """Return how many clients are connected to a port of this machine, opskit not counted. Blocks."""
    try:
        connections = psutil.net_connections(kind="tcp")
    except psutil.AccessDenied:
        connections = [connection for connection, _ in _process_by_process()]
    ours = {connection.laddr for connection in psutil.Process().net_connections(kind="tcp")}
    return sum(
        connection.status == psutil.CONN_ESTABLISHED
        and getattr(connection.laddr, "port", None) == port
        and connection.raddr not in ours
        for connection in connections
    )


def owner(process: Process) -> Owner:
    """Return a process with the unit or the container in which it runs. Blocks."""
    base = Owner(process.pid, process.name, " ".join(process.command), process.user)
    if sys.platform == "darwin":
        return replace(base, unit=_launchd(process.pid))
    group = _cgroup(process.pid)
    unit, container = groups(group)
    return replace(base, unit=unit, container=container, user_unit="/user@" in group)


def groups(text: str) -> tuple[str | None, str | None]:
    """Read the systemd unit and the container of a process out of its `/proc/PID/cgroup`."""
    container = _CONTAINER.search(text)
    units = [unit for unit in _UNIT.findall(text) if not unit.startswith("user@")]
    return (units[-1] if units else None), (container[1] if container else None)


def launchd_label(listing: str, pid: int) -> str | None:
    """Read the job that runs as `pid` out of `launchctl list` (PID, status, label)."""
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


def _connections() -> tuple[list[tuple[Any, int | None]], bool]:
    """Return the sockets with their processes, and whether these are all."""
    try:
        return [(each, each.pid) for each in psutil.net_connections(kind="inet")], True
    except psutil.AccessDenied:
        return _process_by_process(), False


def _oldest(pid: int, descriptor: int) -> int | None:
    """Return the oldest of a process and its ancestors that have this socket by inheritance.

    None where the process has it no more.
    """
    if sys.platform != "linux":
        return pid
    link = _link(pid, descriptor)
    if link is None or not link.startswith("socket:"):
        return None
    with contextlib.suppress(psutil.Error):
        while (parent := psutil.Process(pid).ppid()) and _link(parent, descriptor) == link:
            pid = parent
    return pid


def _link(pid: int, descriptor: int) -> str | None:
    try:
        return str(Path(f"/proc/{pid}/fd/{descriptor}").readlink())
    except OSError:
        return None


def _process_by_process() -> list[tuple[Any, int | None]]:
    """Return the sockets of the processes that one may look into: macOS shows no others."""
    connections: list[tuple[Any, int | None]] = []
    for process in psutil.process_iter():
        try:
            own = process.net_connections(kind="inet")
        except psutil.Error:
            continue
        connections += [(connection, process.pid) for connection in own]
    return connections
