"""Causes around Docker, produced on a real daemon, with real containers and a real docker-compose."""

import asyncio
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from docker.models.containers import Container

from opskit.doctor.diagnosis import Diagnosis
from opskit.doctor.fixing import fix
from opskit.result import Status
from opskit.sandbox.stage import Stage
from tests.parts.docker import IMAGE, LABEL, Cutter, Engine
from tests.parts.examining import cause, examined, keys, log_of_calls, on_stage, target_of
from tests.parts.raw_server import free_port

OFF = {"OLLAMA_API_URL": ""}
LIMIT_S = 30.0


async def look(box: Engine, folder: Path, containers: Mapping[str, list[str]], **about: Any) -> Diagnosis:
    """An examination whose stack is these containers, by whose they are."""
    stack = {"containers": {"victoria": [], "veronica": [], **containers}}
    env = {**OFF, **box.environment, **about.pop("env", {})}
    config = {"stack": stack, "recovery": about.pop("rules", {})}
    return await examined(folder, env=env, config=config, **about)


def wait_for(made: Container, true: Callable[[Mapping[str, Any]], bool]) -> None:
    """Until `docker inspect` says so."""
    until = time.monotonic() + LIMIT_S
    while True:
        made.reload()
        if true(made.attrs):
            return
        assert time.monotonic() < until, made.attrs["State"]
        time.sleep(0.02)


async def test_containers_that_are_well_give_no_cause(box: Engine, tmp_path: Path):
    """A container that runs, one that ended as planned, and a stranger's that failed: nothing is wrong."""
    runs, done, other = box.run("sleep 1000"), box.run("exit 0"), box.run("exit 1")
    done.wait()
    other.wait()
    found = await look(box, tmp_path, {"victoria": [runs.name], "worker": [done.name]})
    assert keys(found) == []
    assert found.exit == 0


async def test_a_container_that_keeps_restarting(box: Engine, tmp_path: Path):
    """A restart loop is told with its count, and with its exit code unless it just runs."""
    made = box.run("exit 3", restart_policy={"Name": "always"})
    wait_for(made, lambda seen: seen["RestartCount"] >= 3)
    found = await look(box, tmp_path, {"victoria": [made.name]})
    loop = cause(found, f"container-restarting:{made.name}")
    assert keys(found) == [loop.key]
    assert "restarts by Docker" in loop.evidence[0]
    assert "exit code" not in loop.evidence[0] or "last exit code 3" in loop.evidence[0]
    assert found.entries[0].explains == ("containers are well",)


@pytest.mark.parametrize("before", ["", "sleep 0.3; "])
async def test_a_container_that_ended_is_told_with_its_last_words(before: str, box: Engine, tmp_path: Path):
    """Also where it ended before Docker had noted its start."""
    made = box.run(f"{before}echo 'FATAL:  no space left'; exit 1")
    made.wait()
    found = await look(box, tmp_path, {"victoria": [made.name]})
    assert "its log says: FATAL: no space left" in cause(found, f"container-stopped:{made.name}").evidence


async def test_a_container_killed_for_want_of_memory(box: Engine, tmp_path: Path):
    """The kernel's kill is told with the limit of the container."""
    hungry = "x=a; while true; do x=$x$x; done"
    # Docker hears of the kill beside the end, and forgets it when the end comes first.
    for _ in range(8):
        made = box.run(hungry, mem_limit="12m", memswap_limit="12m")
        made.wait(timeout=LIMIT_S)
        made.reload()
        if made.attrs["State"]["OOMKilled"]:
            break
    if not made.attrs["State"]["OOMKilled"]:
        pytest.skip("this kernel does not tell Docker of its kills (no memory controller)")
    found = await look(box, tmp_path, {"victoria": [made.name]})
    killed = cause(found, f"container-oom-killed:{made.name}")
    assert keys(found) == [killed.key]
    assert "12 MiB" in killed.evidence[0]


