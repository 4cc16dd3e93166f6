"""What keeps a stack from its start, as `doctor` and `recover` tell it, on real parts."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from opskit.system.docker import Docker
from tests.parts.command import Result, opskit
from tests.parts.compose_stack import aged, install_compose_2
from tests.parts.docker import IMAGE, Cutter, Engine, engine_of, own_daemon
from tests.parts.server_process import free_port

RULES = {"hands_off_s": 1, "startup_grace_s": 1, "step_s": 5}
WEB = {"image": IMAGE, "command": ["sleep", "1000"], "init": True, "stop_grace_period": "1s"}
OUTSIDE = {"external": True, "name": "opskit-test-lost"}


@pytest.fixture(scope="module")
def daemon() -> Iterator[tuple[Engine, int]]:
    """A Docker of this module's own with its process id."""
    with own_daemon() as own, engine_of(own.host) as engine:
        assert own.process is not None
        yield engine, own.process.pid


@dataclass
class Project:
    """One Compose project that was written long ago and never started."""

    engine: Engine
    home: Path
    name: str

    def write(self, services: Mapping[str, Any], **top: Any) -> None:
        file = self.home / self.name / "docker-compose.yml"
        file.parent.mkdir(exist_ok=True)
        file.write_text(yaml.safe_dump({"version": "3.4", "services": services, **top}))
        aged(file)
        projects = {
            path.name: [str(path / "docker-compose.yml")] for path in sorted(file.parents[1].glob("p*"))
        }
        config = {"stack": {"compose": projects, "docker_network": None, "containers": {}}, "recovery": RULES}
        (self.home / "opskit.yaml").write_text(json.dumps(config))

    def compose(self, *arguments: str) -> None:
        file = self.home / self.name / "docker-compose.yml"
        env = {"PATH": os.environ["PATH"], "HOME": str(self.home), **self.engine.environment}
        subprocess.run(
            ["docker", "compose", "-f", str(file), *arguments], env=env, check=True, capture_output=True
        )

    def opskit(self, *arguments: str, host: str | None = None) -> Result:
        env = {"DOCKER_HOST": host or self.engine.host}
        options = ("--json", "--config", str(self.home / "opskit.yaml"))
        return opskit(*arguments, *options, home=self.home, env=env)

    def recover(self) -> tuple[str, str, list[str]]:
        """The result of this project, its remedy, and what was run."""
        finding = self.opskit("recover", "--only", "compose").finding(f"compose:{self.name}")
        ran = [done["command"] for done in finding["evidence"].get("ran", ())]
        return finding["evidence"]["result"], finding["remedy"] or "", ran

    def causes(self, host: str | None = None) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.opskit("doctor", host=host).document["causes"]
        return found


@pytest.fixture
def project(daemon: tuple[Engine, int], tmp_path: Path) -> Iterator[Project]:
    engine, _ = daemon
    install_compose_2(tmp_path)
    yield Project(engine, tmp_path, engine.name("p").replace("-", ""))
    for container in engine.client.containers.list(all=True, filters={"label": "com.docker.compose.project"}):
        container.remove(force=True)
    engine.client.networks.prune()


@pytest.mark.parametrize(("kind", "version"), [("network", 1), ("volume", 2)])
def test_what_is_outside_the_project_and_gone_is_told_and_nothing_is_tried(
    project: Project, kind: str, version: int
):
    """Compose refuses every service then, so `up` is no remedy by itself, and the same word is everywhere."""
    if version == 1:
        (project.home / ".docker/cli-plugins/docker-compose").unlink()
    used = {"networks": ["lost"]} if kind == "network" else {"volumes": ["lost:/data"]}
    project.write({"web": {**WEB, **used}, "db": WEB}, **{f"{kind}s": {"lost": OUTSIDE}})
    create = f"`docker {kind} create opskit-test-lost`"
    [missing] = [cause for cause in project.causes() if cause["id"] == "container-missing"]
    assert create in missing["remedy"]
    assert f"there is no {kind} opskit-test-lost" in missing["evidence"]
    result, remedy, ran = project.recover()
    assert (result, ran) == ("manual", [])
    assert create in remedy


def test_a_container_that_is_there_is_started_without_compose(project: Project):
    """The volume that another service needs is gone: Docker starts what fell."""
    project.write({"db": WEB})
    project.compose("up", "-d")
    [container] = project.engine.client.containers.list(filters={"label": "com.docker.compose.service=db"})
    project.write({"db": WEB, "web": {**WEB, "volumes": ["lost:/data"]}}, volumes={"lost": OUTSIDE})
    container.kill()
    container.wait()
    finding = project.opskit("recover", "--only", "compose", "--now").finding(f"compose:{project.name}")
    assert f"docker start {container.name}" in json.dumps(finding["evidence"])
    container.reload()
    assert container.status == "running"


