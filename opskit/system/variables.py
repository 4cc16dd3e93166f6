"""The variables that a process was started with, and the family of our own process."""

import psutil


def variables_of(pid: int) -> dict[str, str] | None:
    """Return its variables, which may hold secrets; None when this user may not look at them."""
    try:
        return dict(psutil.Process(pid).environ())
    except (psutil.Error, OSError):
        return None


def ancestry() -> frozenset[int]:
    """The ids of our own process and of those that started it."""
    try:
        us = psutil.Process()
        return frozenset({us.pid, *(parent.pid for parent in us.parents())})
    except psutil.Error:
        return frozenset()