async def test_an_unhealthy_container(box: Engine, tmp_path: Path):
    """Past its grace a failing check is told with what it wrote; to restart the container is not safe."""
    health = {"test": ["CMD", "sh", "-c", "echo no disk; exit 1"], "interval": 20_000_000, "retries": 1}
    made = box.run("sleep 1000", healthcheck=health)
    wait_for(made, lambda seen: seen["State"]["Health"]["Status"] == "unhealthy")
    young = await look(box, tmp_path, {"victoria": [made.name]})
    assert keys(young) == []
    found = await look(box, tmp_path, {"victoria": [made.name]}, rules={"startup_grace_s": 0.1})
    ill = cause(found, f"container-unhealthy:{made.name}")
    assert keys(found) == [ill.key]
    assert "no disk" in ill.evidence[0]
    assert ill.fix is not None
    assert not ill.fix.safe


async def test_an_agent_that_is_down_follows_from_its_container(box: Engine, tmp_path: Path):
    """Victoria does not answer because her container has ended: one root, and what follows from it."""
    made = box.run("exit 7")
    made.wait()
    env = {"VICTORIA_URL": f"http://127.0.0.1:{free_port()}"}
    found = await look(box, tmp_path, {"victoria": [made.name]}, env=env)
    assert keys(found) == [f"container-stopped:{made.name}", "agent-down:victoria"]
    assert found.entries[1].parent == f"container-stopped:{made.name}"
    assert len(found.roots) == 1


async def test_a_container_that_is_not_there(box: Engine, tmp_path: Path):
    """A container that the configuration names and Docker does not know is missing."""
    found = await look(box, tmp_path, {"victoria": ["opskit-nothing"]})
    assert keys(found) == ["container-missing:opskit-nothing"]


async def test_a_fix_starts_a_container_and_looks_again(box: Engine, tmp_path: Path):
    """A safe fix runs when allowed, and the same examination then finds the cause gone."""
    made = box.run("[ -e /again ] && exec sleep 1000; touch /again; exit 7")
    made.wait()
    stack = {"containers": {"victoria": [made.name], "veronica": []}}
    env = {**OFF, **box.environment}
    target = target_of(tmp_path, env=env, config={"stack": stack})
    before = await examined(tmp_path, env=env, config={"stack": stack})
    refused, nothing = await fix(target, before, lambda _: False, patience_s=5)
    assert (refused, nothing) == (before, [])
    after, done = await fix(target, before, lambda _: True, patience_s=20)
    assert [(one.key, one.gone) for one in done] == [(f"container-stopped:{made.name}", True)]
    assert keys(after) == []


async def test_what_people_did_has_no_fix(box: Engine, tmp_path: Path):
    """What somebody paused, has just stopped or forbids by a label is told, and stays as it is."""
    paused, stopped = box.run("sleep 1000"), box.run("sleep 1000")
    forbidden = box.run("exit 7", labels={"opskit.action": "none"})
    paused.pause()
    stopped.stop()
    forbidden.wait()
    names = [paused.name, stopped.name, forbidden.name]
    config = {"stack": {"containers": {"victoria": names, "veronica": []}}}
    env = {**OFF, **box.environment}
    target = target_of(tmp_path, env=env, config=config)
    before = await examined(tmp_path, env=env, config=config)
    assert sorted(keys(before)) == sorted(f"container-stopped:{name}" for name in names)
    assert {one.status for one in before.causes} == {Status.WARN}
    _, done = await fix(target, before, lambda _: True, patience_s=0.0)
    assert done == []
    for one, state in ((paused, "paused"), (stopped, "exited"), (forbidden, "exited")):
        one.reload()
        assert one.status == state


async def test_a_fix_that_does_not_help_is_told(box: Engine, tmp_path: Path):
    """A container that ends again is no success, whatever the command said."""
    made = box.run("exit 7")
    made.wait()
    stack = {"containers": {"victoria": [made.name], "veronica": []}}
    env = {**OFF, **box.environment}
    target = target_of(tmp_path, env=env, config={"stack": stack})
    before = await examined(tmp_path, env=env, config={"stack": stack})
    after, done = await fix(target, before, lambda _: True, patience_s=0.0)
    assert len(done) == 1
    wait_for(made, lambda seen: seen["State"]["Status"] == "exited")
    assert keys(await examined(tmp_path, env=env, config={"stack": stack})) == keys(before)
    assert after.entries or done[0].gone


