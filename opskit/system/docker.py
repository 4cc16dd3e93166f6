"""The client of Docker: containers, logs, events, networks, volumes and images over the daemon's HTTP API.

The SDK only says where the daemon is. Its streams block a thread each and hand TTY logs over byte by byte;
here they are asynchronous, read no faster than they are consumed, and closed at once when cancelled
(`docker_streams`). Every failure becomes an OpskitError: DOCKER_001 (no daemon, or it does not answer),
DOCKER_002 (no such container), DOCKER_003 (the daemon refused).
"""

import asyncio
import contextlib
import errno
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote

import httpx

from opskit.errors import OpskitError
from opskit.records import replace
from opskit.system.docker_host import Host, Tunnel, resolve, start_remedy
from opskit.system.docker_records import (
    DockerEvent,
    ListedContainer,
    LoggedContainer,
    LogQuery,
    happening,
    listed,
    logged,
)
from opskit.text import near_names

if TYPE_CHECKING:
    from opskit.system.docker_streams import EventStream, LogStream

_NO_ACCESS = (
    "use Docker as a user of the group `docker` (`sudo usermod -aG docker $USER`, then log in again), "
    "or with sudo"
)
#: What reading a reply raises when the server is not Docker.
_NOT_DOCKER = (ValueError, KeyError, TypeError, AttributeError)
_LISTS = {"network": "/networks", "volume": "/volumes", "image": "/images/json"}
_OBJECTS = {"network": "/networks/{}", "volume": "/volumes/{}", "image": "/images/{}/json"}
#: Clocks nearer than this cannot be distinguished by a time in whole seconds.
_SAME_S = 1.5
#: After these a question is asked again whose connection was lost.
_LOST_PAUSES_S = (0.1, 0.3)
_SILENT = "restart Docker; after sleep its virtual machine may hang until the application is quit and opened"


