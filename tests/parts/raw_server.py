"""A server on loopback that answers with the bytes it is told, then closes, resets or falls silent."""

import asyncio
import json
import socket
import struct
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

_RESET = struct.pack("ii", 1, 0)


@dataclass(frozen=True)
class Reply:
    """`parts` are written one by one, each in a packet of its own, then the connection ends as `end` says.

    `keep` leaves it open for the next request.
    """

    parts: Sequence[bytes] = ()
    end: Literal["close", "reset", "silence", "keep"] = "close"


@dataclass
class Seen:
    """One request as it came in."""

    method: str
    path: str
    headers: dict[str, str]
    raw: bytes

    @property
    def body(self) -> Any:
        return json.loads(self.raw)


@dataclass
class RawServer:
    """Answers by path; a list is used up one by one, its last reply stays."""

    replies: dict[str, Reply | list[Reply]] = field(default_factory=dict)
    seen: list[Seen] = field(default_factory=list)
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    url: str = ""

    def bodies(self, path: str) -> list[Any]:
        return [request.body for request in self.seen if request.path == path]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            keep = True
            while keep:
                request = await _read(reader)
                if request is None:
                    return
                self.seen.append(request)
                reply = self.replies.get(request.path, answer(b"not found", status="404 Not Found"))
                if isinstance(reply, list):
                    reply = reply.pop(0) if len(reply) > 1 else reply[0]
                for part in reply.parts:
                    writer.write(part)
                    await writer.drain()
                    await asyncio.sleep(0.001)
                keep = reply.end == "keep"
            if reply.end == "silence":
                await reader.read()
                self.gone.set()
            if reply.end == "reset":
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        except (ConnectionError, asyncio.CancelledError):
            self.gone.set()
        finally:
            writer.close()


@asynccontextmanager
async def serving(**replies: Reply) -> AsyncIterator[RawServer]:
    """A server on a free port; `replies` may also be set later, by path."""
    server = RawServer(dict(replies))
    async with await asyncio.start_server(server._serve, "127.0.0.1", 0) as listening:
        port = listening.sockets[0].getsockname()[1]
        server.url = f"http://127.0.0.1:{port}"
        yield server


def answer(
    *parts: bytes,
    status: str = "200 OK",
    framing: Literal["chunked", "length", "close"] = "length",
    end: Literal["close", "reset", "silence", "keep", "cut"] = "close",
    **headers: str,
) -> Reply:
    """A well-formed reply with its body in `parts`; `end="cut"` leaves it unfinished and closes.

    `framing="close"` is HTTP/1.0: the end of the connection is the end of the body, so a cut cannot be seen.
    """
    fields = {"Content_Type": "application/json", "Connection": "close"} | headers
    if end == "keep":
        fields["Connection"] = "keep-alive"
    whole = end in ("close", "keep")
    if framing == "chunked":
        fields["Transfer_Encoding"] = "chunked"
        written = [b"%x\r\n%s\r\n" % (len(part), part) for part in parts if part]
        if whole:
            written.append(b"0\r\n\r\n")
    else:
        written = list(parts)
        if framing == "length":
            missing = 0 if whole else 10
            fields["Content_Length"] = str(sum(map(len, parts)) + missing)
    version = "1.0" if framing == "close" else "1.1"
    head = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in fields.items())
    first = f"HTTP/{version} {status}\r\n{head}\r\n".encode()
    return Reply((first, *written), "close" if end == "cut" else end)


def reply_json(body: Any, **rest: Any) -> Reply:
    return answer(json.dumps(body).encode(), **rest)


def free_port() -> int:
    """A port where nothing listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


async def _read(reader: asyncio.StreamReader) -> Seen | None:
    try:
        first = await reader.readexactly(1)
        if not first.isalpha():
            return Seen("", "", {}, b"")
        head = (first + await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    except asyncio.IncompleteReadError:
        return None
    line, *lines = head.strip().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    raw = await reader.readexactly(int(headers.get("content-length", 0)))
    method, path, _ = line.split()
    return Seen(method, path, headers, raw)
