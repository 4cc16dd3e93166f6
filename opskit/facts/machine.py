"""Memory, disks, names and locks of this machine, and the clocks of servers compared with its own."""

import asyncio
import contextlib
import os
import shutil
import socket
import time
from collections import Counter
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from pathlib import Path

from opskit.config.load import ensure_state_dir
from opskit.errors import StateError
from opskit.facts.survey import Survey
from opskit.records import Record, asdict, field
from opskit.system import host
from opskit.system.host import DiskGauge, MemoryGauge
from opskit.system.lock import holder_of
from opskit.system.network import TcpResult, connects
from opskit.system.process import Process, ancestry, read_process

#: The name by which a container reaches the machine that it runs on, and how long its ports may take.
_HOST_OF_DOCKER = "host.docker.internal"
_HOST_PORT_S = 1.0
_CLOCK_ANSWER_S = 2.0
#: An HTTP date has whole seconds: on average half a second has passed since.
_HALF_S = 0.5
_ADD_UP_S = 1.5
_SHOWN_LARGEST = 3


class DiskFacts(DiskGauge):
    """The disk on which a folder lies, or will lie. `use` says what keeps its files there.

    `largest` are the bytes of what takes most of one that is nearly full, as far as that is seen in moments.
    """

    use: str = ""
    largest: Mapping[str, int] = field(default_factory=dict)


async def read_memory(_: Survey) -> MemoryGauge:
    return await asyncio.to_thread(host.read_memory)


async def read_disk(survey: Survey, use: str, path: Path) -> DiskFacts | None:
    """Read the disk of a folder, or of the nearest folder above it; None where it cannot be looked at."""

    def read() -> DiskFacts | None:
        folder = next((folder for folder in (path, *path.parents) if folder.exists()), Path("/"))
        with contextlib.suppress(OSError):
            disk = host.read_disk(str(folder))
            is_full = disk.used_percent >= survey.config.watch.disk_percent
            largest = _largest(folder, disk.device) if is_full else {}
            return DiskFacts(**asdict(disk), use=use, largest=largest)
        return None

    return await asyncio.to_thread(read)


async def read_container_logs(_: Survey, root: Path) -> Mapping[str, int]:
    """Return how many bytes the logs of containers hold, by their ids; none where this user may not look."""
    return await asyncio.to_thread(_log_sizes, root)


def _log_sizes(root: Path) -> dict[str, int]:
    sizes: dict[str, int] = {}
    with contextlib.suppress(OSError):
        for path in (root / "containers").glob("*/*-json.log*"):
            sizes[path.parent.name] = sizes.get(path.parent.name, 0) + path.stat().st_size
    return sizes


def _largest(path: Path, device: int) -> dict[str, int]:
    """Add up a disk, two levels below where it is mounted; what is not read in time is not counted."""
    mount = next(above for above in (path.absolute(), *path.absolute().parents) if above.is_mount())
    deadline, sizes, depth = time.monotonic() + _ADD_UP_S, Counter[str](), len(mount.parts) + 2
    for folder, folders, files in os.walk(mount):
        if time.monotonic() > deadline:
            break
        for name in (*folders, *files):
            entry = Path(folder, name)
            with contextlib.suppress(OSError):
                status = entry.lstat()
                if status.st_dev == device:
                    sizes[str(Path(*entry.parts[:depth]))] += status.st_blocks * 512
                elif name in folders:
                    folders.remove(name)
    return dict(sizes.most_common(_SHOWN_LARGEST))


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


class ClockReading(Record):
    """How far the clock of `name` is ahead of ours."""

    name: str
    url: str
    ahead_s: float


async def read_clock(survey: Survey, name: str, url: str) -> ClockReading | None:
    """Read the date of an HTTP answer; None where nothing answers with one."""
    from opskit.facts.endpoint import EndpointRequest, read_endpoint

    began = time.time()
    answer = await read_endpoint(survey, EndpointRequest(url=url, max_bytes=0, limit_s=_CLOCK_ANSWER_S))
    try:
        date = "" if answer.reply is None else answer.reply.headers.get("date", "")
        theirs = parsedate_to_datetime(date).timestamp()
    except (ValueError, TypeError):
        return None
    return ClockReading(name, url, theirs + _HALF_S - (began + time.time()) / 2)


class HeldLock(Record):
    """One lock by the name of its file; `process` None means that this user may not see who holds it."""

    name: str
    process: Process | None

    @property
    def words(self) -> str:
        return "a process that this user may not see" if self.process is None else self.process.words

    @property
    def is_ours(self) -> bool:
        """Tell whether a command of opskit holds it, which lets go when it ends."""
        return self.process is not None and any(
            Path(word).name == "opskit" or word == "opskit" for word in self.process.command[:3]
        )


async def read_held_locks(survey: Survey) -> tuple[HeldLock, ...]:
    """Read who holds which lock; locks of this very process are left out."""
    return await asyncio.to_thread(_held, survey.state_folder)


def _held(folder: Path) -> tuple[HeldLock, ...]:
    ours, locks = ancestry(), []
    for path in sorted(folder.glob("*.lock")):
        pid = holder_of(path)
        if pid is not None and pid not in ours:
            locks.append(HeldLock(path.name, read_process(pid) if pid else None))
    return tuple(locks)
