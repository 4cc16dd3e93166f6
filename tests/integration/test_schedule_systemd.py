"""Installing on Linux: the real steps, units and processes, with systemctl played by a program of its own."""

import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from opskit.config.load import load
from opskit.config.schema import Config
from opskit.errors import OpskitError
from opskit.records import replace
from opskit.schedule.installation import install, remove, start
from opskit.schedule.job import SchedulePlace
from opskit.schedule.status import ScheduleStatus, report, status
from tests.parts.command import environment
from tests.parts.schedulers import Schedulers

SERVICE, TIMER = "opskit-recover.service", "opskit-recover.timer"
FOLDER = ".config/systemd/user"


@pytest.fixture
def linux(tmp_path: Path) -> Schedulers:
    home = tmp_path / "linux"
    home.mkdir()
    return Schedulers.made(home)


@pytest.fixture
def home(linux: Schedulers) -> Path:
    return linux.folder.parent


@pytest.fixture
def place(linux: Schedulers, home: Path) -> SchedulePlace:
    return SchedulePlace(environment(home, {"PATH": linux.path}), home, "linux", 1000, sys.executable)


@pytest.fixture
def configured(place: SchedulePlace, home: Path) -> Callable[..., Config]:
    def made(text: str = "") -> Config:
        (home / "opskit.yaml").write_text(text)
        return load(None, environ=place.environ, cwd=home, in_docker=False).config

    return made


def units(home: Path) -> dict[str, str]:
    return {one.name: one.read_text() for one in (home / FOLDER).glob("*")}


async def asked(
    configured: Callable[..., Config], place: SchedulePlace, *, inside: bool = False
) -> ScheduleStatus:
    return await status(configured(), place.environ, inside=inside, place=place)


async def test_the_steps_of_an_installation(linux, home, place, configured) -> None:
    """Both units are written before systemd reads them, and the timer, not the service, is started."""
    change = await install(configured(), place, every=5)
    assert linux.changes == [
        "systemctl --user daemon-reload",
        f"systemctl --user enable {TIMER}",
        f"systemctl --user restart {TIMER}",
    ]
    assert set(units(home)) == {SERVICE, TIMER}
    assert change.state is not None
    assert change.state.loaded


async def test_lingering_is_looked_at_and_told(linux, place, configured) -> None:
    """Without it the timer ends with the session; the exact command is told, and only where it is needed."""
    told = (await install(configured(), place, every=5)).notes
    assert any("loginctl enable-linger $USER" in note for note in told)
    await remove(place)
    linux.set("lingers")
    assert (await install(configured(), place, every=5)).notes == ()


async def test_where_lingering_is_not_known_the_advice_is_given(linux, place, configured) -> None:
    """A system without loginctl, or one that refuses to say, has its job all the same."""
    (linux.programs / "loginctl").write_text("#!/bin/sh\necho Failed to connect to bus >&2\nexit 1\n")
    change = await install(configured(), place, every=5)
    assert change.state is not None
    assert change.state.loaded
    assert any("loginctl enable-linger $USER" in note for note in change.notes)


async def test_a_second_installation_changes_nothing(linux, home, place, configured) -> None:
    """No unit is written and nothing is run that changes anything."""
    await install(configured(), place, every=5)
    before = {one: one.stat().st_mtime_ns for one in (home / FOLDER).glob("*")}
    count = len(linux.changes)
    assert (await install(configured(), place, every=5)).steps == ()
    assert {one: one.stat().st_mtime_ns for one in (home / FOLDER).glob("*")} == before
    assert len(linux.changes) == count


async def test_a_dry_run_changes_nothing(linux, home, place, configured) -> None:
    """The plan holds commands and files; systemd is only asked."""
    change = await install(configured(), place, every=5, dry=True)
    assert linux.changes == []
    assert not (home / ".config").exists()
    assert "OnUnitInactiveSec=5min" in "\n".join(step.shell for step in change.steps)


async def test_a_dry_run_needs_no_scheduler(linux, place, configured) -> None:
    """The plan is shown with a note where systemd does not answer."""
    linux.set("no-bus")
    change = await install(configured(), place, every=5, dry=True)
    assert change.steps
    assert any("does not answer" in note for note in change.notes)


async def test_a_failed_installation_is_undone(linux, home, place, configured) -> None:
    """A timer that does not start leaves no unit behind."""
    linux.set("fail-start")
    with pytest.raises(OpskitError) as raised:
        await install(configured(), place, every=5)
    assert raised.value.code == "SCHEDULE_002"
    assert "what was begun is undone" in raised.value.message
    assert units(home) == {}
    assert linux.changes[-1].startswith("systemctl --user reset-failed")