async def test_a_missing_network_is_made(box: Engine, tmp_path: Path):
    """The network of the stack is created by its fix; a second look finds it."""
    name = box.name("net")
    config = {"stack": {"docker_network": name}}
    env = {**OFF, **box.environment}
    target = target_of(tmp_path, env=env, config=config)
    before = await examined(tmp_path, env=env, config=config)
    assert keys(before) == [f"network-missing:{name}"]
    after, done = await fix(target, before, lambda _: True, patience_s=10)
    try:
        # A daemon without a bridge of its own may refuse to make one; then that is told.
        assert done[0].gone == (keys(after) == [])
        assert done[0].gone or done[0].detail
    finally:
        for network in box.client.networks.list(names=[name]):
            network.remove()


async def test_localhost_inside_a_container(box: Engine, tmp_path: Path):
    """A worker that looks for Ollama at localhost looks into itself; its password is nobody's business."""
    env = {"OLLAMA_API_URL": "http://localhost:11434", "MLX_API_URL": "http://host.docker.internal:11435",
           "DATABASE_URL": "postgresql://me:geheim@db/knowledge"}  # fmt: skip
    made = box.run("sleep 1000", environment=env)
    found = await look(box, tmp_path, {"worker": [made.name]})
    assert keys(found) == [f"localhost-in-container:{made.name} OLLAMA_API_URL"]
    assert "host.docker.internal:11434" in found.causes[0].remedy
    assert "geheim" not in str(found.as_json())


async def test_localhost_in_a_container_on_the_hosts_network(box: Engine, tmp_path: Path):
    """There localhost is the host: no cause."""
    made = host_container(box, ["sleep", "1000"], {"OLLAMA_API_URL": "http://localhost:11434"})
    found = await look(box, tmp_path, {"worker": [made.name]})
    assert keys(found) == []


async def test_a_bind_address_in_a_container(box: Engine, tmp_path: Path):
    """0.0.0.0 as an address to dial is told."""
    made = box.run("sleep 1000", environment={"MLX_API_URL": "http://0.0.0.0:11435"})
    found = await look(box, tmp_path, {"worker": [made.name]})
    assert keys(found) == [f"bind-address:{made.name} MLX_API_URL"]


async def test_different_num_ctx_in_containers(box: Engine, tmp_path: Path):
    """Two workers that ask one Ollama with different num_ctx are named with their values."""
    async with Stage() as stage:
        url = f"http://host.docker.internal:{stage.ollama.port}"
        first = box.run("sleep 1000", environment={"OLLAMA_API_URL": url, "OLLAMA_NUM_CTX": "4096"})
        second = box.run("sleep 1000", environment={"OLLAMA_API_URL": url, "OLLAMA_NUM_CTX": "16384"})
        stack = {"containers": {"victoria": [], "veronica": [], "w": [first.name, second.name]}}
        env = {**box.environment, "MLX_API_URL": ""}
        found = await on_stage(tmp_path, stage, env=env, config={"stack": stack}, platform="darwin")
    assert keys(found) == ["num-ctx-differs:ollama"]
    assert len(found.causes[0].evidence) == 2


@pytest.mark.parametrize(
    ("variables", "wanted"),
    [
        ({}, "does not know of it"),
        ({"MLX_API_URL": "http://host.docker.internal:1", "USE_MLX_FALLBACK": "false"}, "may not use it"),
    ],
)
async def test_a_worker_that_leaves_mlx_idle(box: Engine, tmp_path: Path, variables, wanted: str):
    """MLX is idle because the worker's container has no MLX_API_URL, or USE_MLX_FALLBACK=false."""
    log_of_calls(tmp_path, *({"node": "ollama", "model": "phi3.5:3.8b"} for _ in range(6)))
    url = {"OLLAMA_API_URL": "http://host.docker.internal:11434"}
    made = box.run("sleep 1000", environment={**url, **variables})
    stack = {"containers": {"victoria": [], "veronica": [], "worker": [made.name]}}
    async with Stage() as stage:
        found = await on_stage(tmp_path, stage, env=box.environment, config={"stack": stack})
    assert keys(found) == ["mlx-idle:mlx"]
    assert wanted in found.causes[0].title
    assert made.name in found.causes[0].remedy