def test_addresses_that_another_network_has_are_told(project: Project):
    """The network cannot be made, and its name, both subnets and the way out are said."""
    taken = project.engine.client.networks.create("opskit-test-taken", driver="bridge", ipam={
        "Config": [{"Subnet": "10.213.0.0/16"}]} )  # fmt: skip
    pool = {"ipam": {"config": [{"subnet": "10.213.4.0/24"}]}}
    project.write({"web": {**WEB, "networks": ["own"]}}, networks={"own": pool})
    [missing] = [cause for cause in project.causes() if cause["id"] == "container-missing"]
    result, remedy, ran = project.recover()
    taken.remove()
    assert (
        f"network {project.name}_own is to have 10.213.4.0/24, and opskit-test-taken has 10.213.0.0/16"
        in (missing["evidence"])
    )
    assert (result, ran) == ("manual", [])
    assert "docker network rm opskit-test-taken" in remedy
    assert project.recover()[0] == "repaired"


def test_a_network_of_another_project_is_not_made_by_hand(project: Project):
    """It would lack the labels without which Compose 2 refuses the project that owns it."""
    shared = {"name": f"{project.name}-net"}
    project.write({"cli": {**WEB, "networks": ["net"]}}, networks={"net": {**shared, "external": True}})
    owner = Project(project.engine, project.home, f"{project.name}owner")
    owner.write({"web": {**WEB, "networks": ["net"]}}, networks={"net": shared})
    result, remedy, _ = project.recover()
    assert (result, remedy) == ("manual", f"start Compose project {owner.name} first, which makes it")
    assert project.recover()[0] == "repaired"


def test_a_daemon_that_is_stopped_is_named_and_let_go_on(daemon: tuple[Engine, int], tmp_path: Path):
    """Its process id and `kill -CONT`, and no restart, which would end containers."""
    engine, pid = daemon
    project = Project(engine, tmp_path, "p")
    project.write({"web": WEB})
    os.kill(pid, signal.SIGSTOP)
    try:
        [silent] = [cause for cause in project.causes() if cause["id"] == "docker-silent"]
        finding = project.opskit("recover", "--only", "docker").finding("docker")
    finally:
        os.kill(pid, signal.SIGCONT)
    assert f"(process {pid}) is stopped" in silent["title"]
    assert f"kill -CONT {pid}" in silent["remedy"]
    assert [done["command"] for done in finding["evidence"]["ran"]] == [f"kill -CONT {pid}"]
    assert finding["evidence"]["result"] == "repaired"


async def test_a_question_whose_connection_was_lost_is_asked_again(
    daemon: tuple[Engine, int], tmp_path: Path
):
    """A daemon that is restarted, or a proxy that drops a connection, is no failure of the command."""
    cutter = Cutter(daemon[0].socket, tmp_path / "docker.sock")
    await cutter.listen()
    cutter.cut_after_bytes = 0
    docker = Docker(cutter.environment)
    original = cutter._down

    async def once(*streams: Any) -> None:
        await original(*streams)
        cutter.cut_after_bytes = None

    cutter._down = once  # type: ignore[method-assign]
    assert (await docker.version())["Version"]
    await cutter.aclose()


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("file", "is not executable (`chmod +x {path}` makes it so)"),
        ("folder", "{path} is a folder"),
        ("link", "{path} is a link to /nowhere/program, which is not there"),
        ("absent", "is not found"),
        ("script", "{path} needs /nowhere/python, which is not there"),
    ],
)
def test_a_start_program_that_cannot_be_started_is_told_by_its_reason(tmp_path: Path, kind: str, words: str):
    """`not found` is only what is not there."""
    path = tmp_path / "program"
    match kind:
        case "folder":
            path.mkdir()
        case "link":
            path.symlink_to("/nowhere/program")
        case "file" | "script":
            path.write_text("#!/nowhere/python\n")
            path.chmod(0o644 if kind == "file" else 0o755)
    url = f"http://127.0.0.1:{free_port()}"
    stack = {"start": {"mlx": [str(path)]}, "containers": {}}
    config = {"stack": stack, "nodes": {"mlx": {"url": url}}, "recovery": RULES}
    (tmp_path / "opskit.yaml").write_text(json.dumps(config))
    options = ("--json", "--config", str(tmp_path / "opskit.yaml"))
    env = {"DOCKER_HOST": f"unix://{tmp_path}/none.sock"}
    finding = opskit("recover", "--only", "mlx", *options, home=tmp_path / "home", env=env).finding("mlx")
    assert words.format(path=path) in finding["detail"]
    assert "`stack.start.mlx`" in finding["remedy"]


def test_a_full_disk_is_called_full_with_what_shows_its_contents(tmp_path: Path):
    """Every command names the command that shows what fills it; `doctor` says what that is."""
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)], check=True)
    try:
        with pytest.raises(OSError, match="No space"), (disk / "junk.log").open("wb", buffering=0) as stream:
            while True:
                stream.write(bytes(65536))
        env = {"OPSKIT_STATE_DIR": str(disk / "state")}
        paused = opskit("pause", "--for", "1h", home=tmp_path / "home", env=env)
        examined = opskit("doctor", "--json", home=tmp_path / "home", env=env)
    finally:
        subprocess.run(["umount", str(disk)], check=True)
    assert f"`du -xhd2 {disk} | sort -h | tail` shows what fills its disk" in paused.err
    [full] = [cause for cause in examined.document["causes"] if cause["id"] == "disk-full"]
    assert f"largest: {disk}/junk.log" in json.dumps(full["evidence"])
