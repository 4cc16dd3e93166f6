"""Evidence about the process behind a port of this machine: what it is, and whether it works or sleeps."""

import asyncio
import time
from dataclasses import dataclass

import psutil

from opskit.system.sockets import SocketTable

_SAMPLE_S = 0.3


@dataclass(frozen=True, slots=True)
class Listener:
    """Who listens on a port.

    `cpu` is in cores, its children's included; `stopped` is SIGSTOP or a debugger.
    """

    pid: int
    name: str
    command: tuple[str, ...]
    stopped: bool
    cpu: float


async def listener(port: int) -> Listener | None:
    """The process that listens on `port`, watched for a moment; None when it cannot be told.

    Without the rights to see other users' sockets only our own processes are found.
    """
    return await asyncio.to_thread(_listener, port)


async def command_line_of(port: int) -> tuple[str, ...] | None:
    """The command line of the process that listens on `port`, at once; None when it cannot be told."""
    return await asyncio.to_thread(_command_line_of, port)


def _command_line_of(port: int) -> tuple[str, ...] | None:
    pid = _owner(port)
    if pid is None:
        return None
    try:
        return tuple(psutil.Process(pid).cmdline())
    except psutil.Error:
        return None


def _listener(port: int) -> Listener | None:
    pid = _owner(port)
    if pid is None:
        return None
    try:
        process = psutil.Process(pid)
        cpu = _cores(process)
        return Listener(
            pid,
            process.name(),
            tuple(process.cmdline()),
            process.status() in (psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP),
            cpu,
        )
    except psutil.Error:
        return None


def _cores(process: psutil.Process) -> float:
    """How much the process and its children work. Our own work is not the server's: a process that hosts us

    (a test, a sandbox) counts as 0.
    """
    us = psutil.Process()
    if process in (us, *us.parents()):
        return 0.0
    family = [process, *process.children(recursive=True)]
    before = _cpu_seconds(family)
    _wait(process)
    return max(0.0, _cpu_seconds(family) - before) / _SAMPLE_S


def _wait(process: psutil.Process) -> None:
    """Let the sample pass; a process that ends meanwhile ends the wait."""
    try:
        process.wait(timeout=_SAMPLE_S)
    except psutil.TimeoutExpired:
        return


def _cpu_seconds(processes: list[psutil.Process]) -> float:
    total = 0.0
    for process in processes:
        try:
            times = process.cpu_times()
        except psutil.Error:
            continue
        total += times.user + times.system
    return total


def _owner(port: int) -> int | None:
    sockets = SocketTable.read(time.monotonic()).at("tcp", port)
    return next((socket.pid for socket in sockets if socket.pid is not None), None)
