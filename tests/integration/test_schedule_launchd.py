"""Installing on a Mac: the real steps, files and processes, with launchctl played by a program of its own."""

import os
import plistlib
import stat
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from opskit.config.load import load
from opskit.config.schema import Config
from opskit.errors import OpskitError
from opskit.records import replace
from opskit.schedule.installation import install, remove, scheduler_of, start
from opskit.schedule.job import LABEL, SchedulePlace
from opskit.schedule.launchd import Launchd
from opskit.schedule.status import report, status
from tests.parts.command import environment
from tests.parts.schedulers import UID, Schedulers

TARGET = f"gui/{UID}/{LABEL}"
FILE = f"Library/LaunchAgents/{LABEL}.plist"


@pytest.fixture
def mac(tmp_path: Path) -> Schedulers:
    home = tmp_path / "mac"
    home.mkdir()
    return Schedulers.made(home)


@pytest.fixture
def home(mac: Schedulers) -> Path:
    return mac.folder.parent


@pytest.fixture
def place(mac: Schedulers, home: Path) -> SchedulePlace:
    return SchedulePlace(environment(home, {"PATH": mac.path}), home, "darwin", UID, sys.executable)


@pytest.fixture
def configured(place: SchedulePlace, home: Path) -> Callable[..., Config]:
    def made(text: str = "") -> Config:
        (home / "opskit.yaml").write_text(text)
        return load(None, environ=place.environ, cwd=home, in_docker=False).config

    return made


def files(home: Path) -> dict[str, bytes]:
    """Everything below the home folder that an installation could touch."""
    return {
        str(one.relative_to(home)): one.read_bytes() for one in home.glob("Library/**/*") if one.is_file()
    }


async def test_the_order_of_an_installation(mac, home, place, configured) -> None:
    """Lint, boot out, wait, enable, bootstrap, look: launchd needs them in this order."""
    change = await install(configured(), place, every=5)
    assert [call[:2] for call in mac.calls if call[0] == "plutil" or call[1] != "print-disabled"] == [
        ["launchctl", "print"],
        ["plutil", "-lint"],
        ["launchctl", "bootout"],
        ["launchctl", "print"],
        ["launchctl", "enable"],
        ["launchctl", "bootstrap"],
        ["launchctl", "print"],
        ["launchctl", "print"],
    ]
    assert change.state is not None
    assert change.state.loaded
    assert mac.job(LABEL)["path"] == str(home / FILE)
    assert (home / "Library/Logs/opskit").is_dir()


async def test_the_file_is_what_launchd_takes(home, place, configured) -> None:
    """Nobody else may write it, the interpreter is absolute, and every variable is text without secrets."""
    await install(configured(), replace(place, environ={**place.environ, "MLX_API_KEY": "hush"}), every=10)
    mode = (home / FILE).stat().st_mode
    assert stat.S_IMODE(mode) == 0o644
    content = plistlib.loads((home / FILE).read_bytes())
    assert content["ProgramArguments"][0] == sys.executable
    assert len(content["StartCalendarInterval"]) == 6
    assert all(isinstance(value, str) for value in content["EnvironmentVariables"].values())
    assert content["EnvironmentVariables"]["OPSKIT_CONFIG"] == str(home / "opskit.yaml")
    assert b"hush" not in (home / FILE).read_bytes()


@pytest.mark.parametrize("form", ["new", "old"])
async def test_a_second_installation_changes_nothing(mac, home, place, configured, form: str) -> None:
    """No file is written and no command that changes anything is run, on either form of launchctl."""
    if form == "old":
        mac.set("old")
    await install(configured(), place, every=5)
    before, asked = files(home), len(mac.changes)
    written = (home / FILE).stat().st_mtime_ns
    change = await install(configured(), place, every=5)
    assert change.steps == ()
    assert (files(home), len(mac.changes)) == (before, asked)
    assert (home / FILE).stat().st_mtime_ns == written


