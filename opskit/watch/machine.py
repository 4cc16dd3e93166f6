"""The machine against its thresholds, and what to type when memory runs short (SPEC C8)."""

import asyncio
import shlex
from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, Literal

from opskit.checks.model_rows import LoadedModel
from opskit.config.schema import Config, NodeConfig, WatchConfig
from opskit.llm.fit import gib
from opskit.records import MutableRecord, Record, asdict, replace
from opskit.system.host import Gauges, MemoryUser, Meter, is_loopback, memory_users
from opskit.watch.polling import Poller, ask_all
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
        if self.over:
            if value < self.limit - self.margin:
                self.over, self._row = False, 0
                return "recovered"
            return None
        self._row = self._row + 1 if value >= self.limit else 0
        if self._row < self.hold:
            return None
        self.over = True
        return "warning"


class MachineWarning(Record):
    """A value that crossed its limit, in percent, who uses the memory, and what to type."""

    change: Change
    target: str
    value: float
    limit: float
    users: tuple[MemoryUser, ...] = ()
    remedy: str = ""

    def as_json(self) -> dict[str, Any]:
        return {
            "target": self.target,
            "value_percent": self.value,
            "limit_percent": self.limit,
            "largest": [asdict(user) for user in self.users],
            "remedy": self.remedy,
        }


class MachineLimits:
    """The thresholds of a machine. `over` holds the values that are too high now, by target."""

    def __init__(self, config: WatchConfig) -> None:
        self._config = config
        self._thresholds: dict[str, Threshold] = {}
        self.over: dict[str, MachineWarning] = {}

    def take(self, gauges: Gauges) -> list[MachineWarning]:
        config = self._config
        memory, disk = (config.memory_percent, MARGIN_PERCENT), (config.disk_percent, DISK_MARGIN_PERCENT)
        values = {"memory": (gauges.memory_percent, Threshold(*memory))}
        values |= {f"disk {gauge.path}": (gauge.used_percent, Threshold(*disk)) for gauge in gauges.disks}
        if gauges.cpu_percent is not None:
            cpu = Threshold(config.cpu_percent, MARGIN_PERCENT, CPU_HOLD)
            values["cpu"] = gauges.cpu_percent, cpu
        crossings = []
        for target, (value, fresh) in values.items():
            threshold = self._thresholds.setdefault(target, fresh)
            change = threshold.take(value)
            if change is not None:
                crossings.append(MachineWarning(change, target, value, threshold.limit))
            if threshold.over:
                self.over[target] = MachineWarning("warning", target, value, threshold.limit)
            else:
                self.over.pop(target, None)
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
    """The gauges as they were read `age_s` ago, and the values that are over their limits."""

    gauges: Gauges
    age_s: float | None = None
    warnings: tuple[MachineWarning, ...] = ()

    def as_json(self) -> dict[str, Any]:
        age_s = None if self.age_s is None else round(self.age_s, 2)
        return {**asdict(self.gauges), "load_1": round(self.gauges.load_1, 2), "age_s": age_s}


@dataclass(slots=True, eq=False)
class MachineWatch:
    """Reads the gauges on each tick, and who uses the memory while it is short.

    `loaded` gives the models in memory, wherever they are.
    """

    config: Config
    disks: Sequence[str]
    _: KW_ONLY
    clock: Callable[[], float]
    emit: Emit
    loaded: Callable[[], Sequence[LoadedModel]]
    gauges: Poller[Gauges] = field(init=False)
    users: Poller[tuple[MemoryUser, ...]] = field(init=False)
    _limits: MachineLimits = field(init=False)
    _taken_at: float | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        meter, self._limits = Meter(self.disks), MachineLimits(self.config.watch)
        self.gauges = Poller(lambda: asyncio.to_thread(meter.read), self.clock)
        self.users = Poller(lambda: asyncio.to_thread(memory_users, _LARGEST), self.clock)

    async def compare(self, patience_s: float) -> None:
        """Tell what the newest reading changed."""
        if self.gauges.answer is None or self.gauges.at == self._taken_at:
            return
        self._taken_at = self.gauges.at
        crossings = self._limits.take(self.gauges.answer)
        known_at = self.users.at
        if "memory" in self._limits.over and (
            known_at is None or self.clock() - known_at >= _LARGEST_EVERY_S
        ):
            await ask_all([self.users], patience_s)
        for crossing in crossings:
            body = self._advised(crossing).as_json()
            if crossing.change == "recovered":
                body = {key: body[key] for key in ("target", "value_percent", "limit_percent")}
            self.emit(crossing.change, body)

    def view(self, now: float) -> MachineView | None:
        """Return the last reading; None before the first."""
        if self.gauges.answer is None:
            return None
        age_s = None if self.gauges.at is None else now - self.gauges.at
        return MachineView(self.gauges.answer, age_s, tuple(map(self._advised, self._limits.over.values())))

    def _advised(self, warning: MachineWarning) -> MachineWarning:
        users = self.users.answer or () if warning.target == "memory" else ()
        command = remedy(warning.target, users, self.loaded(), self.config.nodes)
        return replace(warning, users=users, remedy=command)