class Docker:
    """The client of one daemon. Nothing is connected before the first question.

    `async with` keeps connections open between questions; the last one out closes them, so nothing is left
    behind however it is used.
    """

    def __init__(self, environment: Mapping[str, str] | None = None, *, timeout_s: float = 5.0) -> None:
        self._environment = environment
        self._timeout_s = timeout_s
        self._lock = asyncio.Lock()
        self._users = 0
        self._host: Host | None = None
        #: The way to the daemon, through the tunnel where there is one, and the client that goes it.
        self._way: tuple[Host, httpx.AsyncClient] | None = None
        self._tunnel: Tunnel | None = None

    async def __aenter__(self) -> Self:
        self._users += 1
        return self

    async def __aexit__(self, *_: object) -> None:
        self._users -= 1
        if self._users:
            return
        way, tunnel, self._way, self._tunnel = self._way, self._tunnel, None, None
        if way is not None:
            await way[1].aclose()
        if tunnel is not None:
            await tunnel.aclose()

    async def version(self) -> Mapping[str, Any]:
        return await self._mapping("/version")

    async def info(self) -> Mapping[str, Any]:
        return await self._mapping("/info")

    async def began_s(self) -> float | None:
        """Return when the daemon began, in seconds since the epoch; None for one on another machine."""
        from opskit.system.docker_runtime import daemon_began_s

        await self._connected()
        socket = None if self._host is None else self._host.socket
        return None if socket is None else await asyncio.to_thread(daemon_began_s, socket)

    async def containers(self, *, labels: Iterable[str] = ()) -> list[ListedContainer]:
        """Return all containers, stopped ones too, by name.

        `labels` are `key` or `key=value`; all must hold.
        """
        filters = {"label": list(labels)}
        items = await self._json("/containers/json", {"all": "1", "filters": json.dumps(filters)})
        async with self._translated():
            return sorted(map(listed, items), key=lambda container: container.name)

    async def named(self, name: str) -> Mapping[str, Any] | None:
        """Return what `docker inspect` shows of a container by name or id; None when there is none."""
        return await self._mapping_or_none(f"/containers/{_quoted(name)}/json")

    async def look(self, name: str) -> LoggedContainer | None:
        """Return what reading the log of a container needs; None when there is none."""
        item = await self.named(name)
        async with self._translated():
            return None if item is None else logged(item)

    async def inspect(self, name: str) -> LoggedContainer:
        """Return the same. Raises OpskitError(DOCKER_002), with near names, when there is none."""
        container = await self.look(name)
        if container is None:
            raise no_such(name, [other.name for other in await self.containers()])
        return container

    async def stats(self, identifier: str) -> Mapping[str, Any]:
        """Return what a container uses just now. Docker samples twice for it, which takes a second or two."""
        return await self._mapping(f"/containers/{_quoted(identifier)}/stats", {"stream": "false"})

    async def holder_of(self, port: int, container: str | None) -> str | None:
        """Return the name of the container with the id `container`, or, without one, of that on the port."""
        for item in await self._json("/containers/json", {}):
            ports = {entry.get("PublicPort") for entry in item.get("Ports") or ()}
            if item["Id"] == container if container is not None else port in ports:
                return str(item["Names"][0]).lstrip("/") if item.get("Names") else str(item["Id"])
        return None

    async def found(self, kind: str, name: str) -> Mapping[str, Any] | None:
        """Return a network, a volume or an image; None when there is none."""
        return await self._mapping_or_none(_OBJECTS[kind].format(_quoted(name)))

    async def all_of(self, kind: str) -> list[Mapping[str, Any]]:
        """Return all networks, volumes or images, as Docker lists them; a network without its members."""
        items = await self._json(_LISTS[kind], {})
        async with self._translated():
            return [dict(item) for item in (items["Volumes"] if kind == "volume" else items) or ()]

    async def all_past_events(self, since: datetime, until: datetime) -> list[DockerEvent]:
        """Return what happened to everything, on the daemon's clock.

        The daemon keeps its last 256 events of all kinds together: as many as that may not reach back to
        `since`. Health checks fill them, with three events each.
        """
        parameters = {"since": f"{since.timestamp():.6f}", "until": f"{until.timestamp():.6f}"}
        reply = await self._get("/events", parameters)
        async with self._translated():
            return [happening(json.loads(line)) for line in reply.splitlines() if line.strip()]

    @contextlib.asynccontextmanager
    async def events(
        self, filters: Mapping[str, list[str]], *, since_ns: int | None = None
    ) -> AsyncIterator["EventStream"]:
        """Follow what happens to containers from now on, or from `since_ns` (the daemon keeps the last 256).

        Docker matches names in `filters` by their beginning.
        """
        parameters = {"filters": json.dumps({"type": ["container"], **filters})}
        if since_ns is not None:
            parameters["since"] = _seconds(since_ns)
        from opskit.system.docker_streams import EventStream

        async with self._stream("/events", parameters) as (read, date):
            yield EventStream(read, daemon_clock_ns(date))

    @contextlib.asynccontextmanager
    async def logs(self, identifier: str, query: LogQuery) -> AsyncIterator["LogStream"]:
        """Read the log in Docker's own framing, every message with its time in front.

        With `follow` it ends when the container stops.
        """
        parameters = {
            "stdout": "1",
            "stderr": "1",
            "timestamps": "1",
            "follow": "1" if query.follow else "0",
            "tail": "all" if query.tail is None else str(query.tail),
        }
        if query.since_ns is not None:
            parameters["since"] = _seconds(query.since_ns)
        if query.until_ns is not None:
            parameters["until"] = _seconds(query.until_ns)
        from opskit.system.docker_streams import LogStream

        async with self._stream(f"/containers/{_quoted(identifier)}/logs", parameters) as (read, _):
            yield LogStream(read)

    async def _mapping(self, path: str, parameters: Mapping[str, str] | None = None) -> Mapping[str, Any]:
        reply: Mapping[str, Any] = await self._json(path, parameters or {})
        return reply

    async def _mapping_or_none(self, path: str) -> Mapping[str, Any] | None:
        try:
            return await self._mapping(path)
        except OpskitError as error:
            if error.code != "DOCKER_002":
                raise
            return None

    async def _json(self, path: str, parameters: Mapping[str, str]) -> Any:
        reply = await self._get(path, parameters)
        async with self._translated():
            return json.loads(reply)

    async def _get(self, path: str, parameters: Mapping[str, str]) -> bytes:
        """Return the body of a reply with a good status, all of it within the deadline."""
        async with self, self._deadline():
            _, client = await self._connected()
            async with self._translated():
                response = await _asked(client, path, parameters)
        if response.status_code >= 400:
            raise _refusal(response.status_code, response.content)
        return response.content

    @contextlib.asynccontextmanager
    async def _stream(
        self, path: str, parameters: Mapping[str, str]
    ) -> AsyncIterator[tuple[Callable[[], Awaitable[bytes]], str | None]]:
        """Open a reply with a good status; return what reads it, and its date.

        The deadline holds until its head is there.
        """
        from opskit.system.docker_streams import Connection, next_bytes

        async with self:
            way, _ = await self._connected()
            async with Connection(way) as connection:
                async with self._deadline(), self._translated():
                    response = await connection.get(path, parameters)
                    if response.status >= 400:
                        raise _refusal(response.status, await response.read())

                async def read() -> bytes:
                    async with self._translated():
                        return await next_bytes(response)

                yield read, response.headers.get("Date")

    async def _connected(self) -> tuple[Host, httpx.AsyncClient]:
        async with self._lock:
            if self._way is None:
                way = self._host = await asyncio.to_thread(resolve, self._environment)
                if way.ssh is not None:
                    self._tunnel = await Tunnel.start(way.ssh)
                    way = replace(way, socket=self._tunnel.path)
                transport = httpx.AsyncHTTPTransport(
                    uds=way.socket,
                    verify=way.tls or False,
                    trust_env=False,
                    limits=httpx.Limits(max_connections=None, max_keepalive_connections=None),
                )
                timeout = httpx.Timeout(None)  # `_deadline` is the limit of a whole question
                client = httpx.AsyncClient(transport=transport, base_url=way.url, timeout=timeout)
                self._way = way, client
            return self._way

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

    @contextlib.asynccontextmanager
    async def _translated(self) -> AsyncIterator[None]:
        try:
            yield
        except (httpx.HTTPError, OSError, *_NOT_DOCKER) as exc:
            if isinstance(exc, TimeoutError):
                raise
            complaint = "" if self._tunnel is None else await self._tunnel.complaint()
            # The errno of the system says more than what libraries make of it: theirs over TCP has none.
            cause = next((link for link in _chain(exc) if getattr(link, "errno", None) is not None), exc)
            raise self._unreachable(exc, complaint and f": {complaint}") from cause

    def _unreachable(self, exc: Exception, complaint: str = "") -> OpskitError:
        if any(getattr(link, "errno", None) in (errno.EACCES, errno.EPERM) for link in _chain(exc)):
            return OpskitError("DOCKER_001", f"no permission to use {self._shown}", remedy=_NO_ACCESS)
        if isinstance(exc, httpx.ConnectError | httpx.ConnectTimeout):
            message = f"no Docker daemon answers at {self._shown}{complaint}"
        elif isinstance(exc, httpx.NetworkError | OSError) or _is_cut(exc):
            message = f"the connection to Docker at {self._shown} was lost{complaint}"
        else:
            message = f"what answers at {self._shown} does not speak Docker's API"
        return OpskitError("DOCKER_001", message, remedy=start_remedy())