async def test_a_failed_replacement_brings_the_old_units_back(linux, home, place, configured) -> None:
    """The units that were there are there again; that the timer would not start again is told."""
    await install(configured(), place, every=5)
    before = units(home)
    linux.set("fail-start")
    with pytest.raises(OpskitError) as raised:
        await install(configured(), place, every=20)
    assert "undoing it failed too" in raised.value.message
    assert units(home) == before


async def test_without_a_user_systemd_nothing_is_written(linux, home, place, configured) -> None:
    """SCHEDULE_001, with cron as the way out."""
    linux.set("no-bus")
    with pytest.raises(OpskitError) as raised:
        await install(configured(), place, every=5)
    assert raised.value.code == "SCHEDULE_001"
    assert "cron" in raised.value.remedy
    assert not (home / ".config").exists()


async def test_without_systemctl_nothing_is_written(home, place, configured) -> None:
    """A machine without systemd at all is the same case."""
    with pytest.raises(OpskitError) as raised:
        await install(configured(), replace(place, environ={**place.environ, "PATH": str(home)}), every=5)
    assert raised.value.code == "SCHEDULE_001"


async def test_removing_is_the_reverse(linux, home, place, configured) -> None:
    """The timer is stopped, the units are gone, and a second time does nothing."""
    await install(configured(), place, every=5)
    await remove(place)
    assert units(home) == {}
    count = len(linux.changes)
    assert (await remove(place)).steps == ()
    assert len(linux.changes) == count


async def test_starting_does_not_wait(linux, place, configured) -> None:
    """The service is started through systemd and not waited for; one that runs is left alone."""
    await install(configured(), place, every=5)
    await start(place)
    assert linux.changes[-1] == f"systemctl --user start --no-block {SERVICE}"
    linux.set(f"show-{SERVICE}", {"ActiveState": "activating"})
    assert (await start(place)).steps == ()


async def test_starting_what_is_not_installed(place) -> None:
    """The command to type is told."""
    with pytest.raises(OpskitError) as raised:
        await start(place)
    assert "opskit schedule install" in raised.value.remedy


RAN = {"ExecMainCode": "1", "ExecMainExitTimestamp": "Fri 2026-11-20 09:39:29 UTC"}


@pytest.mark.parametrize(
    "properties, last_exit, problem",
    [
        ({**RAN, "ExecMainStatus": "0"}, 0, ""),
        ({**RAN, "ExecMainStatus": "4"}, 4, ""),
        ({**RAN, "ExecMainStatus": "75"}, 75, ""),
        ({**RAN, "ExecMainStatus": "1", "Result": "exit-code"}, 1, "exit status 1"),
        ({**RAN, "ExecMainStatus": "203", "Result": "exit-code"}, 203, "exit status 203"),
        ({**RAN, "ExecMainCode": "2", "ExecMainStatus": "9", "Result": "signal"}, -9, "signal"),
        ({**RAN, "ExecMainCode": "2", "ExecMainStatus": "15", "Result": "timeout"}, -15, "timeout"),
        ({"ExecMainStatus": "0"}, None, ""),
    ],
)
async def test_how_the_last_run_ended(linux, place, configured, properties, last_exit, problem: str) -> None:
    """Exit, signal and deadline are told apart, and a service that never ran has no end."""
    await install(configured(), place, every=5)
    linux.set(f"show-{SERVICE}", properties)
    found = await asked(configured, place)
    assert found.last_exit == last_exit
    assert problem in found.problem
    assert bool(found.problem) is bool(problem)
    assert found.last_run == (
        datetime(2026, 11, 20, 9, 39, 29, tzinfo=UTC) if "ExecMainExitTimestamp" in properties else None
    )


async def test_the_next_run(linux, place, configured) -> None:
    """A calendar time of systemd is taken as it stands."""
    await install(configured(), place, every=5)
    linux.set(f"show-{TIMER}", {"NextElapseUSecRealtime": "Fri 2026-11-20 09:44:29 UTC"})
    found = await asked(configured, place)
    assert found.next_run == datetime(2026, 11, 20, 9, 44, 29, tzinfo=UTC)
    shown = report(found, found.next_run - timedelta(minutes=3)).findings[1].detail
    assert "next in 3 min" in shown


