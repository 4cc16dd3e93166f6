"""What is decided about a server in problem: pure, so every owner of every system is decided here."""

import sys
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opskit.checks.container_assessment import AssessedContainer, ContainerRules, assess_container
from opskit.config.schema import RecoveryConfig
from opskit.facts.container import Container
from opskit.facts.container_events import ContainerEvents
from opskit.facts.port_owner import PortOwner
from opskit.records import replace
from opskit.recovery.step import Condition, TargetFinding
from opskit.recovery.steps.decision import ServerProblem, container_restart, decide
from opskit.recovery.steps.server import InactiveService, ManagedServer, ServerFacts
from opskit.system.docker_records import DockerEvent
from opskit.system.process import Process
from opskit.system.services import Service

NOW = 1_800_000_000.0
SERVER = ManagedServer(
    name="ollama",
    url="http://127.0.0.1:11434",
    known_by=("ollama",),
    services=("ollama",),
    folder="/srv",
)
WEDGED = ServerProblem("wedged", "no token in 15.0 s", speaks=True, fresh_s=300.0)
REFUSED = ServerProblem("refused", "nothing listens on 127.0.0.1:11434")


def process(**more: Any) -> Process:
    given: dict[str, Any] = {
        "pid": 4321,
        "parent": 1,
        "name": "ollama",
        "command": ("ollama", "serve"),
        "user": "me",
        "status": "sleeping",
        "began": NOW - 86_400.0,
        "cpu_s": 1.0,
        "rss_bytes": 1,
    }
    return Process(**{**given, **more})


def held(service: Service | None = None, **more: Any) -> PortOwner:
    service = service or Service("stray", None, "user", "me")
    container = service.name if service.kind == "container" else None
    return PortOwner(port=11434, pid=4321, process=process(**more), service=service, container=container)


def container(
    name: str = "web", status: str = "running", age_s: float = 9999.0, **more: Any
) -> AssessedContainer:
    """A container of the server, assessed; `stopped` tells that a person has just stopped it."""
    now = datetime.fromtimestamp(NOW, UTC)
    events = ContainerEvents(
        now, [DockerEvent(int(NOW * 1e9), "i", name, "stop")] if more.pop("stopped", False) else []
    )
    started = None if status == "created" else now - timedelta(seconds=age_s)
    finished = now if status == "exited" else None
    given = {
        "id": "i",
        "name": name,
        "status": status,
        "started": started,
        "finished": finished,
        "exit_code": 1,
    }
    record = Container(**{**given, **more})
    rules = ContainerRules.of(RecoveryConfig())
    return AssessedContainer(record, assess_container(record, peers={}, events=events, rules=rules, now=now))


def decided(
    problem: ServerProblem = WEDGED,
    server: ManagedServer = SERVER,
    *,
    uid: int = 501,
    user: str = "me",
    **now: Any,
) -> TargetFinding:
    return decide(server, problem, ServerFacts(now_s=NOW, user=user, uid=uid, **now), RecoveryConfig())


def commands(decision: TargetFinding) -> list[str]:
    return [] if decision.repair is None else [one.shown for one in decision.repair.commands]


@pytest.mark.parametrize(
    ("service", "shown"),
    [
        (Service("container", "ollama", "system", "root"), ["docker restart ollama"]),
        (Service("brew", "ollama", "user", "me"), ["brew services restart ollama"]),
        (Service("launchd", "com.me.mlx", "user", "me"), ["launchctl kickstart -k gui/501/com.me.mlx"]),
        (Service("systemd", "ollama.service", "user", "me"), ["systemctl --user restart ollama.service"]),
        (
            Service("app", "Ollama", "user", "me"),
            ["osascript -e 'quit app \"Ollama\"'", "open -ga Ollama"],
        ),
    ],
)
def test_the_owner_of_the_port_restarts_it(service: Service, shown: list[str]):
    """Each keeper its own way, and never a kill past it."""
    assert commands(decided(owner=held(service))) == shown


def test_a_system_unit_needs_root():
    """Without rights nothing is tried; the remedy says it with sudo."""
    service = Service("systemd", "ollama.service", "system", "ollama")
    mine = decided(owner=held(service))
    assert (mine.repair, mine.remedy) == (None, "`sudo systemctl restart ollama.service`")
    assert commands(decided(owner=held(service), uid=0, user="root")) == [
        "systemctl --no-ask-password restart ollama.service"
    ]


