"""One container as `docker inspect` tells of it, judged without a daemon."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opskit.recovery.steps.box import was_healthy
from opskit.recovery.steps.containers import State, Unit, judge, unit

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
GRACE_S = 120.0


def ago(seconds: float) -> datetime:
    return NOW - timedelta(seconds=seconds)


def one(**given_: Any) -> Unit:
    base: dict[str, Any] = {"id": "i", "name": "n", "service": "s", "status": "running", "started": ago(3600)}
    return Unit(**{**base, **given_})


def state(found: Unit, *others: Unit) -> State:
    return judge(found, {other.id: other for other in (found, *others)}, NOW, GRACE_S).state


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
    found = unit(inspected())
    assert found is not None
    assert (found.name, found.service, found.status, found.exit_code, found.oom) == (
        "p_web_1", "web", "exited", 137, True,
    )  # fmt: skip
    assert (found.restart, found.stop_s, found.parent, found.action) == ("on-failure", 45.0, "abc", "notify")
    assert found.networks == ("a", "b")
    assert found.version == "2.27.0"


@pytest.mark.parametrize(
    "labels", [{"com.docker.compose.oneoff": "True", "com.docker.compose.project": "p"}, {}]
)
def test_containers_that_are_none_of_the_project_are_ignored(labels: dict[str, str]):
    """A container of `compose run`, and one that Compose did not make."""
    item = inspected()
    item["Config"]["Labels"] = labels
    assert unit(item) is None


def test_an_older_health_is_not_believed():
    """Docker keeps `unhealthy` across a restart until the first check has run (moby)."""
    log = [{"End": "2026-11-21T09:59:00Z", "Output": "old"}]
    found = unit(inspected(Status="running", Health={"Status": "unhealthy", "Log": log}))
    assert found is not None
    assert found.health == "starting"
    log = [{"End": "2026-11-21T10:59:00Z", "Output": "no\n disk "}]
    found = unit(inspected(Status="running", Health={"Status": "unhealthy", "Log": log}))
    assert found is not None
    assert (found.health, found.said) == ("unhealthy", "no disk")


@pytest.mark.parametrize(
    ("given_", "wanted"),
    [
        ({}, State.UP),
        ({"health": "healthy"}, State.UP),
        ({"health": "starting", "started": ago(5)}, State.STARTING),
        ({"health": "unhealthy"}, State.UNHEALTHY),
        ({"health": "unhealthy", "started": ago(119)}, State.STARTING),
        ({"health": "unhealthy", "started": ago(121)}, State.UNHEALTHY),
        ({"health": "unhealthy", "started": ago(121), "start_period_s": 600.0}, State.STARTING),
        ({"status": "restarting", "restarts": 1}, State.STARTING),
        ({"status": "restarting", "restarts": 3}, State.LOOPING),
        ({"restarts": 7, "started": ago(2)}, State.LOOPING),
        ({"restarts": 7, "started": ago(200)}, State.UP),
        ({"status": "paused"}, State.PAUSED),
        ({"status": "dead"}, State.DEAD),
        ({"status": "removing"}, State.LEAVING),
        ({"status": "created", "started": None}, State.FALLEN),
        ({"status": "exited"}, State.ENDED),
        ({"status": "exited", "restart": "on-failure"}, State.ENDED),
        ({"status": "exited", "restart": "always"}, State.FALLEN),
        ({"status": "exited", "exit_code": 1}, State.FALLEN),
        ({"status": "exited", "error": "port is already allocated"}, State.FALLEN),
        ({"status": "exited", "exit_code": 128, "parent": "gone"}, State.ORPHANED),
        ({"parent": "gone"}, State.ORPHANED),
    ],
)
def test_each_condition_has_its_state(given_: dict[str, Any], wanted: State):
    """The table of what a container can be."""
    assert state(one(**given_)) is wanted


def test_who_shares_a_network_lives_and_dies_with_its_owner():
    """Well after its owner, cut off when the owner was started later or does not run."""
    sharer = one(parent="o")
    assert state(sharer, one(id="o", started=ago(4000))) is State.UP
    assert state(sharer, one(id="o", started=ago(10))) is State.CUT_OFF
    assert state(sharer, one(id="o", status="exited")) is State.CUT_OFF


def test_an_out_of_memory_kill_is_named():
    """The cause says memory, not only a number."""
    found = one(status="exited", exit_code=137, oom=True)
    assert "want of memory" in judge(found, {}, NOW, GRACE_S).cause


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
        status=status, exit_code=code, restarts=restarts, health=health, started=ago(age_s), restart=restart
    )
    verdict = judge(found, {found.id: found}, NOW, GRACE_S)
    if verdict.state is State.UNHEALTHY:
        assert health == "unhealthy"
        assert age_s >= GRACE_S - 1e-3
    if verdict.state is not State.UP:
        assert verdict.cause


def test_a_server_that_ended_with_0_is_not_done():
    """What publishes ports or has a health check was not made to end; a job that did its work was."""
    assert state(one(status="exited")) is State.ENDED
    assert state(one(status="exited", serves=True)) is State.FALLEN


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
    found = unit(item)
    assert found is not None
    assert found.serves is serves


def test_what_was_well_since_its_start_is_past_its_grace():
    """A container that was healthy and no longer is does not start: it is broken."""
    young = one(health="unhealthy", started=ago(10))
    assert state(young) is State.STARTING
    assert state(replace(young, was_well=True)) is State.UNHEALTHY


def test_a_success_of_an_earlier_life_does_not_count():
    """Docker keeps the checks of before a restart."""
    began = NOW
    before = {"Log": [{"ExitCode": 0, "End": "2026-11-21T11:59:00Z"}]}
    since = {
        "Log": [
            {"ExitCode": 0, "End": "2026-11-21T12:00:01Z"},
            {"ExitCode": 1, "End": "2026-11-21T12:00:09Z"},
        ]
    }
    assert not was_healthy(before, began)
    assert was_healthy(since, began)
