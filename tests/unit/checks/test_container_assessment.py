"""One container as `docker inspect` tells of it, judged without a daemon."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opskit.checks.container_assessment import (
    ContainerAssessment,
    ContainerRepair,
    ContainerRules,
    ContainerState,
    assess_container,
    was_healthy,
)
from opskit.facts.container import Container, HealthCheckRun, container
from opskit.records import replace

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
RULES = ContainerRules(grace_s=120.0, hands_off_s=300.0)


def ago(seconds: float) -> datetime:
    return NOW - timedelta(seconds=seconds)


def one(**given_: Any) -> Container:
    base: dict[str, Any] = {"id": "i", "name": "n", "service": "s", "status": "running", "started": ago(3600)}
    if "health" in given_ and given_["health"] != "starting":
        base["health_log"] = (HealthCheckRun(ended=NOW, exit_code=1),)
    return Container(**{**base, **given_})


def assess(found: Container, *others: Container) -> ContainerAssessment:
    peers = {other.id: other for other in (found, *others)}
    return assess_container(found, peers=peers, events=None, rules=RULES, now=NOW)


def state(found: Container, *others: Container) -> ContainerState:
    return assess(found, *others).state


def inspected(**state_: Any) -> dict[str, Any]:
    """What `docker inspect` writes of a container of Compose."""
    return {
        "Id": "1" * 64,
        "Name": "/p_web_1",
        "Created": "2026-11-21T10:00:00.123456789Z",
        "RestartCount": 2,
        "State": {
            "Status": "exited",
            "ExitCode": 137,
            "OOMKilled": True,
            "Error": "",
            "StartedAt": "2026-11-21T10:00:01.5Z",
            "FinishedAt": "2026-11-21T11:00:00Z",
            **state_,
        },
        "Config": {
            "Image": "bb",
            "StopTimeout": 45,
            "Labels": {
                "com.docker.compose.project": "p",
                "com.docker.compose.service": "web",
                "com.docker.compose.oneoff": "False",
                "com.docker.compose.version": "2.27.0",
                "opskit.action": "Notify",
            },
        },
        "HostConfig": {"NetworkMode": "container:abc", "RestartPolicy": {"Name": "on-failure"}},
        "NetworkSettings": {"Networks": {"b": {}, "a": {}}},
    }


def test_what_inspect_tells_is_read():
    """Labels, restart policy, stop timeout, shared network and the end of a container."""
    found = container(inspected())
    assert (found.name, found.service, found.status, found.exit_code, found.oom_killed) == (
        "p_web_1", "web", "exited", 137, True,
    )  # fmt: skip
    assert (found.restart_policy, found.stop_timeout_s, found.shares_network_of, found.action) == (
        "on-failure",
        45.0,
        "abc",
        "notify",
    )
    assert found.networks == ("a", "b")
    assert found.compose_version == "2.27.0"


@pytest.mark.parametrize(
    ("labels", "one_off"),
    [
        ({"com.docker.compose.oneoff": "True"}, True),
        ({"com.docker.compose.oneoff": "False"}, False),
        (None, False),
    ],
)
def test_a_container_of_compose_run_is_known(labels: dict[str, str] | None, one_off: bool):
    """Nobody wants it back; one that Compose did not make is none either."""
    item = inspected()
    item["Config"]["Labels"] = labels
    assert container(item).one_off is one_off


def test_an_older_health_is_not_believed():
    """Docker keeps `unhealthy` across a restart until the first check has run (moby)."""
    log = [{"End": "2026-11-21T09:59:00Z", "Output": "old"}]
    found = container(inspected(Status="running", Health={"Status": "unhealthy", "Log": log}))
    assert assess(found).health == "starting"
    log = [{"End": "2026-11-21T10:59:00Z", "Output": "no\n disk "}]
    health = {"Status": "unhealthy", "Log": log}
    item = inspected(Status="running", Health=health) | {"HostConfig": {}}
    found = container(item)
    assert (assess(found).health, assess(found).evidence) == ("unhealthy", {"health_output": "no disk"})


@pytest.mark.parametrize(
    ("given_", "wanted"),
    [
        ({}, ContainerState.UP),
        ({"health": "healthy"}, ContainerState.UP),
        ({"health": "starting", "started": ago(5)}, ContainerState.STARTING),
        ({"health": "unhealthy"}, ContainerState.UNHEALTHY),
        ({"health": "unhealthy", "started": ago(119)}, ContainerState.STARTING),
        ({"health": "unhealthy", "started": ago(121)}, ContainerState.UNHEALTHY),
        ({"health": "unhealthy", "started": ago(121), "start_period_s": 600.0}, ContainerState.STARTING),
        ({"status": "restarting", "restarts": 1}, ContainerState.STARTING),
        ({"status": "restarting", "restarts": 3}, ContainerState.LOOPING),
        ({"restarts": 7, "started": ago(2)}, ContainerState.LOOPING),
        ({"restarts": 7, "started": ago(200)}, ContainerState.UP),
        ({"status": "paused"}, ContainerState.PAUSED),
        ({"status": "dead"}, ContainerState.DEAD),
        ({"status": "removing"}, ContainerState.REMOVING),
        ({"status": "created", "started": None}, ContainerState.DOWN),
        ({"status": "exited"}, ContainerState.ENDED),
        ({"status": "exited", "restart_policy": "on-failure"}, ContainerState.ENDED),
        ({"status": "exited", "restart_policy": "always"}, ContainerState.DOWN),
        ({"status": "exited", "exit_code": 1}, ContainerState.DOWN),
        ({"status": "exited", "error": "port is already allocated"}, ContainerState.DOWN),
        ({"status": "exited", "exit_code": 128, "shares_network_of": "gone"}, ContainerState.ORPHANED),
        ({"shares_network_of": "gone"}, ContainerState.ORPHANED),
    ],
)
def test_each_condition_has_its_state(given_: dict[str, Any], wanted: ContainerState):
    """The table of what a container can be."""
    assert state(one(**given_)) is wanted


def test_who_shares_a_network_lives_and_dies_with_its_owner():
    """Well after its owner, cut off when the owner was started later or does not run."""
    sharer = one(shares_network_of="o")
    assert state(sharer, one(id="o", started=ago(4000))) is ContainerState.UP
    assert state(sharer, one(id="o", started=ago(10))) is ContainerState.CUT_OFF
    assert state(sharer, one(id="o", status="exited")) is ContainerState.CUT_OFF


def test_an_out_of_memory_kill_is_named():
    """The cause says memory, not only a number."""
    found = one(status="exited", exit_code=137, oom_killed=True)
    assert "want of memory" in assess(found).detail


@given(
    st.sampled_from(["running", "exited", "created", "paused", "restarting", "dead", "removing"]),
    st.integers(0, 255),
    st.integers(0, 50),
    st.sampled_from([None, "healthy", "unhealthy", "starting"]),
    st.floats(0, 1e6),
    st.sampled_from(["no", "always", "unless-stopped", "on-failure"]),
)
def test_only_what_runs_badly_for_long_enough_is_restarted(
    status: str, code: int, restarts: int, health: str | None, age_s: float, restart: str
):
    """One younger than the grace is never called unhealthy, and nothing is without a reason."""
    found = one(
        status=status,
        exit_code=code,
        restarts=restarts,
        health=health,
        started=ago(age_s),
        restart_policy=restart,
    )
    verdict = assess(found)
    if verdict.state is ContainerState.UNHEALTHY:
        assert health == "unhealthy"
        assert age_s >= RULES.grace_s - 1e-3
    if verdict.state is not ContainerState.UP:
        assert verdict.detail


def test_a_server_that_ended_with_0_is_not_done():
    """What publishes ports or has a health check was not made to end; a job that did its work was."""
    assert state(one(status="exited")) is ContainerState.ENDED
    serves = one(status="exited", health_test=("CMD", "true"))
    assert state(serves) is ContainerState.DOWN
    job = one(id="j", service="app", project="p", depends_on={"s": "service_completed_successfully"})
    assert state(replace(serves, project="p"), job) is ContainerState.ENDED
    worker = replace(job, depends_on={"s": "service_started"})
    assert state(one(status="exited", project="p"), worker) is ContainerState.DOWN


@pytest.mark.parametrize(
    ("config", "host", "serves"),
    [
        ({}, {}, False),
        ({"Healthcheck": {"Test": ["NONE"]}}, {}, False),
        ({"Healthcheck": {"Test": ["CMD", "true"]}}, {}, True),
        ({}, {"PortBindings": {"80/tcp": [{"HostPort": "8080"}]}}, True),
    ],
)
def test_a_server_is_known_by_its_ports_and_its_health_check(config, host, serves):
    """As Docker's own inspection tells them."""
    labels = {"com.docker.compose.project": "p", "com.docker.compose.service": "s"}
    item = {
        "Id": "1",
        "Name": "/p_s_1",
        "State": {"Status": "exited"},
        "Config": {"Labels": labels, **config},
        "HostConfig": host,
    }
    found = container(item)
    assert (state(found) is ContainerState.DOWN) is serves