async def test_requests_are_read_from_the_logs_of_containers(box: Engine, tmp_path: Path):
    """What an agent in a container logs of its calls counts like our own."""
    lines = "; ".join(
        f"echo '[LLM_CALL] correlation_id={number} node=ollama model=m num_ctx={size}'"
        for number, size in enumerate((4096, 8192))
    )
    made = box.run(f"{lines}; sleep 1000")
    wait_for(made, lambda _: made.logs().count(b"LLM_CALL") == 2)
    stack = {"containers": {"victoria": [made.name], "veronica": []}}
    async with Stage() as stage:
        found = await on_stage(tmp_path, stage, env=box.environment, config={"stack": stack})
    assert keys(found) == ["num-ctx-differs:ollama/m"]


def host_container(box: Engine, command: list[str], variables: Mapping[str, str]) -> Container:
    """A container on the network of the host."""
    made = box.client.containers.create(
        IMAGE, command, name=box.name(), labels={LABEL: box.mark}, network_mode="host",
        environment=dict(variables),
    )  # fmt: skip
    made.start()
    return made


def accepts(port: int) -> bool:
    with socket.socket() as line:
        return line.connect_ex(("127.0.0.1", port)) == 0


async def test_a_port_held_by_a_container(box: Engine, tmp_path: Path):
    """Who holds the port of a node is a container, and is called by its name."""
    port = free_port()
    made = host_container(box, ["httpd", "-f", "-p", f"127.0.0.1:{port}"], {})
    wait_for(made, lambda _: accepts(port))
    found = await look(box, tmp_path, {}, env={"OLLAMA_API_URL": f"http://127.0.0.1:{port}"})
    assert keys(found) == ["port-taken:ollama"]
    assert f"container {made.name}" in found.causes[0].title


async def test_a_daemon_that_is_down_explains_what_could_not_be_judged(tmp_path: Path):
    """Docker is down: one root, and the checks that nobody could make."""
    with socket.socket(socket.AF_UNIX) as dead:
        path = Path(tempfile.mkdtemp(prefix="opskit-dead-")) / "docker.sock"
        dead.bind(str(path))
        stack = {"containers": {"victoria": ["victoria-agent"]}, "docker_network": "atra"}
        env = {**OFF, "DOCKER_HOST": f"unix://{path}", "VICTORIA_URL": f"http://127.0.0.1:{free_port()}"}
        found = await examined(tmp_path, env=env, config={"stack": stack})
    shutil.rmtree(path.parent)
    assert keys(found) == ["docker-down", "agent-down:victoria"]
    root, child = found.entries
    assert child.parent == "docker-down"
    assert set(root.explains) == {
        "docker", "containers", "containers are well", "network atra", "disk docker", "requests of containers"
    }  # fmt: skip
    assert found.exit == 1


async def test_docker_that_nothing_needs_is_not_missed(tmp_path: Path):
    """Without Docker a stack that does not use it is well."""
    async with Stage() as stage:
        found = await on_stage(tmp_path, stage)
    docker = {one.check: one.status for one in found.findings if found.areas[one.check] == "docker"}
    assert keys(found) == []
    assert set(docker.values()) <= {"skip", "pass"}


async def test_a_daemon_that_never_answers(cutter: Cutter, tmp_path: Path):
    """A socket that accepts and is silent is told apart from one where nobody is."""
    cutter.silent = True
    found = await examined(tmp_path, env={**OFF, **cutter.environment})
    assert keys(found) == ["docker-silent"]


async def test_a_docker_host_that_leads_nowhere(box: Engine, tmp_path: Path):
    """A daemon answers at one of its usual places, and DOCKER_HOST leads to another: that is the cause."""
    usual = tmp_path / ".docker/run/docker.sock"
    usual.parent.mkdir(parents=True)
    usual.symlink_to(box.socket)
    env = {**OFF, "DOCKER_HOST": f"unix://{tmp_path}/gone.sock"}
    found = await examined(tmp_path, env=env)
    assert keys(found) == ["docker-host-stale"]
    assert "unset DOCKER_HOST" in found.causes[0].remedy


