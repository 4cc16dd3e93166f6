"""Every command that looks at containers says the same of the same `docker inspect` document."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from opskit.checks.check_shape import compile_expectation
from opskit.checks.container_assessment import (
    STATUSES,
    AssessedContainer,
    ContainerCondition,
    ContainerRepair,
    ContainerRules,
    assess_container,
)
from opskit.checks.kinds import KINDS
from opskit.checks.kinds.docker import observed_container
from opskit.checks.runner import judged as judged_check
from opskit.checks.spec import Check
from opskit.config.load import LoadedConfig
from opskit.config.schema import Config, RecoveryConfig
from opskit.diagnose.containers import SampledContainer, judged
from opskit.doctor.areas.containers import causes, checks, observed_conditions
from opskit.doctor.evidence import Evidence, ExaminedContainer
from opskit.doctor.target import ExaminationTarget
from opskit.facts.container import container
from opskit.facts.container_events import ContainerEvents
from opskit.records import replace
from opskit.recovery.step import Condition
from opskit.recovery.steps.decision import ServerProblem, decide
from opskit.recovery.steps.project_facts import ProjectFacts
from opskit.recovery.steps.project_state import ProjectAssessment
from opskit.recovery.steps.server import ManagedServer, ServerFacts
from opskit.result import Status
from opskit.system.compose_declaration import ComposeService, Project
from opskit.system.docker_records import DockerEvent
from opskit.watch.containers import watched

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
RULES = ContainerRules.of(RecoveryConfig())
TARGET = ExaminationTarget(
    loaded=LoadedConfig(Config("/state", (), ()), {}), environ={}, cwd=Path("/"), platform="linux"
)
WELL, WAITING, LEFT, SICK, UNCHECKED = ContainerCondition
NEVER = "0001-01-01T00:00:00Z"


def ago(seconds: float) -> str:
    return (NOW - timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z")


def inspected(
    status: str = "running",
    *,
    code: int = 0,
    up_s: float | None = 3600.0,
    ended_s: float | None = None,
    health: str | None = None,
    checks: tuple[tuple[int, str], ...] = ((1, "no disk"),),
    restart: str = "no",
    labels: Mapping[str, str] | None = None,
    **more: Any,
) -> dict[str, Any]:
    """A document of `docker inspect`: a container of service `web` of project `p`."""
    state: dict[str, Any] = {
        "Status": status,
        "Running": status in ("running", "paused", "restarting"),
        "ExitCode": code,
        "OOMKilled": more.pop("oom", False),
        "Error": more.pop("error", ""),
        "StartedAt": NEVER if up_s is None else ago(up_s),
        "FinishedAt": NEVER if ended_s is None else ago(ended_s),
    }
    config: dict[str, Any] = {"Image": "web:1", "Env": [], "Labels": {**_LABELS, **(labels or {})}}
    if health is not None:
        log = [{"End": ago(1), "ExitCode": exit_code, "Output": said} for exit_code, said in checks]
        state["Health"] = {"Status": health, "Log": log}
        config["Healthcheck"] = {
            "Test": more.pop("test", ["CMD-SHELL", "curl -f http://localhost || exit 1"])
        }
    host = {"RestartPolicy": {"Name": restart}, **more.pop("host", {})}
    return {
        "Id": "1" * 64,
        "Name": "/p_web_1",
        "Image": "sha256:1",
        "State": state,
        "Config": config,
        "HostConfig": host,
        "RestartCount": more.pop("restarts", 0),
        **more,
    }


def another(labels: Mapping[str, str] | None = None, **more: Any) -> dict[str, Any]:
    """A container of service `app` of the same project."""
    service = {"com.docker.compose.service": "app"}
    return inspected(labels={**service, **(labels or {})}, Id=OWNER, Name="/p_app_1", **more)


_LABELS = {"com.docker.compose.project": "p", "com.docker.compose.service": "web"}
OWNER = "2" * 64
SHARES = {"NetworkMode": f"container:{OWNER}"}
THERE = "3" * 64
NETWORKS = frozenset({THERE})
MISSING = ((0, ""), (1, "/bin/sh: curl: not found"))


@dataclass(frozen=True)
class ContainerCase:
    """One case: the document, what Docker remembers (`None`: not everything), its peers, what it must be."""

    name: str
    document: dict[str, Any]
    condition: ContainerCondition
    repair: ContainerRepair | None = None
    events: tuple[str, ...] | None = ()
    peer: dict[str, Any] | None = None
    were_ended: bool = False


def joined(network: str) -> dict[str, Any]:
    """A container that was killed, in a network of that id."""
    return inspected(
        "exited", code=137, ended_s=900.0, NetworkSettings={"Networks": {"p_own": {"NetworkID": network}}}
    )


START, RESTART, RECREATE = ContainerRepair.START, ContainerRepair.RESTART, ContainerRepair.RECREATE
JOB = {"com.docker.compose.depends_on": "web:service_completed_successfully:false"}
USER = {"com.docker.compose.depends_on": "web:service_started:false"}
CASES = [
    ContainerCase("no health check", inspected(), WELL),
    ContainerCase("healthy", inspected(health="healthy", checks=((0, ""),)), WELL),
    ContainerCase("3 restarts, up 120 s", inspected(restarts=3, up_s=120.0, restart="always"), WELL),
    ContainerCase("3 restarts, up 2 s", inspected(restarts=3, up_s=2.0, restart="always"), SICK),
    ContainerCase("1 restart, up 2 s", inspected(restarts=1, up_s=2.0, restart="always"), WELL),
    ContainerCase(
        "restarting for the first time",
        inspected("restarting", code=3, restart="always", restarts=1),
        WAITING,
    ),
    ContainerCase(
        "restarting again and again", inspected("restarting", code=3, restart="always", restarts=9), SICK
    ),
    ContainerCase("health is starting", inspected(health="starting", up_s=5.0, checks=()), WAITING),
    ContainerCase("health of an earlier life", inspected(health="unhealthy", up_s=0.5), WAITING),
    ContainerCase("unhealthy within its grace", inspected(health="unhealthy", up_s=59.0), WAITING),
    ContainerCase(
        "unhealthy, was healthy",
        inspected(health="unhealthy", up_s=30.0, checks=((0, ""), (1, ""))),
        SICK,
        RESTART,
    ),
    ContainerCase("unhealthy beyond its grace", inspected(health="unhealthy", up_s=61.0), SICK, RESTART),
    ContainerCase("check cannot run", inspected(health="unhealthy", checks=MISSING), UNCHECKED),
    ContainerCase(
        "check cannot run, young", inspected(health="unhealthy", checks=MISSING, up_s=30.0), UNCHECKED
    ),
    ContainerCase(
        "check was too slow",
        inspected(health="unhealthy", checks=((-1, "Health check exceeded timeout (1s)"),)),
        SICK,
        RESTART,
    ),
    ContainerCase("created, never started", inspected("created", up_s=None), SICK, START),
    ContainerCase(
        "created, could not start",
        inspected("created", up_s=None, code=128, error="port is allocated"),
        SICK,
        START,
    ),
    ContainerCase("exited 0, one-off job", inspected("exited", ended_s=900.0), WELL),
    ContainerCase(
        "exited 0, restart=on-failure", inspected("exited", ended_s=900.0, restart="on-failure"), WELL
    ),
    ContainerCase(
        "exited 0, restart=always", inspected("exited", ended_s=900.0, restart="always"), SICK, START
    ),
    ContainerCase(
        "exited 0, publishes a port",
        inspected("exited", ended_s=900.0, host={"PortBindings": {"80/tcp": [{"HostPort": "80"}]}}),
        SICK,
        START,
    ),
    ContainerCase(
        "exited 0, has a health check", inspected("exited", ended_s=900.0, health="unhealthy"), SICK, START
    ),
    ContainerCase(
        "exited 0, awaited to complete",
        inspected("exited", ended_s=900.0, health="unhealthy"),
        WELL,
        peer=another(JOB),
    ),
    ContainerCase(
        "exited 0, needed by another service",
        inspected("exited", ended_s=900.0),
        SICK,
        START,
        peer=another(USER),
    ),
    ContainerCase("exited 1, restart=no", inspected("exited", code=1, ended_s=900.0), SICK, START),
    ContainerCase(
        "exited 1, restart=on-failure gave up",
        inspected("exited", code=1, ended_s=900.0, restart="on-failure", restarts=5),
        SICK,
        START,
    ),
    ContainerCase("exited 130 long ago", inspected("exited", code=130, ended_s=900.0), SICK, START),
    ContainerCase("exited 143 long ago", inspected("exited", code=143, ended_s=900.0), SICK, START),
    ContainerCase(
        "exited 137, out of memory", inspected("exited", code=137, oom=True, ended_s=9.0), SICK, START
    ),
    ContainerCase(
        "exited 137, killed just now",
        inspected("exited", code=137, ended_s=9.0),
        SICK,
        START,
        ("kill", "die"),
    ),
    ContainerCase(
        "exited 137, stopped just now",
        inspected("exited", code=137, ended_s=9.0),
        LEFT,
        None,
        ("kill", "die", "stop"),
    ),
    ContainerCase(
        "exited 143, stopped just now",
        inspected("exited", code=143, ended_s=9.0),
        LEFT,
        None,
        ("die", "stop"),
    ),
    ContainerCase(
        "exited 0, stopped just now", inspected("exited", ended_s=9.0), LEFT, None, ("die", "stop")
    ),
    ContainerCase(
        "stopped, started, crashed",
        inspected("exited", code=1, ended_s=9.0),
        SICK,
        START,
        ("stop", "start", "die"),
    ),
    ContainerCase(
        "exited just now, Docker has forgotten why",
        inspected("exited", code=1, ended_s=9.0),
        LEFT,
        None,
        None,
    ),
    ContainerCase(
        "stopped long ago", inspected("exited", code=143, ended_s=301.0), SICK, START, ("die", "stop")
    ),
    ContainerCase(
        "replica scaled down",
        inspected("exited", code=143, ended_s=9.0, labels={"com.docker.compose.container-number": "2"}),
        LEFT,
        None,
        ("die", "stop"),
    ),
    ContainerCase(
        "stopped just now, owner of its network is gone",
        inspected("exited", code=143, ended_s=9.0, host=SHARES),
        LEFT,
        None,
        ("die", "stop"),
    ),
    ContainerCase("paused by a person", inspected("paused"), LEFT),
    ContainerCase("dead", inspected("dead", code=1, ended_s=900.0), SICK),
    ContainerCase("removing", inspected("removing", ended_s=9.0), WAITING),
    ContainerCase("of another project", inspected(labels={"com.docker.compose.project": "q"}), WELL),
    ContainerCase(
        "label forbids a repair",
        inspected("exited", code=1, ended_s=900.0, labels={"opskit.action": "none"}),
        LEFT,
    ),
    ContainerCase(
        "label of autoheal forbids it", inspected(health="unhealthy", labels={"autoheal": "false"}), LEFT
    ),
    ContainerCase(
        "label asks to tell a person", inspected(health="unhealthy", labels={"opskit.action": "notify"}), SICK
    ),
    ContainerCase(
        "label asks to stop it",
        inspected(health="unhealthy", labels={"opskit.action": "stop"}),
        SICK,
        ContainerRepair.STOP,
    ),
    ContainerCase("owner of its network was replaced", inspected(host=SHARES), SICK, RECREATE),
    ContainerCase(
        "owner of its network was restarted",
        inspected(host=SHARES),
        SICK,
        RESTART,
        peer=another(up_s=9.0),
    ),
    ContainerCase("owner of its network runs", inspected(host=SHARES, up_s=9.0), WELL, peer=another()),
    ContainerCase("its network is there", joined(THERE), SICK, START),
    ContainerCase("its network was removed", joined("4" * 64), SICK, RECREATE),
    ContainerCase("it is of a swarm's network", joined("k" * 25), SICK, START),
    ContainerCase(
        "exited 0, ended by others", inspected("exited", ended_s=900.0), SICK, START, were_ended=True
    ),
    ContainerCase(
        "exited 0, ended by others, awaited to complete",
        inspected("exited", ended_s=900.0),
        WELL,
        peer=another(JOB),
        were_ended=True,
    ),
]


def assessed(case: ContainerCase) -> AssessedContainer:
    one = container(case.document)
    peers = {each.id: each for each in (one, *([container(case.peer)] if case.peer else []))}
    assessment = assess_container(
        one, peers=peers, events=past(case), rules=RULES, now=NOW, networks=NETWORKS
    )
    return AssessedContainer(one, assessment)


def past(case: ContainerCase) -> ContainerEvents:
    at_ns = int((NOW - timedelta(seconds=9)).timestamp() * 1e9)
    actions = case.events or ()
    events = [
        DockerEvent(at_ns + n, case.document["Id"], "p_web_1", action) for n, action in enumerate(actions)
    ]
    were_ended = frozenset({case.document["Id"]} if case.were_ended else ())
    return ContainerEvents(NOW, events, complete=case.events is not None, were_ended=were_ended)


def verify(case: ContainerCase) -> tuple[str, Status]:
    kind = KINDS["container"]
    expect = compile_expectation(kind.expects, kind.yields, (), lambda *_: None)
    check = Check("it", kind, kind.params(name="p_web_1"), expect)
    finding = judged_check(check, observed_container(assessed(case), 1), 0.0)
    return finding.evidence["values"]["condition"], finding.status


def doctor(case: ContainerCase) -> tuple[ExaminedContainer, str, Status]:
    one = assessed(case)
    examined = ExaminedContainer(one.container, one.assessment)
    check = next(check for check in checks(TARGET) if check.name == "containers are well")
    finding = judged_check(check, observed_conditions((examined,)), 0.0)
    return examined, finding.evidence["conditions"]["p_web_1"], finding.status


def recover(case: ContainerCase) -> tuple[str, set[Condition], list[str]]:
    """What the project says of it, the conditions that are told, and the services that `up` would start."""
    records = [container(case.document), *([container(case.peer)] if case.peer else [])]
    services = {
        name: ComposeService(name, ("i",), networks=()) for name in {one.service or "" for one in records}
    }
    facts = ProjectFacts(
        key="app",
        project=Project("p", "2.0", services),
        containers=records,
        now=NOW,
        rules=RULES,
        events=past(case),
        networks=NETWORKS,
    )
    assessment = ProjectAssessment(facts)
    project, *others = assessment.findings
    own = [one for one in others if one.target == "container:p_web_1"]
    start = [name for name in assessment.start if name == "web"]
    waits = {project.condition} if project.condition is Condition.WAITING else set()
    return project.evidence["containers"]["p_web_1"], {one.condition for one in own} | waits, start


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_six_commands_say_the_same_of_one_document(case: ContainerCase):
    """verify, doctor, diagnose, recover, watch, and recovery of a node or an agent that lives in it."""
    one = assessed(case)
    assert (one.condition, one.assessment.repair) == (case.condition, case.repair)
    assert bool(one.assessment.remedy) is (case.condition not in (WELL, WAITING))
    told, status = verify(case)
    wanted = {WELL: Status.PASS, WAITING: Status.INCONCLUSIVE, UNCHECKED: Status.INCONCLUSIVE}
    assert (told, status) == (case.condition, wanted.get(case.condition, Status.FAIL))

    examined, told, status = doctor(case)
    wanted = {WELL: Status.PASS, WAITING: Status.PASS, UNCHECKED: Status.INCONCLUSIVE}
    assert (told, status) == (case.condition, wanted.get(case.condition, Status.FAIL))
    found = list(causes(Evidence(target=TARGET, containers=(examined,))))
    graver = {LEFT: [Status.WARN], UNCHECKED: [Status.WARN], SICK: [Status.FAIL]}
    assert [cause.status for cause in found] == graver.get(case.condition, [])

    finding = judged(SampledContainer(one), 80.0)
    assert (finding.evidence["condition"], finding.status) == (case.condition, STATUSES[case.condition])

    told, conditions, start = recover(case)
    assert told == case.condition
    means = {WAITING: {Condition.WAITING}, LEFT: {Condition.LEFT}, UNCHECKED: {Condition.UNKNOWN}}
    if case.condition is SICK:
        # What is down is told with its project.
        assert conditions == (set() if one.is_down else {Condition.BROKEN})
        assert start == (["web"] if case.repair is START else [])
    elif case.document["State"]["Status"] != "removing":
        assert conditions == means.get(case.condition, set())
        assert start == []

    assert watched(None, one, 0.0).condition == case.condition

    server = ManagedServer(name="victoria", url="http://127.0.0.1:1", containers=("p_web_1",))
    facts = ServerFacts(now_s=NOW.timestamp(), user="me", uid=501, containers=(one,))
    decision = decide(server, ServerProblem("refused", "nothing listens"), facts, RecoveryConfig())
    if case.condition is LEFT:
        assert (decision.condition, decision.repair) == (Condition.LEFT, None)
    if case.condition is WAITING:
        assert (decision.condition, decision.repair) == (Condition.WAITING, None)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_doctor_offers_no_fix_that_recovery_would_not_make(case: ContainerCase):
    """What is left to people, runs, or did its work, has no fix; a safe one only starts what is down."""
    examined, *_ = doctor(case)
    for cause in causes(Evidence(target=TARGET, containers=(examined,))):
        if cause.fix is not None:
            assert case.repair in (ContainerRepair.START, ContainerRepair.RESTART)
            assert cause.fix.command == ("docker", case.repair.value, "p_web_1")
            assert cause.fix.safe is (case.repair is ContainerRepair.START)


def test_the_start_period_of_a_check_is_a_grace_too():
    """The longer one counts."""
    document = inspected(health="unhealthy", up_s=100.0)
    document["Config"]["Healthcheck"]["StartPeriod"] = 600_000_000_000
    assert assessed(replace(CASES[0], document=document)).condition is WAITING
