"""Containers by Docker's events."""

from datetime import UTC, datetime

from opskit.checks.container_assessment import (
    AssessedContainer,
    ContainerCondition,
    ContainerRules,
    assess_container,
)
from opskit.facts.container import Container, HealthCheckRun
from opskit.facts.container_events import ContainerEvents
from opskit.system.docker_records import DockerEvent
from opskit.watch.containers import WatchedContainer, after, is_news, watched

AT = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
RULES = ContainerRules(grace_s=0.0, hands_off_s=300.0)
CHECKED = (HealthCheckRun(ended=AT, exit_code=1, output="no disk"),)


def event(action: str, detail: str = "", **attributes: str) -> DockerEvent:
    return DockerEvent(int(AT.timestamp() * 1e9), "id", "web", action, detail, attributes)


def assessed(container: Container, *past: DockerEvent) -> AssessedContainer:
    events = ContainerEvents(AT, past)
    return AssessedContainer(
        container, assess_container(container, peers={}, events=events, rules=RULES, now=AT)
    )


def through(*events: DockerEvent, health: bool = False) -> tuple[WatchedContainer | None, list[str]]:
    """The last state, and the states that were news."""
    test = ("CMD", "true") if health else ()
    log = CHECKED if health else ()
    container = Container(id="id", name="web", status="running", health_test=test, health_log=log)
    shown: WatchedContainer | None = None
    news = []
    for number, one in enumerate(events, 1):
        container = after(container, one)
        before, shown = shown, None
        if one.action != "destroy":
            shown = watched(before, assessed(container, *events[:number]), 1.0, one.action)
        if is_news(before, shown):
            news.append(shown.state if shown is not None else "removed")
    return shown, news


def test_a_container_that_comes_and_goes_well_is_no_news() -> None:
    """`docker run --rm` of something that ends with 0."""
    assert through(event("start"), event("die", exitCode="0"), event("destroy")) == (None, [])


def test_a_crash_and_a_restart_are_news() -> None:
    """The exit code, then that it runs again, counted."""
    state, news = through(event("start"), event("die", exitCode="137"), event("start"))
    assert news == ["exited", "running"]
    assert state is not None
    assert (state.restarts, state.detail) == (1, "restarted")


def test_want_of_memory_is_told_with_the_end() -> None:
    """Docker tells it in an event before."""
    state, _ = through(event("start"), event("oom"), event("die", exitCode="137"))
    assert state is not None
    assert state.detail == "exit code 137, out of memory"


def test_a_stop_by_hand_is_told_from_a_crash() -> None:
    """The event behind the end tells that a person did it."""
    state, news = through(event("start"), event("die", exitCode="143"), event("stop"))
    assert state is not None
    assert (state.condition, news) == (ContainerCondition.LEFT, ["exited", "exited"])
    assert "somebody stopped it" in state.detail


def test_health_is_news_both_ways_and_not_at_the_start() -> None:
    """Healthy is news only after unhealthy; told again it is none."""
    health = [event("health_status", word) for word in ("healthy", "unhealthy", "unhealthy", "healthy")]
    assert through(event("start"), *health, health=True)[1] == ["unhealthy", "healthy"]


def test_a_container_as_it_is_found() -> None:
    """Unhealthy outranks running; one that ended tells how."""
    runs = Container(id="i", name="web", status="running", health="unhealthy", health_log=CHECKED, started=AT)
    ended = Container(id="i", name="web", status="exited", exit_code=1, oom_killed=True, started=AT)
    shown = watched(None, assessed(runs), 0.0)
    assert (shown.state, shown.is_well, shown.detail) == (
        "unhealthy", False, "its health check fails: no disk",
    )  # fmt: skip
    shown = watched(None, assessed(ended), 0.0)
    assert (shown.state, shown.detail) == ("exited", "exit code 1, out of memory")
