"""Ports, processes, locks and addresses of this machine, on real ones."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from opskit.system.host import CpuTimes, available_memory_bytes, is_loopback, read_disk, read_memory
from opskit.system.lock import try_lock
from opskit.system.network import connects, endpoint
from opskit.system.sockets import listener

_SERVER = (
    "import socket, sys\n"
    "s = socket.create_server(('127.0.0.1', 0))\n"
    "print(s.getsockname()[1], flush=True)\n"
    "busy = sys.argv[1] == 'busy'\n"
    "while True:\n"
    "    sum(range(1000)) if busy else s.accept()\n"
)


@pytest.fixture
def server(request):
    process = subprocess.Popen(
        [sys.executable, "-c", _SERVER, request.param], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    port = int(process.stdout.readline())
    yield process, port
    process.kill()
    process.communicate()


async def test_an_open_port_connects() -> None:
    """A listening port is found to accept."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        result = await connects(f"http://127.0.0.1:{sock.getsockname()[1]}", timeout_s=1)
    assert result.problem is None


async def test_a_connection_is_there_although_this_process_had_no_turn_to_see_it() -> None:
    """On a busy machine the deadline passes while the loop stands still: that says nothing of the server."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        url = f"http://127.0.0.1:{sock.getsockname()[1]}"
        connecting = asyncio.create_task(connects(url, timeout_s=0.05))
        await asyncio.sleep(0)
        _stand_still_s(0.2)
        result = await connecting
    assert result.problem is None


def _stand_still_s(seconds: float) -> None:
    """Keep the loop from running, as an import on a busy machine does."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        pass


async def test_problems_are_told_apart() -> None:
    """Refused, unknown name: each has its word."""
    assert (await connects("http://127.0.0.1:9", timeout_s=1)).problem == "refused"
    assert (await connects("http://nobody.invalid:80", timeout_s=5)).problem == "name"


@pytest.mark.parametrize("server", ["idle"], indirect=True)
async def test_the_owner_of_a_port_is_named(server) -> None:
    """Its process, and that it is idle."""
    process, port = server
    found = await listener(port)
    assert found is not None
    assert (found.pid, found.stopped) == (process.pid, False)
    assert found.cpu < 0.2


@pytest.mark.parametrize("server", ["busy"], indirect=True)
async def test_a_working_process_is_seen_to_work(server) -> None:
    """A process in a loop uses a good part of a core, as soon as the machine has one for it."""
    _, port = server
    async with asyncio.timeout(30):
        while (found := await listener(port)) is not None and found.cpu <= 0.2:
            pass
    assert found is not None


@pytest.mark.parametrize("server", ["idle"], indirect=True)
async def test_a_stopped_process_is_seen(server) -> None:
    """SIGSTOP shows."""
    process, port = server
    os.kill(process.pid, signal.SIGSTOP)
    try:
        async with asyncio.timeout(30):
            while not (found := await listener(port)) or not found.stopped:
                pass
    finally:
        os.kill(process.pid, signal.SIGCONT)


async def test_nobody_listens() -> None:
    """No process for a port that is not in use."""
    assert await listener(9) is None


def test_a_lock_is_held_once_and_dies_with_its_process(tmp_path: Path) -> None:
    """The second holder is refused without waiting; a killed holder leaves nothing behind."""
    path = tmp_path / "lock"
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom opskit.system.lock import try_lock\n"
        "with try_lock(Path(sys.argv[1])) as mine:\n    print(mine, flush=True)\n    time.sleep(60)\n"
    )
    holder = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "True\n"
    with try_lock(path) as mine:
        assert not mine
    holder.kill()
    holder.communicate()
    with try_lock(path) as mine:
        assert mine


@pytest.mark.parametrize(
    ("url", "here"),
    [
        ("http://localhost:1", True),
        ("http://127.9.9.9:1", True),
        ("http://[::1]:1", True),
        ("http://192.168.1.2:1", False),
        ("http://host.docker.internal:1", False),
        ("http://example.org", False),
    ],
)
def test_loopback(url: str, here: bool) -> None:
    """Which addresses are this machine."""
    assert is_loopback(url) is here


def test_endpoint_has_the_scheme_s_port() -> None:
    """Host and port of a URL."""
    assert endpoint("http://h") == ("h", 80)
    assert endpoint("https://h/x") == ("h", 443)
    assert endpoint("http://[::1]:5") == ("::1", 5)


def test_memory_is_a_number() -> None:
    """The free memory is known here."""
    assert (available_memory_bytes() or 0) > 0


def test_a_memory_reading_is_consistent() -> None:
    """What can be had is part of what is there."""
    memory = read_memory()
    assert 0 < memory.available_bytes <= memory.total_bytes
    assert 0.0 <= memory.used_percent <= 100.0


def test_a_disk_is_counted_as_df_counts_it(tmp_path: Path) -> None:
    """Room for an ordinary user; a path that is not there is an OSError."""
    disk = read_disk(str(tmp_path))
    assert 0 <= disk.free_bytes <= disk.total_bytes
    assert disk.used_percent == pytest.approx(100.0 * (1 - disk.free_bytes / disk.total_bytes), abs=0.06)
    assert disk.device == tmp_path.stat().st_dev
    with pytest.raises(OSError):
        read_disk(str(tmp_path / "none"))


@pytest.mark.parametrize(
    ("before", "after", "used_percent"),
    [((0, 0), (10, 4), 60.0), ((5, 5), (5, 5), None), ((0, 0), (10, 11), 0.0), ((0, 5), (10, 4), 100.0)],
)
def test_processor_use_is_a_share_of_the_time_between(
    before: tuple[float, float], after: tuple[float, float], used_percent: float | None
) -> None:
    """A clock that goes backwards makes neither less than nothing nor more than everything."""
    assert CpuTimes(*after).used_percent(CpuTimes(*before)) == used_percent
