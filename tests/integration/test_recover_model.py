"""`opskit recover model NAME`: a service, a container, a server, a model; a real chat proves it."""

import contextlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from opskit.facts.container import container
from opskit.recovery.chat import address, text_of
from tests.parts.command import Result, opskit, started
from tests.parts.composed import Composed, composed
from tests.parts.docker import Engine
from tests.parts.healing import configured, written
from tests.parts.server_process import free_port
from tests.parts.tiny_mlx import ANSWER


@pytest.fixture
def app(box: Engine, tmp_path: Path) -> Iterator[Composed]:
    with composed(box, tmp_path) as made:
        made.configuration()
        yield made


def starcoder(port: int) -> dict[str, object]:
    return {
        "build": "./image",
        "command": ["nc", "-ll", "-p", "8003", "-e", "/bin/chat"],
        "ports": [f"127.0.0.1:{port}:8003"],
    }


def test_a_service_is_made_anew_and_chats(app: Composed):
    """Removed, started, asked: a real answer through its published port."""
    app.write({"starcoder-chat": starcoder(free_port())})
    app.compose("up", "-d")
    before, image = app.ids(), app.image("starcoder-chat")
    done = app.opskit("recover", "model", "starcoder-chat", "--yes", "--wait", "30s", "--json")
    assert done.status == 0, done
    assert not before & app.ids()
    assert app.image("starcoder-chat") == image
    assert [one["check"] for one in done.document["findings"]] == ["service", "chat"]
    assert done.document["findings"][1]["evidence"]["answer"] == "ready"
    compose = f"docker-compose -f {app.file} -p {app.project}"
    assert [one["command"] for one in done.document["ran"]] == [
        f"{compose} rm --stop --force starcoder-chat",
        f"{compose} up -d --no-build --no-deps starcoder-chat",
    ]


def test_an_echo_is_no_answer(app: Composed):
    """The service is up and repeats what it was asked: exit 1, with the way to its log."""
    app.write({"starcoder-chat": starcoder(free_port())}, answer="Reply with the single word ready.")
    app.compose("up", "-d")
    done = app.opskit("recover", "model", "starcoder-chat", "--yes", "--wait", "30s", "--json")
    assert done.status == 1, done
    assert done.document["findings"][1]["state"] == "echo"
    assert "docker logs" in done.document["notes"][0]


def test_a_service_without_a_container_is_started(app: Composed):
    """Compose declares it, nothing runs: it is found by its name in the files of the stack."""
    app.write({"starcoder-chat": starcoder(free_port())})
    app.compose("build")
    done = app.opskit("recover", "model", "starcoder-chat", "--yes", "--wait", "30s", "--json")
    assert done.status == 0, done


def test_nothing_is_removed_without_its_image(app: Composed):
    """What could not be made again is not taken down."""
    app.write({"starcoder-chat": starcoder(free_port())})
    app.compose("up", "-d")
    before, image = app.ids(), f"{app.project}_starcoder-chat"
    app.box.client.images.get(image).tag("opskit-test-kept", app.box.mark)
    app.box.client.images.remove(image, force=True)
    done = app.opskit("recover", "model", "starcoder-chat", "--yes", "--json")
    assert (done.status, app.ids()) == (1, before)
    assert done.document["error"]["code"] == "RECOVER_004"


def test_a_container_that_nobody_declared_is_restarted_only(box: Engine, tmp_path: Path):
    """`docker run` made it: it is stopped and started, never removed."""
    made = box.run("sleep 1000")
    done = recover(tmp_path, box.environment, made.name, "--yes")
    assert done.status == 3, done
    assert [one["command"] for one in done.document["ran"]] == [
        f"docker stop {made.name}",
        f"docker start {made.name}",
    ]
    assert done.document["findings"][1]["state"] == "not asked"


def test_nobody_is_asked_and_nothing_is_removed(app: Composed):
    """Without a terminal and without `--yes`."""
    app.write({"starcoder-chat": starcoder(free_port())})
    app.compose("up", "-d")
    before = app.ids()
    done = app.opskit("recover", "model", "starcoder-chat")
    assert (done.status, app.ids()) == (2, before)


def test_an_unknown_name_brings_near_ones(app: Composed):
    """A slip of the finger is no riddle."""
    app.write({"starcoder-chat": starcoder(free_port())})
    app.compose("up", "-d")
    done = app.opskit("recover", "model", "starcoder-chta", "--yes")
    assert done.status == 2, done
    assert "starcoder-chat" in done.err


def recover(tmp_path: Path, env: dict[str, str], name: str, *more: str) -> Result:
    return opskit("recover", "model", name, "--wait", "20s", "--json", *more, home=tmp_path / "home", env=env)


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[dict[str, str]]:
    """The addresses of a simulated stack in a process of its own."""
    process = started(["sandbox", "up"], home=tmp_path / "sandbox")
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(4)]
    yield dict(line.strip().removeprefix("export ").split("=", 1) for line in lines)
    process.terminate()
    process.communicate(timeout=20)


