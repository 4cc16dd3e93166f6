"""Where the Docker daemon listens."""

import hashlib
import json
from pathlib import Path

import pytest
from docker.context import ContextAPI
from docker.utils import kwargs_from_env, parse_host

from opskit.errors import OpskitError
from opskit.system.docker import Docker, daemon_clock_ns
from opskit.system.docker_host import resolve, start_remedy


@pytest.fixture
def context(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """A context of the Docker command line, in use, as Colima and OrbStack make them."""
    home = tmp_path / "home"
    meta = home / ".docker/contexts/meta" / hashlib.sha256(b"colima").hexdigest() / "meta.json"
    meta.parent.mkdir(parents=True)
    host = "unix:///home/me/.colima/default/docker.sock"
    meta.write_text(json.dumps({"Name": "colima", "Metadata": {}, "Endpoints": {"docker": {"Host": host}}}))
    (home / ".docker/config.json").write_text(json.dumps({"currentContext": "colima"}))
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("DOCKER_CONFIG", raising=False)
    return host


def test_the_context_in_use_says_where_docker_is(context: str):
    """Without DOCKER_HOST, as for the `docker` command."""
    found = resolve({})
    assert found.shown == context
    assert found.socket == context.removeprefix("unix://")


@pytest.mark.parametrize(
    "environment",
    [{}, {"DOCKER_HOST": "unix:///run/other.sock"}, {"DOCKER_HOST": ""}, {"DOCKER_CONTEXT": ""}],
)
def test_a_socket_of_this_machine_is_what_the_library_says(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    """Where no file tells of a context, the same address comes out without the library."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("DOCKER_CONFIG", raising=False)
    settings = kwargs_from_env(environment=environment)
    settings = settings or ContextAPI.kwargs_from_context(environment=environment)
    wanted = parse_host(settings.get("base_url"), False, tls=False).removeprefix("http+")
    assert resolve(environment).shown == wanted


def test_docker_host_goes_before_the_context(context: str):
    """And needs no file at all."""
    assert resolve({"DOCKER_HOST": "unix:///run/other.sock"}).socket == "/run/other.sock"


@pytest.mark.parametrize(
    ("host", "url", "ssh"),
    [
        ("tcp://10.0.0.5:2375", "http://10.0.0.5:2375", None),
        ("ssh://ops@far.example:2222", "http://docker", "ssh://ops@far.example:2222"),
    ],
)
def test_other_machines(host: str, url: str, ssh: str | None):
    """Over TCP, or through ssh."""
    found = resolve({"DOCKER_HOST": host})
    assert (found.url, found.ssh, found.socket) == (url, ssh, None)


@pytest.mark.parametrize(
    "environment",
    [
        {"DOCKER_HOST": "nonsense://x"},
        {"DOCKER_HOST": "tcp://10.0.0.5:2376", "DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": "/nowhere"},
    ],
    ids=["scheme", "certificates"],
)
def test_what_cannot_be_used_is_an_error_with_a_remedy(environment: dict[str, str]):
    """Not a traceback of the SDK."""
    with pytest.raises(OpskitError) as caught:
        resolve(environment)
    assert caught.value.code == "DOCKER_001"
    assert "DOCKER_HOST" in caught.value.remedy


@pytest.mark.parametrize(("platform", "command"), [("darwin", "open -ga Docker"), ("linux", "systemctl")])
def test_the_remedy_is_that_of_the_platform(platform: str, command: str):
    """A Mac has no systemd."""
    assert command in start_remedy(platform)


def test_a_socket_that_may_not_be_used_has_a_remedy_of_its_own():
    """Starting Docker would not help there."""
    error = Docker({})._unreachable(PermissionError(13, "Permission denied"))
    assert error.code == "DOCKER_001"
    assert "group `docker`" in error.remedy


@pytest.mark.parametrize(
    ("date", "now", "seconds"),
    [
        ("Fri, 20 Nov 2026 09:56:20 GMT", 1795168580.9, 1795168580.9),
        ("Fri, 20 Nov 2026 09:56:20 GMT", 1795168000.0, 1795168580),
        ("Fri, 20 Nov 2026 09:56:20 GMT", 1795169999.0, 1795168580),
        ("nonsense", 5.0, 5.0),
        (None, 5.0, 5.0),
    ],
)
def test_the_clock_of_the_daemon(date: str | None, now: float, seconds: float):
    """Ours, unless theirs is clearly another."""
    assert daemon_clock_ns(date, now) == int(seconds * 1e9)
