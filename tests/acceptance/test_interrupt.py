"""Ctrl-C ends every command at once and quietly, wherever it stands."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil
import pytest

from tests.parts.command import environment

OFFSETS_MS = (0, 5, 15, 30, 50, 75, 100, 150, 200, 300, 400)
COMMANDS = [
    ["probe", "--sandbox"],
    ["watch", "--sandbox", "--json"],
    ["run", "--local", "hello there"],
    ["doctor"],
    ["logs", "-"],
    ["config", "show"],
    ["explain", "-"],
    ["--help"],
]
#: These may end by themselves.
SHORT = (
    ["probe", "--sandbox"],
    ["run", "--local", "hello there"],
    ["doctor"],
    ["config", "show"],
    ["--help"],
)
#: Says that it is about to enter `main`, where the promise begins.
ENTRY = "import os\nfrom opskit.cli.main import main\nos.write(2, b'!')\nmain()\n"
#: Leaves signals to a thread that does nothing.
ELSEWHERE = (
    "import signal, threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()\n"
    "signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})\n"
)
TAGGED = (
    "2026-11-20T08:00:{:02d}Z [LLM_RESPONSE] correlation_id=8979fe84-3a15-468c-96c9-75832539{:04d} node=a "
    "model=b seconds=1.5 status=200 first_token_s=0.1 tokens=5 \n"
)


def started(
    arguments: Sequence[str], home: Path, *, stdin: int = subprocess.DEVNULL, entry: str = ENTRY
) -> subprocess.Popen[bytes]:
    home.mkdir(exist_ok=True)
    return subprocess.Popen(
        [sys.executable, "-c", entry, *arguments],
        env=environment(home),
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=home,
        start_new_session=True,
    )


def until(true: Callable[[], object]) -> None:
    limit = time.monotonic() + 60
    while not true():
        assert time.monotonic() < limit, "it never came to that"
        time.sleep(0.0005)


def has_entered(pid: int) -> bool:
    """Whether `main` has taken Ctrl-C out of Python's hands, as far as this system tells."""
    try:
        caught = next(
            line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if "SigCgt" in line
        )
    except OSError:
        return True
    return not int(caught.split()[1], 16) & (1 << signal.SIGINT - 1)


@pytest.mark.parametrize("offset_ms", OFFSETS_MS)
@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_ctrl_c_at_any_moment_is_quiet(command: list[str], offset_ms: int, tmp_path: Path) -> None:
    """While it imports, while it works, while it ends: 130 or the signal itself, and no word on stderr."""
    stdin = subprocess.PIPE if "-" in command else subprocess.DEVNULL
    with started(command, tmp_path / "home", stdin=stdin) as process:
        assert process.stderr is not None
        assert process.stderr.read(1) == b"!"
        until(lambda: has_entered(process.pid) or process.poll() is not None)
        time.sleep(offset_ms / 1000)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGINT)
        # Standard input stays open until it has ended.
        status = process.wait(60)
        err = process.stderr.read().decode()
    for word in ("Traceback", "Warning", "Exception", "never", "Interrupt", "BUG_001"):
        assert word not in err
    # Some may have done their work before the signal came.
    assert status in (130, -signal.SIGINT, *((0, 1, 3) if command in SHORT else ()))


@pytest.mark.parametrize(
    "command", [["logs", "-"], ["explain", "-"], ["run", "-"], ["quality", "-"]], ids=" ".join
)
def test_a_ctrl_c_that_breaks_no_wait_is_seen(command: list[str], tmp_path: Path) -> None:
    """As one that comes just before a wait: another thread gets the signal, no system call is interrupted."""
    with started(command, tmp_path / "home", stdin=subprocess.PIPE, entry=ELSEWHERE + ENTRY) as process:
        assert process.stderr is not None
        assert process.stderr.read(1) == b"!"
        until(lambda: has_entered(process.pid))
        until(lambda: not has_entered(process.pid) or sys.platform == "darwin")
        until(lambda: psutil.Process(process.pid).status() == psutil.STATUS_SLEEPING)
        process.send_signal(signal.SIGINT)
        try:
            assert process.wait(60) == 130
        finally:
            process.kill()
        assert b"Traceback" not in process.stderr.read()


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log that takes seconds to count on any machine."""
    path = tmp_path_factory.mktemp("big") / "big.log"
    block = "".join(TAGGED.format(number % 60, number) for number in range(5000))
    with path.open("w") as file:
        for _ in range(300):
            file.write(block)
    return path


def busy(process: subprocess.Popen[bytes]) -> bool:
    """Whether it computes: it has used more processor time than a start takes."""
    try:
        times = [
            one.cpu_times() for one in (psutil.Process(process.pid), *psutil.Process(process.pid).children())
        ]
    except psutil.Error:
        return process.poll() is not None
    return sum(one.user + one.system for one in times) > 1.5


@pytest.mark.parametrize("whole_group", [True, False], ids=["from the terminal", "to the process alone"])
@pytest.mark.parametrize(
    "arguments",
    [
        ["logs", "stats", "{big}"],
        ["logs", "stats", "{big}", "--since", "2020-01-01"],
        ["logs", "request", "8979fe84", "{big}"],
        ["logs", "{big}", "--all", "--not", "seconds"],
        ["verify", "{list}"],
    ],
    ids=lambda arguments: " ".join(arguments[:2]),
)
def test_ctrl_c_ends_what_only_computes(
    arguments: list[str], whole_group: bool, big: Path, tmp_path: Path
) -> None:
    """In the middle of its work it prints no result and ends with 130, and so do its processes."""
    checks = tmp_path / "list.yaml"
    pattern = f"{{path: {big}, pattern: 'x{{1,9}}z|seconds=[0-9]'}}"
    checks.write_text(f"checks:\n- name: seen\n  kind: log_pattern\n  timeout: 60s\n  with: {pattern}\n")
    process = started([one.format(big=big, list=checks) for one in arguments], tmp_path / "home")
    until(lambda: busy(process))
    assert process.poll() is None, process.communicate()
    (os.killpg if whole_group else os.kill)(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (130, b"", b"!")
    assert not [one for one in psutil.process_iter() if _group(one) == process.pid]


def _group(process: psutil.Process) -> int | None:
    try:
        return os.getpgid(process.pid) if process.status() != psutil.STATUS_ZOMBIE else None
    except (ProcessLookupError, psutil.Error):
        return None
