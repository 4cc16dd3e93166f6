"""A lock between processes that dies with its holder."""

import contextlib
import fcntl
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

_POLL_S = 0.01
_LOCKS = Path("/proc/locks")
#: `1: FLOCK  ADVISORY  WRITE 2614 fd:01:131074 0 EOF`: process, device and inode of a lock that is held.
_FLOCK = re.compile(r"^\d+: FLOCK +\w+ +\w+ +(\d+) [0-9a-f]+:[0-9a-f]+:(\d+) ", re.MULTILINE)


@contextlib.contextmanager
def try_lock(path: Path) -> Iterator[bool]:
    """Take the lock: True when it was free, False when another process holds it. Never waits.

    A file that is there, or a folder, may be of another user, or lie where nothing can be written. Raises
    OSError when it cannot be opened at all.
    """
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
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


def holder_of(path: Path) -> int | None:
    """Return the process that holds the lock; 0 where nobody tells which, None where it is free.

    Linux lists all locks; elsewhere a shared lock is tried for a moment, and the file may name its writer.
    """
    try:
        inode = path.stat().st_ino
        listed = _LOCKS.read_text(encoding="ascii", errors="replace") if _LOCKS.exists() else None
    except OSError:
        return None
    if listed is not None:
        pids = [int(match[1]) for match in _FLOCK.finditer(listed) if int(match[2]) == inode]
        return next((pid for pid in pids if _has_open(pid, path)), None)
    with path.open("rb") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            written = handle.read(32).strip()
            return int(written) if written.isdigit() else 0
    return None


def _has_open(pid: int, path: Path) -> bool:
    """Tell whether a process has this very file open: inodes of other disks may have the same number."""
    try:
        return any(descriptor.samefile(path) for descriptor in Path(f"/proc/{pid}/fd").iterdir())
    except OSError:
        return True