async def test_a_dry_run_changes_nothing(mac, home, place, configured) -> None:
    """The plan is shown, nothing is written, and launchctl is only asked."""
    change = await install(configured(), place, every=5, dry=True)
    assert not (home / "Library").exists()
    assert mac.changes == []
    script = "\n".join(step.shell for step in change.steps)
    assert f"launchctl bootstrap gui/{UID}" in script
    assert "<key>StartCalendarInterval</key>" in script


async def test_what_a_dry_run_prints_is_what_is_run(mac, place, configured) -> None:
    """Every command of the plan is run, in order, and no other that changes anything."""
    plan = await install(configured(), place, every=5, dry=True)
    await install(configured(), place, every=5)
    planned = [step.shell.split(" || ")[0] for step in plan.steps if step.shell.startswith("launchctl")]
    assert mac.changes == [one for one in planned if " print " not in one]


async def test_an_older_job_is_replaced(mac, home, place, configured) -> None:
    """Another interval is booted out, waited for and loaded anew, while launchd is slow to let go."""
    await install(configured(), place, every=5)
    mac.set("slow-bootout", "2")
    change = await install(configured(), place, every=15)
    assert change.steps
    assert len(mac.job(LABEL)["plist"]["StartCalendarInterval"]) == 4


async def test_a_job_that_is_switched_off_is_switched_on(mac, place, configured) -> None:
    """A label that was disabled cannot be loaded; enabling it comes first."""
    mac.set("disabled", LABEL)
    await install(configured(), place, every=5)
    assert mac.job(LABEL) is not None
    assert (await status(configured(), place.environ, inside=False, place=place)).problem == ""


async def test_an_operation_that_goes_on_is_waited_for(mac, place, configured) -> None:
    """37, operation already in progress, is tried again and not a failure."""
    mac.set("busy-bootstrap", "2")
    await install(configured(), place, every=5)
    assert mac.job(LABEL) is not None


async def test_error_5_is_explained(mac, home, place, configured) -> None:
    """The catch-all of launchd is told with everything that was checked, and what was begun is undone."""
    mac.set("fail-bootstrap")
    with pytest.raises(OpskitError) as raised:
        await install(configured(), replace(place, uid=UID), every=5)
    message = raised.value.message
    assert raised.value.code == "SCHEDULE_002"
    assert "5: Input/output error" in message
    for checked in (
        "the plist is valid",
        "not loaded",
        "not disabled",
        "graphical session",
        "system's volume",
    ):
        assert checked in message
    assert "what was begun is undone" in message
    assert not (home / FILE).exists()


async def test_a_failed_replacement_brings_the_old_job_back(mac, home, place, configured) -> None:
    """The file that was there, and the job that ran, are there again."""
    await install(configured(), place, every=5)
    before = files(home)
    mac.set("bad-plist")
    with pytest.raises(OpskitError, match="Unexpected character"):
        await install(configured(), place, every=30)
    assert files(home) == before
    assert len(mac.job(LABEL)["plist"]["StartCalendarInterval"]) == 12


@pytest.mark.parametrize("form", ["new", "old"])
async def test_without_a_graphical_session_nothing_is_written(
    mac, home, place, configured, form: str
) -> None:
    """Over ssh on a Mac where nobody is logged in, the answer is SCHEDULE_001 and what to do."""
    mac.set("no-session")
    if form == "old":
        mac.set("old")
    with pytest.raises(OpskitError) as raised:
        await install(configured(), place, every=5)
    assert raised.value.code == "SCHEDULE_001"
    assert "log in at the screen" in raised.value.remedy
    assert not (home / "Library").exists()


async def test_paths_that_macos_denies_are_refused(mac, home, place, configured) -> None:
    """Before anything is asked or written."""
    config = configured("stack: {compose: {os: [~/Documents/os/docker-compose.yml]}}\n")
    here = Path("~").expanduser()
    with pytest.raises(OpskitError) as raised:
        await install(config, replace(place, home=here), every=5)
    assert raised.value.code == "SCHEDULE_003"
    assert mac.calls == []
    assert not (here / "Library").exists()