@pytest.mark.parametrize(
    "spoil, problem",
    [
        (lambda linux, home: linux.set("active"), "not loaded"),
        (lambda linux, home: linux.set(f"show-{TIMER}", {"UnitFileState": "disabled"}), "switched off"),
        (lambda linux, home: linux.set(f"show-{TIMER}", {"LoadState": "masked"}), "switched off"),
        (lambda linux, home: (home / FOLDER / TIMER).unlink(), "missing"),
        (lambda linux, home: (home / FOLDER / SERVICE).write_text("[Service]\n"), "cannot be understood"),
        (
            lambda linux, home: (home / FOLDER / SERVICE).write_text(
                (home / FOLDER / SERVICE).read_text().replace("=280", "=900")
            ),
            "has not read them",
        ),
    ],
    ids=["stopped", "disabled", "masked", "no file", "broken", "edited"],
)
async def test_what_can_be_wrong_is_named(linux, home, place, configured, spoil, problem: str) -> None:
    """Each state has its sentence and its remedy, and exit 1."""
    await install(configured(), place, every=5)
    spoil(linux, home)
    found = await asked(configured, place)
    assert problem in found.problem
    assert found.remedy
    assert report(found, datetime.now(UTC)).exit == 1


async def test_the_interval_of_a_person_is_no_difference(place, configured) -> None:
    """Installed with another interval than the default, the job is up to date."""
    await install(configured(), place, every=30)
    found = await asked(configured, place)
    assert found.job is not None
    assert (found.problem, found.job.every) == ("", 30)


async def test_an_interpreter_that_is_gone_is_named(home, place, configured) -> None:
    """After an upgrade of Python the job cannot start, whatever its units say."""
    gone = home / "python"
    gone.symlink_to(sys.executable)
    await install(configured(), replace(place, interpreter=str(gone)), every=5)
    gone.unlink()
    assert f"{gone} is gone" in (await asked(configured, place)).problem


async def test_the_look_from_inside_runs_under_systemd(linux, home, place, configured) -> None:
    """It gets the service's environment and not this shell's, and is collected when it ends."""
    await install(configured(), place, every=5)
    found = await asked(configured, place, inside=True)
    assert found.inside is not None
    assert found.inside.job is not None, found.inside.problem
    assert found.inside.job.config == str(home / "opskit.yaml")
    assert found.inside.job.cwd == "/"
    call = next(call for call in linux.calls if call[0] == "systemd-run")
    assert {"--user", "--wait", "--pipe", "--collect"} <= set(call)


async def test_a_denied_file_is_not_an_absent_one(home, place, configured) -> None:
    """What this process reads and the job does not find is told apart from what neither finds."""
    (home / "there.env").write_text("A=1\n")
    config = configured("stack: {env_files: [there.env, nowhere.env]}\n")
    await install(config, place, every=5)
    found = await status(config, place.environ, inside=True, place=place)
    assert found.inside is not None
    assert found.inside.job is not None
    assert found.inside.job.files[str(home / "there.env")] == "readable"
    assert found.inside.job.files[str(home / "nowhere.env")] == "absent"
    assert found.inside.found == ()


async def test_a_secret_that_only_the_shell_has_is_a_warning(place, configured) -> None:
    """The node keeps working with what it has; the name is told, the value is not."""
    text = "nodes: {r: {url: 'http://127.0.0.1:9', source: openai, api_key: '${ROUTER_KEY}'}}\n"
    await install(configured(text), place, every=5)
    shell = replace(place, environ={**place.environ, "ROUTER_KEY": "hush"})
    found = await status(configured(text), shell.environ, inside=True, place=shell)
    assert found.inside is not None
    assert any("ROUTER_KEY is set in this shell" in one.text for one in found.inside.found)
    assert "hush" not in str(report(found, datetime.now(UTC)).as_json())
    assert report(found, datetime.now(UTC)).exit == 0


async def test_without_a_scheduler_the_look_is_emulated(linux, home, place, configured) -> None:
    """The job's environment alone, in `/`: said to be emulated, and nobody can tell whether it runs."""
    linux.set("no-bus")
    found = await asked(configured, place, inside=True)
    assert (found.scheduler, found.installed, found.loaded) == (None, False, None)
    assert found.inside is not None
    assert found.inside.emulated
    assert found.inside.job is not None, found.inside.problem
    assert found.inside.job.cwd == "/"
    assert report(found, datetime.now(UTC)).exit == 3
