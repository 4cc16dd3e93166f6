"""The variables that a process was started with, and whether it is stopped."""

from dataclasses import dataclass

import psutil


@dataclass(frozen=True, slots=True)
class Started:
    """`variables` None: this user may not look at them. They may hold secrets."""

    variables: dict[str, str] | None
    stopped: bool


def started(pid: int) -> Started | None:
    """None when there is no such process, or it may not be looked at at all."""
    try:
        process = psutil.Process(pid)
        stopped = process.status() in (psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP)
    except psutil.Error:
        return None
    try:
        return Started(process.environ(), stopped)
    except (psutil.Error, OSError):
        return Started(None, stopped)


def ancestry() -> frozenset[int]:
    """The ids of our own process and of those that started it."""
    try:
        us = psutil.Process()
        return frozenset({us.pid, *(one.pid for one in us.parents())})
    except psutil.Error:
        return frozenset()
