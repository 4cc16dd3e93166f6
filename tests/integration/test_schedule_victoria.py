"""Victoria as a job: installed, seen, started and removed, with the schedulers played by programs."""

import os
import plistlib
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from opskit.config.load import load
from opskit.records import replace
from opskit.schedule.installation import install, remove, start
from opskit.schedule.job import VICTORIA, SchedulePlace
from opskit.schedule.status import report, status
from tests.parts.command import environment, opskit
from tests.parts.schedulers import UID, Schedulers
from tests.parts.victoria_server import VictoriaServer

SERVICE = "opskit-victoria.service"
UNIT = Path(".config/systemd/user") / SERVICE
PLIST = Path("Library/LaunchAgents/dev.opskit.victoria.plist")


@pytest.fixture
def schedulers(tmp_path: Path) -> Schedulers:
    home = tmp_path / "home"
    home.mkdir()
    return Schedulers.made(home)


@pytest.fixture(params=["linux", "darwin"])
def place(request: pytest.FixtureRequest, schedulers: Schedulers) -> SchedulePlace:
    home = schedulers.folder.parent
    switches = {"USE_VICTORIA_ENHANCED": "true", "DATABASE_URL": "postgresql://me:pw@db/x"}
    environ = environment(
        home, {"PATH": schedulers.path, "VICTORIA_URL": "http://127.0.0.1:8017", **switches}
    )
    return SchedulePlace(environ, home, request.param, UID, sys.executable)


def installed(place: SchedulePlace) -> str:
    return (place.home / (PLIST if place.platform == "darwin" else UNIT)).read_text()


async def test_it_is_installed_once_with_its_settings_and_without_its_secrets(
    schedulers: Schedulers, place: SchedulePlace
) -> None:
    """It serves where the configuration expects it; a second installation changes nothing."""
    config = load(None, environ=place.environ, cwd=place.home, in_docker=False).config
    first = await install(config, place, kind=VICTORIA)
    text, calls = installed(place), len(schedulers.changes)
    second = await install(config, place, kind=VICTORIA)
    assert (second.steps, len(schedulers.changes)) == ((), calls)
    assert "8017" in text
    assert "USE_VICTORIA_ENHANCED" in text
    assert "pw@db" not in text
    assert any("DATABASE_URL is a secret" in note for note in first.notes)
    seen = await status(config, place.environ, inside=False, place=place, kind=VICTORIA)
    assert [(finding.target, finding.state) for finding in report(seen, datetime.now(UTC)).findings] == [
        ("opskit-victoria", "loaded"),
        ("opskit-victoria", "running"),
    ]
    assert (await start(place, VICTORIA)).steps == ()
    await remove(place, kind=VICTORIA)
    assert (
        await status(config, place.environ, inside=False, place=place, kind=VICTORIA)
    ).state == "not installed"


async def test_the_other_job_is_left_alone(schedulers: Schedulers, place: SchedulePlace) -> None:
    """Removing the server leaves `recover` where it is, and the other way round."""
    config = load(None, environ=place.environ, cwd=place.home, in_docker=False).config
    await install(config, place)
    await install(config, place, kind=VICTORIA)
    await remove(place, kind=VICTORIA)
    assert (await status(config, place.environ, inside=False, place=place)).problem == ""
    del schedulers


async def test_a_server_that_does_not_run_is_told_and_started(
    place: SchedulePlace, schedulers: Schedulers
) -> None:
    """Its files are right and systemd knows them: what is missing is its process."""
    place = replace(place, platform="linux")
    config = load(None, environ=place.environ, cwd=place.home, in_docker=False).config
    await install(config, place, kind=VICTORIA)
    schedulers.set("active", "")
    seen = await status(config, place.environ, inside=False, place=place, kind=VICTORIA)
    assert (seen.problem, seen.remedy) == ("it does not run", "`opskit schedule run-now victoria`")
    await start(place, VICTORIA)
    assert (await status(config, place.environ, inside=False, place=place, kind=VICTORIA)).problem == ""


async def test_the_unit_is_valid_to_systemd(
    place: SchedulePlace, schedulers: Schedulers, tmp_path: Path
) -> None:
    """`systemd-analyze verify` has nothing to say; the plist has what Apple documents for a server."""
    config = load(None, environ=place.environ, cwd=place.home, in_docker=False).config
    await install(config, place, kind=VICTORIA)
    del schedulers
    if place.platform == "darwin":
        content = plistlib.loads(installed(place).encode())
        assert content["KeepAlive"] == {"SuccessfulExit": False}
        assert content["RunAtLoad"] is True
        assert "StartCalendarInterval" not in content
        return
    assert "Restart=on-failure" in installed(place)
    unit, runtime = tmp_path / SERVICE, tmp_path / "runtime"
    unit.write_text(installed(place))
    runtime.mkdir(mode=0o700)
    done = subprocess.run(
        ["systemd-analyze", "--user", "verify", str(unit)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "XDG_RUNTIME_DIR": str(runtime)},
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_server_has_no_interval(tmp_path: Path):
    """`--every` is for what runs again and again."""
    result = opskit("schedule", "install", "victoria", "--every", "5m", "--dry-run", home=tmp_path)
    assert result.status == 2
    assert "has no --every" in result.err


def test_a_server_that_a_person_started_is_named_and_never_ended(tmp_path: Path):
    """`recover levels` says which setting is missing, and the command that starts it with it."""
    with VictoriaServer(tmp_path / "server", {}) as server:
        result = opskit(
            "recover", "levels", "--json", home=tmp_path / "person", env={"VICTORIA_URL": server.url}
        )
        assert httpx.get(f"{server.url}/health", timeout=5).status_code == 200
    [target] = result.document["findings"]
    assert (result.status, result.document["mutations"]) == (1, 0)
    assert "was started without USE_VICTORIA_ENHANCED=true" in target["detail"]
    assert "set USE_VICTORIA_ENHANCED=true" in target["remedy"]
    assert "serve victoria --port 0" in target["remedy"]
