"""Processes of this machine: one record, one way to read it, and how one is ended without hitting another."""

import contextlib
import os
import shutil
import time
from collections.abc import Callable, Collection, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

import psutil

from opskit.records import Record

T = TypeVar("T")
#: Two readings of when one process began may differ: the clock is set, and its grain is coarse.
SAME_START_S = 2.0
#: An interpreter and one option of it may stand before a script (`#!/usr/bin/python3 -I`).
_BEFORE_SCRIPT = 2
_LOOK_AGAIN_S = 0.1
#: The descriptors of standard output and standard error.
_OUTPUTS = (1, 2)


class Process(Record):
    """One process at one moment. `began` is seconds since the epoch, `status` psutil's word for its state.

    `cpu_s` is the processor time that it has used so far, `tracer` the process that debugs it.
    """

    pid: int
    parent: int | None
    name: str
    command: tuple[str, ...]
    user: str
    status: str
    began: float
    cpu_s: float
    rss_bytes: int
    tracer: int = 0

    @property
    def words(self) -> str:
        return f"process {self.pid} ({self.name})"

    @property
    def stopped(self) -> bool:
        """By SIGSTOP or Ctrl-Z."""
        return self.status == psutil.STATUS_STOPPED

    @property
    def traced(self) -> bool:
        """Held by a debugger."""
        return self.status == psutil.STATUS_TRACING_STOP

    @property
    def halt(self) -> str:
        """What keeps it from any work, as the end of a sentence; empty where nothing does."""
        if self.traced:
            return f"is held by a debugger (process {self.tracer})"
        return "is stopped" if self.stopped else ""

    @property
    def release(self) -> str:
        """The remedy of such a halt."""
        if self.traced:
            return f"end the debugger (`detach` in gdb, or `kill {self.tracer}`), and it goes on"
        return f"`kill -CONT {self.pid}` lets it go on"

    def age_s(self, now: float | None = None) -> float:
        """How long it has been running; a clock that was set back makes nothing younger than 0."""
        return max(0.0, (time.time() if now is None else now) - self.began)


def read_process(pid: int) -> Process | None:
    """Read one process; None when it is gone, or may not be looked at."""
    return _asked(pid, _read)


def find_processes(
    *,
    pids: Callable[[int], bool] | None = None,
    names: Collection[str] | None = None,
    program: Callable[[str], bool] | None = None,
    command: Callable[[Sequence[str]], bool] | None = None,
) -> tuple[list[Process], int]:
    """Return the processes that fulfil all conditions, the oldest first, and how many may not be looked at.

    `pids` judges the id, `program` the path of the executable, `command` the command line. A process that has
    ended and was not waited for does not run: it is left out. Blocks while every process is looked at.
    """
    processes, hidden = [], 0
    for process in psutil.process_iter():
        if pids is not None and not pids(process.pid):
            continue
        try:
            with process.oneshot():
                if (
                    (names is None or process.name() in names)
                    and (program is None or program(process.exe()))
                    and (command is None or command(process.cmdline()))
                    and process.status() != psutil.STATUS_ZOMBIE
                ):
                    processes.append(_read(process))
        except psutil.AccessDenied:
            hidden += 1
        except psutil.Error:
            continue
    return sorted(processes, key=lambda process: process.began), hidden


def is_running(process: Process) -> bool:
    """Tell whether a process that was seen runs still; False where its id belongs to another one by now."""
    again = _asked(process.pid, lambda now: (now.create_time(), now.status()))
    if again is None:
        return False
    began, status = again
    return abs(began - process.began) < SAME_START_S and status != psutil.STATUS_ZOMBIE


def ports_of(pid: int) -> frozenset[int]:
    """Return the TCP ports on which a process, or one that it started, accepts connections.

    Processes that may not be looked at are left out.
    """

    def asked(process: psutil.Process) -> set[int]:
        connections = process.net_connections(kind="tcp")
        return {each.laddr.port for each in connections if each.status == psutil.CONN_LISTEN}

    children = _asked(pid, lambda process: process.children(recursive=True)) or []
    pids = (pid, *(child.pid for child in children))
    return frozenset(port for each in pids for port in _asked(each, asked) or ())


def processes_like(command: Sequence[str], path: str | None) -> list[Process]:
    """Return all processes that run exactly this program with exactly these arguments, the oldest first.

    `path` is the PATH on which the program was found.
    """
    return find_processes(command=lambda line: is_like(line, command, path))[0]


def is_like(line: Sequence[str], command: Sequence[str], path: str | None) -> bool:
    """Whether a command line is that of `command`: a script has its interpreter in front."""
    before = len(line) - len(command)
    if not command or not 0 <= before <= _BEFORE_SCRIPT or list(line[before + 1 :]) != list(command[1:]):
        return False
    program = line[before]
    if program == command[0]:
        return True
    installed = shutil.which(command[0], path=path)
    return installed is not None and os.path.realpath(program) == os.path.realpath(installed)


