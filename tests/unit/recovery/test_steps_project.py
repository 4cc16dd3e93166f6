"""A Compose project against its containers, what people did to it, and what becomes of each service."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opskit.checks.container_assessment import ContainerRules
from opskit.checks.stopped_by_hand import removed_by_hand, stopped_by_hand
from opskit.facts.container import Container, HealthCheckRun
from opskit.facts.container_events import (
    KEPT_EVENTS,
    ContainerEvents,
    last_of_projects,
    may_be_stopping,
    was_stopped,
)
from opskit.recovery.hands_off import ManualCommand, RunningCommand, first_missed, worked_on
from opskit.recovery.step import Condition, TargetFinding
from opskit.recovery.steps.project_facts import ProjectFacts
from opskit.recovery.steps.project_state import ProjectAssessment
from opskit.system.compose_declaration import ComposeService, Project
from opskit.system.docker_records import DockerEvent

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
HANDS_OFF_S = 300.0
LABELS = {"com.docker.compose.project": "p"}


def ago(seconds: float) -> datetime:
    return NOW - timedelta(seconds=seconds)


def event(action: str, seconds: float, *, of: str = "i", **attributes: str) -> DockerEvent:
    return DockerEvent(
        int(ago(seconds).timestamp() * 1e9), of, attributes.get("name", "n"), action, attributes=attributes
    )


def container(service: str = "web", **given_: Any) -> Container:
    base: dict[str, Any] = {
        "id": f"id-{service}",
        "name": f"p_{service}_1",
        "service": service,
        "status": "running",
        "started": ago(3600),
        "compose_version": "2.27.0",
        "config_hash": f"digest-{service}",
    }
    return Container(**{**base, **given_})


def killed(service: str = "web", **given_: Any) -> Container:
    base = {"status": "exited", "exit_code": 137, "finished": ago(10)}
    return container(service, **{**base, **given_})


def service(name: str = "web", **given_: Any) -> ComposeService:
    return ComposeService(name, (f"image-{name}",), digests=(f"digest-{name}",), **given_)


def known(units: list[Container], services: list[ComposeService], **given_: Any) -> ProjectFacts:
    project = Project("p", "2.27.0", {one.name: one for one in services}, ("p_default",))
    rules = ContainerRules(120.0, HANDS_OFF_S, "docker compose -f /x")
    return ProjectFacts(key="app", project=project, containers=units, now=NOW, rules=rules, **given_)


def seen(facts: ProjectFacts) -> list[TargetFinding]:
    return ProjectAssessment(facts).findings


def first(found: ProjectFacts) -> TargetFinding:
    return seen(found)[0]


def test_a_project_that_runs_asks_docker_nothing_more():
    """Everything well: one healthy target, and no reason to look into the past."""
    found = known([container()], [service()])
    assert found.is_well()
    (only,) = seen(found)
    assert (only.condition, only.cause) == (Condition.HEALTHY, "1 container of 1 service run")


def test_a_container_that_was_repaired_is_told_when_it_is_well():
    """Its circuit closes only when its health is seen."""
    found = known([container()], [service()], remembered=frozenset({"container:p_web_1"}))
    assert [one.target for one in seen(found)] == ["compose:app", "container:p_web_1"]


def test_what_needs_a_service_that_is_left_is_left_too():
    """Starting it would fail, or start what a person stopped."""
    services = [
        service("db"),
        service("web", depends_on={"db": "service_started"}),
        service("front", depends_on={"web": "service_started"}),
        service("log"),
    ]
    units = [killed("db"), killed("web"), killed("front"), killed("log")]
    past = ContainerEvents(NOW, [event("die", 10, of="id-db"), event("stop", 10, of="id-db")])
    project, *others = seen(known(units, services, events=past))
    assert project.condition is Condition.BROKEN
    assert project.evidence["start"] == ["log"]
    assert [one.target for one in others] == ["container:p_db_1", "container:p_web_1", "container:p_front_1"]
    assert {one.condition for one in others} == {Condition.LEFT}
    assert "it needs web, which is not started" in others[-1].cause


def test_what_a_person_scaled_is_told_to_up():
    """More containers than the file says are kept by `--scale`."""
    units = [container(id=str(number), name=f"p_web_{number}") for number in range(3)]
    units.append(killed(id="4", name="p_web_4"))
    found = first(known(units, [service(replicas=2)], events=ContainerEvents(NOW)))
    assert found.evidence["scale"] == {"web": 4}


def test_a_lacking_replica_is_a_fallen_service():
    """Two of three is not enough."""
    found = known([container(), container(id="2")], [service(replicas=3)])
    assert found.down() == {"web": "lacks 1 of its 3 containers"}


def test_older_settings_are_told_only_where_they_can_be_compared():
    """Another version of Compose digests differently, which is no change."""
    services = [service()]
    assert "older settings" in first(known([container(config_hash="x")], services)).cause
    assert (
        "older settings"
        not in first(known([container(config_hash="x", compose_version="2.20.0")], services)).cause
    )


def test_whoever_is_at_work_wins():
    """A pull, a backup or an edited file leave every target alone, with the reason."""
    units = [
        killed("web"),
        container("db", health="unhealthy", health_log=(HealthCheckRun(ended=NOW, exit_code=1),)),
    ]
    found = seen(
        known(
            units,
            [service("web"), service("db")],
            events=ContainerEvents(NOW),
            busy="somebody runs `docker pull`",
        )
    )
    assert {one.condition for one in found[1:]} == {Condition.LEFT}
    assert all("docker pull" in one.cause for one in found[1:])


@pytest.mark.parametrize(
    ("events", "whole", "left"),
    [
        ([event("die", 10), event("stop", 10)], True, True),
        ([event("die", 10)], True, False),
        ([event("kill", 10), event("die", 10)], True, False),
        ([event("stop", 100), event("start", 99), event("die", 10)], True, False),
        ([event("stop", 10, of="another")], True, False),
        ([], True, False),
        ([], False, True),
        ([event("die", 10)], False, False),
    ],
)
def test_a_stop_by_hand_is_told_from_a_crash(events: list[DockerEvent], *, whole: bool, left: bool):
    """Only the last end counts, and what Docker forgot is not held against a person."""
    found = stopped_by_hand(killed(id="i", exit_code=143), ContainerEvents(NOW, events, whole), HANDS_OFF_S)
    assert bool(found) is left


@pytest.mark.parametrize(
    ("events", "by_kill", "waits"),
    [
        ([event("kill", 0.3, signal="9"), event("die", 0.2)], False, False),
        ([event("kill", 0.3, signal="9"), event("die", 0.2)], True, True),
        ([event("kill", 0.3, signal="15"), event("die", 0.2)], False, True),
        ([event("kill", 3.0, signal="15"), event("start", 2.0), event("die", 0.2)], False, False),
        ([event("kill", 5.0, signal="15"), event("die", 4.0)], False, False),
        ([event("die", 0.2)], False, False),
    ],
)
def test_an_end_of_this_moment_is_waited_for_where_it_may_be_a_stop(
    events: list[DockerEvent], *, by_kill: bool, waits: bool
):
    """The event of a stop comes a moment after the end; a kill or a crash is judged at once."""
    assert may_be_stopping(killed(id="i", stops_by_kill=by_kill), events, NOW) is waits


def test_a_stop_of_long_ago_binds_nobody():
    """After `hands_off_s` `up` may start it again."""
    past = ContainerEvents(NOW, [event("stop", 301)])
    assert stopped_by_hand(killed(id="i", finished=ago(301)), past, HANDS_OFF_S) == ""


def test_our_own_stop_is_not_a_persons():
    """`docker restart` of ours that failed half-way leaves a stop behind."""
    past = ContainerEvents(
        NOW, [event("die", 10), event("stop", 10)], own_repairs={"p_web_1": [(ago(12), None)]}
    )
    assert stopped_by_hand(killed(id="i"), past, HANDS_OFF_S) == ""


def test_a_stop_after_our_repair_is_a_persons():
    """It was started again by the repair, and stopped later: seconds after it or not."""
    events = [event("stop", 30), event("start", 29), event("die", 10), event("stop", 10)]
    own = {"p_web_1": [(ago(31), None)]}
    past = ContainerEvents(NOW, events, own_repairs=own)
    assert "somebody stopped it" in stopped_by_hand(killed(id="i"), past, HANDS_OFF_S)


def test_a_stop_at_the_end_of_our_repair_is_a_persons_without_events_too():
    """What the repair started tells by its own times that it was stopped after that."""
    past = ContainerEvents(NOW, [], complete=False, own_repairs={"p_web_1": [(ago(12), ago(10.1))]})
    assert stopped_by_hand(killed(id="i", exit_code=0, started=ago(20)), past, HANDS_OFF_S) == ""
    stopped = stopped_by_hand(killed(id="i", exit_code=0, started=ago(11)), past, HANDS_OFF_S)
    assert "Docker does not remember whether somebody stopped it" in stopped


def test_what_proves_a_crash_is_believed_without_events():
    """Want of memory and Docker's own error are nobody's doing."""
    past = ContainerEvents(NOW, [], complete=False)
    assert stopped_by_hand(killed(oom_killed=True), past, HANDS_OFF_S) == ""
    assert stopped_by_hand(killed(error="no such device"), past, HANDS_OFF_S) == ""


def test_a_removal_is_forgotten_once_the_container_is_made_again():
    """stop, destroy, create is a recreation; destroy without a stop is nobody's orderly doing."""
    about = {**LABELS, "com.docker.compose.service": "web"}
    halt, gone = event("stop", 21, **about), event("destroy", 20, **about)
    assert list(removed_by_hand({"web"}, "p", ContainerEvents(NOW, [halt, gone]), HANDS_OFF_S)) == ["web"]
    assert not removed_by_hand({"web"}, "p", ContainerEvents(NOW, [gone]), HANDS_OFF_S)
    again = event("create", 10, **about)
    assert not removed_by_hand({"web"}, "p", ContainerEvents(NOW, [halt, gone, again]), HANDS_OFF_S)
    assert not removed_by_hand({"web"}, "other", ContainerEvents(NOW, [halt, gone]), HANDS_OFF_S)
    one_off = event("destroy", 20, **about, **{"com.docker.compose.oneoff": "True"})
    assert not removed_by_hand({"web"}, "p", ContainerEvents(NOW, [halt, one_off]), HANDS_OFF_S)