def test_a_service_of_somebody_else_is_left_to_them():
    """Brew of another account is not ours to restart."""
    found = decided(owner=held(Service("brew", "ollama", "user", "anna")))
    assert (found.condition, found.repair) == (Condition.BROKEN, None)
    assert "anna" in found.cause


def test_a_stray_process_is_never_killed():
    """Its person gets the command."""
    found = decided(owner=held())
    assert found.repair is None
    assert found.remedy == "`kill 4321`, then `ollama serve`"


def test_a_stray_process_of_ours_is_ended_by_its_start_and_started_anew():
    """The id alone may belong to another process by then."""
    server = replace(SERVER, start=("ollama", "serve"))
    found = decided(
        server=server, owner=held(), program=process(), is_ours=True, start_program="/usr/local/bin/ollama"
    )
    assert commands(found) == [
        f"{sys.executable} -I -m opskit.system.end_process 4321 {NOW - 86_400.0:.2f}",
        "/usr/local/bin/ollama serve",
    ]
    assert found.repair is not None
    assert found.repair.commands[1].detached
    assert found.repair.commands[1].cwd == "/srv"


def test_a_stopped_process_is_let_go_on():
    """Even a young one: it will not load while it is stopped."""
    found = decided(owner=held(status="stopped", began=NOW - 1))
    assert (commands(found), found.state) == (["kill -CONT 4321"], "stopped")


def test_a_debugged_process_is_left():
    """Somebody is looking at it."""
    assert decided(owner=held(status="tracing-stop")).condition is Condition.LEFT


@pytest.mark.parametrize("age_s", [0.0, 60.0, 299.0, -5.0])
def test_a_young_server_is_loading(age_s: float):
    """Within the grace of loads silence is a load, whatever the clock did."""
    found = decided(owner=held(Service("brew", "ollama", "user", "me"), began=NOW - age_s))
    assert (found.condition, found.repair) == (Condition.WAITING, None)


def test_another_program_on_the_port_is_never_restarted():
    """A web server on Ollama's port, however well systemd keeps it."""
    nginx = held(Service("systemd", "nginx.service", "system", "root"), name="nginx", command=("nginx",))
    found = decided(replace(WEDGED, speaks=False), owner=nginx, uid=0, user="root")
    assert found.repair is None
    assert "port 11434 is held by process 4321 (nginx) of nginx.service" in found.cause


def test_a_silent_server_is_known_by_its_program():
    """It answers nothing at all, but it is Ollama: its unit restarts it."""
    service = Service("systemd", "ollama.service", "user", "me")
    assert commands(decided(replace(WEDGED, speaks=False), owner=held(service)))


def test_a_pull_is_not_broken_off():
    """Somebody downloads a model just now: a restart would throw it away."""
    service = Service("brew", "ollama", "user", "me")
    found = decided(owner=held(service), at_work="somebody runs `ollama pull` (process 9)")
    assert (found.condition, found.repair) == (Condition.LEFT, None)


def test_what_a_restart_does_not_cure_is_not_restarted():
    """No model is installed."""
    problem = ServerProblem("failing", "no model", True, curable=False, remedy="`ollama pull NAME`")
    found = decided(problem, owner=held(Service("brew", "ollama", "user", "me")))
    assert (found.repair, found.remedy) == (None, "`ollama pull NAME`")


def test_a_server_on_another_machine_is_never_repaired():
    """Its address is not this machine's."""
    server = replace(SERVER, url="http://192.0.2.1:11434")
    found = decided(server=server, containers=(container("ollama", "exited"),))
    assert (found.condition, found.repair) == (Condition.BROKEN, None)


@pytest.mark.parametrize(
    ("home", "condition", "shown"),
    [
        (container(), Condition.BROKEN, ["docker restart web"]),
        (container(age_s=10.0), Condition.WAITING, []),
        (container(health="starting"), Condition.WAITING, []),
        (container(status="exited"), Condition.BROKEN, ["docker start web"]),
        (container(status="created"), Condition.BROKEN, ["docker start web"]),
        (container(status="exited", stopped=True), Condition.LEFT, []),
        (container(status="exited", project="app"), Condition.BROKEN, []),
        (container(status="paused"), Condition.LEFT, []),
        (container(status="restarting"), Condition.WAITING, []),
        (container(status="restarting", restarts=3), Condition.BROKEN, []),
        (container(status="dead"), Condition.BROKEN, []),
        (container(status="exited", action="none"), Condition.LEFT, []),
        (container(status="exited", action="notify"), Condition.BROKEN, []),
    ],
)
def test_a_container_by_its_state(home: AssessedContainer, condition: Condition, shown: list[str]):
    """Running and old is restarted, stopped is started, a person's doing is left."""
    found = decided(REFUSED, replace(SERVER, containers=("web",)), containers=(home,))
    assert (found.condition, commands(found)) == (condition, shown)


