"""Processes told apart by their start, and ended without hitting another: real processes."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from opskit.system.end_process import command, main
from opskit.system.process import (
    ancestry,
    end,
    find_processes,
    processes_like,
    read_process,
    variables_of,
)

#: Tells that it is ready, then waits; with an argument it ignores SIGTERM.
SERVE = """import signal, sys
if len(sys.argv) > 1: signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("ready", flush=True)
sys.stdin.read()"""


@pytest.fixture
def serving() -> Iterator[subprocess.Popen[bytes]]:
    process = started()
    yield process
    finish(process)


def started(*arguments: str) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [sys.executable, "-c", SERVE, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    return process


def finish(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.communicate()


def began(process: subprocess.Popen[bytes]) -> float:
    return psutil.Process(process.pid).create_time()


def test_the_process_that_is_meant_ends(serving: subprocess.Popen[bytes]):
    """The command of a repair: it returns once the process is gone."""
    assert main([str(serving.pid), str(began(serving))]) == 0
    assert not psutil.pid_exists(serving.pid)


def test_another_process_of_the_same_id_is_not_touched(serving: subprocess.Popen[bytes]):
    """The id was given away: what is meant is gone, and what is there lives on."""
    assert main([str(serving.pid), str(began(serving) - 3600)]) == 0
    assert serving.poll() is None


def test_a_process_that_is_gone_is_gone():
    """Nothing to end is success."""
    process = started()
    at = began(process)
    finish(process)
    assert end(process.pid, at, patience_s=0.1)


def test_a_stopped_process_ends_too(serving: subprocess.Popen[bytes]):
    """SIGTERM reaches it because it is let go on."""
    psutil.Process(serving.pid).suspend()
    assert end(serving.pid, began(serving), patience_s=5.0)
    assert not psutil.pid_exists(serving.pid)


def test_one_that_does_not_listen_is_killed():
    """After its time has passed."""
    process = started("deaf")
    assert end(process.pid, began(process), patience_s=0.2)
    assert not psutil.pid_exists(process.pid)
    finish(process)


def test_wrong_arguments_are_a_usage_error():
    """Exit 2, not a traceback."""
    assert main([]) == 2
    assert main(["x", "y"]) == 2


def test_processes_are_found_by_their_whole_command(serving: subprocess.Popen[bytes]):
    """The same program with other arguments is another one."""
    assert serving.pid in [process.pid for process in processes_like([sys.executable, "-c", SERVE], None)]
    assert serving.pid not in [
        process.pid for process in processes_like([sys.executable, "-c", SERVE, "deaf"], None)
    ]


def test_a_process_is_described(serving: subprocess.Popen[bytes]):
    """Its state, its memory and its parent."""
    process = read_process(serving.pid)
    assert process is not None
    assert (process.stopped, process.traced, process.rss_bytes > 0) == (False, False, True)
    assert process.parent == psutil.Process().pid
    assert read_process(2**22 + 1) is None


def test_processes_are_found_by_all_conditions_together(serving: subprocess.Popen[bytes]):
    """By id, name, executable and command line; what has ended and was not waited for does not run."""
    process = read_process(serving.pid)
    assert process is not None
    conditions = {
        "pids": lambda pid: pid == serving.pid,
        "names": {process.name},
        "program": lambda path: path == psutil.Process(serving.pid).exe(),
        "command": lambda line: tuple(line) == process.command,
    }
    processes, _ = find_processes(**conditions)
    assert [process.pid for process in processes] == [serving.pid]
    for name, other in {"names": {"other"}, "program": lambda _: False, "command": lambda _: False}.items():
        assert find_processes(**{**conditions, name: other}) == ([], 0)
    serving.kill()
    psutil.Process(serving.pid).wait(timeout=5)
    assert find_processes(pids=lambda pid: pid == serving.pid) == ([], 0)


def test_the_oldest_process_comes_first(serving: subprocess.Popen[bytes]):
    """We began before what we started."""
    us = psutil.Process().pid
    processes, _ = find_processes(pids=lambda pid: pid in (us, serving.pid))
    assert [process.pid for process in processes] == [us, serving.pid]
    assert processes[0].age_s() >= processes[1].age_s() >= 0.0
    assert processes[0].age_s(now=0.0) == 0.0


def test_variables_are_read_where_they_may_be(serving: subprocess.Popen[bytes]):
    """None for a process that is not there."""
    assert variables_of(serving.pid)["PATH"]
    assert variables_of(2**22 + 1) is None


def test_our_ancestors_are_known():
    """Ourselves and who started us."""
    us = psutil.Process()
    assert {us.pid, us.ppid()} <= ancestry()


def test_a_process_is_ended_by_opskit_itself_whatever_lies_in_the_folder(tmp_path: Path):
    """A package of the same name where a person stands is not run in its place."""
    (tmp_path / "opskit" / "system").mkdir(parents=True)
    for name in ("opskit/__init__.py", "opskit/system/__init__.py", "opskit/system/end_process.py"):
        (tmp_path / name).write_text("raise SystemExit('not this one')\n")
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        argv = command(process.pid, psutil.Process(process.pid).create_time())
        done = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stderr) == (0, "")
        assert process.wait(10) == -signal.SIGTERM
    finally:
        process.kill()
        process.communicate()
