"""The steps of model nodes on a real mlx_lm.server: what is dead or wedged comes back, what lives is left."""

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from opskit.records import replace
from opskit.recovery.audit import last
from opskit.recovery.outcome import RepairResult
from opskit.recovery.steps.servers import nodes
from tests.parts.healing import Healing, configured, machine, outcome
from tests.parts.server_process import free_port


@pytest.fixture
def left_running() -> Iterator[list[int]]:
    """Ends the servers that a repair started: they outlive the command on purpose."""
    pids: list[int] = []
    yield pids
    for pid in pids:
        try:
            process = psutil.Process(pid)
            process.kill()
            process.wait(10)
        except psutil.NoSuchProcess:
            continue


def wedge(port: int) -> None:
    """An empty prompt kills the generation thread of mlx-lm 0.32.2; the server goes on listening."""
    with contextlib.suppress(httpx.HTTPError):
        body = {"prompt": "", "max_tokens": 1}
        httpx.post(f"http://127.0.0.1:{port}/v1/completions", json=body, timeout=10, trust_env=False)


def start_command(model: Path | str, port: int) -> list[str]:
    return [sys.executable, "-m", "mlx_lm", "server", "--model", str(model), "--host", "127.0.0.1",
            "--port", str(port)]  # fmt: skip


def healing(tmp_path: Path, port: int, start: list[str] | None = None, **recovery: Any) -> Healing:
    content: dict[str, Any] = {
        "nodes": {"mlx": {"url": f"http://127.0.0.1:{port}"}},
        "recovery": recovery,
    }
    if start is not None:
        content["stack"] = {"start": {"mlx": start}}
    config = configured(tmp_path / "home", content, {"MLX_API_URL": f"http://127.0.0.1:{port}"})
    config = replace(config, nodes=tuple(node for node in config.nodes if node.name == "mlx"))
    (tmp_path / "home" / "hub").mkdir()
    offline = {
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": str(tmp_path / "home"),
        "HF_HUB_CACHE": str(tmp_path / "home" / "hub"),
    }
    return Healing(tmp_path / "state", config, machine(tmp_path / "home", offline))


async def test_a_dead_server_is_started_and_gives_a_token(
    mlx_model: Path, tmp_path: Path, left_running: list[int]
):
    """Nothing listens: the start command brings the server back, and a second run changes nothing."""
    port = free_port()
    it = healing(tmp_path, port, start_command(mlx_model, port))
    first = await it.run(nodes)
    left_running.append(it.memory.facts["started:mlx"]["pid"])
    mlx = outcome(first, "mlx")
    assert mlx.result is RepairResult.REPAIRED, mlx
    assert [one.command.argv[1:4] for one in mlx.ran] == [("-m", "mlx_lm", "server")]
    second = await it.run(nodes)
    assert (outcome(second, "mlx").result, second.mutations) == (RepairResult.OK, 0)


async def test_a_wedged_server_that_opskit_started_is_ended_and_started_anew(
    mlx_model: Path, tmp_path: Path, left_running: list[int]
):
    """Evidence first, then exactly the process that opskit started ends, and a new one begins."""
    port = free_port()
    it = healing(tmp_path, port, start_command(mlx_model, port))
    await it.run(nodes)
    pid = it.memory.facts["started:mlx"]["pid"]
    left_running.append(pid)
    wedge(port)
    run = await it.run(nodes)
    left_running.append(it.memory.facts["started:mlx"]["pid"])
    mlx = outcome(run, "mlx")
    assert mlx.result is RepairResult.REPAIRED, mlx
    assert mlx.cause.startswith("was wedged")
    assert mlx.ran[0].command.argv[1:5] == ("-I", "-m", "opskit.system.end_process", str(pid))
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    assert it.memory.facts["started:mlx"]["pid"] != pid
    begun = next(
        one for one in last(it.folder, 20) if one["event"] == "repair_begins" and one["state"] == "wedged"
    )
    assert begun["evidence"]["process"]["pid"] == pid
    assert any(
        "generation thread died" in line
        for line in begun["evidence"]["logs"][f"start-{Path(sys.executable).name}.log"]
    )


async def test_a_wedged_server_of_a_person_is_not_killed(own_real_mlx, tmp_path: Path):
    """What somebody started by hand is never ended; the remedy names its process."""
    server = own_real_mlx()
    server.break_worker()
    run = await healing(tmp_path, server.port).run(nodes)
    mlx = outcome(run, "mlx")
    assert (mlx.result, mlx.state, run.mutations) == (RepairResult.MANUAL, "wedged", 0)
    assert f"kill {server.pid}" in (mlx.remedy or "")
    assert server.alive


async def test_a_stopped_server_is_let_go_on(own_real_mlx, tmp_path: Path):
    """SIGSTOP looks like a wedge; `kill -CONT` mends it without a restart."""
    server = own_real_mlx()
    server.freeze()
    run = await healing(tmp_path, server.port).run(nodes)
    mlx = outcome(run, "mlx")
    assert mlx.result is RepairResult.REPAIRED, mlx
    assert [one.command.argv for one in mlx.ran] == [("kill", "-CONT", str(server.pid))]
    assert server.alive


async def test_a_server_that_has_just_begun_is_given_its_time(own_real_mlx, tmp_path: Path):
    """Within the grace of loading, silence is a load, and nothing is restarted."""
    server = own_real_mlx()
    server.break_worker()
    run = await healing(tmp_path, server.port, load_grace_s=300.0).run(nodes)
    assert (outcome(run, "mlx").result, run.mutations) == (RepairResult.WAITING, 0)
