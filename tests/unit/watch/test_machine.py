"""The machine against its limits, and what to type."""

import pytest

from opskit.checks.model_rows import LoadedModel
from opskit.config.schema import NodeConfig, WatchConfig
from opskit.providers import kinds
from opskit.providers.base import Resident
from opskit.records import replace
from opskit.system.host import DiskGauge, Gauges, MemoryUser, Meter, memory_users
from opskit.watch.machine import CPU_HOLD, MachineLimits, remedy

GIB = 1024**3
WELL = Gauges(40.0, 16 * GIB, 9 * GIB, 0.0, 0, 10.0, 8, 0.5, (DiskGauge("/", 50.0, 100 * GIB),))
OLLAMA = NodeConfig("ollama", "http://localhost:11434", "ollama")
FAR = NodeConfig("far", "http://192.168.1.9:11434", "ollama")


def row(node: str, name: str, gib: float, kind: kinds.ServerKind = kinds.OLLAMA) -> LoadedModel:
    return LoadedModel(node, Resident(name, round(gib * GIB)), name, None, kind)


def crossed(limits: MachineLimits, **changes) -> list[tuple[str, str]]:
    return [(one.change, one.target) for one in limits.take(replace(WELL, **changes))]


def test_each_gauge_has_its_limit() -> None:
    """Memory at 80 % and disks at 90 % at once, the processor only when it stays full."""
    limits = MachineLimits(WatchConfig())
    assert crossed(limits) == []
    assert crossed(limits, memory_percent=80.0) == [("warning", "memory")]
    assert crossed(limits, memory_percent=76.0) == []
    assert crossed(limits, memory_percent=74.9) == [("recovered", "memory")]
    assert crossed(limits, disks=(DiskGauge("/", 91.0, GIB),)) == [("warning", "disk /")]
    busy = [crossed(limits, cpu_percent=100.0) for _ in range(CPU_HOLD)]
    assert busy[:-1] == [[("recovered", "disk /")], []]
    assert busy[-1] == [("warning", "cpu")]
    assert set(limits.over) == {"cpu"}


def test_the_first_reading_has_no_processor() -> None:
    """One moment tells no share of time."""
    assert crossed(MachineLimits(WatchConfig(cpu_percent=1.0)), cpu_percent=None) == []


@pytest.mark.parametrize(
    ("loaded", "users", "command"),
    [
        ([row("ollama", "small", 1), row("ollama", "big:32b", 18)], [], "`ollama stop big:32b`"),
        ([row("far", "big:32b", 18)], [MemoryUser(7, "java", GIB)], "`ps -o pid,rss,args -p 7`"),
        ([row("ollama", "a b;c", 18)], [], "`ollama stop 'a b;c'`"),
        (
            [row("ollama", "smol", 18, kinds.LLAMACPP)],
            [MemoryUser(7, "java", GIB)],
            "`ps -o pid,rss,args -p 7`",
        ),
        ([], [], "`opskit models loaded`"),
    ],
)
def test_the_remedy_is_a_command(loaded: list[LoadedModel], users: list[MemoryUser], command: str) -> None:
    """The largest model of this machine, else the largest process; names are quoted."""
    assert remedy("memory", users, loaded, [OLLAMA, FAR]).startswith(command)


def test_another_port_is_named() -> None:
    """`ollama stop` asks the server that holds the model."""
    node = replace(OLLAMA, url="http://127.0.0.1:9999")
    told = remedy("memory", [], [row("ollama", "m", 2)], [node])
    assert told.startswith("`OLLAMA_HOST=127.0.0.1:9999 ollama stop m`")


def test_this_machine_is_read() -> None:
    """Real gauges: a folder that is missing is left out, one disk is told once."""
    meter = Meter(["/", "/nonexistent", "/."])
    first, second = meter.read(), meter.read()
    assert [disk.path for disk in first.disks] == ["/"]
    assert first.cpu_percent is None
    assert 0 < first.memory_percent < 100
    assert second.cpu_percent is None or 0 <= second.cpu_percent <= 100
    largest = memory_users(3)
    assert len(largest) == 3
    assert largest[0].rss_bytes >= largest[2].rss_bytes > 0
