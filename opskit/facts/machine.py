"""Memory, disks and names of this machine."""

import asyncio
import contextlib
import shutil
import socket
from pathlib import Path

from opskit.config.load import ensure_state_dir
from opskit.errors import StateError
from opskit.facts.survey import Survey
from opskit.records import Record
from opskit.system import host
from opskit.system.host import MemoryGauge
from opskit.system.network import TcpResult, connects

#: The name by which a container reaches the machine that it runs on, and how long its ports may take.
_HOST_OF_DOCKER = "host.docker.internal"
_HOST_PORT_S = 1.0


class DiskFacts(Record):
    """The disk on which a folder lies, or will lie. `use` says what keeps its files there."""

    use: str
    path: str
    used_percent: float
    free_bytes: int
    device: int
    inodes_free_percent: float = 100.0


async def read_memory(_: Survey) -> MemoryGauge:
    return await asyncio.to_thread(host.read_memory)


async def read_disk(_: Survey, use: str, path: Path) -> DiskFacts | None:
    """Read the disk of a folder, or of the nearest folder above it; None where it cannot be looked at."""
    return await asyncio.to_thread(_disk, use, path)


def _disk(use: str, path: Path) -> DiskFacts | None:
    folder = next((folder for folder in (path, *path.parents) if folder.exists()), Path("/"))
    with contextlib.suppress(OSError):
        disk = host.read_disk(str(folder))
        return DiskFacts(
            use, disk.path, disk.used_percent, disk.free_bytes, disk.device, disk.inodes_free_percent
        )
    return None


async def read_state_folder(survey: Survey) -> str:
    """Make the state folder where it is missing; return why it cannot be written, empty where it can."""
    try:
        await asyncio.to_thread(ensure_state_dir, survey.config.state_dir)
    except StateError as error:
        return error.message
    return ""


async def read_program(survey: Survey, name: str) -> str | None:
    return shutil.which(name, path=survey.environ.get("PATH"))


async def read_addresses(_: Survey, name: str) -> tuple[str, ...]:
    """Resolve a host name; empty where it does not resolve. The resolver has no deadline of its own."""
    try:
        entries = await asyncio.get_running_loop().getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError):
        return ()
    return tuple(dict.fromkeys(str(entry[4][0]) for entry in entries))


async def read_host_port(_: Survey, port: int) -> TcpResult:
    """From inside a container, connect to a port of the machine that the container runs on."""
    return await connects(f"tcp://{_HOST_OF_DOCKER}:{port}", timeout_s=_HOST_PORT_S)
