"""A proxy that speaks SOCKS 5 (RFC 1928, RFC 1929): it leads every name to one server on loopback."""

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

_NO_LOGIN, _PASSWORD = 0, 2


@dataclass
class SocksServer:
    """`asked` are the hosts and ports that clients named, `logins` what they logged in with."""

    target: int
    password: bytes = b""
    url: str = ""
    asked: list[tuple[str, int]] = field(default_factory=list)
    logins: list[bytes] = field(default_factory=list)
    serving: set[asyncio.Task[object]] = field(default_factory=set)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.serving.add(task)
        try:
            with contextlib.suppress(asyncio.IncompleteReadError, asyncio.CancelledError, OSError):
                if await self._greet(reader, writer):
                    await self._relay(reader, writer)
        finally:
            await _close(writer)
            self.serving.discard(task)

    async def _greet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Agree on a way to log in; False where the client may not go on."""
        _, count = await reader.readexactly(2)
        methods = await reader.readexactly(count)
        method = _PASSWORD if self.password else _NO_LOGIN
        writer.write(bytes((5, method if method in methods else 0xFF)))
        if method == _NO_LOGIN or method not in methods:
            return method in methods
        _, length = await reader.readexactly(2)
        user = await reader.readexactly(length)
        (length,) = await reader.readexactly(1)
        password = await reader.readexactly(length)
        self.logins.append(user + b":" + password)
        writer.write(bytes((1, password != self.password)))
        return password == self.password

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        *_, kind = await reader.readexactly(4)
        length = {1: 4, 4: 16}.get(kind) or (await reader.readexactly(1))[0]
        host = await reader.readexactly(length)
        (port,) = struct.unpack("!H", await reader.readexactly(2))
        self.asked.append((host.decode() if kind == 3 else host.hex(), port))
        there, back = await asyncio.open_connection("127.0.0.1", self.target)
        writer.write(bytes((5, 0, 0, 1, 0, 0, 0, 0, 0, 0)))
        try:
            async with asyncio.TaskGroup() as ways:
                ways.create_task(_copy(reader, back))
                ways.create_task(_copy(there, writer))
        finally:
            await _close(back)


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


async def _copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await source.read(65536):
            sink.write(data)
    with contextlib.suppress(OSError, RuntimeError):
        sink.write_eof()


@asynccontextmanager
async def socks(target: int, *, password: bytes = b"") -> AsyncIterator[SocksServer]:
    """A proxy on a free port that leads to this port; with a `password` only who knows it may pass."""
    server = SocksServer(target, password)
    listening = await asyncio.start_server(server._serve, "127.0.0.1", 0)
    server.url = f"socks5h://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    async with listening:
        yield server
    for task in server.serving:
        task.cancel()
    await asyncio.gather(*server.serving)