async def test_a_folder_that_cannot_be_written_is_told(home, place, configured) -> None:
    """A file where the folder should be is one sentence, and is left alone."""
    (home / "Library").write_text("in the way")
    with pytest.raises(OpskitError) as raised:
        await install(configured(), place, every=5)
    assert raised.value.code == "SCHEDULE_002"
    assert (home / "Library").read_text() == "in the way"


@pytest.mark.parametrize("form", ["new", "old"])
async def test_removing_is_the_reverse(mac, home, place, configured, form: str) -> None:
    """Job and file are gone, the log stays, and a second time does nothing."""
    if form == "old":
        mac.set("old")
    await install(configured(), place, every=5)
    (home / "Library/Logs/opskit/recover.out.log").write_text("{}")
    await remove(place)
    assert mac.jobs == []
    assert list(files(home)) == ["Library/Logs/opskit/recover.out.log"]
    asked = len(mac.changes)
    assert (await remove(place)).steps == ()
    assert len(mac.changes) == asked


async def test_starting_goes_through_launchd(mac, place, configured) -> None:
    """It is kicked, never killed; one that runs already is left alone."""
    await install(configured(), place, every=5)
    await start(place)
    assert mac.changes[-1] == f"launchctl kickstart {TARGET}"
    mac.change(LABEL, pid=77)
    asked = len(mac.changes)
    assert (await start(place)).steps == ()
    assert len(mac.changes) == asked


async def test_starting_what_is_not_installed(place, configured) -> None:
    """launchd's 113 becomes the command to type."""
    with pytest.raises(OpskitError) as raised:
        await start(place)
    assert "opskit schedule install" in raised.value.remedy


@pytest.mark.parametrize(
    "end, last_exit, well",
    [
        ("last exit code = 0", 0, True),
        ("last exit code = 4", 4, True),
        ("last exit code = 75", 75, True),
        ("last exit code = 1", 1, False),
        ("last exit code = 78: EX_CONFIG", 78, False),
        ("last terminating signal = Killed: 9", -9, False),
        ("last exit reason = JETSAM_REASON_MEMORY_IDLE_EXIT", None, False),
    ],
)
async def test_how_the_last_run_ended(
    mac, place, configured, end: str, last_exit: int | None, well: bool
) -> None:
    """Nothing to do, repaired and busy are well; all else is a failing job."""
    await install(configured(), place, every=5)
    mac.change(LABEL, end=end, runs=3)
    found = await status(configured(), place.environ, inside=False, place=place)
    assert found.last_exit == last_exit
    assert (found.problem == "") is well
    assert report(found, datetime.now(UTC)).exit == (0 if well else 1)


async def test_a_job_that_never_ran(place, configured) -> None:
    """It is well; the next start is at most one interval away and there was no last."""
    await install(configured(), place, every=5)
    found = await status(configured(), place.environ, inside=False, place=place)
    assert (found.scheduler, found.installed, found.loaded) == ("launchd", True, True)
    assert (found.last_exit, found.last_run, found.problem) == (None, None, "")
    assert found.next_run is not None
    assert found.next_run.minute % 5 == 0


async def test_the_last_run_is_that_of_its_output(mac, home, place, configured) -> None:
    """launchd does not tell when; the log was written at that time."""
    await install(configured(), place, every=5)
    log = home / "Library/Logs/opskit/recover.out.log"
    log.write_text("{}")
    os.utime(log, (1_800_000_000, 1_800_000_000))
    mac.change(LABEL, end="last exit code = 0", runs=1)
    found = await status(configured(), place.environ, inside=False, place=place)
    assert found.last_run == datetime.fromtimestamp(1_800_000_000, UTC)


