"""The door to Docker: containers, their logs and their events, over the daemon's own HTTP API.

The SDK only says where the daemon is. Its streams block a thread each and hand TTY logs over byte by byte;
here they are asynchronous, read no faster than they are consumed, and closed at once when cancelled. Every
failure becomes an OpskitError: DOCKER_001 (no daemon, or it does not answer), DOCKER_002 (no such
container), DOCKER_003 (the daemon refused).
"""

import asyncio
import contextlib
import errno
import functools
import json
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import aiohttp

from opskit.errors import OpskitError
from opskit.system.docker_host import Host, resolve, start_remedy
from opskit.system.docker_records import ListedContainer, LoggedContainer, LogQuery, listed, logged
from opskit.system.docker_ssh import Tunnel
from opskit.system.docker_streams import EventStream, LogStream, daemon_clock_ns
from opskit.text import near_names

_NO_ACCESS = (
    "use Docker as a user of the group `docker` (`sudo usermod -aG docker $USER`, then log in again), "
    "or with sudo"
)
_REFUSAL_BYTES = 64 * 1024
#: What reading a reply raises that is not Docker's.
_NOT_DOCKER = (ValueError, KeyError, TypeError, AttributeError)
_SILENT = "restart Docker; after sleep its virtual machine may hang until the application is quit and opened"


