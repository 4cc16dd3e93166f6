"""`opskit pause`, `resume` and `status` as a person runs them."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from opskit.recovery.budget import RepairRecord
from opskit.recovery.memory import Memory
from opskit.recovery.notice import Undelivered, record
from opskit.recovery.outcome import Outcome, RecoveryRun, RepairResult
from tests.parts.command import Result as Done
from tests.parts.command import environment, opskit
from tests.parts.raw_server import answer, serving

Run_ = Callable[..., Done]


@pytest.fixture
def run(tmp_path: Path) -> Run_:
    """The command in a home of its own."""
    return lambda *arguments, **rest: opskit(*arguments, home=tmp_path, **rest)


def _state(home: Path) -> Path:
    folder = home / "state" / "opskit"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _ran(home: Path, *outcomes: Outcome, ago_s: float = 120.0) -> Memory:
    kept = Memory(_state(home) / "recovery.json")
    started = (datetime.now(UTC) - timedelta(seconds=ago_s)).isoformat(timespec="milliseconds")
    kept.remember(RecoveryRun("r-1", started.replace("+00:00", "Z"), 1.5, False, outcomes))
    kept.save()
    return kept


def test_a_target_is_paused_for_a_time_and_resumed(run: Run_):
    """What holds now is said on one line."""
    paused = run("pause", "ollama", "--for", "1h", "--reason", "new disk")
    assert paused.status == 0
    assert paused.out.startswith("ollama is paused until ")
    assert paused.out.endswith(" (1 h): new disk\n")
    assert paused.err == ""
    resumed = run("resume", "ollama")
    assert (resumed.status, resumed.out) == (0, "ollama is looked after again\n")


def test_a_pause_without_an_end_warns_that_it_lasts(run: Run_):
    """On stderr, with the command that ends it."""
    paused = run("pause")
    assert paused.out == "everything is paused until it is resumed\n"
    assert "until `opskit resume`" in paused.err
    assert "opskit resume ollama" in run("pause", "ollama").err


def test_pausing_and_resuming_twice_is_as_once(run: Run_):
    """Both are idempotent; the beginning of a pause stays."""
    first = run("pause", "mlx", "--for", "2h", "--json").document
    second = run("pause", "mlx", "--for", "2h", "--json").document
    assert first["pauses"][0]["since"] == second["pauses"][0]["since"]
    assert [one["target"] for one in second["pauses"]] == ["mlx"]
    assert run("resume", "mlx", "--json").document["changed"] is True
    again = run("resume", "mlx", "--json")
    assert (again.status, again.document["changed"], again.document["pauses"]) == (0, False, [])
    assert run("resume", "mlx").out == "mlx was not paused\n"
    assert run("resume").out == "nothing was paused\n"


def test_the_later_word_wins(run: Run_):
    """A longer pause becomes a shorter one, and one without an end."""
    run("pause", "mlx", "--for", "10h")
    assert run("pause", "mlx", "--for", "10m", "--json").document["pauses"][0]["left_s"] == 600
    assert run("pause", "mlx", "--json").document["pauses"][0]["until"] is None


def test_to_resume_one_target_tells_what_else_is_paused(run: Run_):
    """A pause of everything goes on."""
    run("pause")
    run("pause", "mlx")
    assert run("resume", "mlx").out.splitlines() == [
        "mlx is looked after again",
        "everything is still paused until it is resumed",
    ]
    assert run("resume").out == "everything is looked after again\n"


def test_a_name_may_be_given_with_or_without_its_kind(run: Run_):
    """`victoria-agent` is `container:victoria-agent`."""
    run("pause", "victoria-agent", "--for", "1h")
    assert run("resume", "container:victoria-agent", "--json").document["changed"] is True


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["pause", "olama"], 2, "did you mean ollama?"),
        (["resume", "olama"], 2, "Next: `opskit resume ollama`"),
        (["pause", "ollama", "--for", "90"], 2, "30m"),
        (["pause", "ollama", "--for", "-1h"], 2, "30m"),
        (["pause", "ollama", "--for", "0s"], 2, "30m"),
        (["pause", "ollama", "--for", "9" * 400 + "h"], 2, "30m"),
        (["pause", "ollama", "--for", "10000d"], 2, "a year"),
        (["pause", ""], 2, "no name"),
        (["pause", "a\x1b[2Jb", "--force"], 2, "no name"),
        (["pause", "ollama", "mlx"], 2, "VAL_002"),
    ],
)
def test_what_cannot_be_paused_is_one_line(run: Run_, arguments: list[str], status: int, words: str):
    """With what to type, and nothing is paused."""
    done = run(*arguments)
    assert (done.status, done.out) == (status, "")
    assert words in done.err
    assert len(done.err.splitlines()) == 1
    assert run("resume").out == "nothing was paused\n"


def test_a_name_that_is_not_known_yet_takes_force(run: Run_):
    """And can be resumed without."""
    assert run("pause", "container:tomorrow").status == 2
    assert run("pause", "container:tomorrow", "--force", "--for", "1h").status == 0
    assert run("resume", "tomorrow").out == "container:tomorrow is looked after again\n"


def test_a_reason_of_any_bytes_is_shown_harmlessly(run: Run_, tmp_path: Path):
    """Control characters and bytes that are no UTF-8."""
    done = subprocess.run(
        [sys.executable, "-m", "opskit", "pause", "mlx", "--for", "1h", "--reason", b"a\xff\x1b[2J\nb"],
        env=environment(tmp_path),
        capture_output=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert b"\x1b" not in done.stdout
    assert len(done.stdout.splitlines()) == 1


def test_a_damaged_file_of_pauses_stops_with_its_remedy(run: Run_, tmp_path: Path):
    """78, and the file is named."""
    (_state(tmp_path) / "pauses.json").write_text("{")
    for command in ("pause", "resume"):
        done = run(command)
        assert done.status == 78
        assert "pauses.json" in done.err
    assert run("status").status == 1


def test_two_people_who_pause_at_once_are_both_heard(tmp_path: Path):
    """Ten processes, ten pauses."""
    names = [f"container:c{number}" for number in range(10)]
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "opskit", "pause", name, "--force", "--for", "1h"],
            env=environment(tmp_path),
            stdout=subprocess.DEVNULL,
        )
        for name in names
    ]
    assert {process.wait(120) for process in processes} == {0}
    held = opskit("resume", "--json", home=tmp_path).document
    assert held["changed"] is True
    assert sorted(json.loads((_state(tmp_path) / "pauses.json").read_text())) == []


def test_status_of_a_recovery_that_never_ran(run: Run_):
    """Exit 3, and what to type."""
    done = run("status")
    assert done.status == 3
    assert done.out.startswith("recovery has never run\n")
    assert "opskit schedule install" in done.out


def test_status_of_a_stack_that_is_well(run: Run_, tmp_path: Path):
    """Exit 0; columns that have nothing to tell are left out."""
    _ran(tmp_path, Outcome("ollama", "ollama", RepairResult.OK), Outcome("wifi", "wifi", RepairResult.ABSENT))
    done = run("status")
    assert done.status == 0, done.err
    first, _, head, row = done.out.splitlines()
    assert "ago, exit 0: 1 absent, 1 ok; 0 commands in 1.5 s" in first
    assert head.split() == ["target", "result"]
    assert row.split() == ["ollama", "ok"]


def test_status_of_a_target_that_was_given_up(run: Run_, tmp_path: Path):
    """Exit 1, its circuit, its repairs, its next try, its cause."""
    kept = _ran(tmp_path, Outcome("mlx", "mlx", RepairResult.GAVE_UP, cause="it is wedged"))
    now = datetime.now(UTC).timestamp()
    kept.targets["mlx"] = RepairRecord((now - 700, now - 690), 5, opened_at=now - 600, tried_at=now - 600)
    record(kept.facts, Undelivered("webhook", "critical mlx", "it answers HTTP 500", now - 60, now - 60))
    kept.save()
    done = run("status")
    assert done.status == 1
    (row,) = [line for line in done.out.splitlines() if line.startswith("mlx  ")]
    assert "gave up" in row
    assert "open" in row
    assert "in 49 min" in row
    assert "mlx: it is wedged" in done.out.splitlines()
    assert "notice: webhook was not told of critical mlx" in done.out
    document = run("status", "--json")
    assert document.status == 1
    assert document.document["targets"][0]["circuit"] == "open"
    assert document.document["ok"] is False


def test_status_of_a_healer_that_stopped(run: Run_, tmp_path: Path):
    """Where there is no scheduler an old run is no failure: nobody promised one."""
    _ran(tmp_path, Outcome("ollama", "ollama", RepairResult.OK), ago_s=86_400)
    done = run("status")
    assert done.status == 0, done.out
    assert "last run: 23 h 59 min ago" in done.out


def test_status_changes_nothing(run: Run_, tmp_path: Path):
    """A damaged memory is told, and left for recovery."""
    (_state(tmp_path) / "recovery.json").write_text("{")
    done = run("status")
    assert done.status == 1
    assert "it is not known whether recovery has run" in done.out
    assert [path.name for path in _state(tmp_path).iterdir()] == ["recovery.json"]


def test_status_imports_nothing_heavy(tmp_path: Path):
    """It is typed all day: no httpx, docker, psutil or asyncio where recovery ran just now."""
    _ran(tmp_path, Outcome("ollama", "ollama", RepairResult.OK))
    for arguments in (["status", "--json"], ["pause", "ollama", "--for", "1h"], ["resume"]):
        code = (
            f"import sys\nfrom opskit.cli.main import status\nstatus({arguments!r})\n"
            "heavy = {'httpx', 'aiohttp', 'docker', 'psutil', 'asyncio', 'rich', 'pydantic'}\n"
            "print('HEAVY', sorted(heavy & set(sys.modules)), file=sys.stderr)\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=environment(tmp_path),
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert "HEAVY []" in done.stderr, done.stderr


async def test_a_test_notice_goes_through_every_channel(tmp_path: Path):
    """Each says how it went; the address of none is shown, and nothing is remembered."""
    import asyncio

    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "notify-send").write_text("#!/bin/sh\necho no daemon >&2\nexit 1\n")
    (programs / "notify-send").chmod(0o755)
    (tmp_path / "opskit.yaml").write_text(
        "notices: {webhook: '${HOOK}', ping: '${PING}', command: [/bin/cat], timeout_s: 20}\n"
    )
    async with serving() as server:
        server.replies["/s3cret"] = answer(b"ok")
        extra = {
            "HOOK": f"{server.url}/s3cret",
            "PING": f"{server.url}/p1ng",
            "DBUS_SESSION_BUS_ADDRESS": "unix:path=/nowhere",
            "PATH": f"{programs}:{os.environ['PATH']}",
        }
        done = await asyncio.to_thread(
            opskit, "status", "--test-notice", "--json", home=tmp_path, env=extra, cwd=tmp_path
        )
        assert done.status == 1, done.err
        found = {f["target"]: (f["state"], f["detail"]) for f in done.document["findings"]}
        assert found == {
            "desktop": ("failed", "exit 1: no daemon"),
            "webhook": ("sent", ""),
            "command": ("sent", ""),
            "ping": ("failed", "it answers HTTP 404"),
        }
        assert server.bodies("/s3cret")[0]["level"] == "test"
        assert {path.partition("?")[0] for path in (one.path for one in server.seen)} == {
            "/s3cret",
            "/p1ng/log",
        }
        text = await asyncio.to_thread(
            opskit, "status", "--test-notice", home=tmp_path, env=extra, cwd=tmp_path
        )
        for secret in ("s3cret", "p1ng"):
            assert secret not in done.out + done.err + text.out + text.err
    assert not (_state(tmp_path) / "recovery.json").exists()


def test_a_test_notice_without_channels_is_inconclusive(run: Run_):
    """There was nobody to tell, which is no success."""
    done = run("status", "--test-notice", "--json", env={"PATH": "/nonexistent"})
    assert done.status == 3
    assert {f["state"] for f in done.document["findings"]} == {"off"}
