"""What differs between the shell and the job."""

import pytest

from opskit.records import replace
from opskit.schedule.inside import Difference, ProcessView, ServerReach, compare, view_from

SHELL = ProcessView(
    path="/opt/bin:/usr/bin",
    cwd="/home/me",
    home="/home/me",
    encoding="UTF-8",
    programs={"docker": "/opt/bin/docker", "orb": None},
    files={"/srv/compose.yml": "readable", "/gone": "absent"},
    servers={
        "ollama": ServerReach("http://127.0.0.1:11434"),
        "gpu": ServerReach("http://192.168.1.20:11434", loopback=False),
    },
    config="/home/me/opskit.yaml",
    docker="unix:///run/docker.sock",
)


def only(inside: ProcessView, platform: str = "linux") -> Difference:
    (found,) = compare(SHELL, inside, platform=platform)
    return found


def test_the_same_sight_has_no_differences() -> None:
    """PATH and folder always differ, and alone do no harm."""
    assert compare(SHELL, replace(SHELL, path="/usr/bin", cwd="/"), platform="darwin") == ()


def test_what_is_broken_in_both_is_no_difference() -> None:
    """A daemon that is down everywhere is not the scheduler's doing."""
    down = replace(SHELL, docker_problem="refused", servers={})
    assert compare(down, replace(down), platform="linux") == ()


def test_a_program_that_the_job_does_not_find() -> None:
    """It is named with the place where the shell finds it."""
    found = only(replace(SHELL, programs={"docker": None, "orb": None}))
    assert found.harmful
    assert "docker, which is /opt/bin/docker" in found.text
    assert "schedule install" in found.remedy


def test_another_program_of_the_same_name_is_worth_a_word() -> None:
    """Two installations may be of two versions; it is no failure."""
    assert not only(replace(SHELL, programs={"docker": "/usr/bin/docker"})).harmful


@pytest.mark.parametrize(
    "access, platform, words",
    [
        ("denied", "darwin", "macOS denies the job /srv/compose.yml"),
        ("denied", "linux", "the job may not read /srv/compose.yml"),
        ("absent", "linux", "/srv/compose.yml is not there for the job"),
    ],
)
def test_denied_is_not_absent(access, platform: str, words: str) -> None:
    """Each has a sentence and a remedy of its own."""
    assert words in only(replace(SHELL, files={"/srv/compose.yml": access}), platform).text


def test_the_local_network_privacy_of_macos_is_recognised() -> None:
    """Errno 65 for a host of the local network that the shell reaches is macOS, not the network."""
    gpu = ServerReach("http://192.168.1.20:11434", "unreachable", 65, loopback=False)
    inside = replace(SHELL, servers={**SHELL.servers, "gpu": gpu})
    assert "macOS keeps the local network" in only(inside, "darwin").text
    assert "Local Network" in only(inside, "darwin").remedy
    assert "unreachable" in only(inside, "linux").text


@pytest.mark.parametrize(
    "server, denied",
    [
        (ServerReach("http://10.0.0.2", "unreachable", 65, loopback=False), True),
        (ServerReach("http://10.0.0.2", "unreachable", None, loopback=False, curl=True), True),
        (ServerReach("http://10.0.0.2", "unreachable", 51, loopback=False, curl=False), False),
        (ServerReach("http://10.0.0.2", "refused", 61, loopback=False), False),
        (ServerReach("http://localhost", "unreachable", 65, loopback=True), False),
    ],
)
def test_only_an_unreachable_host_of_the_network_is_denied(server: ServerReach, denied: bool) -> None:
    """Loopback is never denied, and a refusal is an answer."""
    assert server.denied_by_privacy("darwin") is denied


@pytest.mark.parametrize(
    "inside, topic",
    [
        (replace(SHELL, config="/etc/other.yaml"), "configuration"),
        (replace(SHELL, config_problem="X is not set"), "configuration"),
        (replace(SHELL, docker_problem="refused"), "docker"),
        (replace(SHELL, docker="tcp://box"), "docker"),
        (replace(SHELL, home="/var/root"), "home"),
        (replace(SHELL, encoding="US-ASCII"), "locale"),
        (replace(SHELL, unset=("KEY",)), "secrets"),
        (replace(SHELL, servers={**SHELL.servers, "mlx": ServerReach("http://127.0.0.1:1")}), "servers"),
        (replace(SHELL, servers={"gpu": SHELL.servers["gpu"]}), "servers"),
        (replace(SHELL, servers={**SHELL.servers, "ollama": ServerReach("http://127.0.0.1:2")}), "servers"),
    ],
)
def test_each_difference_has_its_topic_and_a_remedy(inside: ProcessView, topic: str) -> None:
    """One difference yields one sentence, and something to do about it."""
    found = only(inside)
    assert found.topic == topic
    assert found.text
    assert found.remedy


def test_harm_comes_first() -> None:
    """What to mend stands above what is good to know."""
    found = compare(SHELL, replace(SHELL, encoding="US-ASCII", home="/", unset=("K",)), platform="linux")
    assert [one.harmful for one in found] == [True, False, False]


@pytest.mark.parametrize(
    "written", ["", "x", "[]", "{}", '{"servers": {"a": {"b": 1}}, "unset": []}', "null"]
)
def test_an_answer_of_something_else_is_refused(written: str) -> None:
    """An older version behind the same interpreter is no crash."""
    with pytest.raises(ValueError):
        view_from(written)
