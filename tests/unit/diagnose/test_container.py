"""What is told of one container, out of what Docker tells."""

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opskit.checks.container_assessment import AssessedContainer, ContainerRules, assess_container
from opskit.config.schema import StackConfig
from opskit.diagnose.area import table
from opskit.diagnose.containers import (
    COLUMNS,
    ContainerUse,
    SampledContainer,
    described,
    judged,
    ports,
    readable,
    use_of,
)
from opskit.facts.container import container
from opskit.facts.stack_containers import missing_containers
from opskit.system.docker_records import ListedContainer

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


def item(state: str = "running", health: str | None = None, **more: Any) -> dict[str, Any]:
    told: dict[str, Any] = {
        "Status": state,
        "Running": state == "running",
        "ExitCode": more.pop("code", 0),
        "OOMKilled": more.pop("oom", False),
        "StartedAt": "2026-11-21T11:58:00Z",
    }
    if health:
        told["Health"] = {
            "Status": health,
            "Log": [
                {"End": "2026-11-21T11:59:00Z", "ExitCode": int(health != "healthy"), "Output": "no\ndisk"}
            ],
        }
    config = {"Image": "x:1", "Labels": None, "Env": ["A_KEY=geheim"]}
    return {"Name": "/c", "Id": "0" * 64, "State": told, "Config": config, "RestartCount": 0, **more}


def sampled(document: dict[str, Any], use: ContainerUse | None = None) -> SampledContainer:
    found = container(document)
    rules = ContainerRules(60.0, 300.0)
    assessment = assess_container(found, peers={}, events=None, rules=rules, now=NOW)
    return SampledContainer(AssessedContainer(found, assessment), use)


@pytest.mark.parametrize(
    ("seen", "verdict"),
    [
        (item(), ("pass", "running")),
        (item(health="healthy"), ("pass", "healthy")),
        (item(health="starting"), ("warn", "starting")),
        (item(health="unhealthy"), ("fail", "unhealthy")),
        (item("restarting", code=3), ("warn", "restarting")),
        (item("restarting", code=3, RestartCount=3), ("fail", "restarting")),
        (item("exited"), ("pass", "exited")),
        (item("exited", code=1), ("fail", "exited")),
        (item("exited", code=137), ("fail", "exited")),
        (item("exited", code=137, oom=True), ("fail", "out of memory")),
        (item("exited", code=143), ("fail", "exited")),
        (item("created"), ("fail", "created")),
        (item("paused"), ("warn", "paused")),
        (item("dead"), ("fail", "dead")),
        (item(RestartCount=5), ("pass", "running")),
    ],
)
def test_a_container_is_judged(seen: dict[str, Any], verdict: tuple[str, str]):
    """By state, exit code, health, memory and restarts."""
    finding = judged(sampled(seen), 80.0)
    assert (finding.status.value, finding.state) == verdict


def test_a_container_near_its_limit_is_a_warning():
    """Its limit counts, not the machine's memory."""
    seen = sampled(item(HostConfig={"Memory": 100}), ContainerUse(1.0, 90, 100))
    assert judged(seen, 80.0).state == "full"
    assert (
        dict(zip(COLUMNS, table("t", [described(seen)], COLUMNS).rows[0], strict=True))["memory"]
        == "90 B of 100 B"
    )


def test_values_of_variables_are_not_told():
    """Names only."""
    told = described(sampled(item()))
    assert told["variable_names"] == ["A_KEY"]
    assert "geheim" not in str(told)


def test_use_is_what_docker_stats_shows():
    """Percent of one core; memory without the cache that can be given back."""
    stats = {
        "cpu_stats": {"cpu_usage": {"total_usage": 300}, "system_cpu_usage": 2000, "online_cpus": 4},
        "precpu_stats": {"cpu_usage": {"total_usage": 100}, "system_cpu_usage": 1000},
        "memory_stats": {"usage": 1000, "limit": 4000, "stats": {"inactive_file": 400}},
    }
    assert use_of(stats) == ContainerUse(80.0, 600, 4000)


def test_use_that_is_not_told_is_unknown():
    """A first sample has no processor time to compare, a container that ends has no memory."""
    assert use_of({}) == ContainerUse(None, None, None)


def test_ports_are_shown_as_they_are_published():
    """Addresses of all interfaces are left out."""
    bound = {"80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8080"}, {"HostIp": "::", "HostPort": "8080"}],
             "81/tcp": [{"HostIp": "127.0.0.1", "HostPort": "81"}], "82/udp": None}  # fmt: skip
    assert ports(container({"NetworkSettings": {"Ports": bound}})) == [
        "8080->80/tcp",
        "127.0.0.1:81->81/tcp",
        "82/udp",
    ]


@given(st.binary(max_size=200))
def test_a_line_is_always_printable(raw: bytes):
    """Whatever a container writes."""
    assert all(char.isprintable() or char == "\t" for char in readable(raw))


def test_only_a_person_can_miss_a_container():
    """The names that opskit itself supposes are no promise."""
    assert missing_containers([], StackConfig()) == []
    assert missing_containers(
        [ListedContainer("a", "a", "x", "running")], StackConfig(containers={"v": ("a", "b")})
    ) == ["b"]
