"""The kind that reads graphics processors; a machine without one is no failure."""

import csv
import json
import shutil
import sys

from opskit.checks.kinds.machine import PERCENT, NoParams
from opskit.checks.spec import CheckContext, NotHere, Observation, Unjudged, kind
from opskit.records import Record, asdict
from opskit.system.program import run

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
            gpus.append(Gpu(row[0].strip(), _mebibytes(total), _mebibytes(used), busy, heat))
    return gpus


def apple(text: str) -> list[Gpu]:
    """Parse GPUs out of `system_profiler -json`; they share the machine's memory and have only a name."""
    try:
        entries = json.loads(text).get("SPDisplaysDataType", [])
    except (ValueError, AttributeError):
        return []
    return [Gpu(str(entry.get("sppci_model") or entry.get("_name"))) for entry in entries]


def _mebibytes(number: float | None) -> int | None:
    return None if number is None else int(number * _MIB)


def _number(cell: str) -> float | None:
    try:
        return float(cell)
    except ValueError:
        return None


KINDS = (gpu,)