class Docker:
    """A daemon. Nothing is connected before the first question.

    `async with` keeps connections open between questions; the last one out closes them, so nothing is left
    behind however it is used.
    """

    def __init__(self, environment: Mapping[str, str] | None = None, *, timeout_s: float = 5.0) -> None:
        self._environment = environment
        self._timeout_s = timeout_s
        self._lock = asyncio.Lock()
        self._users = 0
        self._host: Host | None = None
        self._session: aiohttp.ClientSession | None = None
        self._tunnel: Tunnel | None = None

    async def __aenter__(self) -> Self:
        self._users += 1
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._users -= 1
        if self._users:
            return
        session, tunnel, self._session, self._tunnel = self._session, self._tunnel, None, None
        if session is not None:
            await session.close()
        if tunnel is not None:
            await tunnel.aclose()

    async def containers(self, *, labels: Iterable[str] = ()) -> list[ListedContainer]:
        """All containers, stopped ones too, by name. `labels` are `key` or `key=value`; all must hold."""
        filters = {"label": list(labels)}
        found = await self._json("/containers/json", {"all": "1", "filters": json.dumps(filters)})
        with self._translated():
            return sorted(map(listed, found), key=lambda one: one.name)

    async def inspect(self, name: str) -> LoggedContainer:
        """One container by name, id or the unique start of an id.

        Raises OpskitError(DOCKER_002), with near names, when there is none.
        """
        found = await self.look(name)
        if found is None:
            raise no_such(name, [one.name for one in await self.containers()])
        return found

    async def look(self, name: str) -> LoggedContainer | None:
        """The same, None when there is no such container."""
        try:
            found = await self._json(f"/containers/{_quoted(name)}/json", {})
        except OpskitError as error:
            if error.code != "DOCKER_002":
                raise
            return None
        with self._translated():
            return logged(found)

    @contextlib.asynccontextmanager
    async def logs(self, identifier: str, query: LogQuery) -> AsyncIterator[LogStream]:
        """The log in Docker's own framing, every message with its time in front.

        With `follow` it ends when the container stops.
        """
        asked = {
            "stdout": "1",
            "stderr": "1",
            "timestamps": "1",
            "follow": "1" if query.follow else "0",
            "tail": "all" if query.tail is None else str(query.tail),
        }
        if query.since_ns is not None:
            asked["since"] = seconds(query.since_ns)
        if query.until_ns is not None:
            asked["until"] = seconds(query.until_ns)
        async with self._open(f"/containers/{_quoted(identifier)}/logs", asked) as response:
            yield LogStream(functools.partial(self._read, response))

    @contextlib.asynccontextmanager
    async def events(
        self, filters: Mapping[str, list[str]], *, since_ns: int | None = None
    ) -> AsyncIterator[EventStream]:
        """What happens to containers from now on, or from `since_ns` (the daemon keeps the last 256).

        Docker matches names in `filters` by their beginning.
        """
        asked = {"filters": json.dumps({"type": ["container"], **filters})}
        if since_ns is not None:
            asked["since"] = seconds(since_ns)
        async with self._open("/events", asked) as response:
            began_ns = daemon_clock_ns(response.headers.get("Date"))
            yield EventStream(functools.partial(self._read, response), began_ns)

    async def _read(self, response: aiohttp.ClientResponse) -> bytes:
        with self._translated():
            return await response.content.readany()

    async def _json(self, path: str, asked: Mapping[str, str]) -> Any:
        async with self, self._deadline(), self._open(path, asked) as response:
            with self._translated():
                return await response.json(content_type=None)

    @contextlib.asynccontextmanager
    async def _open(self, path: str, asked: Mapping[str, str]) -> AsyncIterator[aiohttp.ClientResponse]:
        """A reply with a good status; a deadline holds until its head is there."""
        async with self:
            async with self._deadline():
                response = await self._asked(path, asked)
            try:
                yield response
            finally:
                response.close()

    async def _asked(self, path: str, asked: Mapping[str, str]) -> aiohttp.ClientResponse:
        session = await self._connected()
        with self._translated():
            response = await session.get(f"{self._url}{path}", params=asked)
            if response.status < 400:
                return response
            async with response:
                body = await response.content.read(_REFUSAL_BYTES)
        raise _refusal(response.status, body)

    @property
    def _url(self) -> str:
        return self._host.url if self._host is not None else ""

    async def _connected(self) -> aiohttp.ClientSession:
        async with self._lock:
            if self._session is None:
                host = self._host = await asyncio.to_thread(resolve, self._environment)
                path = host.socket
                if host.ssh is not None:
                    self._tunnel = await Tunnel.start(host.ssh)
                    path = self._tunnel.path
                connector: aiohttp.BaseConnector
                if path is not None:
                    connector = aiohttp.UnixConnector(path, limit=0)
                else:
                    connector = aiohttp.TCPConnector(limit=0, ssl=host.tls or True)
                self._session = aiohttp.ClientSession(
                    connector=connector, timeout=aiohttp.ClientTimeout(total=None, sock_connect=None)
                )
            return self._session

    @contextlib.asynccontextmanager
    async def _deadline(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self._timeout_s):
                yield
        except TimeoutError as exc:
            message = f"Docker at {self._shown} gave no answer within {self._timeout_s:g} s"
            raise OpskitError("DOCKER_001", message, remedy=_SILENT) from exc

    @property
    def _shown(self) -> str:
        return self._host.shown if self._host is not None else "its socket"

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (aiohttp.ClientError, OSError, *_NOT_DOCKER) as exc:
            if isinstance(exc, TimeoutError):
                raise
            raise self._unreachable(exc) from exc

    def _unreachable(self, exc: Exception) -> OpskitError:
        if getattr(exc, "errno", None) in (errno.EACCES, errno.EPERM):
            return OpskitError("DOCKER_001", f"no permission to use {self._shown}", remedy=_NO_ACCESS)
        if isinstance(exc, aiohttp.ClientConnectorError):
            said = self._tunnel.complaint if self._tunnel is not None else ""
            message = f"no Docker daemon answers at {self._shown}" + (f": {said}" if said else "")
        elif isinstance(exc, aiohttp.ClientConnectionError | aiohttp.ClientPayloadError | OSError):
            said = self._tunnel.complaint if self._tunnel is not None else ""
            message = f"the connection to Docker at {self._shown} was lost" + (f": {said}" if said else "")
        else:
            message = f"what answers at {self._shown} does not speak Docker's API"
        return OpskitError("DOCKER_001", message, remedy=start_remedy())


def no_such(name: str, names: Iterable[str]) -> OpskitError:
    """The error for a container that nobody knows, naming those of `names` that come near."""
    near = near_names(name, names)
    hint = f"; did you mean {' or '.join(near)}?" if near else ""
    return OpskitError("DOCKER_002", f"no container {name!r}{hint}")


def seconds(at_ns: int) -> str:
    """A time as Docker's API reads it without loss: `seconds.nanoseconds`."""
    whole, rest = divmod(max(0, at_ns), 1_000_000_000)
    return f"{whole}.{rest:09d}"


def _quoted(name: str) -> str:
    return quote(name, safe="")


def _refusal(status: int, body: bytes) -> OpskitError:
    try:
        said = str(json.loads(body)["message"])
    except (ValueError, KeyError, TypeError):
        said = body.decode("utf-8", "replace").strip()[:300]
    if status == 404:
        return OpskitError("DOCKER_002", said or "Docker knows nothing of that name")
    return OpskitError("DOCKER_003", f"Docker answered {status}: {said}")
