"""Kinds that look at the machine: disk, memory, cpu."""

import asyncio
import os
from dataclasses import dataclass
from pathlib import Path

from opskit.checks.spec import CheckContext, Kind, Observation
from opskit.config.fields import CONFIG, Seconds, Text


def _gib(size: float) -> str:
    return f"{size / 1024**3:.1f} GiB"


@dataclass(frozen=True, slots=True)
class DiskParams:
    __pydantic_config__ = CONFIG

    path: Text = "/"


async def _disk(params: DiskParams, scene: CheckContext) -> Observation:
    path = scene.path(params.path)
    try:
        total, free, inodes = await asyncio.to_thread(_space, path)
    except OSError as exc:
        problem = f"{params.path} cannot be looked at: {exc.strerror}"
        return Observation({"error": "unreadable"}, problem=problem, state="unreadable")
    used = 100.0 * (1 - free / total) if total else 0.0
    values = {
        "total_bytes": total,
        "free_bytes": free,
        "used_percent": round(used, 1),
        "free_percent": round(100.0 - used, 1),
        "inodes_free_percent": inodes,
        "error": None,
    }
    detail = f"{_gib(free)} of {_gib(total)} free ({used:.0f} % used)"
    return Observation(
        values, detail, state="ok", remedy="`docker system df` and `du -xhd1 /` show what it holds"
    )


def _space(path: Path) -> tuple[int, int, float]:
    found = os.statvfs(path)
    # What an ordinary user may write, as `df` counts it.
    inodes = round(100.0 * found.f_favail / found.f_files, 1) if found.f_files else 100.0
    usable = (found.f_blocks - found.f_bfree + found.f_bavail) * found.f_frsize
    return usable, found.f_bavail * found.f_frsize, inodes


@dataclass(frozen=True, slots=True)
class NoParams:
    __pydantic_config__ = CONFIG


async def _memory(params: NoParams, scene: CheckContext) -> Observation:
    del params, scene
    import psutil

    memory = psutil.virtual_memory()
    swap = psutil.swap_memory()
    values = {
        "total_bytes": memory.total,
        "available_bytes": memory.available,
        "used_percent": float(memory.percent),
        "swap_total_bytes": swap.total,
        "swap_used_percent": float(swap.percent),
        "error": None,
    }
    detail = f"{_gib(memory.available)} of {_gib(memory.total)} available ({memory.percent:.0f} % used)"
    return Observation(
        values,
        detail,
        state="ok",
        remedy="`opskit models loaded` shows models; `ollama stop NAME` unloads one",
    )


@dataclass(frozen=True, slots=True)
class CpuParams:
    __pydantic_config__ = CONFIG

    sample: Seconds = 0.3


async def _cpu(params: CpuParams, scene: CheckContext) -> Observation:
    del scene
    import psutil

    before = psutil.cpu_times()
    await asyncio.sleep(params.sample)
    after = psutil.cpu_times()
    total = sum(after[:8]) - sum(before[:8])
    idle = after.idle - before.idle + getattr(after, "iowait", 0.0) - getattr(before, "iowait", 0.0)
    used = max(0.0, min(100.0, 100.0 * (1 - idle / total))) if total > 0 else 0.0
    count = psutil.cpu_count() or 1
    load = os.getloadavg()
    values = {
        "used_percent": round(used, 1),
        "count": count,
        "load_1": load[0],
        "load_5": load[1],
        "load_per_core": round(load[0] / count, 2),
        "error": None,
    }
    return Observation(values, f"{used:.0f} % of {count} cores used, load {load[0]:.1f}", state="ok")


PERCENT = "percent, 0 to 100"
KINDS = (
    Kind(
        "disk",
        "there is room on a disk",
        DiskParams,
        {
            "total_bytes": "what an ordinary user can use",
            "free_bytes": "what is left of it",
            "used_percent": PERCENT,
            "free_percent": PERCENT,
            "inodes_free_percent": PERCENT,
            "error": "unreadable, or null",
        },
        {"used_percent": {"lt": 90}},
        _disk,
        lambda p: str(p.path),
    ),
    Kind(
        "memory",
        "there is memory for a new process",
        NoParams,
        {
            "total_bytes": "memory of the machine",
            "available_bytes": "what a new process can have without swapping",
            "used_percent": PERCENT,
            "swap_total_bytes": "size of the swap",
            "swap_used_percent": PERCENT,
            "error": "null",
        },
        {"used_percent": {"lt": 90}},
        _memory,
        lambda _: "memory",
        imports=("psutil",),
    ),
    Kind(
        "cpu",
        "the processor is not used up",
        CpuParams,
        {
            "used_percent": "percent over the sample",
            "count": "cores",
            "load_1": "load average of a minute",
            "load_5": "load average of five minutes",
            "load_per_core": "load_1 for each core",
            "error": "null",
        },
        {"used_percent": {"lt": 95}},
        _cpu,
        lambda _: "cpu",
        imports=("psutil",),
    ),
)
