"""The steps of model nodes on simulated servers with faults: what must never be repaired, and why not."""

import asyncio
import os
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from opskit.config.schema import NodeConfig
from opskit.records import replace
from opskit.recovery.outcome import RepairResult
from opskit.recovery.steps.servers import nodes
from opskit.sandbox.faults import parse_fault
from opskit.sandbox.ollama import SimModel
from opskit.sandbox.stage import Stage
from opskit.system.process import read_process
from tests.parts.command import NOBODY
from tests.parts.healing import Healing, configured, machine, outcome
from tests.parts.server_process import free_port

Healer = Callable[..., Healing]


@pytest.fixture
def over(tmp_path: Path) -> Healer:
    """Recovery over one node; `path` goes in front of PATH."""

    def made(
        node: NodeConfig, *, path: Path | None = None, platform: str = "linux", **content: Any
    ) -> Healing:
        config = replace(configured(tmp_path / "home", content), nodes=(node,), agents=())
        environ = machine(tmp_path / "home")
        if path is not None:
            environ["PATH"] = f"{path}:{environ['PATH']}"
        return Healing(tmp_path / "state", config, environ, platform)

    return made


def local(name: str, url: str, *, explicit: bool = True) -> NodeConfig:
    return NodeConfig(name, url, "ollama" if name == "ollama" else "mlx", explicit=explicit)


def program(folder: Path, name: str, script: str) -> Path:
    """A small program that stands in for one of the machine's."""
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return folder


@pytest.mark.parametrize(
    ("fault", "result", "state"),
    [
        ("mlx=loading-503", RepairResult.WAITING, "loading"),
        ("ollama=ps-blocks", RepairResult.WAITING, "busy"),
        ("ollama=fast-503", RepairResult.WAITING, "busy"),
        ("ollama=rate-limited", RepairResult.WAITING, "busy"),
        ("ollama=crash,times=1", RepairResult.OK, "ok"),
        ("mlx=unauthorised", RepairResult.INCONCLUSIVE, "unauthorised"),
        ("mlx=zombie", RepairResult.MANUAL, "wedged"),
        ("ollama=silence", RepairResult.MANUAL, "wedged"),
        ("mlx=silence", RepairResult.MANUAL, "wedged"),
        ("ollama=not-installed", RepairResult.MANUAL, "failing"),
        ("mlx=cut", RepairResult.MANUAL, "failing"),
        ("ollama=broken-file", RepairResult.MANUAL, "failing"),
        ("ollama=context-exceeded", RepairResult.MANUAL, "failing"),
        ("mlx=unknown-architecture", RepairResult.MANUAL, "failing"),
        ("mlx=unparsable", RepairResult.OK, "ok"),
        ("mlx=empty-reply", RepairResult.MANUAL, "failing"),
        ("ollama=hang-midstream", RepairResult.MANUAL, "wedged"),
        ("ollama=refuse", RepairResult.MANUAL, "refused"),
    ],
)
async def test_what_is_seen_of_a_sick_server(over: Healer, fault: str, result: RepairResult, state: str):
    """Busy and loading wait, one crash is forgiven, a stray process is never killed."""
    name = fault.partition("=")[0]
    async with Stage([parse_fault(fault)]) as stage:
        run = await over(local(name, stage.nodes[name].url)).run(nodes)
    seen = outcome(run, name)
    assert (seen.result, seen.state, run.mutations) == (result, state, 0), seen


@pytest.mark.parametrize(
    ("fault", "result"),
    [
        ("ollama=crash", RepairResult.REPAIRED),
        ("ollama=crash,text=cudaMalloc failed: out of memory", RepairResult.REPAIRED),
        ("ollama=empty", RepairResult.REPAIRED),
        ("ollama=garbage", RepairResult.FAILED),
        ("ollama=reset", RepairResult.FAILED),
    ],
)
async def test_a_model_that_fails_is_unloaded_and_its_server_left(
    over: Healer, fault: str, result: RepairResult
):
    """The requests of other models go on; a server that answers nothing but garbage does not even unload."""
    async with Stage([parse_fault(fault)]) as stage:
        [(runner, _)] = stage.ollama.memory.listed()
        it = over(local("ollama", stage.ollama.url))
        it.config = replace(it.config, recovery=replace(it.config.recovery, step_s=0.0))
        run = await it.run(nodes)
        loaded = [listed for listed, _ in stage.ollama.memory.listed()]
    seen = outcome(run, "ollama")
    assert seen.result is result, seen
    assert {done.command.argv[3] for done in seen.ran} <= {"opskit.recovery.unload"}
    assert (runner in loaded) is (result is not RepairResult.REPAIRED)


async def test_a_model_that_cannot_be_unloaded_is_left_to_a_person(over: Healer):
    """mlx_lm.server has one model and no way to unload it; it answers, so it is not restarted either."""
    async with Stage([parse_fault("mlx=cut")]) as stage:
        it = over(local("mlx", stage.mlx.url), stack={"start": {"mlx": ["true"]}})
        run = await it.run(nodes)
    assert (outcome(run, "mlx").result, run.mutations) == (RepairResult.MANUAL, 0)


