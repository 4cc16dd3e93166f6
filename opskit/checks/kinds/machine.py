"""Kinds that look at the machine: disk, memory, cpu, gpu."""

import asyncio
import csv
import json
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from opskit.checks.fields import CONFIG, Seconds, Text
from opskit.checks.program import run
from opskit.checks.spec import Kind, NotHere, Observation, Scene, Unjudged

_NVIDIA = (
    "nvidia-smi",
    "--query-gpu=name,memory.total,memory.used,utilization.gpu,temperature.gpu",
    "--format=csv,noheader,nounits",
)
_APPLE = ("/usr/sbin/system_profiler", "-json", "SPDisplaysDataType")
_MIB = 1024 * 1024


def _gib(size: float) -> str:
    return f"{size / 1024**3:.1f} GiB"


@dataclass(frozen=True, slots=True)
class DiskParams:
    __pydantic_config__ = CONFIG

    path: Text = "/"


async def _disk(params: DiskParams, scene: Scene) -> Observation:
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


async def _memory(params: NoParams, scene: Scene) -> Observation:
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


async def _cpu(params: CpuParams, scene: Scene) -> Observation:
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


async def _gpu(params: NoParams, scene: Scene) -> Observation:
    del params
    path = scene.around.environ.get("PATH")
    if sys.platform == "darwin":
        found = apple(await _output(_APPLE, path))
    elif shutil.which(_NVIDIA[0], path=path) is None:
        raise NotHere("there is no nvidia-smi, so no NVIDIA GPU to look at")
    else:
        found = nvidia(await _output(_NVIDIA, path))
    if not found:
        raise NotHere("no GPU is reported")
    total = sum(one["memory_total_bytes"] or 0 for one in found)
    used = sum(one["memory_used_bytes"] or 0 for one in found)
    values = {
        "count": len(found),
        "names": [one["name"] for one in found],
        "memory_total_bytes": total,
        "memory_used_percent": round(100.0 * used / total, 1) if total else 0.0,
        "used_percent": max((one["used_percent"] or 0.0 for one in found), default=0.0),
        "temperature_c": max((one["temperature_c"] or 0.0 for one in found), default=0.0),
        "error": None,
    }
    names = ", ".join(str(one["name"]) for one in found)
    detail = names + (f": {values['memory_used_percent']:.0f} % of memory used" if total else "")
    return Observation(values, detail, state="ok", evidence={"gpus": found})


async def _output(command: tuple[str, ...], path: str | None) -> str:
    program = shutil.which(command[0], path=path) or command[0]
    done = await run((program, *command[1:]))
    if done.exit:
        raise Unjudged(f"{command[0]} failed: {done.complaint}")
    return done.out


def nvidia(text: str) -> list[dict[str, Any]]:
    """GPUs out of `nvidia-smi --format=csv`; a field the card does not tell is None."""
    found = []
    for row in csv.reader(text.splitlines(), skipinitialspace=True):
        if len(row) != 5:
            continue
        total, used, busy, heat = (_number(cell) for cell in row[1:])
        found.append(
            {
                "name": row[0].strip(),
                "memory_total_bytes": None if total is None else int(total * _MIB),
                "memory_used_bytes": None if used is None else int(used * _MIB),
                "used_percent": busy,
                "temperature_c": heat,
            }
        )
    return found


def apple(text: str) -> list[dict[str, Any]]:
    """GPUs out of `system_profiler -json`; they share the machine's memory and tell no more than a name."""
    try:
        entries = json.loads(text).get("SPDisplaysDataType", [])
    except (ValueError, AttributeError):
        return []
    return [
        {
            "name": str(one.get("sppci_model") or one.get("_name")),
            "memory_total_bytes": None,
            "memory_used_bytes": None,
            "used_percent": None,
            "temperature_c": None,
        }
        for one in entries
    ]


def _number(cell: str) -> float | None:
    try:
        return float(cell)
    except ValueError:
        return None


_PERCENT = "percent, 0 to 100"
KINDS = (
    Kind(
        "disk",
        "there is room on a disk",
        DiskParams,
        {
            "total_bytes": "what an ordinary user can use",
            "free_bytes": "what is left of it",
            "used_percent": _PERCENT,
            "free_percent": _PERCENT,
            "inodes_free_percent": _PERCENT,
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
            "used_percent": _PERCENT,
            "swap_total_bytes": "size of the swap",
            "swap_used_percent": _PERCENT,
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
    Kind(
        "gpu",
        "the GPU (nvidia-smi, or Apple's); without one the check is skipped",
        NoParams,
        {
            "count": "how many",
            "names": "their names",
            "memory_total_bytes": "memory of all; 0 where it is the machine's",
            "memory_used_percent": _PERCENT,
            "used_percent": "percent of the busiest",
            "temperature_c": "degrees of the hottest",
            "error": "null",
        },
        {"count": {"ge": 1}},
        _gpu,
        lambda _: "gpu",
    ),
)
