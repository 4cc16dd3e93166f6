"""Processes of this machine by id and by command line, and how one is ended without hitting another."""

import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass

import psutil

#: Two readings of when one process began may differ: the clock is set, and its grain is coarse.
SAME_START_S = 2.0
#: An interpreter and one option of it may stand before a script (`#!/usr/bin/python3 -I`).
_BEFORE_SCRIPT = 2
_LOOK_AGAIN_S = 0.1


@dataclass(frozen=True, slots=True)
class Running:
    """One process at one moment. `began` is seconds since the epoch, `status` psutil's word for its state.

    `cpu_s` is the processor time that it has used so far.
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

    @property
    def stopped(self) -> bool:
        """By SIGSTOP or Ctrl-Z."""
        return self.status == psutil.STATUS_STOPPED

    @property
    def traced(self) -> bool:
        """Held by a debugger."""
        return self.status == psutil.STATUS_TRACING_STOP


def running(pid: int) -> Running | None:
    """None when it is gone, or may not be looked at."""
    try:
        return _read(psutil.Process(pid))
    except psutil.Error:
        return None


def like(command: Sequence[str], path: str | None) -> list[Running]:
    """All processes that run exactly this program with exactly these arguments, the oldest first.

    `path` is the PATH on which the program was found.
    """
    found = []
    for process in psutil.process_iter():
        try:
            if process.status() != psutil.STATUS_ZOMBIE and is_like(process.cmdline(), command, path):
                found.append(_read(process))
        except psutil.Error:
            continue
    return sorted(found, key=lambda one: one.began)


def is_like(line: Sequence[str], command: Sequence[str], path: str | None) -> bool:
    """Whether a command line is that of `command`: a script has its interpreter in front."""
    before = len(line) - len(command)
    if not command or not 0 <= before <= _BEFORE_SCRIPT or list(line[before + 1 :]) != list(command[1:]):
        return False
    program = line[before]
    if program == command[0]:
        return True
    found = shutil.which(command[0], path=path)
    return found is not None and os.path.realpath(program) == os.path.realpath(found)


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
        raise PermissionError(f"process {pid} belongs to somebody else") from exc
    return True


def _gone(process: psutil.Process, limit_s: float) -> bool:
    """Whether it ends in time. One that nobody reaps (a container's first process may not) has ended too."""
    limit = time.monotonic() + limit_s
    while (left := limit - time.monotonic()) > 0:
        try:
            process.wait(timeout=min(_LOOK_AGAIN_S, left))
        except psutil.TimeoutExpired:
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                continue
        return True
    return False


def _read(process: psutil.Process) -> Running:
    with process.oneshot():
        times = process.cpu_times()
        return Running(
            process.pid,
            process.ppid(),
            process.name(),
            tuple(process.cmdline()),
            process.username(),
            process.status(),
            process.create_time(),
            times.user + times.system,
            process.memory_info().rss,
        )


def age_s(one: Running, now: float | None = None) -> float:
    """How long it has been running; a clock that was set back makes nothing younger than 0."""
    return max(0.0, (time.time() if now is None else now) - one.began)
