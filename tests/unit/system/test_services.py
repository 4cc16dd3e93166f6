"""Who keeps the service behind a port, from what macOS, Homebrew, systemd and Docker say."""

from itertools import product

import pytest

from opskit.system.services import (
    Service,
    at_rest,
    quit_command,
    restart_command,
    service_of,
)
from opskit.system.sockets import PROXIES, Owner, launchd_label

LISTING = (
    "PID\tStatus\tLabel\n"
    "-\t0\tcom.apple.SafariHistoryServiceAgent\n"
    "4711\t0\thomebrew.mxcl.ollama\n"
    "4712\t-9\tsh.brew.postgresql@16\n"
    "4713\t0\tapplication.com.electron.ollama.31415926.31415932\n"
    "4714\t78\tdev.me.mlx\n"
)


def on_mac(label: str | None, command: str = "/opt/bin/serve", user: str = "me") -> Owner:
    return Owner(1, "serve", command, user, unit=label)


def on_linux(unit: str | None, *, user: str = "me", name: str = "serve", user_unit: bool = False) -> Owner:
    return Owner(1, name, f"/usr/bin/{name}", user, unit=unit, user_unit=user_unit)


@pytest.mark.parametrize(
    "owner, platform, service, command",
    [
        (
            on_mac("homebrew.mxcl.ollama"),
            "darwin",
            Service("brew", "ollama", "user", "me"),
            "brew services restart ollama",
        ),
        (
            on_mac("sh.brew.postgresql@16"),
            "darwin",
            Service("brew", "postgresql@16", "user", "me"),
            "brew services restart postgresql@16",
        ),
        (
            on_mac("dev.me.mlx"),
            "darwin",
            Service("launchd", "dev.me.mlx", "user", "me"),
            "launchctl kickstart -k gui/501/dev.me.mlx",
        ),
        (
            on_mac(None, "/Applications/Ollama.app/Contents/Resources/ollama serve"),
            "darwin",
            Service("app", "Ollama", "user", "me"),
            "open -ga Ollama",
        ),
        (
            on_mac("application.com.electron.ollama.1.2", "/Users/me/Apps/LM Studio.app/Contents/MacOS/x"),
            "darwin",
            Service("app", "LM Studio", "user", "me"),
            "open -ga LM Studio",
        ),
        (
            on_linux("ollama.service", user="ollama"),
            "linux",
            Service("systemd", "ollama.service", "system", "ollama"),
            "systemctl --no-ask-password restart ollama.service",
        ),
        (
            on_linux("mlx.service", user_unit=True),
            "linux",
            Service("systemd", "mlx.service", "user", "me"),
            "systemctl --user restart mlx.service",
        ),
    ],
    ids=["brew", "brew 6", "launchd", "app", "opened app", "systemd", "user's systemd"],
)
def test_each_keeper_restarts_in_its_own_way(
    owner: Owner, platform: str, service: Service, command: str
) -> None:
    """The owner of a port leads to its keeper, and the keeper to its command."""
    found = service_of(owner, platform=platform)
    assert found == service
    assert " ".join(restart_command(found, user="me", uid=501) or ()) == command


@pytest.mark.parametrize("name", PROXIES)
def test_a_proxy_is_never_restarted_for_its_container(name: str) -> None:
    """Docker's own processes hold ports for containers: restarting them would end them all."""
    proxy = on_linux("docker.service", user="root", name=name)
    unnamed = service_of(proxy, platform="linux")
    assert unnamed.kind == "container"
    assert restart_command(unnamed, user="root", uid=0) is None
    named = service_of(proxy, platform="linux", container="victoria-agent")
    assert restart_command(named, user="me", uid=501) == ("docker", "restart", "victoria-agent")


def test_a_process_in_a_container_belongs_to_it() -> None:
    """With the host's network the container's own process holds the port."""
    owner = Owner(1, "python", "python app.py", "root", "docker.service", "f" * 64)
    assert service_of(owner, platform="linux") == Service("container", "f" * 64, "system", "root")