def test_what_is_first_missed_waits_only_where_docker_forgot():
    """The moment is kept, ends after `hands_off_s`, and is dropped when nothing is missing."""
    marks: dict[str, float] = {}
    forgetful = ContainerEvents(NOW, [event("exec_start", 1)] * KEPT_EVENTS, complete=False)

    def ask(
        now: float, events: ContainerEvents = forgetful, missing: dict[str, str] | None = None
    ) -> str | None:
        return first_missed(marks, "m", {"web": ""} if missing is None else missing, now, events, HANDS_OFF_S)

    assert ask(1000.0) is not None
    assert ask(1299.0) is not None
    assert ask(1300.0) is None
    assert ask(1400.0, missing={}) is None
    assert marks == {}
    assert ask(1500.0, events=ContainerEvents(NOW)) is None


def test_up_in_the_foreground_counts_in_its_first_minutes():
    """It lives for as long as its containers: after that it is no work in progress."""
    attached = ManualCommand("docker compose up", stays=True)
    assert worked_on([RunningCommand(1, attached, 10.0)], HANDS_OFF_S)
    assert worked_on([RunningCommand(1, attached, 400.0)], HANDS_OFF_S) is None
    assert worked_on([RunningCommand(1, ManualCommand("docker pull"), 4000.0)], HANDS_OFF_S)


