"""A lock between processes that dies with its holder."""

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

_POLL_S = 0.01


@contextlib.contextmanager
def try_lock(path: Path) -> Iterator[bool]:
    """Take the lock: True when it was free, False when another process holds it. Never waits."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True
    finally:
        os.close(handle)


def is_locked(path: Path) -> bool:
    """Return True while another process, or another part of this one, holds the lock. Creates nothing."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except (OSError, ValueError):
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False


@contextlib.contextmanager
def wait_lock(path: Path, patience_s: float) -> Iterator[bool]:
    """Take the lock once its holder lets go; False when it did not within `patience_s`.

    It is asked again every 10 ms, because the system's own wait has no end.
    """
    until = time.monotonic() + patience_s
    while True:
        with try_lock(path) as mine:
            if mine or time.monotonic() >= until:
                yield mine
                return
        time.sleep(_POLL_S)