@pytest.mark.parametrize(
    "unit",
    [
        None,
        "ssh.service",
        "sshd@7-10.0.0.1:22.service",
        "cron.service",
        "getty@tty1.service",
        "user@1000.service",
        "docker.service",
        "opskit-recover.service",
    ],
)
def test_what_was_started_by_hand_has_no_keeper(unit: str | None) -> None:
    """Restarting the unit under which somebody logged in would end their session, not mend a server."""
    stray = service_of(on_linux(unit), platform="linux")
    assert stray.kind == "stray"
    assert restart_command(stray, user="me", uid=501) is None


def test_what_belongs_to_macos_is_left_alone() -> None:
    """AirPlay holds port 5000: it is nobody's to restart."""
    owner = on_mac(
        "com.apple.controlcenter", "/System/Library/CoreServices/ControlCenter.app/Contents/MacOS/x"
    )
    assert service_of(owner, platform="darwin").kind == "stray"


@pytest.mark.parametrize(
    "service",
    [
        Service("brew", "ollama", "user", "somebody"),
        Service("launchd", "dev.x", "user", "somebody"),
        Service("launchd", "dev.x", "system", "root"),
        Service("app", "Ollama", "user", "somebody"),
        Service("systemd", "x.service", "user", "somebody"),
    ],
)
def test_what_belongs_to_another_user_is_left_alone(service: Service) -> None:
    """There is no command that would work, so none is told."""
    assert restart_command(service, user="me", uid=501) is None


def test_a_daemon_of_the_system_is_restarted_by_root() -> None:
    """As root the domain is the system's."""
    command = restart_command(Service("launchd", "dev.x", "system", "root"), user="root", uid=0)
    assert command == ("launchctl", "kickstart", "-k", "system/dev.x")


def test_no_restart_kills_blindly() -> None:
    """Whatever the owner, the command is a keeper's, never `kill`."""
    labels = (None, "homebrew.mxcl.ollama", "dev.x", "application.x.1", "ssh.service", "x.service")
    for platform, label, user in product(("darwin", "linux"), labels, ("me", "root", "ollama")):
        service = service_of(Owner(7, "serve", "/x/serve", user, label), platform=platform)
        command = restart_command(service, user="me", uid=501)
        assert command is None or command[0] in ("brew", "launchctl", "open", "systemctl", "docker")


def test_an_application_is_asked_to_end() -> None:
    """Opening an application that hangs does nothing; it is asked to quit first, and nothing else is."""
    assert quit_command(Service("app", "Ollama")) == ("osascript", "-e", 'quit app "Ollama"')
    assert quit_command(Service("app", 'x" & "y')) is None
    assert quit_command(Service("brew", "ollama")) is None


@pytest.mark.parametrize(
    "pid, label",
    [(4711, "homebrew.mxcl.ollama"), (4712, "sh.brew.postgresql@16"), (4714, "dev.me.mlx"), (1, None)],
)
def test_the_job_of_a_process(pid: int, label: str | None) -> None:
    """`launchctl list` is told by its columns; a job that does not run has no process."""
    assert launchd_label(LISTING, pid) == label


@pytest.mark.parametrize(
    "known, service",
    [
        (
            {"brew": ["ollama"], "applications": ["/Applications/Ollama.app"]},
            Service("brew", "ollama"),
        ),
        ({"labels": ["dev.me.ollama", "application.ollama.1"]}, Service("launchd", "dev.me.ollama")),
        ({"units": {"ollama.service": "system"}}, Service("systemd", "ollama.service", "system")),
        ({"applications": ["/Applications/Ollama.app"]}, Service("app", "Ollama")),
        ({"brew": ["redis"]}, None),
        ({}, None),
    ],
    ids=["brew before app", "label", "unit", "app", "another formula", "nobody"],
)
def test_a_service_at_rest_has_a_keeper_too(known, service: Service | None) -> None:
    """When nothing holds the port, what was set up before tells who would start it."""
    assert at_rest("ollama", **known) == service
