"""Kinds that look at the machine: disk, memory, cpu, gpu. A machine without a GPU is no failure."""

import asyncio
import csv
import json
import os
import shutil
import sys

from opskit.checks.spec import CheckContext, NotHere, Observation, Unjudged, kind
from opskit.config.fields import Seconds, Text
from opskit.config.values import Parameters
from opskit.records import Record, asdict
from opskit.system.host import read_cpu_times, read_disk, read_memory
from opskit.system.program import run
from opskit.text import size

PERCENT = "percent, 0 to 100"


class DiskParams(Parameters):
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


class NoParams(Parameters):
    """A kind that takes none."""


@kind(
    "there is memory for a new process",
    {
        "total_bytes": "memory of the machine",
        "available_bytes": "what a new process can have without swapping",
        "used_percent": PERCENT,
        "swap_total_bytes": "size of the swap",
        "swap_used_percent": PERCENT,
        "stalled_percent": "percent of the last 10 s in which some program waited for memory (Linux)",
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


class CpuParams(Parameters):
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


_NVIDIA = (
    "nvidia-smi",
    "--query-gpu=name,memory.total,memory.used,utilization.gpu,temperature.gpu",
    "--format=csv,noheader,nounits",
)
_APPLE = ("/usr/sbin/system_profiler", "-json", "SPDisplaysDataType")
_MIB = 1024 * 1024


class Gpu(Record):
    """A graphics processor; a field is None where the card does not report it."""

    name: str
    memory_total_bytes: int | None = None
    memory_used_bytes: int | None = None
    used_percent: float | None = None
    temperature_c: float | None = None


@kind(
    "the GPU (nvidia-smi, or Apple's); without one the check is skipped",
    {
        "count": "how many",
        "names": "their names",
        "memory_total_bytes": "memory of all; 0 where it is the machine's",
        "memory_used_percent": PERCENT,
        "used_percent": "percent of the busiest",
        "temperature_c": "degrees of the hottest",
    },
    {"count": {"ge": 1}},
    lambda _: "gpu",
)
async def gpu(_: NoParams, context: CheckContext) -> Observation:
    path = context.survey.environ.get("PATH")
    if sys.platform == "darwin":
        gpus = apple(await _output(_APPLE, path))
    elif shutil.which(_NVIDIA[0], path=path) is None:
        raise NotHere("there is no nvidia-smi, so no NVIDIA GPU to look at")
    else:
        gpus = nvidia(await _output(_NVIDIA, path))
    if not gpus:
        raise NotHere("no GPU is reported")
    total = sum(gpu.memory_total_bytes or 0 for gpu in gpus)
    used = sum(gpu.memory_used_bytes or 0 for gpu in gpus)
    used_percent = round(100.0 * used / total, 1) if total else 0.0
    values = {
        "count": len(gpus),
        "names": [gpu.name for gpu in gpus],
        "memory_total_bytes": total,
        "memory_used_percent": used_percent,
        "used_percent": max(gpu.used_percent or 0.0 for gpu in gpus),
        "temperature_c": max(gpu.temperature_c or 0.0 for gpu in gpus),
    }
    names = ", ".join(gpu.name for gpu in gpus)
    detail = names + (f": {used_percent:.0f} % of memory used" if total else "")
    return Observation(values, detail, state="ok", evidence={"gpus": [asdict(gpu) for gpu in gpus]})


async def _output(command: tuple[str, ...], path: str | None) -> str:
    program = shutil.which(command[0], path=path) or command[0]
    done = await run((program, *command[1:]))
    if done.exit:
        raise Unjudged(f"{command[0]} failed: {done.complaint}")
    return done.out


def nvidia(text: str) -> list[Gpu]:
    """Parse GPUs out of `nvidia-smi --format=csv`."""
    gpus = []
    for row in csv.reader(text.splitlines(), skipinitialspace=True):
        if len(row) == 5:
            total, used, busy, heat = (_number(cell) for cell in row[1:])
            memory = [None if number is None else int(number * _MIB) for number in (total, used)]
            gpus.append(Gpu(row[0].strip(), memory[0], memory[1], busy, heat))
    return gpus


def apple(text: str) -> list[Gpu]:
    """Parse GPUs out of `system_profiler -json`; they share the machine's memory and have only a name."""
    try:
        entries = json.loads(text).get("SPDisplaysDataType", [])
    except (ValueError, AttributeError):
        return []
    return [Gpu(str(entry.get("sppci_model") or entry.get("_name"))) for entry in entries]


def _number(cell: str) -> float | None:
    try:
        return float(cell)
    except ValueError:
        return None
