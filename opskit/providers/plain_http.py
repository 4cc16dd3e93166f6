"""HTTP/1.1 with h11 and asyncio's streams: what almost every model server speaks.

Importing httpx, and what it imports, takes 80 ms of each command; this takes 15. Proxies are httpx's
(`transport`). No error is judged here: its callers translate what is raised.
"""

import asyncio
import contextlib
import errno
import itertools
import os
import socket
import ssl
import time
import zlib
from base64 import b64encode
from collections.abc import AsyncGenerator, Mapping
from typing import Any
from urllib.parse import quote, unquote, urlsplit, urlunsplit

import h11

from opskit.providers.base import CallCause, CallError
from opskit.providers.failures import translated

_READ_BYTES = 64 * 1024
_HEAD_BYTES = 100 * 1024
#: How long one address may be silent before the next one is tried beside it (RFC 8305, section 5).
_NEXT_ADDRESS_S = 0.25
#: A server may close a kept connection at any time: one that waited for longer is not used again.
_KEPT_S = 30.0
#: What stands in the target of a request as it is; anything else is percent-encoded (RFC 3986).
_TARGET = "/?#[]@!$&'()*+,;=:%~"
_PACKED = ("gzip", "x-gzip", "deflate")
#: zlib's own format or gzip's, whichever it is.
_EITHER_FORMAT = 32 + zlib.MAX_WBITS

Header = tuple[bytes, bytes]
#: A family of addresses, and an address in it as its sockets take it.
Address = tuple[socket.AddressFamily, Any]


