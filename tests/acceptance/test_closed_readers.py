"""`opskit logs ... | head`: whoever reads may go away, and workers may be killed."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import psutil
import pytest

from tests.parts.command import environment

ID = "8979fe84-3a15-468c-96c9-758325391ded"
TAGGED = f"2026-11-20T08:00:01Z [LLM_CALL] correlation_id={ID} node=ollama model=phi3.5 fallback=false\n"
PLAIN = "2026-11-20T08:00:00Z INFO worker did something\n"
Process = subprocess.Popen[bytes]
FORMS = [
    [],
    ["--raw"],
    ["--grep", "worker"],
    ["--grep", "worker", "--raw"],
    ["--all"],
    ["--json"],
    ["--level", "info"],
    ["--id", ID],
    ["-C", "1"],
    ["-f", "--tail", "90000"],
]


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log that is large enough for several processes."""
    path = tmp_path_factory.mktemp("big") / "big.log"
    with path.open("w") as file:
        for _ in range(450):
            file.write((PLAIN * 4 + TAGGED) * 500)
    assert path.stat().st_size > 60_000_000
    return path


@pytest.fixture(params=["ripgrep", "no ripgrep"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A PATH with ripgrep, where it is installed, and one without."""
    return os.environ["PATH"] if request.param == "ripgrep" else str(tmp_path / "nothing")


@contextmanager
def opened(arguments: Sequence[str], home: Path, path: str) -> Iterator[tuple[Process, IO[bytes], IO[bytes]]]:
    """`opskit logs ARGUMENTS`, its stdout and stderr; ended with the `with` block."""
    home.mkdir(exist_ok=True)
    process = subprocess.Popen(
        [sys.executable, "-m", "opskit", "logs", *arguments],
        env={**environment(home), "PATH": path},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=home,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        with process.stdout as out, process.stderr as err:
            yield process, out, err
    finally:
        process.kill()
        process.wait()


def left_behind(group: int) -> list[psutil.Process]:
    """What still runs of a process group."""
    return [one for one in psutil.process_iter() if _group_of(one) == group]


def _group_of(process: psutil.Process) -> int | None:
    try:
        return os.getpgid(process.pid) if process.status() != psutil.STATUS_ZOMBIE else None
    except (ProcessLookupError, psutil.Error):
        return None


@pytest.mark.parametrize("form", FORMS, ids=" ".join)
def test_a_reader_that_goes_away_ends_the_command(
    form: list[str], big: Path, path: str, tmp_path: Path
) -> None:
    """Whatever the form: soon, without a word, with 141, and no process stays."""
    for _ in range(2):
        with opened([str(big), *form], tmp_path / "home", path) as (process, out, err):
            assert out.readline()
            out.close()
            assert process.wait(30) == 141
            assert err.read() == b""
            assert left_behind(process.pid) == []


@pytest.mark.parametrize("report", [["stats"], ["request", ID]], ids=" ".join)
def test_a_report_that_nobody_reads(report: list[str], tmp_path: Path) -> None:
    """The reader of `logs stats` and `logs request` may be gone before they print."""
    log = tmp_path / "a.log"
    log.write_text((PLAIN + TAGGED) * 100)
    with opened([*report, str(log)], tmp_path / "home", os.environ["PATH"]) as (process, out, err):
        out.close()
        assert process.wait(60) == 141
        assert err.read() == b""


def test_a_follower_notices_that_its_reader_left(tmp_path: Path) -> None:
    """`logs -f | head -1` ends though nothing more is written to the log."""
    log = tmp_path / "a.log"
    log.write_text(TAGGED)
    with opened([str(log), "-f"], tmp_path / "home", os.environ["PATH"]) as (process, out, err):
        assert out.readline() == TAGGED.encode()
        out.close()
        assert process.wait(30) == 141
        assert err.read() == b""


def test_a_killed_worker_is_an_error(big: Path, tmp_path: Path) -> None:
    """One of the processes of a search is killed: LOG_001, and nothing waits for it."""
    if (os.cpu_count() or 1) < 2:
        pytest.skip("one processor: there is no second process")
    with opened([str(big)], tmp_path / "home", os.environ["PATH"]) as (process, out, err):
        # It writes to a full pipe now, so it is in the middle of the search.
        assert out.readline()
        workers = psutil.Process(process.pid).children()
        assert workers
        for worker in workers:
            # A helper of the pool may have ended since it was seen.
            with contextlib.suppress(ProcessLookupError):
                os.kill(worker.pid, signal.SIGKILL)
        out.read()
        assert process.wait(30) == 1
        assert b"LOG_001" in err.read()
        assert left_behind(process.pid) == []