def option_value(command: Sequence[str], option: str) -> str | None:
    """Return the value of an option on a command line; None where it is not there, or has none. Pure."""
    for word, following in pairwise([*command, ""]):
        if word == option and following and not following.startswith("--"):
            return following
        if word.startswith(f"{option}="):
            return word.partition("=")[2] or None
    return None


def variables_of(pid: int) -> dict[str, str] | None:
    """Return the variables that a process was started with, which may hold secrets.

    None when this user may not look at them, and when it is gone.
    """
    return _asked(pid, psutil.Process.environ)


def open_logs(pid: int) -> tuple[str, ...]:
    """Return the files to which a process writes its output or a log, where this user may look."""
    # macOS does not tell which files are written.
    logs = [
        file.path
        for file in _asked(pid, psutil.Process.open_files) or ()
        if file.fd in _OUTPUTS or (file.path.endswith(".log") and getattr(file, "mode", "a") != "r")
    ]
    return tuple(dict.fromkeys(logs))


def folder_of(pid: int) -> Path | None:
    """Return the working folder of a process; None when this user may not look, and when it is gone."""
    folder = _asked(pid, psutil.Process.cwd)
    return None if folder is None else Path(folder)


def _asked(pid: int, question: Callable[[psutil.Process], T]) -> T | None:
    """Return what the system tells of a process; None when this user may not look, and when it is gone."""
    try:
        return question(psutil.Process(pid))
    except (psutil.Error, OSError):
        return None


def ancestry() -> frozenset[int]:
    """Return the ids of our own process and of its ancestors."""
    parents = _asked(os.getpid(), psutil.Process.parents)
    return frozenset() if parents is None else frozenset({os.getpid(), *(parent.pid for parent in parents)})


def cores_used(pid: int, sample_s: float) -> float:
    """Return how many cores a process and its children use. Blocks for `sample_s`. Raises psutil.Error.

    Our own work is not the server's: a process that hosts us (a test, a sandbox) counts as 0.
    """
    if pid in ancestry():
        return 0.0
    process = psutil.Process(pid)
    family = [process, *process.children(recursive=True)]
    before_s = _cpu_seconds(family)
    # A process that ends meanwhile ends the sample.
    with contextlib.suppress(psutil.TimeoutExpired):
        process.wait(timeout=sample_s)
    return max(0.0, _cpu_seconds(family) - before_s) / sample_s


def end(pid: int, began: float, *, patience_s: float) -> bool:
    """End the process that began then, and wait until it is gone: SIGTERM, after `patience_s` SIGKILL.

    True when it is gone, also when it was before. What has its id by now is not touched: psutil compares
    the start again before each signal. Raises PermissionError when this user may not end it.
    """
    try:
        process = psutil.Process(pid)
        if abs(process.create_time() - began) >= SAME_START_S:
            return True
        process.terminate()
        # A stopped process would never see the signal.
        process.resume()
        if not _gone(process, patience_s):
            process.kill()
            return _gone(process, patience_s)
    except psutil.NoSuchProcess:
        return True
    except psutil.AccessDenied as exc:
        raise PermissionError(f"process {pid} belongs to another user") from exc
    return True


def _gone(process: psutil.Process, limit_s: float) -> bool:
    """Whether it ends in time. One that is not reaped (by a container's first process) has ended too."""
    limit = time.monotonic() + limit_s
    while (remaining_s := limit - time.monotonic()) > 0:
        try:
            process.wait(timeout=min(_LOOK_AGAIN_S, remaining_s))
        except psutil.TimeoutExpired:
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                continue
        return True
    return False


def _cpu_seconds(processes: Sequence[psutil.Process]) -> float:
    total_s = 0.0
    for process in processes:
        try:
            times = process.cpu_times()
        except psutil.Error:
            continue
        total_s += times.user + times.system
    return total_s


def _read(process: psutil.Process) -> Process:
    with process.oneshot():
        times = process.cpu_times()
        return Process(
            pid=process.pid,
            parent=process.ppid(),
            name=process.name(),
            command=tuple(process.cmdline()),
            user=process.username(),
            status=process.status(),
            began=process.create_time(),
            cpu_s=times.user + times.system,
            rss_bytes=process.memory_info().rss,
            tracer=_tracer(process.pid) if process.status() == psutil.STATUS_TRACING_STOP else 0,
        )


def _tracer(pid: int) -> int:
    """Return the process that debugs one; 0 where that is not told."""
    with contextlib.suppress(OSError):
        text = Path(f"/proc/{pid}/status").read_text()
        return int(text.partition("TracerPid:")[2].split()[0])
    return 0


def open_files(pid: int) -> str:
    """Tell that a process has as many open files as it may; empty where it has fewer, or nothing is known."""
    # macOS tells no limits of others.
    with contextlib.suppress(psutil.Error, OSError, AttributeError):
        process = psutil.Process(pid)
        count, limit = process.num_fds(), process.rlimit(psutil.RLIMIT_NOFILE)[0]
        if 0 <= limit <= count:
            return f"has too many open files: {count} of {limit}"
    return ""