@given(
    st.lists(
        st.tuples(st.booleans(), st.booleans(), st.booleans(), st.integers(0, 3)), min_size=1, max_size=6
    )
)
def test_nothing_that_is_left_is_started(rows: list[tuple[bool, bool, bool, int]]):
    """Whatever is down, stopped, paused or needed by whom: `start` holds nothing that is a person's."""
    names = [f"s{number}" for number in range(len(rows))]
    services = [
        service(name, depends_on={names[need]: "service_started"} if need < number else {})
        for number, (name, (_, _, _, need)) in enumerate(zip(names, rows, strict=True))
    ]
    units = [killed(name) if down else container(name) for name, (down, *_) in zip(names, rows, strict=True)]
    events = [
        event(action, 10, of=f"id-{name}")
        for name, (down, by_hand, _, _) in zip(names, rows, strict=True)
        if down and by_hand
        for action in ("die", "stop")
    ]
    paused = frozenset(name for name, (down, _, held, _) in zip(names, rows, strict=True) if held and down)
    found = first(known(units, services, events=ContainerEvents(NOW, events), paused=paused))
    start = set(found.evidence.get("start", ()))
    theirs = {event_.id.removeprefix("id-") for event_ in events} | paused
    assert not start & theirs
    left = {name for name, (down, *_) in zip(names, rows, strict=True) if down} - start
    assert all(not (set(one.needs) & left) for one in services if one.name in start)


@pytest.mark.parametrize(
    ("events", "told"),
    [
        ([event("kill", 12, signal="15"), event("die", 10), event("stop", 10)], True),
        ([event("kill", 12, signal="15"), event("die", 10)], True),
        ([event("die", 10)], False),
        ([event("kill", 90, signal="15"), event("die", 10)], False),
        ([event("kill", 12, signal="1"), event("die", 10)], False),
        ([event("stop", 90), event("start", 80), event("die", 10)], False),
        ([event("stop", 10, of="other")], False),
        ([], False),
    ],
)
def test_an_end_on_demand_is_told_from_one_of_its_own(events: list[DockerEvent], *, told: bool):
    """A stop, or a signal that ends a server shortly before its end; not one that it lived on with."""
    assert was_stopped(killed(id="i", exit_code=0), events) is told