@pytest.fixture
def nowhere(tmp_path: Path) -> dict[str, str]:
    """An environment whose Docker does not answer."""
    return {"DOCKER_HOST": f"unix://{tmp_path}/no.sock"}


@pytest.mark.parametrize("name", ["phi3.5:3.8b", "tinyllama:1.1b-chat"])
def test_a_model_of_ollama_is_unloaded_and_loaded(sandbox, nowhere, tmp_path: Path, name: str):
    """Unloaded by keep_alive 0, loaded, asked; Docker being down does not matter."""
    done = recover(tmp_path, {**nowhere, **sandbox}, name, "--yes")
    assert done.status == 0, done
    assert [one["command"].split(" ")[1].rpartition("/")[2] for one in done.document["ran"]] == [
        "generate",
        "chat",
    ]
    assert done.document["findings"][0]["evidence"]["answer"]


def test_a_dry_run_of_a_model_asks_for_nothing(sandbox, nowhere, tmp_path: Path):
    """The requests are shown as they would be sent."""
    done = recover(tmp_path, {**nowhere, **sandbox}, "phi3.5:3.8b", "--dry-run")
    assert done.status == 0, done
    assert done.document["ran"] == []
    assert '"keep_alive": 0' in done.document["planned"][0]


def test_a_server_that_nobody_keeps_is_not_ended(real_mlx, nowhere, tmp_path: Path):
    """A stray process would not come back: it is left, and the remedy says what to type."""
    done = recover(tmp_path, {**nowhere, "MLX_API_URL": real_mlx.url}, "mlx", "--yes")
    assert done.status == 1, done
    assert done.document["error"]["code"] == "RECOVER_004"
    assert real_mlx.alive


def test_a_server_that_opskit_started_is_restarted(mlx_model: Path, nowhere, tmp_path: Path):
    """`recover` starts it, `recover model` ends exactly that process; a new one answers."""
    port = free_port()
    start = [sys.executable, "-m", "mlx_lm", "server", "--model", str(mlx_model), "--host", "127.0.0.1",
             "--port", str(port)]  # fmt: skip
    config = written(tmp_path / "home", {"stack": {"start": {"mlx": start}}})
    (tmp_path / "home" / "hub").mkdir()
    env = {**nowhere, "MLX_API_URL": f"http://127.0.0.1:{port}", "HF_HUB_OFFLINE": "1",
           "HF_HUB_CACHE": str(tmp_path / "home" / "hub")}  # fmt: skip
    options = ("--config", str(config))
    pids: list[int] = []
    memory = tmp_path / "home" / "state" / "opskit" / "recovery.json"
    try:
        first = opskit("recover", "--only", "mlx", "--json", *options, home=tmp_path / "home", env=env)
        pids.append(json.loads(memory.read_text())["facts"]["started:mlx"]["pid"])
        assert first.finding("mlx")["evidence"]["result"] == "repaired", first
        done = recover(tmp_path, env, "mlx", "--yes", *options)
        pids.append(json.loads(memory.read_text())["facts"]["started:mlx"]["pid"])
        assert done.status == 0, done
        assert done.document["findings"][0]["evidence"]["answer"] == ANSWER
        assert not psutil.pid_exists(pids[0]) or psutil.Process(pids[0]).status() == psutil.STATUS_ZOMBIE
        assert pids[0] != pids[1]
    finally:
        for pid in pids:
            with contextlib.suppress(psutil.NoSuchProcess):
                psutil.Process(pid).kill()


@pytest.mark.parametrize(
    ("reply", "text"),
    [
        ({"response": "ready"}, "ready"),
        ({"message": {"role": "assistant", "content": "ready"}}, "ready"),
        ({"status": "ok"}, ""),
        (["ready"], ""),
        ("ready", "ready"),
    ],
)
def test_the_text_of_an_answer_is_found(reply, text):
    """Agents put it under different names."""
    assert text_of(reply) == text


def test_the_published_port_is_where_to_chat(tmp_path: Path):
    """The port that leads to the agent's usual one, of several."""
    ports = {"9000/tcp": [{"HostPort": "1"}], "8003/tcp": [{"HostPort": "2"}], "53/udp": [{"HostPort": "3"}]}
    published = container({"NetworkSettings": {"Ports": ports}})
    config = configured(tmp_path, {})
    assert address(config, ("starcoder-chat",), published) == "http://127.0.0.1:2"
    assert (
        address(config, ("starcoder-chat",), container({"HostConfig": {"NetworkMode": "host"}}))
        == "http://127.0.0.1:8003"
    )
    assert address(config, ("other",), container({})) is None
