"""The runner of repairs runs real commands, and tells what came of each."""

import asyncio
import os
import signal
import stat
from pathlib import Path

import pytest

from opskit.recovery.command_runner import CommandRunner
from opskit.recovery.step import Command
from tests.parts.loopback import until

ENVIRON = {"PATH": os.environ["PATH"]}


def _shell(script: str, **rest) -> Command:
    return Command(("/bin/sh", "-c", script), **rest)


async def test_a_command_that_succeeds_says_nothing(tmp_path: Path):
    """Its exit status is enough; it is recorded."""
    runner = CommandRunner(tmp_path, ENVIRON)
    done = await runner.run(_shell("echo chatter"))
    assert (done.exit, done.said) == (0, "")
    assert runner.ran == [done]


async def test_a_command_that_fails_is_quoted(tmp_path: Path):
    """Its last words are the reason."""
    done = await CommandRunner(tmp_path, ENVIRON).run(_shell("echo no such container >&2; exit 3"))
    assert (done.exit, done.said) == (3, "no such container")


async def test_a_command_at_its_deadline_is_killed_with_its_children(tmp_path: Path):
    """Nothing that it started lives on."""
    script = f"sleep 1000 & echo $! > {tmp_path}/child; wait"
    done = await CommandRunner(tmp_path, ENVIRON).run(_shell(script, timeout_s=0.5))
    assert done.exit is None
    assert "killed" in done.said
    child = int((tmp_path / "child").read_text())
    await until(lambda: _ended(child))


async def test_a_command_that_is_not_there_is_said_so(tmp_path: Path):
    """It raises nothing."""
    done = await CommandRunner(tmp_path, ENVIRON).run(Command(("no-such-program",)))
    assert done.exit is None
    assert done.said == "no-such-program: No such file or directory"


async def test_a_missing_folder_is_not_called_a_missing_program(tmp_path: Path):
    """The name in the message is the one that is not there."""
    gone = str(tmp_path / "gone")
    for detached in (False, True):
        done = await CommandRunner(tmp_path, ENVIRON).run(_shell("true", cwd=gone, detached=detached))
        assert done.said == f"{gone}: No such file or directory"


async def test_a_run_that_is_cut_off_records_what_was_running(tmp_path: Path):
    """The audit can say that the command did not end."""
    runner = CommandRunner(tmp_path, ENVIRON)
    task = asyncio.create_task(runner.run(_shell(f"touch {tmp_path}/began; sleep 1000")))
    await until((tmp_path / "began").exists)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [(one.exit, "killed" in one.said) for one in runner.ran] == [(None, True)]


async def test_a_server_is_started_and_left(tmp_path: Path):
    """It lives in a session of its own, and what it says goes to a private file in the state folder."""
    script = f"echo $$ > {tmp_path}/pid; echo ready; echo trouble >&2; exec sleep 1000"
    done = await CommandRunner(tmp_path, ENVIRON).run(_shell(script, detached=True))
    log = tmp_path / "start-sh.log"
    assert done.exit == 0
    assert str(log) in done.said
    await until(lambda: log.read_text() == "ready\ntrouble\n")
    pid = int((tmp_path / "pid").read_text())
    try:
        assert os.getsid(pid) == pid
        assert stat.S_IMODE(log.stat().st_mode) == 0o600
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


async def test_a_server_whose_log_cannot_be_written_is_not_started(tmp_path: Path):
    """A server without a log would be one that nobody can ask."""
    (tmp_path / "start-sh.log").mkdir()
    done = await CommandRunner(tmp_path, ENVIRON).run(_shell(f"touch {tmp_path}/ran", detached=True))
    assert done.exit is None
    assert "start-sh.log: Is a directory" in done.said
    assert not (tmp_path / "ran").exists()


def _ended(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


async def test_a_server_that_ended_at_once_is_told_with_its_exit_code(tmp_path: Path):
    """One that goes on is not, and its log is what a person looks at."""
    runner = CommandRunner(tmp_path, ENVIRON)
    ended, runs = [
        await runner.run(_shell(script, detached=True)) for script in ("exit 7", "exec sleep 1000")
    ]
    assert ended.pid is not None
    assert runs.pid is not None
    try:
        os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)
        said = f"process {ended.pid} ended with exit code 7"
        assert runner.end_of(ended) == (said, f"`tail {tmp_path}/start-sh.log` shows its last words")
        assert runner.end_of(runs) is None
    finally:
        os.killpg(runs.pid, signal.SIGKILL)
        os.waitpid(runs.pid, 0)
