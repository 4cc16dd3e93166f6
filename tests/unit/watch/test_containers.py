"""Containers by Docker's events."""

from datetime import UTC, datetime

from opskit.facts.container import Container
from opskit.system.docker_records import Happening
from opskit.watch.containers import ContainerState, after, is_news, of


def event(action: str, detail: str = "", **attributes: str) -> Happening:
    return Happening(1_000_000_000, "id", "web", action, detail, attributes)


def through(*events: Happening) -> tuple[ContainerState | None, list[str]]:
    """The last state, and the states that were news."""
    state: ContainerState | None = None
    news = []
    for one in events:
        before, state = state, after(state, one)
        if is_news(before, state):
            news.append(state.state if state is not None else "removed")
    return state, news


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


def test_health_is_news_both_ways_and_not_at_the_start() -> None:
    """Healthy is news only after unhealthy; told again it is none."""
    health = [event("health_status", word) for word in ("healthy", "unhealthy", "unhealthy", "healthy")]
    assert through(event("start"), *health)[1] == ["unhealthy", "healthy"]


def test_a_container_as_it_is_found() -> None:
    """Unhealthy outranks running; one that ended tells how."""
    began = datetime(2026, 1, 1, tzinfo=UTC)
    runs = Container(id="i", name="web", status="running", health="unhealthy", started=began)
    ended = Container(id="i", name="web", status="exited", exit_code=1, oom_killed=True, started=began)
    assert (of(runs, 0.0).state, of(runs, 0.0).is_well) == ("unhealthy", False)
    assert (of(ended, 0.0).state, of(ended, 0.0).detail) == ("exited", "exit code 1, out of memory")
