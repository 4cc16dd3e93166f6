"""The machine against its thresholds, and what to type when memory runs short (SPEC C8)."""

import asyncio
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from opskit.checks.model_rows import LoadedModel
from opskit.config.schema import Config, NodeConfig, WatchConfig
from opskit.llm.fit import gib
from opskit.records import Record, asdict, replace
from opskit.system.host import Gauges, MemoryUser, Meter, is_loopback, memory_users
from opskit.watch.event import Emit

#: How far below its limit a value must fall, in percent, before all is well again.
MARGIN_PERCENT = 5.0
DISK_MARGIN_PERCENT = 1.0
#: A processor that is full for a moment only does its work.
CPU_HOLD = 3
_LARGEST = 3
_LARGEST_EVERY_S = 5.0


class MachineWarning(Record):
    """A value that crossed its limit, in percent, who uses the memory, and what to type."""

    change: Literal["warning", "recovered"]
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
    """The limits of a machine. `over` holds the values that are too high now, by target.

    A value warns once it has reached its limit, the processor when it did so CPU_HOLD times in a row; all is
    well again below the limit less a margin: between them nothing flaps.
    """

    def __init__(self, config: WatchConfig) -> None:
        self._config = config
        self._high_cpu = 0
        self.over: dict[str, MachineWarning] = {}

    def take(self, gauges: Gauges) -> list[MachineWarning]:
        """Return what changed: the values that are too high now, and the values that are well again."""
        config, cpu = self._config, gauges.cpu_percent
        values = [("memory", gauges.memory_percent, config.memory_percent, MARGIN_PERCENT)]
        values += [
            (f"disk {disk.path}", disk.used_percent, config.disk_percent, DISK_MARGIN_PERCENT)
            for disk in gauges.disks
        ]
        if cpu is not None:
            self._high_cpu = self._high_cpu + 1 if cpu >= config.cpu_percent else 0
            if "cpu" in self.over or self._high_cpu >= CPU_HOLD:
                values.append(("cpu", cpu, config.cpu_percent, MARGIN_PERCENT))
        changes = []
        for target, value, limit, margin in values:
            before = self.over.pop(target, None)
            is_over = value >= (limit if before is None else limit - margin)
            warning = MachineWarning("warning" if is_over else "recovered", target, value, limit)
            if is_over:
                self.over[target] = warning
            if is_over is (before is None):
                changes.append(warning)
        return changes


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
    if not users:
        return "`opskit models loaded` shows what models hold"
    size, show = gib(users[0].rss_bytes), f"`ps -o pid,rss,args -p {users[0].pid}`"
    return f"{show} shows the largest process, {users[0].name} ({size}); end it if it is not needed"


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
        *,
        clock: Callable[[], float],
        emit: Emit,
        loaded: Callable[[], Sequence[LoadedModel]],
    ) -> None:
        self._nodes, self._clock, self._emit, self._loaded = config.nodes, clock, emit, loaded
        folder = Path(config.state_dir).absolute()
        state = next((str(path) for path in (folder, *folder.parents) if path.exists()), "/")
        self._meter, self._limits = Meter(("/", state)), MachineLimits(config.watch)
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
