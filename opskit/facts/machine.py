"""Memory, disks and names of this machine."""

import asyncio
import contextlib
import socket
from dataclasses import dataclass
from pathlib import Path

from opskit.facts.survey import Survey


@dataclass(frozen=True, slots=True)
class MemoryFacts:
    """The memory of this machine; what is available can be had without swapping."""

    used_percent: float
    available_bytes: int
    total_bytes: int


@dataclass(frozen=True, slots=True)
class DiskFacts:
    """The disk on which a folder lies, or will lie. `use` says what keeps its files there."""

    use: str
    path: str
    used_percent: float
    free_bytes: int
    device: int


async def read_memory(survey: Survey) -> MemoryFacts:
    """Read how full the memory is."""
    del survey
    from opskit.system.gauges import Meter

    gauges = await asyncio.to_thread(Meter(()).read)
    return MemoryFacts(gauges.memory_percent, gauges.memory_available_bytes, gauges.memory_total_bytes)


async def read_disk(survey: Survey, use: str, path: Path) -> DiskFacts | None:
    """Read the disk of a folder, or of the nearest folder above it; None where it cannot be looked at."""
    del survey
    return await asyncio.to_thread(_disk, use, path)


def _disk(use: str, path: Path) -> DiskFacts | None:
    from opskit.system.gauges import Meter

    folder = next((folder for folder in (path, *path.parents) if folder.exists()), Path("/"))
    with contextlib.suppress(OSError):
        for disk in Meter((str(folder),)).read().disks:
            return DiskFacts(use, disk.path, disk.used_percent, disk.free_bytes, folder.stat().st_dev)
    return None


async def read_addresses(survey: Survey, name: str) -> tuple[str, ...]:
    """Resolve a host name; empty where it does not resolve. The resolver has no deadline of its own."""
    del survey
    try:
        found = await asyncio.get_running_loop().getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError):
        return ()
    return tuple(dict.fromkeys(str(entry[4][0]) for entry in found))
