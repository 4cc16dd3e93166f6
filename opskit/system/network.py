"""The lowest rung of every ladder: does something accept a TCP connection there?"""

import asyncio
import contextlib
import socket
import time
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit


@dataclass(frozen=True, slots=True)
class TcpResult:
    """`problem` is None when a connection was accepted. `seconds` is the time it took either way.

    `errno` is the system's number for it, where there is one: several addresses may fail in several ways.
    """

    seconds: float
    problem: Literal["refused", "timeout", "name", "unreachable"] | None = None
    errno: int | None = None


def endpoint(url: str) -> tuple[str, int]:
    """Host and port of a URL, the scheme's port when it names none."""
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)


async def connects(url: str, *, timeout_s: float) -> TcpResult:
    """Open and close one connection. Says nothing to the server."""
    host, port = endpoint(url)
    began = time.monotonic()
    problem: Literal["refused", "timeout", "name", "unreachable"] | None = None
    number: int | None = None
    try:
        async with asyncio.timeout(timeout_s):
            _, writer = await asyncio.open_connection(host, port)
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
    except TimeoutError:
        problem = "timeout"
    except socket.gaierror:
        problem = "name"
    except OSError as exc:
        refused = isinstance(exc, ConnectionRefusedError) or "refused" in str(exc).lower()
        problem = "refused" if refused else "unreachable"
        number = exc.errno
    return TcpResult(time.monotonic() - began, problem, number)
