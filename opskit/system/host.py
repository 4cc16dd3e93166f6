"""Memory and age of this machine, and whether an address is this machine."""

import ipaddress
import socket
import time
from urllib.parse import urlsplit


def available_memory_bytes() -> int | None:
    """What a new process can have without swapping; None when the system does not tell."""
    import psutil

    try:
        return int(psutil.virtual_memory().available)
    except (OSError, RuntimeError):
        return None


def up_s() -> float | None:
    """How long this machine has been up; None when the system does not tell."""
    import psutil

    try:
        return max(0.0, time.time() - psutil.boot_time())
    except (OSError, RuntimeError):
        return None


def is_loopback(url: str) -> bool:
    """Whether a URL points at this machine by a loopback name or address. No name is looked up."""
    host = urlsplit(url).hostname or ""
    if host in ("localhost", "host.docker.internal") or host.endswith(".localhost"):
        return host != "host.docker.internal"
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == socket.gethostname()