async def test_a_slow_server_is_not_repaired(over: Healer):
    """A token that took long is a token."""
    async with Stage() as stage:
        it = over(local("ollama", stage.ollama.url))
        it.config = replace(it.config, probe=replace(it.config.probe, slow_first_token_s=0.0))
        run = await it.run(nodes)
    assert (outcome(run, "ollama").result, outcome(run, "ollama").state) == (RepairResult.WAITING, "slow")


async def test_a_server_without_a_loaded_model_is_well(over: Healer):
    """Idle is no fault, and nothing is loaded to find out more."""
    async with Stage(ollama_models=[SimModel("phi3.5:3.8b")]) as stage:
        run = await over(local("ollama", stage.ollama.url)).run(nodes)
    assert outcome(run, "ollama").result is RepairResult.OK
    assert "no model is loaded" in outcome(run, "ollama").cause


async def test_a_server_without_any_model_is_not_restarted(over: Healer):
    """A restart brings no model; the remedy pulls one."""
    async with Stage(ollama_models=()) as stage:
        run = await over(local("ollama", stage.ollama.url)).run(nodes)
    assert (outcome(run, "ollama").result, run.mutations) == (RepairResult.MANUAL, 0)
    assert "ollama pull" in (outcome(run, "ollama").remedy or "")


async def test_a_default_address_where_nothing_listens_is_no_part_of_the_stack(over: Healer):
    """Nobody wrote the address down and nothing here could start it: absent, not broken."""
    run = await over(local("mlx", NOBODY, explicit=False)).run(nodes)
    assert outcome(run, "mlx").result is RepairResult.ABSENT


async def test_a_configured_address_where_nothing_listens_is_told(over: Healer):
    """Somebody wrote it down: it is broken, and the remedy says how opskit could start it."""
    run = await over(local("mlx", NOBODY)).run(nodes)
    assert outcome(run, "mlx").result is RepairResult.MANUAL
    assert "stack.start.mlx" in (outcome(run, "mlx").remedy or "")


async def test_another_program_on_the_port_is_named_and_left(over: Healer):
    """Something else answers there: no repair, and the cause says who it is."""

    async def answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example ESMTP\r\n")
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        run = await over(local("ollama", f"http://127.0.0.1:{port}")).run(nodes)
    seen = outcome(run, "ollama")
    assert (seen.result, run.mutations) == (RepairResult.MANUAL, 0)
    assert f"port {port} is held by process {os.getpid()}" in seen.cause


async def test_a_node_on_another_machine_is_looked_at_only(over: Healer):
    """A remote node that does not answer is not ours to mend."""
    run = await over(local("ollama", "http://192.0.2.1:11434")).run(nodes)
    assert outcome(run, "ollama").result is RepairResult.LEFT


async def test_a_failed_unit_is_restarted_by_systemd(over: Healer, tmp_path: Path):
    """Nothing listens, and systemd knows the service: systemd starts it, nobody else."""
    shown = "LoadState=loaded\nActiveState=failed\nUnitFileState=enabled\nResult=exit-code\n"
    folder = program(
        tmp_path / "bin",
        "systemctl",
        f'echo "$@" >> {tmp_path}/calls\n'
        f"case \"$*\" in *--user*) exit 1;; *show*) printf '{shown}';; esac",
    )  # fmt: skip
    it = over(local("ollama", NOBODY), path=folder)
    it.config = replace(it.config, recovery=replace(it.config.recovery, step_s=0.0))
    run = await it.run(nodes)
    seen = outcome(run, "ollama")
    if os.geteuid() == 0:
        assert [one.command.shown for one in seen.ran] == [
            "systemctl --no-ask-password restart ollama.service"
        ]
    else:
        assert "sudo systemctl restart ollama.service" in (seen.remedy or "")
    assert "ollama.service (failed)" in seen.cause


async def test_a_unit_that_a_person_stopped_is_left(over: Healer, tmp_path: Path):
    """`systemctl stop` 100 s ago: people win, for 200 s more."""
    shown = (
        "LoadState=loaded\nActiveState=inactive\nUnitFileState=enabled\nResult=success\n"
        "InactiveEnterTimestamp=Fri 2026-11-20 09:00:00 UTC\n"
    )
    folder = program(
        tmp_path / "bin", "systemctl", f"case \"$*\" in *--user*) exit 1;; *show*) printf '{shown}';; esac"
    )
    it = over(local("ollama", NOBODY), path=folder)
    it.clock = lambda: 1_795_165_300.0
    run = await it.run(nodes)
    seen = outcome(run, "ollama")
    assert (seen.result, run.mutations) == (RepairResult.LEFT, 0), seen
    assert "100 s ago" in seen.cause
    assert "200 s more" in seen.cause