def test_what_was_well_since_its_start_is_past_its_grace():
    """A container that was healthy and no longer is does not start: it is broken."""
    young = one(health="unhealthy", started=ago(10))
    assert state(young) is ContainerState.STARTING
    log = (HealthCheckRun(ended=ago(5)), HealthCheckRun(ended=ago(1), exit_code=1))
    assert state(replace(young, health_log=log)) is ContainerState.UNHEALTHY


def test_a_success_of_an_earlier_life_does_not_count():
    """Docker keeps the checks of before a restart."""
    before = (HealthCheckRun(ended=ago(60)),)
    since = (*before, HealthCheckRun(ended=NOW), HealthCheckRun(ended=NOW, exit_code=1))
    assert not was_healthy(one(started=ago(30), health_log=before))
    assert was_healthy(one(started=ago(30), health_log=since))


@pytest.mark.parametrize(
    ("given_", "repair", "left"),
    [
        ({"status": "exited", "exit_code": 1}, ContainerRepair.START, ""),
        ({"health": "unhealthy"}, ContainerRepair.RESTART, ""),
        ({"health": "unhealthy", "action": "stop"}, ContainerRepair.STOP, ""),
        ({"health": "unhealthy", "action": "notify"}, None, ""),
        ({"health": "unhealthy", "action": "none"}, None, "its label says `opskit.action=none`"),
        ({"status": "exited", "exit_code": 1, "action": "stop"}, None, "its label says `opskit.action=stop`"),
        ({"shares_network_of": "gone"}, ContainerRepair.RECREATE, ""),
        ({"status": "paused"}, None, ""),
        ({"status": "exited"}, None, ""),
        ({"restarts": 7, "started": ago(2)}, None, ""),
        ({"status": "dead"}, None, ""),
    ],
)
def test_what_may_be_repaired(given_: dict[str, Any], repair: ContainerRepair | None, left: str):
    """Only what a command mends and a label permits; a word that is not known forbids it."""
    assert (assess(one(**given_)).repair, assess(one(**given_)).left) == (repair, left)
