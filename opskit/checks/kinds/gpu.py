"""The kind that looks at graphics processors; a machine without one is no failure."""

import csv
import json
import shutil
import sys
from typing import Any

from opskit.checks.kinds.machine import PERCENT, NoParams
from opskit.checks.spec import CheckContext, Kind, NotHere, Observation, Unjudged
from opskit.system.program import run

_NVIDIA = (
    "nvidia-smi",
    "--query-gpu=name,memory.total,memory.used,utilization.gpu,temperature.gpu",
    "--format=csv,noheader,nounits",
)
_APPLE = ("/usr/sbin/system_profiler", "-json", "SPDisplaysDataType")
_MIB = 1024 * 1024


async def _gpu(params: NoParams, scene: CheckContext) -> Observation:
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


KINDS = (
    Kind(
        "gpu",
        "the GPU (nvidia-smi, or Apple's); without one the check is skipped",
        NoParams,
        {
            "count": "how many",
            "names": "their names",
            "memory_total_bytes": "memory of all; 0 where it is the machine's",
            "memory_used_percent": PERCENT,
            "used_percent": "percent of the busiest",
            "temperature_c": "degrees of the hottest",
            "error": "null",
        },
        {"count": {"ge": 1}},
        _gpu,
        lambda _: "gpu",
    ),
)
