"""The machine against its thresholds, and what to type when memory runs short (SPEC C8). Pure."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from opskit.checks.model_rows import LoadedModel
from opskit.config.schema import NodeConfig, WatchConfig
from opskit.llm.fit import gib
from opskit.system.host import Gauges, MemoryUser, is_loopback
from opskit.watch.threshold import Change, Threshold

#: How far below its limit a value must fall, in percent, before all is well again.
MARGIN_PERCENT = 5.0
DISK_MARGIN_PERCENT = 1.0
#: A processor that is full for a moment only does its work.
CPU_HOLD = 3
_OLLAMA_PORT = 11434


@dataclass(frozen=True, slots=True)
class ThresholdEvent:
    """A value that crossed its limit, in percent."""

    change: Change
    target: str
    value: float
    limit: float


class MachineLimits:
    """The thresholds of a machine. `over` holds the values that are too high now, by target."""

    def __init__(self, config: WatchConfig) -> None:
        self._config = config
        self._thresholds: dict[str, Threshold] = {}
        self.over: dict[str, ThresholdEvent] = {}

    def take(self, gauges: Gauges) -> list[ThresholdEvent]:
        """One reading; what it changed."""
        values = [("memory", gauges.memory_percent, Threshold(self._config.memory_percent, MARGIN_PERCENT))]
        values += [
            (
                f"disk {disk.path}",
                disk.used_percent,
                Threshold(self._config.disk_percent, DISK_MARGIN_PERCENT),
            )
            for disk in gauges.disks
        ]
        if gauges.cpu_percent is not None:
            cpu = Threshold(self._config.cpu_percent, MARGIN_PERCENT, CPU_HOLD)
            values.append(("cpu", gauges.cpu_percent, cpu))
        found = []
        for target, value, fresh in values:
            threshold = self._thresholds.setdefault(target, fresh)
            change = threshold.take(value)
            if change is not None:
                found.append(ThresholdEvent(change, target, value, threshold.limit))
            if threshold.over:
                self.over[target] = ThresholdEvent("warning", target, value, threshold.limit)
            else:
                self.over.pop(target, None)
        return found


def remedy(
    target: str, users: Sequence[MemoryUser], loaded: Sequence[LoadedModel], nodes: Sequence[NodeConfig]
) -> str:
    """The command to type, most relief first. `loaded` are the models in memory, wherever they are."""
    if target == "cpu":
        return "`top -o cpu` on a Mac, `top` on Linux: the processes that use it"
    if target.startswith("disk "):
        return "`docker system df`, `ollama list` and `du -xhd1 /` show what it holds"
    here = {node.name: node for node in nodes if is_loopback(node.url)}
    unloads = [
        (row.resident.size_bytes, unload)
        for row in loaded
        if row.node in here and row.kind is not None and row.resident.size_bytes
        if (unload := row.kind.unload_hint(shlex.quote(row.resident.name), here[row.node].url))
    ]
    if unloads:
        size_bytes, unload = max(unloads)
        return f"{unload} unloads the largest model ({gib(size_bytes)})"
    if users:
        first = users[0]
        return (
            f"`ps -o pid,rss,args -p {first.pid}` shows the largest process, {first.name} "
            f"({gib(first.rss_bytes)}); end it if it is not needed"
        )
    return "`opskit models loaded` shows what models hold"


def as_json(gauges: Gauges) -> dict[str, Any]:
    return {
        "memory_percent": gauges.memory_percent,
        "memory_total_bytes": gauges.memory_total_bytes,
        "memory_available_bytes": gauges.memory_available_bytes,
        "swap_percent": gauges.swap_percent,
        "swap_total_bytes": gauges.swap_total_bytes,
        "cpu_percent": gauges.cpu_percent,
        "cores": gauges.cores,
        "load_1": round(gauges.load_1, 2),
        "disks": [
            {"path": disk.path, "used_percent": disk.used_percent, "free_bytes": disk.free_bytes}
            for disk in gauges.disks
        ],
    }