def test_a_restart_waits_for_the_containers_own_stop():
    """A stop of 240 s must not be cut off by our deadline (ops facts 2.3)."""
    assert container_restart(container(stop_timeout_s=240.0).container).timeout_s > 240.0


def test_a_process_on_the_port_of_a_stopped_container_is_not_the_container():
    """The port is somebody else's: the container is not started into it."""
    server = replace(SERVER, containers=("web",))
    found = decided(
        replace(WEDGED, speaks=False),
        server,
        owner=held(name="python", command=("python", "app.py")),
        containers=(container(status="exited"),),
    )
    assert found.repair is None
    assert "held by process 4321 (python)" in found.cause


def test_an_application_at_rest_is_opened():
    """Nothing is quit that does not run."""
    found = decided(REFUSED, inactive=InactiveService(Service("app", "Ollama")))
    assert commands(found) == ["open -ga Ollama"]


def test_an_activating_unit_is_waited_for():
    """systemd is at it."""
    rest = InactiveService(Service("systemd", "ollama.service", "user"), "activating")
    assert decided(REFUSED, inactive=rest).condition is Condition.WAITING


def test_docker_down_is_the_reason():
    """Only what lives in a container waits for Docker."""
    server = replace(SERVER, containers=("web",))
    found = decided(REFUSED, server, docker_problem="no Docker daemon answers at /x")
    assert found.condition is Condition.UNKNOWN
    assert "no Docker daemon answers" in found.cause


def test_docker_that_is_not_installed_is_no_reason():
    """A default address on a machine without Docker is simply not used."""
    server = replace(SERVER, containers=("web",), explicit=False)
    found = decided(REFUSED, server, docker_problem="no", has_docker=False)
    assert found.condition is Condition.ABSENT


def test_an_address_that_somebody_wrote_is_never_absent():
    """It was meant to be there."""
    assert decided(REFUSED).condition is Condition.BROKEN


SITUATIONS = st.fixed_dictionaries(
    {},
    optional={
        "owner": st.sampled_from(
            [
                None,
                held(),
                held(Service("brew", "ollama", "user", "me")),
                held(Service("systemd", "nginx.service", "system", "root"), name="nginx", command=("nginx",)),
                PortOwner(port=11434),
            ]
        ),
        "containers": st.sampled_from([(), (container(status="exited"),), (container(),)]),
        "docker_problem": st.sampled_from(["", "it hangs"]),
        "inactive": st.sampled_from([None, InactiveService(Service("app", "Ollama"))]),
        "program": st.sampled_from([None, process(), process(status="stopped")]),
        "is_ours": st.booleans(),
        "start_program": st.sampled_from([None, "/bin/ollama"]),
    },
)
TROUBLES = st.sampled_from(
    [WEDGED, REFUSED, replace(WEDGED, speaks=False), replace(WEDGED, curable=False, remedy="pull")]
)


@given(SITUATIONS, TROUBLES, st.booleans(), st.booleans())
def test_every_decision_is_sound(now: dict[str, Any], problem: ServerProblem, explicit: bool, starts: bool):
    """Only what is broken has a repair; what has none has a reason; no bare kill but for `-CONT`."""
    server = replace(SERVER, explicit=explicit, start=("ollama", "serve") if starts else ())
    if not starts:
        now = {
            name: value for name, value in now.items() if name not in ("program", "is_ours", "start_program")
        }
    found = decided(problem, server, **now)
    assert found.cause
    assert found.repair is None or found.condition is Condition.BROKEN
    assert found.condition is not Condition.BROKEN or found.remedy
    for command in found.repair.commands if found.repair else ():
        assert command.argv[0] != "kill" or command.argv[1] == "-CONT"
        assert command.timeout_s > 0
        assert "pull" not in command.argv
        assert "build" not in command.argv


def test_victoria_is_restarted_through_the_unit_that_schedule_installed():
    """Outside Docker it belongs to this user's systemd; nothing is killed past it."""
    server = ManagedServer(name="victoria", url="http://127.0.0.1:8010", known_by=("victoria",))
    problem = ServerProblem("level off", "the level is off: enhanced", speaks=True)
    unit = Service("systemd", "opskit-victoria.service", "user", "me")
    assert commands(decided(problem, server, owner=held(unit))) == [
        "systemctl --user restart opskit-victoria.service"
    ]
