"""Kinds that look at the machine: disk, memory, cpu."""

import asyncio
import os

from opskit.checks.spec import CheckContext, Observation, kind
from opskit.config.fields import Seconds, Text, parameters
from opskit.records import asdict
from opskit.system.host import read_cpu_times, read_disk, read_memory
from opskit.text import size

PERCENT = "percent, 0 to 100"


@parameters
class DiskParams:
    path: Text = "/"


@kind(
    "there is room on a disk",
    {
        "total_bytes": "what an ordinary user can use",
        "free_bytes": "what is left of it",
        "used_percent": PERCENT,
        "free_percent": PERCENT,
        "inodes_free_percent": PERCENT,
        "error": "unreadable, or null",
    },
    {"used_percent": {"lt": 90}},
    lambda p: str(p.path),
)
async def disk(params: DiskParams, context: CheckContext) -> Observation:
    path = context.path(params.path)
    try:
        disk = await asyncio.to_thread(read_disk, str(path))
    except OSError as exc:
        problem = f"{params.path} cannot be looked at: {exc.strerror}"
        return Observation({"error": "unreadable"}, problem=problem, state="unreadable")
    values = {
        "total_bytes": disk.total_bytes,
        "free_bytes": disk.free_bytes,
        "used_percent": disk.used_percent,
        "free_percent": round(100.0 - disk.used_percent, 1),
        "inodes_free_percent": disk.inodes_free_percent,
    }
    detail = f"{_room(disk.free_bytes, disk.total_bytes)} free ({disk.used_percent:.0f} % used)"
    return Observation(
        values, detail, state="ok", remedy="`docker system df` and `du -xhd1 /` show what it holds"
    )


def _room(available_bytes: int, total_bytes: int) -> str:
    return f"{size(available_bytes, precise=True)} of {size(total_bytes, precise=True)}"


@parameters
class NoParams:
    """A kind that takes none."""


@kind(
    "there is memory for a new process",
    {
        "total_bytes": "memory of the machine",
        "available_bytes": "what a new process can have without swapping",
        "used_percent": PERCENT,
        "swap_total_bytes": "size of the swap",
        "swap_used_percent": PERCENT,
    },
    {"used_percent": {"lt": 90}},
    lambda _: "memory",
    imports=("psutil",),
)
async def memory(_params: NoParams, _context: CheckContext) -> Observation:
    memory = read_memory()
    room = _room(memory.available_bytes, memory.total_bytes)
    detail = f"{room} available ({memory.used_percent:.0f} % used)"
    remedy = "`opskit models loaded` shows models; `ollama stop NAME` unloads one"
    return Observation(asdict(memory), detail, state="ok", remedy=remedy)


@parameters
class CpuParams:
    sample: Seconds = 0.3


@kind(
    "the processor is not used up",
    {
        "used_percent": "percent over the sample",
        "count": "cores",
        "load_1": "load average of a minute",
        "load_5": "load average of five minutes",
        "load_per_core": "load_1 for each core",
    },
    {"used_percent": {"lt": 95}},
    lambda _: "cpu",
    imports=("psutil",),
)
async def cpu(params: CpuParams, _context: CheckContext) -> Observation:
    before = read_cpu_times()
    await asyncio.sleep(params.sample)
    used = read_cpu_times().used_percent(before) or 0.0
    count = os.cpu_count() or 1
    load = os.getloadavg()
    values = {
        "used_percent": round(used, 1),
        "count": count,
        "load_1": load[0],
        "load_5": load[1],
        "load_per_core": round(load[0] / count, 2),
    }
    return Observation(values, f"{used:.0f} % of {count} cores used, load {load[0]:.1f}", state="ok")


KINDS = (
    disk,
    memory,
    cpu,
)