async def test_a_context_that_does_not_exist(tmp_path: Path):
    """DOCKER_CONTEXT that names nothing is told as that."""
    found = await examined(tmp_path, env={**OFF, "DOCKER_CONTEXT": "nobody"})
    assert keys(found) == ["docker-context-invalid"]


def test_a_socket_that_may_not_be_used(box: Engine, tmp_path: Path):
    """Another user is told that permission is missing, not that Docker is down."""
    if os.geteuid() != 0:
        pytest.skip("only root can become somebody else for this test")
    code = (
        "import asyncio, json, os, sys\n"
        "from pathlib import Path\n"
        "from opskit.doctor.examination import examine\n"
        "from opskit.doctor.target import examination_target\n"
        "home = Path(sys.argv[1])\n"
        "def look():\n"
        "    environ = dict(os.environ)\n"
        "    target = examination_target(\n"
        "        None, environ=environ, cwd=home, platform='linux', in_docker=False)\n"
        "    return asyncio.run(examine(target))\n"
        "look()\n"  # everything is imported while it can be read
        "os.chown(home / 'opskit', 65534, 65534)\n"
        "for path in (home / 'opskit').iterdir(): os.chown(path, 65534, 65534)\n"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "found = look()\n"
        "print(json.dumps([one.key for one in found.causes]))\n"
    )
    home = Path(tempfile.mkdtemp(prefix="opskit-nobody-"))
    (home / "opskit.yaml").write_text("watch: {memory_percent: 100, disk_percent: 100}\n")
    for path in (home, home / "opskit.yaml"):
        os.chown(path, 65534, 65534)
    folder = Path(tempfile.mkdtemp(prefix="opskit-locked-"))
    folder.chmod(0o755)
    with socket.socket(socket.AF_UNIX) as locked:
        locked.bind(str(folder / "docker.sock"))
        locked.listen()
        (folder / "docker.sock").chmod(0o600)
        env = {"PATH": os.environ["PATH"], "HOME": str(home), "XDG_STATE_HOME": str(home), "MLX_API_URL": "",
               "OLLAMA_API_URL": "", "VICTORIA_URL": "", "VERONICA_URL": "",
               "DOCKER_HOST": f"unix://{folder}/docker.sock"}  # fmt: skip
        done = subprocess.run(
            [sys.executable, "-c", code, str(home)],
            env=env,
            capture_output=True,
            text=True,
            cwd=Path.cwd(),
            timeout=60,
        )
    shutil.rmtree(home)
    shutil.rmtree(folder)
    assert done.stdout.strip() == '["docker-not-permitted"]', done.stderr


GOOD = "services: {web: {image: 'opskit-test-busybox:1', command: ['sleep', '1000'], network_mode: none}}\n"


def compose(folder: Path, text: str) -> dict[str, Any]:
    (folder / "docker-compose.yml").write_text("version: '3'\n" + text)
    return {
        "stack": {"compose": {"mine": ["docker-compose.yml"]}, "containers": {"victoria": [], "veronica": []}}
    }


async def test_a_compose_file_that_is_broken(box: Engine, tmp_path: Path):
    """What Compose complains of is told, with the file."""
    config = compose(tmp_path, "services: {web: {imagee: x}}\n")
    found = await examined(tmp_path, env={**OFF, **box.environment}, config=config)
    assert keys(found) == ["compose-broken:mine"]
    assert "imagee" in found.causes[0].evidence[0]
    assert str(tmp_path) in found.causes[0].remedy


async def test_a_compose_file_that_is_missing(box: Engine, tmp_path: Path):
    """A file that is not there is told as that."""
    config = {"stack": {"compose": {"mine": ["nowhere.yml"]}}}
    found = await examined(tmp_path, env={**OFF, **box.environment}, config=config)
    assert keys(found) == ["compose-broken:mine"]


