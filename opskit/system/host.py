"""The machine: how full its memory, processor and disks are, its age, and which addresses are its own.

psutil is imported where it is used: an address is looked at by commands that need nothing else from here.
"""

import ipaddress
import os
import socket
import time
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from opskit.records import Record


class MemoryGauge(Record):
    """`available_bytes` is what a new process can have without swapping.

    `stalled_percent` is the time of the last 10 s in which some program waited for memory; 0 where the system
    does not count it.
    """

    total_bytes: int
    available_bytes: int
    used_percent: float
    swap_total_bytes: int
    swap_used_percent: float
    stalled_percent: float = 0.0


class DiskGauge(Record):
    """Room on a disk for an ordinary user, as `df` counts it."""

    path: str
    used_percent: float
    free_bytes: int
    total_bytes: int = 0
    inodes_free_percent: float = 100.0
    device: int = 0


class CpuTimes(Record):
    """The processor time of all cores together since the start of the machine."""

    total_s: float
    idle_s: float

    def used_percent(self, before: "CpuTimes") -> float | None:
        """Return the share used since an earlier reading; None when no time has passed."""
        total_s = self.total_s - before.total_s
        if total_s <= 0:
            return None
        return max(0.0, min(100.0, 100.0 * (1 - (self.idle_s - before.idle_s) / total_s)))


class Gauges(Record):
    """One reading. `cpu_percent` is since the reading before, None at the first."""

    memory_percent: float
    memory_total_bytes: int
    memory_available_bytes: int
    swap_percent: float
    swap_total_bytes: int
    cpu_percent: float | None
    cores: int
    load_1: float
    disks: tuple[DiskGauge, ...]


class MemoryUser(Record):
    """A process and its resident memory: all that can be read of every process at once."""

    pid: int
    name: str
    rss_bytes: int


class Meter:
    """Reads the gauges; remembers processor times from one reading to the next. For one thread at a time."""

    def __init__(self, paths: Sequence[str]) -> None:
        """`paths` name disks by any folder on them; folders on the same disk are shown once."""
        self._paths = tuple(paths)
        self._before: CpuTimes | None = None

    def read(self) -> Gauges:
        """Blocks where a disk does. A folder that cannot be looked at is left out."""
        memory, times = read_memory(), read_cpu_times()
        used_percent = None if self._before is None else times.used_percent(self._before)
        self._before = times
        return Gauges(
            memory_percent=memory.used_percent,
            memory_total_bytes=memory.total_bytes,
            memory_available_bytes=memory.available_bytes,
            swap_percent=memory.swap_used_percent,
            swap_total_bytes=memory.swap_total_bytes,
            cpu_percent=None if used_percent is None else round(used_percent, 1),
            cores=os.cpu_count() or 1,
            load_1=os.getloadavg()[0],
            disks=self._disks(),
        )

    def _disks(self) -> tuple[DiskGauge, ...]:
        disks: dict[int, DiskGauge] = {}
        for path in self._paths:
            try:
                disk = read_disk(path)
            except OSError:
                continue
            disks.setdefault(disk.device, disk)
        return tuple(disks.values())


def read_memory() -> MemoryGauge:
    import psutil

    memory, swap = psutil.virtual_memory(), psutil.swap_memory()
    return MemoryGauge(
        total_bytes=int(memory.total),
        available_bytes=int(memory.available),
        used_percent=float(memory.percent),
        swap_total_bytes=int(swap.total),
        swap_used_percent=float(swap.percent),
        stalled_percent=_stalled_percent(),
    )


def _stalled_percent() -> float:
    """Read `some avg10=1.25 avg60=...` of Linux's pressure of memory."""
    try:
        words = Path("/proc/pressure/memory").read_text(encoding="ascii").split()
        return float(words[1].partition("=")[2])
    except (OSError, ValueError, IndexError):
        return 0.0


def memory_users(count: int) -> tuple[MemoryUser, ...]:
    """Return the processes with the most resident memory, largest first, as far as one may look into them."""
    import psutil

    users = []
    for process in psutil.process_iter(["name", "memory_info"]):
        memory = process.info["memory_info"]
        if memory is not None:
            users.append(MemoryUser(process.pid, process.info["name"] or "?", int(memory.rss)))
    return tuple(sorted(users, key=lambda user: (-user.rss_bytes, user.pid))[:count])


def available_memory_bytes() -> int | None:
    """Return what a new process can have without swapping; None when the system does not tell."""
    import psutil

    try:
        return int(psutil.virtual_memory().available)
    except (OSError, RuntimeError):
        return None


def read_disk(path: str) -> DiskGauge:
    """Read the disk that holds a path. Blocks where the disk does. Raises OSError."""
    device, space = os.stat(path).st_dev, os.statvfs(path)  # noqa: PTH116 - one call beside the other
    total = (space.f_blocks - space.f_bfree + space.f_bavail) * space.f_frsize
    free = space.f_bavail * space.f_frsize
    return DiskGauge(
        path=path,
        used_percent=round(100.0 * (1 - free / total), 1) if total else 0.0,
        free_bytes=free,
        total_bytes=total,
        inodes_free_percent=round(100.0 * space.f_favail / space.f_files, 1) if space.f_files else 100.0,
        device=device,
    )


def read_cpu_times() -> CpuTimes:
    import psutil

    times = psutil.cpu_times()
    # Guest time, the ninth and tenth, is part of user time already.
    return CpuTimes(sum(times[:8]), times.idle + getattr(times, "iowait", 0.0))


def up_s() -> float | None:
    """Return how long this machine has been up; None when the system does not tell."""
    import psutil

    try:
        return max(0.0, time.time() - psutil.boot_time())
    except (OSError, RuntimeError):
        return None


def core_counts() -> tuple[int, ...]:
    """Return the numbers of logical and of physical cores, where they are known."""
    import psutil

    return tuple(count for logical in (True, False) if (count := psutil.cpu_count(logical)) is not None)


def processor_share() -> float:
    """Return the part of a core, up to 1, that a busy thread gets by the load of the last minute."""
    return min(1.0, (os.cpu_count() or 1) / max(os.getloadavg()[0], 0.1))


def is_loopback(url: str) -> bool:
    """Tell whether a URL points at this machine by a loopback name or address. No name is looked up."""
    host = urlsplit(url).hostname or ""
    if host in ("localhost", "host.docker.internal") or host.endswith(".localhost"):
        return host != "host.docker.internal"
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == socket.gethostname()
