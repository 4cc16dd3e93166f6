"""Which runtime a socket belongs to, and how each is brought up."""

import errno
from collections.abc import Iterator
from pathlib import Path

import pytest

from opskit.config.schema import StackConfig
from opskit.errors import OpskitError
from opskit.recovery.steps.docker_daemon import KILLED, RESTARTED, DaemonState, plan, state_of, used
from opskit.system.docker_host import Host
from opskit.system.docker_runtime import Machine, Runtime, RuntimeKind, runtime


def of(tmp_path: Path, platform: str = "darwin", **given: object) -> Machine:
    base = Machine(platform, tmp_path, "", apps=(tmp_path / "Applications",), booted=tmp_path / "booted")
    return Machine(**{**{name: getattr(base, name) for name in base.__slots__}, **given})  # type: ignore[arg-type]


def unix(path: Path | str) -> Host:
    return Host(f"unix://{path}", socket=str(path))


@pytest.mark.parametrize(
    ("socket", "kind"),
    [
        (".docker/run/docker.sock", RuntimeKind.DESKTOP),
        (".orbstack/run/docker.sock", RuntimeKind.ORBSTACK),
        (".colima/default/docker.sock", RuntimeKind.COLIMA),
        (".colima/docker.sock", RuntimeKind.COLIMA),
        (".config/colima/work/docker.sock", RuntimeKind.COLIMA),
        (".lima/x/docker.sock", RuntimeKind.UNKNOWN),
    ],
)
def test_a_socket_in_the_home_folder_tells_its_runtime(tmp_path: Path, socket: str, kind: RuntimeKind):
    """By where it lies, whether anything listens there or not."""
    assert runtime(unix(tmp_path / socket), of(tmp_path)).kind is kind


def test_the_common_socket_of_a_mac_is_followed(tmp_path: Path):
    """`/var/run/docker.sock` is a link to the runtime that made it last, also when that is down."""
    link = tmp_path / "docker.sock"
    link.symlink_to(tmp_path / ".orbstack/run/docker.sock")
    assert runtime(unix(link), of(tmp_path)).kind is RuntimeKind.ORBSTACK


@pytest.mark.parametrize(
    ("apps", "kind"),
    [
        (["Docker"], RuntimeKind.DESKTOP),
        (["OrbStack"], RuntimeKind.ORBSTACK),
        (["Docker", "OrbStack"], RuntimeKind.UNKNOWN),
        ([], RuntimeKind.UNKNOWN),
    ],
)
def test_a_socket_that_is_not_there_is_that_of_the_only_runtime(
    tmp_path: Path, apps: list[str], kind: RuntimeKind
):
    """With two of them installed it cannot be told which one a person means."""
    for app in apps:
        (tmp_path / "Applications" / f"{app}.app").mkdir(parents=True)
    assert runtime(unix("/var/run/docker.sock"), of(tmp_path)).kind is kind


def test_linux_services_are_told_apart(tmp_path: Path):
    """The system's socket, one user's, and Docker Desktop's."""
    linux = of(tmp_path, "linux", runtime_folder=str(tmp_path / "run"))
    assert runtime(unix("/var/run/docker.sock"), linux).kind is RuntimeKind.SERVICE
    assert runtime(unix(tmp_path / "run/docker.sock"), linux).kind is RuntimeKind.USER_SERVICE
    assert runtime(unix(tmp_path / ".docker/desktop/docker.sock"), linux).kind is RuntimeKind.DESKTOP


@pytest.mark.parametrize(
    ("host", "kind"),
    [
        (Host("ssh://me@there", ssh="ssh://me@there"), RuntimeKind.REMOTE),
        (Host("tcp://192.0.2.1:2375", url="http://192.0.2.1:2375"), RuntimeKind.REMOTE),
        (Host("tcp://127.0.0.1:2375", url="http://127.0.0.1:2375"), RuntimeKind.UNKNOWN),
    ],
)
def test_addresses_are_not_services_of_this_machine(tmp_path: Path, host: Host, kind: RuntimeKind):
    """Neither is repaired."""
    found = runtime(host, of(tmp_path, "linux"))
    assert found.kind is kind
    assert commands(found, "down") is None