async def test_variables_of_compose_without_a_value(box: Engine, tmp_path: Path):
    """A variable that Compose replaces by nothing is named; that nothing of the project is there, too."""
    config = compose(tmp_path, GOOD.replace("command", "labels: {key: '${NOT_SET_ANYWHERE}'}, command"))
    found = await examined(tmp_path, env={**OFF, **box.environment}, config=config)
    assert keys(found) == ["compose-variable-unset:mine", "container-missing:mine"]
    assert "NOT_SET_ANYWHERE" in found.causes[0].title
    assert keys(
        await examined(tmp_path, env={**OFF, **box.environment, "NOT_SET_ANYWHERE": "x"}, config=config)
    ) == ["container-missing:mine"]


async def test_without_compose_its_absence_is_the_cause(box: Engine, tmp_path: Path):
    """A PATH without docker and docker-compose is what launchd's jobs have."""
    config = compose(tmp_path, GOOD)
    found = await examined(tmp_path, env={**OFF, **box.environment, "PATH": str(tmp_path)}, config=config)
    assert keys(found) == ["compose-missing"]


@pytest.mark.parametrize("typed", ["docker-compose.yml", "FOLDER/docker-compose.yml"])
async def test_a_service_of_compose_that_ended(typed: str, box: Engine, tmp_path: Path):
    """Containers belong to a project by its files, whatever they are called and wherever Compose was called.

    A second service is missed.
    """
    text = (
        "services:\n"
        "  web: {image: 'opskit-test-busybox:1', command: ['sh', '-c', 'exit 9'], network_mode: none}\n"
        "  job: {image: 'opskit-test-busybox:1', command: ['true'], network_mode: none}\n"
    )
    config = compose(tmp_path, text)
    env = {**OFF, **box.environment}
    program = ["docker-compose", "-f", typed.replace("FOLDER", tmp_path.name), "-p", box.name("p")]
    folder = tmp_path.parent if "FOLDER" in typed else tmp_path
    real = {**os.environ, **box.environment}
    await asyncio.to_thread(
        subprocess.run, [*program, "up", "-d", "web"], env=real, cwd=folder, check=True, capture_output=True
    )
    try:
        (made,) = box.client.containers.list(
            all=True, filters={"label": [f"com.docker.compose.project={program[-1]}"]}
        )
        made.wait()
        found = await examined(tmp_path, env=env, config=config)
    finally:
        subprocess.run([*program, "down", "-t", "0"], env=real, cwd=folder, capture_output=True)
    assert keys(found) == [f"container-stopped:{made.name}", "container-missing:mine/job"]


@pytest.fixture(autouse=True)
def _hermetic(monkeypatch: pytest.MonkeyPatch) -> None:
    """The contexts of whoever runs the tests are not asked."""
    monkeypatch.delenv("DOCKER_CONTEXT", raising=False)


async def test_failures_in_the_log_of_a_nodes_container(box: Engine, tmp_path: Path):
    """The log of the container behind a node is read, as Docker keeps it."""
    port, now = free_port(), datetime.now().astimezone()
    line = f'[GIN] {now:%Y/%m/%d - %H:%M:%S} | 500 |  1.2s |  172.17.0.1 | POST     \\"/api/chat\\"'
    serve = (
        f"while true; do printf 'HTTP/1.1 500 No\\r\\nContent-Length: 0\\r\\n\\r\\n' | nc -l -p {port}; done"
    )
    script, mark = f'echo "{line}"; {serve}', {LABEL: box.mark}
    made = box.client.containers.run(
        IMAGE, ["sh", "-c", script], detach=True, network_mode="host", labels=mark, stop_signal="SIGKILL"
    )
    wait_for(made, lambda _: b"[GIN]" in made.logs())
    env = {"OLLAMA_API_URL": f"http://127.0.0.1:{port}"}
    found = await look(box, tmp_path, {"ollama": [made.name]}, env=env)
    failing = cause(found, "requests-failing:ollama")
    assert made.name in failing.evidence[0]
    assert "1 request failed" in failing.evidence[0]
