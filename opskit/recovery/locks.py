"""The locks of repairs: one process at a time works with a state folder, and one with a Docker daemon."""

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from opskit.errors import OpskitError
from opskit.recovery.memory import LOCK_NAME
from opskit.system.lock import try_lock


@contextlib.contextmanager
def alone(folder: Path, lock_name: str = LOCK_NAME, what: str = "recovery") -> Iterator[None]:
    """Hold a lock of this state folder, which dies with its process.

    Raises OpskitError RECOVER_001 when another process holds it.
    """
    path = folder / lock_name
    with try_lock(path) as mine:
        if not mine:
            pid = ""
            with contextlib.suppress(OSError):
                pid = path.read_text(encoding="ascii", errors="replace").strip()
            owner = f" as process {pid}" if pid.isdigit() else ""
            raise OpskitError("RECOVER_001", f"another {what} is running{owner}")
        with contextlib.suppress(OSError):
            path.write_text(f"{os.getpid()}\n", encoding="ascii")
        yield


@contextlib.contextmanager
def alone_with_docker(environ: Mapping[str, str]) -> Iterator[None]:
    """Hold a lock of the Docker daemon on this machine, so that two users do not repair at once.

    It is on the folder of its socket, which all its users can open. Raises OpskitError RECOVER_001 when
    another process holds it.
    """
    from opskit.facts.docker_daemon import docker_address

    address = docker_address(environ)
    with contextlib.ExitStack() as stack:
        if address.socket_exists and address.socket is not None:
            folder = Path(address.socket).resolve().parent
            # What this user cannot open is not theirs to repair either.
            with contextlib.suppress(OSError):
                if not stack.enter_context(try_lock(folder)):
                    why = f"another recovery is running with the Docker daemon at {address.shown}"
                    raise OpskitError("RECOVER_001", why)
        yield
