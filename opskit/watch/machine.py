"""The machine against its thresholds, and what to type when memory runs short (SPEC C8)."""

import asyncio
import shlex
from collections.abc import Callable, Sequence
from typing import Any, Literal

from opskit.checks.model_rows import LoadedModel
from opskit.config.schema import Config, NodeConfig, WatchConfig
from opskit.llm.fit import gib
from opskit.records import MutableRecord, Record, asdict, replace
from opskit.system.host import Gauges, MemoryUser, Meter, is_loopback, memory_users
from opskit.watch.view import Emit

#: How far below its limit a value must fall, in percent, before all is well again.
MARGIN_PERCENT = 5.0
DISK_MARGIN_PERCENT = 1.0
#: A processor that is full for a moment only does its work.
CPU_HOLD = 3
_LARGEST = 3
_LARGEST_EVERY_S = 5.0
Change = Literal["warning", "recovered"]


class Threshold(MutableRecord):
    """Warns when `hold` values in a row have reached `limit`; well again once one is below `limit - margin`.

    `over` tells which of the two holds now: with a margin between them nothing flaps.
    """

    limit: float
    margin: float
    hold: int = 1
    over: bool = False
    _row: int = 0

    def take(self, value: float) -> Change | None:
        self._row = self._row + 1 if value >= self.limit else 0
        before = self.over
        self.over = value >= self.limit - self.margin if before else self._row >= self.hold
        if self.over is before:
            return None
        return "warning" if self.over else "recovered"


class MachineWarning(Record):
    """A value that crossed its limit, in percent, who uses the memory, and what to type."""

    change: Change
    target: str
    value: float
    limit: float
    users: tuple[MemoryUser, ...] = ()
    remedy: str = ""

    def as_json(self) -> dict[str, Any]:
        document = {"target": self.target, "value_percent": self.value, "limit_percent": self.limit}
        if self.change == "recovered":
            return document
        return {**document, "largest": [asdict(user) for user in self.users], "remedy": self.remedy}


class MachineLimits:
    """The thresholds of a machine. `over` holds the values that are too high now, by target."""

    def __init__(self, config: WatchConfig) -> None:
        self._config = config
        self._thresholds: dict[str, Threshold] = {}
        self.over: dict[str, MachineWarning] = {}

    def take(self, gauges: Gauges) -> list[MachineWarning]:
        config = self._config
        values = [("memory", gauges.memory_percent, Threshold(config.memory_percent, MARGIN_PERCENT))]
        for disk in gauges.disks:
            limit = Threshold(config.disk_percent, DISK_MARGIN_PERCENT)
            values.append((f"disk {disk.path}", disk.used_percent, limit))
        if gauges.cpu_percent is not None:
            limit = Threshold(config.cpu_percent, MARGIN_PERCENT, CPU_HOLD)
            values.append(("cpu", gauges.cpu_percent, limit))
        crossings = []
        for target, value, fresh in values:
            threshold = self._thresholds.setdefault(target, fresh)
            change = threshold.take(value)
            warning = MachineWarning(change or "warning", target, value, threshold.limit)
            if change is not None:
                crossings.append(warning)
            self.over.pop(target, None)
            if threshold.over:
                self.over[target] = warning
        return crossings


def remedy(
    target: str, users: Sequence[MemoryUser], loaded: Sequence[LoadedModel], nodes: Sequence[NodeConfig]
) -> str:
    """Return the command to type, most relief first. `loaded` are the models in memory, wherever they are."""
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


class MachineView(Record):
    """The gauges as they were read `at` (monotonic), and the values that are over their limits."""

    gauges: Gauges
    at: float
    warnings: tuple[MachineWarning, ...] = ()

    def as_json(self, now: float) -> dict[str, Any]:
        gauges = asdict(self.gauges)
        return {**gauges, "load_1": round(self.gauges.load_1, 2), "age_s": round(now - self.at, 2)}


class MachineWatch:
    """Reads the gauges on each tick, and who uses the memory while it is short.

    `loaded` gives the models in memory, wherever they are; `clock` is monotonic seconds. `state` is None
    before the first reading.
    """

    def __init__(
        self,
        config: Config,
        disks: Sequence[str],
        *,
        clock: Callable[[], float],
        emit: Emit,
        loaded: Callable[[], Sequence[LoadedModel]],
    ) -> None:
        self._nodes, self._clock, self._emit, self._loaded = config.nodes, clock, emit, loaded
        self._meter, self._limits = Meter(disks), MachineLimits(config.watch)
        self._users: tuple[MemoryUser, ...] = ()
        self._users_at = float("-inf")
        self.state: MachineView | None = None

    async def look(self) -> None:
        gauges, now = await asyncio.to_thread(self._meter.read), self._clock()
        crossings = self._limits.take(gauges)
        if "memory" in self._limits.over and now - self._users_at >= _LARGEST_EVERY_S:
            self._users, self._users_at = await asyncio.to_thread(memory_users, _LARGEST), now
        self.state = MachineView(gauges, now, tuple(map(self._advised, self._limits.over.values())))
        for crossing in crossings:
            self._emit(crossing.change, self._advised(crossing).as_json())

    def _advised(self, warning: MachineWarning) -> MachineWarning:
        users = self._users if warning.target == "memory" else ()
        command = remedy(warning.target, users, self._loaded(), self._nodes)
        return replace(warning, users=users, remedy=command)