async def test_a_disabled_unit_is_not_started(over: Healer, tmp_path: Path):
    """What a person switched off stays off."""
    shown = "LoadState=loaded\nActiveState=inactive\nUnitFileState=disabled\nResult=success\n"
    folder = program(tmp_path / "bin", "systemctl", f"case \"$*\" in *show*) printf '{shown}';; esac")
    run = await over(local("ollama", NOBODY), path=folder).run(nodes)
    assert (outcome(run, "ollama").result, run.mutations) == (RepairResult.MANUAL, 0)


async def test_the_application_is_opened_on_a_mac(over: Healer, tmp_path: Path):
    """Nothing listens and Ollama.app is installed: `open -ga Ollama`, and no start past it."""
    (tmp_path / "home" / "Applications" / "Ollama.app").mkdir(parents=True)
    folder = program(tmp_path / "bin", "open", f'echo "$@" >> {tmp_path}/opened')
    program(folder, "launchctl", "printf 'PID\\tStatus\\tLabel\\n'")
    it = over(local("ollama", NOBODY), path=folder, platform="darwin")
    it.config = replace(it.config, recovery=replace(it.config.recovery, step_s=0.0))
    await it.run(nodes)
    assert (tmp_path / "opened").read_text() == "-ga Ollama\n"


async def test_a_start_command_that_is_not_there_is_told(over: Healer):
    """A program that cannot be found is a matter of the configuration, not of a repair."""
    it = over(local("mlx", NOBODY), stack={"start": {"mlx": ["no-such-server", "--port", "9"]}})
    run = await it.run(nodes)
    assert (outcome(run, "mlx").result, run.mutations) == (RepairResult.MANUAL, 0)
    assert "no-such-server" in outcome(run, "mlx").cause


async def test_a_dry_run_shows_the_command_and_starts_nothing(over: Healer, tmp_path: Path):
    """The plan is exact, and nothing was run."""
    folder = program(tmp_path / "bin", "serve", f"touch {tmp_path}/started")
    it = over(local("mlx", NOBODY), path=folder, stack={"start": {"mlx": ["serve", "--port", "9"]}})
    run = await it.run(nodes, dry=True)
    seen = outcome(run, "mlx")
    assert seen.result is RepairResult.WOULD_REPAIR
    assert [one.shown for one in seen.planned] == [f"{folder}/serve --port 9"]
    assert not (tmp_path / "started").exists()


async def test_a_process_that_does_not_listen_yet_is_starting(over: Healer, tmp_path: Path):
    """The start command already runs: it is given its time instead of a second one beside it."""
    port = free_port()
    folder = program(tmp_path / "bin", "serve", "read line")
    process = await asyncio.create_subprocess_exec(
        str(folder / "serve"), "--port", str(port), stdin=asyncio.subprocess.PIPE
    )
    try:
        content = {"stack": {"start": {"mlx": ["serve", "--port", str(port)]}}}
        it = over(local("mlx", f"http://127.0.0.1:{port}"), path=folder, **content)
        it.config = replace(it.config, recovery=replace(it.config.recovery, startup_grace_s=60.0))
        run = await it.run(nodes)
        assert (outcome(run, "mlx").result, run.mutations) == (RepairResult.WAITING, 0)
        assert "does not listen yet" in outcome(run, "mlx").cause
    finally:
        process.kill()
        await process.wait()


async def test_a_server_on_another_port_is_told_and_not_started_again(over: Healer):
    """Started again it would listen there again: its port is named, and nothing is ended."""
    listen = (
        "import socket; s = socket.create_server(('127.0.0.1', 0)); print(s.getsockname()[1], flush=True)"
    )
    start = [sys.executable, "-c", f"{listen}; input()"]
    pipe, port = asyncio.subprocess.PIPE, free_port()
    process = await asyncio.create_subprocess_exec(*start, stdin=pipe, stdout=pipe)
    try:
        assert process.stdout is not None
        other = int(await process.stdout.readline())
        it = over(local("mlx", f"http://127.0.0.1:{port}"), stack={"start": {"mlx": start}})
        server = read_process(process.pid)
        assert server is not None
        it.memory.remember_server("mlx", server)
        run = await it.run(nodes)
        seen = outcome(run, "mlx")
        assert (seen.result, run.mutations) == (RepairResult.MANUAL, 0), seen
        assert f"listens on port {other}, not on {port}" in seen.cause
    finally:
        process.kill()
        await process.wait()


async def test_a_start_program_is_looked_for_in_the_folder_of_the_configuration(over: Healer, tmp_path: Path):
    """A scheduler runs in another folder than the person who wrote the file."""
    program(tmp_path / "home", "run me.sh", "exit 3")
    it = over(local("mlx", NOBODY), stack={"start": {"mlx": ["./run me.sh"]}})
    seen = outcome(await it.run(nodes, dry=True), "mlx")
    assert [command.shown for command in seen.planned] == [f"'{tmp_path}/home/run me.sh'"]
