"""What Docker sends for as long as it is listened to: the lines of a log, and events.

aiohttp reads it. Docker sends each line as a chunk of its own, and httpx, which asks all other questions
and is imported in half the time, takes chunks apart five times as slowly: 200,000 lines cost it 2.3 s of
processor time, and aiohttp 0.5 s.
"""

import asyncio
import contextlib
import json
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Self

import aiohttp
import httpx

from opskit.errors import OpskitError
from opskit.system.docker_host import Host
from opskit.system.docker_records import DockerEvent, happening

#: Gives the next bytes, none of them at the end; raises OpskitError(DOCKER_001) for a lost connection.
Read = Callable[[], Awaitable[bytes]]


class LogStream:
    """The bytes of a log as they come in."""

    def __init__(self, read: Read) -> None:
        self._read = read

    async def piece(self, timeout_s: float | None = None) -> bytes | None:
        """Return the next bytes, none at the end; None when nothing came in time, which loses nothing.

        Raises OpskitError(DOCKER_001) for a lost connection.
        """
        try:
            async with asyncio.timeout(timeout_s):
                return await self._read()
        except TimeoutError:
            return None


class EventStream:
    """Events, one after another. `began_ns` is the time on the daemon's clock since which they are complete.

    Raises OpskitError(DOCKER_001) when the connection is lost or the daemon ends.
    """

    def __init__(self, read: Read, began_ns: int) -> None:
        self.began_ns = began_ns
        self._read = read
        self._incomplete = b""
        self._ready: deque[DockerEvent] = deque()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> DockerEvent:
        while not self._ready:
            piece = await self._read()
            if not piece:
                raise OpskitError("DOCKER_001", "the Docker daemon ended its events")
            *lines, self._incomplete = (self._incomplete + piece).split(b"\n")
            try:
                self._ready.extend(happening(json.loads(line)) for line in lines if line.strip())
            except (ValueError, KeyError, TypeError, AttributeError) as exc:
                raise OpskitError("DOCKER_001", "an event from Docker makes no sense") from exc
        return self._ready.popleft()


class Connection:
    """A connection to a daemon for one stream.

    Its errors are errors of httpx, so that the client judges them as it does its own.
    """

    def __init__(self, way: Host) -> None:
        self._url = way.url
        connector: aiohttp.BaseConnector
        if way.socket is not None:
            connector = aiohttp.UnixConnector(way.socket)
        else:
            connector = aiohttp.TCPConnector(ssl=way.tls or True)
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=None)
        self._session = aiohttp.ClientSession(connector=connector, timeout=timeout)
        self._response: aiohttp.ClientResponse | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._response is not None:
            self._response.close()
        await self._session.close()

    async def get(self, path: str, parameters: Mapping[str, str]) -> aiohttp.ClientResponse:
        """Return the reply once its head is there."""
        with _as_httpx():
            self._response = await self._session.get(f"{self._url}{path}", params=parameters)
        return self._response


async def next_bytes(response: aiohttp.ClientResponse) -> bytes:
    """Return the bytes that are there, or the next ones; none at the end."""
    with _as_httpx():
        return await response.content.readany()


@contextlib.contextmanager
def _as_httpx() -> Iterator[None]:
    try:
        yield
    except aiohttp.ClientConnectorError as exc:
        raise httpx.ConnectError(str(exc)) from exc
    except (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError) as exc:
        raise httpx.ReadError(str(exc)) from exc
    except aiohttp.ClientError as exc:
        raise httpx.RemoteProtocolError(str(exc)) from exc