@pytest.mark.parametrize(
    "spoil, problem",
    [
        (lambda mac, home: mac.set("disabled", LABEL), "switched off"),
        (lambda mac, home: (mac.folder / f"job-{LABEL}").unlink(), "not loaded"),
        (lambda mac, home: (home / FILE).unlink(), "missing"),
        (lambda mac, home: (home / FILE).write_text("<plist"), "cannot be understood"),
        (
            lambda mac, home: (home / FILE).write_text(
                (home / FILE).read_text().replace("--quiet-lock", "--dry-run")
            ),
            "has not read them",
        ),
        (lambda mac, home: mac.change(LABEL, path="/tmp/other.plist"), "loaded it from /tmp/other.plist"),
        (lambda mac, home: (home / "opskit.yaml").write_text("recovery: {budget_s: 1}\n"), ""),
    ],
    ids=["disabled", "not loaded", "no file", "broken", "edited", "elsewhere", "unrelated"],
)
async def test_what_can_be_wrong_is_named(mac, home, place, configured, spoil, problem: str) -> None:
    """A file alone starts nothing: what launchd has loaded is compared with it, and with today's."""
    config = configured()
    await install(config, place, every=5)
    spoil(mac, home)
    found = await status(config, place.environ, inside=False, place=place)
    assert problem in found.problem
    assert bool(found.problem) is bool(problem)
    if problem:
        assert found.remedy


async def test_a_shell_that_changed_is_a_difference(home, place, configured) -> None:
    """What would be written now differs from what is installed, and installing again is the remedy."""
    await install(configured(), place, every=5)
    other = replace(place, environ={**place.environ, "OLLAMA_API_URL": "http://127.0.0.1:4"})
    found = await status(configured(), other.environ, inside=False, place=other)
    assert found.state == "differs"
    assert found.problem == "an installation now would write something else: OLLAMA_API_URL"


async def test_the_look_from_inside_is_a_job_that_leaves_nothing(mac, home, place, configured) -> None:
    """A one-shot agent runs with the job's environment in `/`, is read, and is booted out."""
    config = configured()
    await install(config, place, every=5)
    found = await status(config, place.environ, inside=True, place=place)
    assert found.inside is not None
    assert found.inside.job is not None, found.inside.problem
    assert found.inside.job.cwd == "/"
    assert found.inside.job.config == str(home / "opskit.yaml")
    assert found.inside.job.path == plistlib.loads((home / FILE).read_bytes())["EnvironmentVariables"]["PATH"]
    assert not found.inside.emulated
    assert mac.jobs == [LABEL]


async def test_what_works_in_the_shell_and_fails_in_the_job_is_told(mac, home, place, configured) -> None:
    """A program that only this shell finds is a sentence, and the report fails."""
    config = configured()
    await install(config, place, every=5)
    extra = home / "extra"
    extra.mkdir()
    (extra / "orb").write_text("#!/bin/sh\n")
    (extra / "orb").chmod(0o755)
    later = replace(place, environ={**place.environ, "PATH": f"{extra}:{place.environ['PATH']}"})
    found = await status(config, later.environ, inside=True, place=later)
    assert found.inside is not None
    texts = [difference.text for difference in found.inside.found]
    assert any(f"does not find orb, which is {extra}/orb" in text for text in texts)
    assert report(found, datetime.now(UTC)).exit == 1


async def test_a_look_that_fails_is_inconclusive(mac, home, place, configured) -> None:
    """An interpreter without opskit cannot look: that is said, and the temporary job is gone."""
    config = configured()
    other = replace(place, interpreter="/bin/false")
    await install(config, other, every=5)
    found = await status(config, place.environ, inside=True, place=other)
    assert found.inside is not None
    assert "a look from inside" in found.inside.problem
    assert mac.jobs == [LABEL]
    assert report(found, datetime.now(UTC)).exit == 3


async def test_launchd_is_asked_for_its_own_user(mac, home, configured, place) -> None:
    """The label lives in the session of the user id that is given."""
    scheduler = scheduler_of(place)
    assert isinstance(scheduler, Launchd)
    await scheduler.state(datetime.now(UTC))
    assert mac.calls[0] == ["launchctl", "print", TARGET]