class _Connection:
    """One connection and what h11 knows of it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=_HEAD_BYTES)
        self._kept_at = 0.0

    @property
    def is_usable(self) -> bool:
        """Whether a kept connection may serve once more."""
        closed = self._reader.at_eof() or self._writer.transport.is_closing()
        return not closed and time.monotonic() - self._kept_at < _KEPT_S

    async def ask(self, request: h11.Request, content: bytes) -> h11.Response:
        """Send a request and return the head of its reply."""
        sent = [request, *([h11.Data(content)] if content else ()), h11.EndOfMessage()]
        # A server may answer, and close, before it has read the whole request: the answer counts.
        with contextlib.suppress(ConnectionError):
            self._writer.write(b"".join(self._http.send(event) or b"" for event in sent))
            await self._writer.drain()
        while True:
            event = await self._event()
            if isinstance(event, h11.Response):
                return event

    async def data(self) -> bytes | None:
        """Return the next bytes of the body; None at its end."""
        event = await self._event()
        return bytes(event.data) if isinstance(event, h11.Data) else None

    async def _event(self) -> object:
        while (event := self._http.next_event()) is h11.NEED_DATA:
            received = await self._reader.read(_READ_BYTES)
            if not received and self._http.their_state is h11.SEND_RESPONSE:
                raise h11.RemoteProtocolError("the server disconnected without a response")
            self._http.receive_data(received)
        return event

    def keep(self) -> bool:
        """Make ready for the next request; False where the connection cannot be kept."""
        if self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
            return False
        self._http.start_next_cycle()
        self._kept_at = time.monotonic()
        return True

    async def aclose(self) -> None:
        """End the connection, whatever is still on its way; it is closed when this returns."""
        self._writer.transport.abort()
        await asyncio.sleep(0)


class PlainReply:
    """A reply whose body is read as it comes; closed, a connection that was read to its end is kept."""

    def __init__(self, client: "PlainClient", connection: _Connection, head: h11.Response, url: str) -> None:
        self.url = url
        self.status_code = head.status_code
        #: By their names in lower case; repeated ones are joined by commas.
        self.headers: dict[str, str] = {}
        for name, value in head.headers:
            key, text = name.decode("ascii", "replace"), value.decode("utf-8", "replace")
            self.headers[key] = f"{self.headers[key]}, {text}" if key in self.headers else text
        self.content = b""
        self._client = client
        self._connection: _Connection | None = connection

    @property
    def is_success(self) -> bool:
        return 200 <= self.status_code < 300

    async def aiter_bytes(self) -> AsyncGenerator[bytes, None]:
        """Yield the body, unpacked where the server has packed it."""
        packing = self.headers.get("content-encoding", "").lower()
        if packing not in ("", "identity", *_PACKED):
            why = f"the reply is packed as {packing!r}, which was not asked for"
            raise CallError(CallCause.PAYLOAD, why, phase="stream", status=self.status_code)
        unpacker = zlib.decompressobj(_EITHER_FORMAT) if packing in _PACKED else None
        while self._connection is not None:
            data = await self._connection.data()
            if data is None:
                connection, self._connection = self._connection, None
                await self._client.release(connection)
            elif unpacker is None:
                yield data
            else:
                try:
                    yield unpacker.decompress(data)
                except zlib.error as exc:
                    raise CallError(CallCause.PAYLOAD, "the reply is packed badly", phase="stream") from exc

    async def aread(self) -> bytes:
        """Read the whole body into `content`."""
        self.content = b"".join([piece async for piece in self.aiter_bytes()])
        return self.content

    async def aclose(self) -> None:
        if self._connection is not None:
            connection, self._connection = self._connection, None
            await connection.aclose()


class PlainClient:
    """A server at its own address, without a proxy; connections are kept for the next requests."""

    def __init__(
        self, base_url: str, headers: Mapping[str, str], connect_s: float | None, *, insecure: bool = False
    ) -> None:
        parts = urlsplit(base_url)
        self._base_url = base_url
        self._path = urlunsplit(("", "", parts.path, parts.query, ""))
        user, _, host = parts.netloc.rpartition("@")
        if user:
            headers = {"Authorization": f"Basic {b64encode(unquote(user).encode()).decode()}", **headers}
        # The zone of a link-local address is written %25 in a URL.
        self._is_secure = parts.scheme == "https"
        self._host, self._port = unquote(parts.hostname or ""), parts.port or (443 if self._is_secure else 80)
        self._insecure = insecure
        self._tls: ssl.SSLContext | None = None
        self._headers = {"Host": host, "Accept": "*/*", "Accept-Encoding": "identity", **headers}
        self._connect_s = connect_s
        self._kept: list[_Connection] = []
        self._is_closed = False

    async def send(
        self, method: str, path: str, content: bytes | None, headers: Mapping[str, str]
    ) -> PlainReply:
        """Return a reply once its head is there. Raises CallError, and RuntimeError for a closed client.

        A kept connection that turns out to be dead says nothing of the server now: then the request is sent
        once more, on a new one.
        """
        if self._is_closed:
            raise RuntimeError("the client has been closed")
        with translated("request"):
            sent = {**self._headers, **headers}
            if content is not None:
                sent["Content-Length"] = str(len(content))
            target = quote(f"{self._path}{path}" or "/", safe=_TARGET)
            request = h11.Request(method=method, target=target, headers=list(sent.items()))
            if (open_connection := await self._take()) is not None:
                with contextlib.suppress(ConnectionError, h11.RemoteProtocolError):
                    return await self._asked(open_connection, request, content, path)
            connection = _Connection(*await self._connected())
            return await self._asked(connection, request, content, path)

    async def _asked(
        self, connection: _Connection, request: h11.Request, content: bytes | None, path: str
    ) -> PlainReply:
        try:
            head = await connection.ask(request, content or b"")
        except BaseException:
            await connection.aclose()
            raise
        return PlainReply(self, connection, head, f"{self._base_url}{path}")

    async def release(self, connection: _Connection) -> None:
        """Take back a connection whose reply has been read."""
        if not self._is_closed and connection.keep():
            self._kept.append(connection)
        else:
            await connection.aclose()

    async def _take(self) -> _Connection | None:
        while self._kept:
            connection = self._kept.pop()
            if connection.is_usable:
                return connection
            await connection.aclose()
        return None

    async def _connected(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._is_secure:
            self._tls = self._tls or tls_context(insecure=self._insecure)
        name = self._host if self._is_secure else None
        try:
            async with asyncio.timeout(self._connect_s):
                connected = await _first_that_connects(await _addresses(self._host, self._port))
                connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)
                return await asyncio.open_connection(sock=connected, ssl=self._tls, server_hostname=name)
        except TimeoutError as exc:
            raise OSError(errno.ETIMEDOUT, "no connection in time") from exc

    async def aclose(self) -> None:
        self._is_closed = True
        connections, self._kept = self._kept, []
        for connection in connections:
            await connection.aclose()


async def _addresses(host: str, port: int) -> list[Address]:
    """Return the addresses of a host, families in turn, as the resolver prefers them."""
    loop = asyncio.get_running_loop()
    # Bytes spare an ASCII name the tables of IDNA.
    name = host.encode() if host.isascii() else host
    try:
        addresses = await loop.getaddrinfo(name, port, type=socket.SOCK_STREAM)
    except UnicodeError as exc:
        raise socket.gaierror(socket.EAI_NONAME, "not a name of a host") from exc
    by_family: dict[int, list[Address]] = {}
    for family, _, _, _, address in addresses:
        by_family.setdefault(family, []).append((family, address))
    rows = itertools.zip_longest(*by_family.values())
    return [address for row in rows for address in row if address is not None]


async def _first_that_connects(addresses: list[Address]) -> socket.socket:
    """Return a connected socket. Raises OSError; a refusal tells more than a missing route elsewhere."""
    attempts: set[asyncio.Task[socket.socket]] = set()
    failures: list[OSError] = []
    waiting = iter(addresses)
    try:
        while True:
            address = next(waiting, None)
            if address is not None:
                attempts.add(asyncio.create_task(_connect(*address)))
            elif not attempts:
                raise min(failures, key=lambda failure: failure.errno != errno.ECONNREFUSED)
            limit_s = None if address is None else _NEXT_ADDRESS_S
            done, attempts = await asyncio.wait(
                attempts, timeout=limit_s, return_when=asyncio.FIRST_COMPLETED
            )
            for attempt in done:
                error = attempt.exception()
                if error is None:
                    return attempt.result()
                if not isinstance(error, OSError):
                    raise error
                failures.append(error)
    finally:
        for attempt in attempts:
            attempt.cancel()
            attempt.add_done_callback(_drop)


async def _connect(family: socket.AddressFamily, address: Any) -> socket.socket:
    unconnected = socket.socket(family, socket.SOCK_STREAM)
    try:
        unconnected.setblocking(False)
        await asyncio.get_running_loop().sock_connect(unconnected, address)
    except BaseException:
        unconnected.close()
        raise
    return unconnected


def _drop(attempt: asyncio.Task[socket.socket]) -> None:
    """Close what connected after another address had."""
    if not attempt.cancelled() and attempt.exception() is None:
        attempt.result().close()


def tls_context(*, insecure: bool = False) -> ssl.SSLContext:
    """Return what checks certificates; an `insecure` one takes any.

    SSL_CERT_FILE and SSL_CERT_DIR name the authorities of a company, as for every client of OpenSSL, for
    which a file that cannot be read names none; else they are those of certifi, because a Mac may have none.
    """
    file, folder = os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR")
    if unreadable_authorities() or not (file or folder):
        import certifi

        file, folder = certifi.where(), None
    context = ssl.create_default_context(cafile=file or None, capath=folder or None)
    context.set_alpn_protocols(["http/1.1"])
    if insecure:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def unreadable_authorities() -> str:
    """Return why the file of SSL_CERT_FILE cannot be used; empty where it can, or none is named."""
    name = os.environ.get("SSL_CERT_FILE")
    if not name:
        return ""
    try:
        ssl.create_default_context(cafile=name)
    except OSError as exc:
        return f"SSL_CERT_FILE is {name}, which cannot be used: {exc.strerror or exc}"
    return ""
