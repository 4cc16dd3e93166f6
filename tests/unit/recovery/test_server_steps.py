"""The pure parts of the steps for servers: containers read, levels, weights, processes told apart."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from opskit.checks.container_assessment import ContainerCondition, ContainerState, fresh_health
from opskit.facts.container import Container, HealthCheckRun, action_of, container, docker_time
from opskit.recovery.startup import is_final, standing
from opskit.recovery.steps.server import weights_bytes
from opskit.recovery.steps.servers import cores_of, switched_on
from opskit.system.process import is_like

NOW = datetime(2026, 11, 20, 9, 0, tzinfo=UTC)
CHECKED = (HealthCheckRun(ended=NOW, exit_code=1),)


def record(**more: Any) -> Container:
    given = {"id": "a", "name": "web", "service": "web", "status": "running", "started": NOW}
    return Container(**{**given, **more})


def test_health_from_before_the_start_is_starting():
    """Docker keeps the old verdict across a restart until the first check has ended."""
    log = (HealthCheckRun(ended=NOW - timedelta(minutes=1)),)
    assert fresh_health(record(health="unhealthy", health_log=log)) == "starting"
    earlier = NOW - timedelta(minutes=2)
    assert fresh_health(record(health="unhealthy", health_log=log, started=earlier)) == "unhealthy"
    assert fresh_health(record(health="unhealthy")) == "starting"


@pytest.mark.parametrize(
    ("labels", "action"),
    [
        ({}, "restart"),
        ({"opskit.action": "Notify"}, "notify"),
        ({"autoheal": "False"}, "none"),
        ({"autoheal": "true"}, "restart"),
    ],
)
def test_labels_decide_what_may_be_done(labels: dict[str, str], action: str):
    """The words of ops facts 2.2."""
    assert action_of(labels) == action


def test_a_time_with_nanoseconds_is_read():
    """Docker's own form; year 1 is never."""
    assert docker_time("2026-11-20T09:00:00.5Z") == NOW + timedelta(seconds=0.5)
    assert docker_time("2026-11-20T09:00:00.123456789Z") == NOW + timedelta(microseconds=123456)
    assert docker_time("0001-01-01T00:00:00Z") is None
    assert docker_time("soon") is None
    assert docker_time(None) is None


def test_a_container_is_read():
    """Its start, the variables, and the time that its stop may take."""
    item = {
        "Id": "x",
        "Name": "/victoria-agent",
        "State": {"Status": "running", "Running": True, "StartedAt": "2026-11-20T08:59:30Z"},
        "Config": {"Env": ["USE_VICTORIA_ENHANCED=true", "EMPTY", "A=b=c"], "StopTimeout": 0, "Labels": None},
    }
    found = container(item)
    assert (found.name, found.stop_timeout_s) == ("victoria-agent", 0.0)
    assert found.started == NOW - timedelta(seconds=30)
    assert found.variables == {"USE_VICTORIA_ENHANCED": "true", "EMPTY": "", "A": "b=c"}


@pytest.mark.parametrize(
    ("level", "value", "on"),
    [
        ("agent", "", True),
        ("enhanced", "TRUE", True),
        ("enhanced", "1", True),
        ("enhanced", "false", False),
        ("enhanced", "", False),
    ],
)
def test_a_level_is_wanted_as_the_container_was_told(level: str, value: str, on: bool):
    """The agent itself always; the others by their variable (SPEC D1)."""
    one = record(variables={"USE_VICTORIA_ENHANCED": value})
    assert switched_on(level, [one.variables]) is on


def test_cores_come_from_two_samples():
    """Half a second of processor time in one second is half a core; nothing told is nothing used."""
    stats = {
        "read": "2026-11-20T09:00:01Z",
        "preread": "2026-11-20T09:00:00Z",
        "cpu_stats": {"cpu_usage": {"total_usage": 1_500_000_000}},
        "precpu_stats": {"cpu_usage": {"total_usage": 1_000_000_000}},
    }
    assert cores_of(stats) == 0.5
    assert cores_of({**stats, "preread": "0001-01-01T00:00:00Z"}) == 0.0
    assert cores_of({}) == 0.0


def test_the_weights_of_a_start_command_are_measured(tmp_path: Path):
    """What stands behind `--model` decides how long a load may take."""
    (tmp_path / "phi").mkdir()
    (tmp_path / "phi" / "a.safetensors").write_bytes(b"12345")
    (tmp_path / "phi" / "b.safetensors").write_bytes(b"678")
    assert weights_bytes(("mlx_lm.server", "--model", "phi", "--port", "1"), tmp_path) == 8
    assert weights_bytes(("mlx_lm.server", "--model", "org/name"), tmp_path) is None
    assert weights_bytes(("mlx_lm.server", "--model"), tmp_path) is None


@pytest.mark.parametrize(
    ("line", "same"),
    [
        (["/opt/serve", "--port", "1"], True),
        (["/usr/bin/python3", "/opt/serve", "--port", "1"], True),
        (["/usr/bin/python3", "-I", "/opt/serve", "--port", "1"], True),
        (["/opt/serve", "--port", "2"], False),
        (["/opt/serve", "--port", "1", "--debug"], False),
        (["/opt/other", "--port", "1"], False),
        (["sh", "-c", "x", "y", "/opt/serve", "--port", "1"], False),
        (["--port", "1"], False),
        ([], False),
    ],
)
def test_a_process_is_the_start_command_or_not(line: list[str], same: bool):
    """The same program and the same arguments, behind its interpreter when it is a script."""
    assert is_like(line, ["/opt/serve", "--port", "1"], None) is same


def test_what_has_no_health_check_has_to_stay_up():
    """Running for a moment proves nothing; after two seconds it is up."""
    assert standing(record(), {}, NOW + timedelta(seconds=1)).condition is ContainerCondition.WAITING
    assert standing(record(), {}, NOW + timedelta(seconds=3)).condition is ContainerCondition.WELL
    checked = standing(record(health="healthy", health_log=CHECKED), {}, NOW)
    assert checked.condition is ContainerCondition.WELL


def test_what_ended_badly_does_not_get_well_by_waiting():
    """An end is final, an unhealthy check is not."""
    ended = standing(record(status="exited", exit_code=3), {}, NOW)
    assert (ended.condition, is_final(ended)) == (ContainerCondition.SICK, True)
    ill = standing(record(health="unhealthy", health_log=CHECKED), {}, NOW)
    assert (ill.condition, is_final(ill)) == (ContainerCondition.SICK, False)
    assert ill.state is ContainerState.UNHEALTHY