def test_what_ended_with_an_earlier_daemon_is_known_by_the_last_ends_of_its_project():
    """No event tells of an end before the daemon began; a job that ended long before the others is a job."""
    units = [
        killed("web", finished=ago(600), project="p"),
        killed("worker", finished=ago(603), project="p"),
        killed("job", finished=ago(2000), project="p"),
        killed("crash", finished=ago(60), project="p"),
        container("db", finished=ago(601), project="p"),
        killed("nightly", finished=ago(9000), project="q"),
    ]
    ended = {"id-web", "id-worker", "id-db", "id-nightly"}
    assert last_of_projects(units, ago(500)) == ended
    assert last_of_projects(units, None) == set()
    renewed = [*units, container("new", created=ago(400), project="p")]
    assert last_of_projects(renewed, ago(500)) == {"id-nightly"}


def test_a_daemon_whose_start_is_read_too_early_has_still_ended_nothing_that_an_earlier_one_started():
    """The system tells the start of a process up to a second early; who started a container decides then."""
    server = killed("web", started=ago(900), finished=ago(500), project="p")
    job = killed("job", started=ago(500.2), finished=ago(500), project="q")
    assert last_of_projects([server, job], ago(500.3)) == {"id-web"}


@pytest.mark.parametrize(
    ("end", "relapsed"),
    [
        ({"exit_code": 1, "started": ago(13)}, True),
        ({"exit_code": 1, "started": ago(30)}, False),
        ({"exit_code": 137, "started": ago(13)}, False),
        ({"exit_code": 137, "oom_killed": True, "started": ago(13)}, True),
    ],
)
def test_what_ended_by_itself_within_moments_of_its_start_is_told(end: dict[str, Any], *, relapsed: bool):
    """Its last start did not help; what was killed from outside is no sign of that."""
    project = first(known([killed(**end)], [service()], events=ContainerEvents(NOW)))
    assert project.relapsed == (frozenset({"compose:app/web"}) if relapsed else frozenset())


def test_a_service_whose_last_start_did_not_help_is_started_by_itself():
    """The project tells where its row is, and starts the others; it is not down because of it alone."""
    units = [killed("crash", exit_code=1), killed("good")]
    services = [service("crash"), service("good")]
    past = ContainerEvents(NOW)
    project, crash = seen(known(units, services, events=past, alone=frozenset({"crash"})))
    assert (project.evidence["start"], crash.target) == (["good"], "compose:app/crash")
    assert {part.target: part.condition for part in project.parts} == {
        "compose:app/crash": Condition.BROKEN,
        "compose:app/good": Condition.BROKEN,
    }
    alone = first(known([units[0]], [service("crash")], events=past, alone=frozenset({"crash"})))
    assert (alone.condition, alone.is_down) == (Condition.LEFT, False)
    assert alone.cause == "crash ended with exit code 1: see compose:app/crash"


def test_a_project_of_which_nothing_runs_is_down_and_not_ok():
    """Left to the person who stopped it, with the command that starts it; a job that ended well is ok."""
    past = ContainerEvents(NOW, [event("die", 10, of="id-web"), event("stop", 10, of="id-web")])
    stopped = first(known([killed()], [service()], events=past))
    assert (stopped.condition, stopped.is_down) == (Condition.LEFT, True)
    assert stopped.remedy == "`docker compose -f /x up -d web` starts it now"
    job = first(known([killed(exit_code=0)], [service()]))
    assert job.condition is Condition.LEFT
    assert job.cause.startswith("0 containers of 1 service run; web ended with exit code 0")


@pytest.mark.parametrize(
    ("code", "requests", "left"),
    [
        (143, {}, True),
        (0, {}, True),
        (1, {}, True),
        (137, {}, False),
        (139, {}, False),
        (143, {"i": False}, False),
        (1, {"i": False}, False),
        (1, {"i": True}, True),
        (137, {"i": True}, False),
    ],
)
def test_an_end_that_docker_forgot_is_judged_by_its_record(
    code: int, requests: dict[str, bool], *, left: bool
):
    """Whether Docker was asked to stop it decides, then the exit code; SIGKILL is no stop."""
    past = ContainerEvents(NOW, complete=False, stopped_by_request=requests)
    assert bool(stopped_by_hand(killed(id="i", exit_code=code), past, HANDS_OFF_S)) is left


def test_our_own_commands_have_an_end():
    """A stop a second after them is a person's, one while they ran is ours."""
    events = [event("die", 10), event("stop", 10)]
    for ended, left in ((ago(11), True), (ago(9), False)):
        past = ContainerEvents(NOW, events, own_repairs={"p_web_1": [(ago(12), ended)]})
        assert bool(stopped_by_hand(killed(id="i"), past, HANDS_OFF_S)) is left