def commands(
    found: Runtime,
    state: str,
    *,
    due: tuple[str, ...] = (RESTARTED, KILLED),
    desktop: bool = True,
    root: bool = True,
) -> list[str] | None:
    made = plan(
        found,
        DaemonState(state),
        "why",
        due=due,
        desktop_command=desktop,
        processes=[(7, 12.5)],
        administrator=root,
    )
    return None if made is None else [one.shown.partition("-m ")[2] or one.shown for one in made.commands]


def cases() -> Iterator[tuple[Runtime, str, dict[str, object], list[str] | None]]:
    desktop, orb = Runtime(RuntimeKind.DESKTOP, mac=True), Runtime(RuntimeKind.ORBSTACK, mac=True)
    colima = Runtime(RuntimeKind.COLIMA, profile="work", mac=True)
    service, bare = Runtime(RuntimeKind.SERVICE, managed=True), Runtime(RuntimeKind.SERVICE)
    last: dict[str, object] = {"due": (KILLED,)}
    yield desktop, "down", {}, ["docker desktop start --detach"]
    yield desktop, "down", {"desktop": False}, ["open -ga Docker"]
    yield desktop, "hung", {}, ["docker desktop restart --detach"]
    ended = "opskit.system.end_process 7 12.50"
    yield desktop, "hung", last, [ended, "open -ga Docker"]
    yield desktop, "hung", {"desktop": False}, [ended, "open -ga Docker"]
    yield desktop, "hung", {"due": ()}, None
    yield orb, "hung", last, ["orb stop", "orb start"]
    yield colima, "down", {}, ["colima start --profile work"]
    yield colima, "hung", {}, ["colima restart --profile work"]
    yield colima, "hung", last, ["colima stop --force --profile work", "colima start --profile work"]
    yield service, "down", {}, ["systemctl start docker"]
    yield service, "down", {"root": False}, None
    yield service, "hung", {}, ["systemctl restart docker"]
    yield service, "hung", last, None
    yield bare, "down", {}, None
    yield (
        Runtime(RuntimeKind.USER_SERVICE, managed=True),
        "hung",
        {"root": False},
        ["systemctl --user restart docker"],
    )
    yield Runtime(RuntimeKind.DESKTOP, managed=True), "down", {}, ["systemctl --user start docker-desktop"]
    yield Runtime(RuntimeKind.REMOTE), "hung", {}, None
    yield Runtime(RuntimeKind.UNKNOWN), "down", {}, None


@pytest.mark.parametrize(("found", "state", "given", "wanted"), list(cases()))
def test_each_runtime_has_its_commands(
    found: Runtime, state: str, given: dict[str, object], wanted: list[str] | None
):
    """The table: what is run for which runtime, state, mark and right."""
    assert commands(found, state, **given) == wanted  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("cause", "state"),
    [
        (TimeoutError(), "hung"),
        (FileNotFoundError(errno.ENOENT, ""), "down"),
        (ConnectionRefusedError(errno.ECONNREFUSED, ""), "down"),
        (PermissionError(errno.EACCES, ""), "forbidden"),
        (ValueError("no JSON"), "unclear"),
        (None, "unclear"),
    ],
)
def test_an_error_is_classed_by_what_the_connection_came_to(cause: Exception | None, state: str):
    """Not by its words."""
    error = OpskitError("DOCKER_001", "no")
    error.__cause__ = cause
    assert state_of(error) == state


def test_only_what_is_configured_makes_docker_needed():
    """opskit's own assumptions are no use of Docker."""
    assert not used(StackConfig())
    assert used(StackConfig(compose={"app": ("x.yml",)}))
    assert used(StackConfig(docker_network="mine"))
