"""`opskit logs` on real containers."""

import json
import signal
from pathlib import Path

import pytest

from tests.parts.command import opskit, started

TAGGED = "2026-11-20T08:00:01Z [LLM_CALL] node=ollama model=m"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def test_a_container_by_its_name(box, home: Path) -> None:
    """Its tagged lines, as `docker logs | grep` shows them."""
    name = box.name("agent")
    box.run(f"echo plain; echo '{TAGGED}'; echo '[FALLBACK] x' >&2; sleep 1000", name=name)
    result = opskit("logs", name, home=home, env=box.environment)
    assert result.status == 0, result
    # Docker itself keeps no order between the two streams of a container.
    assert sorted(result.out.splitlines()) == sorted([TAGGED, "[FALLBACK] x"])


def test_a_file_and_a_container_are_merged(box, home: Path, tmp_path: Path) -> None:
    """Each line behind its source."""
    name = box.name("agent")
    box.run(f"echo '{TAGGED}'; sleep 1000", name=name)
    (tmp_path / "a.log").write_text("2026-11-20T07:00:00Z [REQUEST] from a file\n")
    result = opskit("logs", str(tmp_path / "a.log"), name, "--json", home=home, env=box.environment)
    assert [json.loads(line)["source"] for line in result.out.splitlines()] == ["a.log", name]


def test_an_unknown_container_offers_near_names(box, home: Path) -> None:
    """DOCKER_002 with what is near; a name with an ending could be a file as well."""
    name = box.name("victoria-agent")
    box.run("sleep 1000", name=name)
    result = opskit("logs", name[:-1] + "X", home=home, env=box.environment)
    assert result.status == 1
    assert "DOCKER_002" in result.err
    assert name in result.err


def test_no_daemon_is_told(home: Path) -> None:
    """DOCKER_001 in one line, at once."""
    result = opskit("logs", "some-agent", home=home, env={"DOCKER_HOST": "unix:///nonexistent.sock"})
    assert result.status == 1
    assert "DOCKER_001" in result.err
    assert "Traceback" not in result.err


def test_following_through_a_restart(box, home: Path) -> None:
    """-f goes on after a restart, and says that it happened."""
    name = box.name("agent")
    container = box.run(f"echo '{TAGGED}'; sleep 1000", name=name)
    process = started(["logs", name, "-f"], home=home, env=box.environment)
    assert process.stdout is not None
    assert process.stdout.readline().strip() == TAGGED
    container.restart(timeout=0)
    assert process.stdout.readline().strip() == TAGGED
    process.terminate()
    _, err = process.communicate(timeout=10)
    assert "die" in err or "died" in err
    assert "Traceback" not in err


def test_a_container_whose_log_cannot_be_read(box, home: Path) -> None:
    """With `--log-driver none` it is said once; the others are shown and followed, and status 1 says so."""
    silent, name = box.name("silent"), box.name("agent")
    box.run("sleep 1000", driver="none", name=silent)
    box.run(f"echo '{TAGGED}'; sleep 1000", name=name)
    result = opskit("logs", silent, name, home=home, env=box.environment)
    assert (result.status, result.out) == (1, f"{name} | {TAGGED}\n")
    assert result.err.startswith(f"-- {silent}: DOCKER_003: ")
    process = started(["logs", "-f", silent, name], home=home, env=box.environment)
    assert process.stdout is not None
    assert process.stdout.readline() == f"{name} | {TAGGED}\n"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert (process.returncode, err.count("DOCKER_003")) == (130, 1)
