"""What other programs write, read from recorded output."""

import socket
import subprocess
import sys
from datetime import UTC, datetime
from typing import Any

import pytest

from opskit.checks.container_assessment import AssessedContainer, ContainerRules, assess_container
from opskit.checks.kinds.agents import grown, parses, says_something, source
from opskit.checks.kinds.databases import without_password
from opskit.checks.kinds.docker import container_values, states
from opskit.checks.kinds.machine import apple, nvidia
from opskit.checks.kinds.network import unresolved, without_secrets
from opskit.facts.container import Container, container
from opskit.system.sockets import groups, launchd_label
from opskit.system.textfile import parse_env_file

RULES = ContainerRules(60.0, 300.0)
INSPECTED = {
    "Name": "/knowledge_os_worker",
    "RestartCount": 3,
    "State": {
        "Status": "running",
        "Running": True,
        "ExitCode": 0,
        "OOMKilled": False,
        "StartedAt": "2026-01-01T00:00:00.123456789Z",
        "Health": {"Status": "unhealthy", "Log": [{"Output": "no answer\n"}]},
    },
    "Config": {
        "Image": "worker:1",
        "Env": ["MLX_API_URL=http://x", "TOKEN=geheim"],
        "Labels": {"com.docker.compose.service": "worker"},
    },
    "NetworkSettings": {"Networks": {"atra-network": {}}},
}


def test_docker_inspect_gives_health_restarts_and_age():
    """The values of a container come out of `docker inspect`; values of variables do not."""
    record = container(INSPECTED)
    now = datetime(2026, 1, 1, 0, 1, tzinfo=UTC)
    assessment = assess_container(record, peers={}, events=None, rules=RULES, now=now)
    values = container_values(AssessedContainer(record, assessment))
    assert (values["health"], values["restarts"], values["networks"]) == ("unhealthy", 3, ["atra-network"])
    assert values["up_s"] == pytest.approx(59.88, abs=0.01)
    assert values["variables"] == ["MLX_API_URL", "TOKEN"]
    assert "geheim" not in str(values)


def judged(service: str, **more: Any) -> AssessedContainer:
    """A container of a service of Compose, assessed."""
    one = Container(**{"id": service, "name": service, "service": service, "status": "running", **more})
    assessment = assess_container(
        one, peers={}, events=None, rules=RULES, now=datetime(2026, 1, 1, tzinfo=UTC)
    )
    return AssessedContainer(one, assessment)


def test_services_are_up_when_all_their_containers_are():
    """A scaled service with one container down is down; a one-shot that ended well is up."""
    web, ended = judged("web"), judged("web", status="exited", exit_code=1)
    job = judged("job", status="exited")
    assert states([web, ended, job], ["job", "web", "db"], ["job"])["down"] == ["web", "db"]
    assert states([web, job], ["job", "web"], ["job"])["up"] == ["job", "web"]
    assert states([job], ["job"], [])["down"] == ["job"]


def test_nvidia_smi_is_read():
    """Memory in bytes, and None for what a card does not tell."""
    text = "NVIDIA GeForce RTX 4090, 24564, 2048, 17, 45\nno devices\nT4, 15360, 0, [N/A], 30\n"
    first, second = nvidia(text)
    assert (first.name, first.memory_used_bytes) == ("NVIDIA GeForce RTX 4090", 2048 * 1024 * 1024)
    assert second.used_percent is None


def test_system_profiler_is_read():
    """An Apple GPU has a name and shares the machine's memory; broken output is no GPU."""
    assert apple('{"SPDisplaysDataType": [{"_name": "x", "sppci_model": "Apple M2"}]}')[0].name == "Apple M2"
    assert apple("oh no") == []


def test_an_environment_file_is_read_as_compose_reads_it():
    """Names, empty ones, doubles and broken lines; quotes may span lines; no value is shown by accident."""
    file = parse_env_file(
        "# note\nexport A=1\nB=\nC='' # empty\nD=\"two\nlines\"\nA=2\n\nnonsense\n"
        "E= # nothing\nF=x#y\n1G=x\nH=#x\n"
    )
    assert file.values == {"A": "2", "B": "", "C": "", "D": "two\nlines", "E": "", "F": "x#y", "H": "#x"}
    assert (file.repeated, file.malformed) == (("A",), (9, 12))
    assert "two" not in repr(file)


