"""How full this machine is: memory, swap, processor, disks, and who uses the memory."""

import os
from collections.abc import Sequence
from dataclasses import dataclass

import psutil


@dataclass(frozen=True, slots=True)
class DiskGauge:
    """`used_percent` is of what an ordinary user may write, as `df` counts it."""

    path: str
    used_percent: float
    free_bytes: int


@dataclass(frozen=True, slots=True)
class Gauges:
    """One reading. `cpu_percent` is of all cores together since the reading before, None at the first."""

    memory_percent: float
    memory_total_bytes: int
    memory_available_bytes: int
    swap_percent: float
    swap_total_bytes: int
    cpu_percent: float | None
    cores: int
    load_1: float
    disks: tuple[DiskGauge, ...]


@dataclass(frozen=True, slots=True)
class MemoryUser:
    """A process and its resident memory."""

    pid: int
    name: str
    rss_bytes: int


class Meter:
    """Reads the gauges; remembers processor times from one reading to the next. For one thread at a time."""

    def __init__(self, paths: Sequence[str]) -> None:
        """`paths` name disks by any folder on them; those on the same disk are shown once."""
        self._paths = tuple(paths)
        self._before: tuple[float, float] | None = None

    def read(self) -> Gauges:
        """Blocks where a disk does. A folder that cannot be looked at is left out."""
        memory, swap = psutil.virtual_memory(), psutil.swap_memory()
        return Gauges(
            float(memory.percent),
            int(memory.total),
            int(memory.available),
            float(swap.percent),
            int(swap.total),
            self._cpu_percent(),
            psutil.cpu_count() or 1,
            os.getloadavg()[0],
            _disks(self._paths),
        )

    def _cpu_percent(self) -> float | None:
        times = psutil.cpu_times()
        # Guest time, the ninth and tenth, is part of user time already.
        total = sum(times[:8])
        idle = times.idle + getattr(times, "iowait", 0.0)
        before, self._before = self._before, (total, idle)
        if before is None or total <= before[0]:
            return None
        return round(max(0.0, min(100.0, 100.0 * (1 - (idle - before[1]) / (total - before[0])))), 1)


def memory_users(count: int) -> tuple[MemoryUser, ...]:
    """The processes with the most resident memory, largest first, as far as one may look into them."""
    found = []
    for process in psutil.process_iter(["name", "memory_info"]):
        memory = process.info["memory_info"]
        if memory is not None:
            found.append(MemoryUser(process.pid, process.info["name"] or "?", int(memory.rss)))
    return tuple(sorted(found, key=lambda one: (-one.rss_bytes, one.pid))[:count])


def _disks(paths: Sequence[str]) -> tuple[DiskGauge, ...]:
    found: dict[int, DiskGauge] = {}
    for path in paths:
        try:
            device, space = os.stat(path).st_dev, os.statvfs(path)  # noqa: PTH116 - one call beside the other
        except OSError:
            continue
        usable = (space.f_blocks - space.f_bfree + space.f_bavail) * space.f_frsize
        free = space.f_bavail * space.f_frsize
        used = round(100.0 * (1 - free / usable), 1) if usable else 0.0
        found.setdefault(device, DiskGauge(path, used, free))
    return tuple(found.values())