async def _asked(client: httpx.AsyncClient, path: str, parameters: Mapping[str, str]) -> httpx.Response:
    """Ask again where the connection was lost before the reply, as by a restart: reading changes nothing."""
    for pause_s in _LOST_PAUSES_S:
        with contextlib.suppress(httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError):
            return await client.get(path, params=parameters)
        await asyncio.sleep(pause_s)
    return await client.get(path, params=parameters)


def _chain(exc: BaseException | None) -> Iterator[BaseException]:
    while exc is not None:
        yield exc
        exc = exc.__cause__ or exc.__context__


def _is_cut(exc: Exception) -> bool:
    """Whether the connection ended before the reply did, rather than that the reply made no sense."""
    text = str(exc)
    return isinstance(exc, httpx.RemoteProtocolError) and ("disconnected" in text or "peer closed" in text)


def daemon_clock_ns(date: str | None, now: float | None = None) -> int:
    """Return the time on the daemon's clock, not later than it is: ours unless its `Date` header contradicts.

    In a virtual machine that slept it may be far behind.
    """
    local_s = time.time() if now is None else now
    try:
        daemon_s = parsedate_to_datetime(date or "").replace(tzinfo=UTC).timestamp()
    except ValueError:
        return int(local_s * 1e9)
    return int((local_s if abs(local_s - daemon_s) < _SAME_S else daemon_s) * 1e9)


def no_such(name: str, names: Iterable[str]) -> OpskitError:
    """Return the error for an unknown container, with the nearest of `names`."""
    near = near_names(name, names)
    hint = f"; did you mean {' or '.join(near)}?" if near else ""
    return OpskitError("DOCKER_002", f"no container {name!r}{hint}")


def _seconds(at_ns: int) -> str:
    """Write a time as Docker's API reads it without loss: `seconds.nanoseconds`."""
    whole_s, fraction_ns = divmod(max(0, at_ns), 1_000_000_000)
    return f"{whole_s}.{fraction_ns:09d}"


def _quoted(name: str) -> str:
    return quote(name, safe="")


def _refusal(status: int, body: bytes) -> OpskitError:
    try:
        message = str(json.loads(body)["message"])
    except (ValueError, KeyError, TypeError):
        message = body.decode("utf-8", "replace").strip()[:300]
    if status == 404:
        return OpskitError("DOCKER_002", message or "Docker knows nothing of that name")
    return OpskitError("DOCKER_003", f"Docker answered {status}: {message}")