@pytest.mark.parametrize(
    "text, unit, container",
    [
        ("0::/system.slice/ollama.service\n", "ollama.service", None),
        ("0::/system.slice/docker-" + "a" * 64 + ".scope\n", None, "a" * 64),
        ("12:cpu:/docker/" + "b" * 64 + "\n", None, "b" * 64),
        ("0::/user.slice/user-1000.slice/user@1000.service/app.slice/mlx.service\n", "mlx.service", None),
        ("0::/\n", None, None),
    ],
)
def test_the_owner_of_a_process_is_in_its_cgroup(text: str, unit: str | None, container: str | None):
    """systemd units, user units included, and containers under both cgroup versions."""
    assert groups(text) == (unit, container)


def test_launchctl_names_the_job_of_a_process():
    """The label in the row of the process, none for another."""
    listing = "PID\tStatus\tLabel\n812\t0\tcom.ollama.ollama\n-\t0\tcom.apple.x\n"
    assert launchd_label(listing, 812) == "com.ollama.ollama"
    assert launchd_label(listing, 81) is None


@pytest.mark.parametrize(
    "url, shown",
    [
        ("postgresql://bob:geheim@db:5433/knowledge?sslmode=require", "db:5433/knowledge"),
        ("postgresql:///knowledge", "local/knowledge"),
        ("sqlite:///var/x.db", "/var/x.db"),
    ],
)
def test_a_database_is_shown_without_its_password(url: str, shown: str):
    """User, password and options stay out of reports."""
    assert without_password(url) == shown


def test_a_url_is_shown_without_user_and_query():
    """Neither a password nor a token in the query is shown."""
    assert without_secrets("http://u:p@h:80/a?token=x") == "http://h:80/a"


def test_code_comes_out_of_its_fence():
    """A fenced answer is its code; prose is no Python."""
    assert source("Sure!\n```python\nx = 1\n```\nDone.") == "x = 1"
    assert parses("x = 1")
    assert not parses("Sure, here you are")
    assert not parses("")


@pytest.mark.parametrize(
    "before, after, moved",
    [
        ({"reviews": 1}, {"reviews": 2}, True),
        ({"reviews": 1}, {"reviews": 1}, False),
        ({}, {"up": True}, None),
    ],
)
def test_a_review_that_is_not_counted_did_not_happen(before: dict, after: dict, moved: bool | None):
    """The reviewer's own statistics are the evidence, where it has any."""
    assert grown(before, after) is moved


@pytest.mark.parametrize(
    "review, real",
    [({"issues": ["name"]}, True), ({"code": "x"}, False), ({}, False), ("x", False), ("well done", True)],
)
def test_a_review_says_something_of_its_own(review: object, real: bool):
    """Nothing, and the code handed back, are no review."""
    assert says_something(review, "x") is real


def test_a_missing_driver_is_told_with_the_command_that_installs_it():
    """Without psycopg a PostgreSQL check is inconclusive; nothing else needs it."""
    code = (
        "import sys\nsys.modules['psycopg'] = None\n"
        "from opskit.checks.kinds.databases import driver\nfrom opskit.checks.spec import Unjudged\n"
        "try:\n    driver()\nexcept Unjudged as why:\n    print(why.remedy)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert done.stdout.strip() == "`pip install 'opskit[postgres]'`", done.stderr


@pytest.mark.parametrize(
    "name, exc, known",
    [
        ("gone.example", socket.gaierror(socket.EAI_NONAME, "Name or service not known"), True),
        ("gone.invalid.", socket.gaierror(socket.EAI_AGAIN, "Temporary failure"), True),
        ("gone.example", socket.gaierror(socket.EAI_AGAIN, "Temporary failure"), False),
        ("gone.example", socket.gaierror(socket.EAI_FAIL, "Non-recoverable failure"), False),
        ("notinvalid", socket.gaierror(socket.EAI_AGAIN, "Temporary failure"), False),
        ("a..b", UnicodeError("label empty or too long"), False),
    ],
)
def test_a_resolver_that_does_not_answer_says_nothing_of_a_name(name: str, exc: Exception, known: bool):
    """Only a resolver that knows of no such name settles that it does not resolve; .invalid never does."""
    assert ("resolves" in unresolved(name, exc).settled) is known
