"""HTTP over plain connections, against servers that write each byte themselves."""

import asyncio
import contextlib
import socket
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from opskit.providers.base import CallCause, CallError
from opskit.providers.http import HttpClient

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[str]:
    """A server on loopback, by its URL; it is left once every connection has been handled."""
    handling: set[asyncio.Task[None]] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        handling.add(task)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            await handler(reader, writer)
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with asyncio.timeout(5.0):
        await asyncio.gather(*handling)


class Writer:
    """A server that answers each request with the next of `replies`, and keeps what it was sent."""

    def __init__(self, *replies: bytes) -> None:
        self.heads: list[str] = []
        self.connections = 0
        self.url = ""
        self._replies = list(replies)

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator["Writer"]:
        async with serving(self._answer) as self.url:
            yield self

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        while self._replies:
            self.heads.append((await reader.readuntil(b"\r\n\r\n")).decode())
            writer.write(self._replies.pop(0))
            await writer.drain()
        await reader.read()


def document(body: bytes, *headers: str, status: str = "200 OK") -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


async def test_one_connection_serves_one_call_after_another() -> None:
    """Also where an interim reply comes first (RFC 9110, section 15.2)."""
    interim = b"HTTP/1.1 103 Early Hints\r\n\r\n"
    async with Writer(document(b"1"), interim + document(b"2")).serving() as server:
        client = HttpClient(server.url)
        assert [await client.get_json("/a"), await client.get_json("/b")] == [1, 2]
        await client.aclose()
    assert server.connections == 1


async def test_a_connection_that_the_server_ends_is_not_used_again() -> None:
    """It says so, or speaks HTTP/1.0."""
    replies = document(b"1", "Connection: close"), b"HTTP/1.0 200 OK\r\n\r\n2", document(b"3")
    async with Writer(*replies).serving() as server:
        client = HttpClient(server.url)
        assert await client.get_json("/a") == 1
        with pytest.raises(CallError) as caught:
            async with asyncio.timeout(2.0):
                await client.get_json("/b", timeout_s=0.3)
        # The server has not ended the body, which has no length: only the end of the connection would.
        assert caught.value.cause is CallCause.TIMEOUT
        assert await client.get_json("/c") == 3
        await client.aclose()
    assert server.connections == 3


@pytest.mark.parametrize(("packing", "wbits"), [("gzip", 31), ("x-gzip", 31), ("deflate", 15)])
async def test_a_server_that_packs_without_being_asked_is_read(packing: str, wbits: int) -> None:
    """Some proxies pack whatever they pass on."""
    packed = zlib.compress(b'{"a": 1}', wbits=wbits)
    async with Writer(document(packed, f"Content-Encoding: {packing}")).serving() as server:
        client = HttpClient(server.url)
        assert await client.get_json("/a") == {"a": 1}
        await client.aclose()


async def test_a_packing_that_nobody_asked_for_is_named() -> None:
    """What cannot be unpacked is not searched for JSON."""
    async with Writer(document(b"\x1b\x2f", "Content-Encoding: br")).serving() as server:
        client = HttpClient(server.url)
        with pytest.raises(CallError, match="packed as 'br', which was not asked for"):
            await client.get_json("/a")
        await client.aclose()


async def test_what_is_packed_badly_is_no_proper_reply() -> None:
    """It is the server's fault, and not a fault of ours."""
    async with Writer(document(b"no gzip", "Content-Encoding: gzip")).serving() as server:
        client = HttpClient(server.url)
        with pytest.raises(CallError) as caught:
            await client.get_json("/a")
        assert caught.value.cause is CallCause.PAYLOAD
        await client.aclose()


async def test_a_path_in_any_alphabet_is_asked_for() -> None:
    """It is percent-encoded, and what is encoded already stays."""
    async with Writer(document(b"1")).serving() as server:
        client = HttpClient(f"{server.url}/путь")
        assert await client.get_json("/a%20b?c=d") == 1
        await client.aclose()
    assert server.heads[0].startswith("GET /%D0%BF%D1%83%D1%82%D1%8C/a%20b?c=d HTTP/1.1\r\n")


async def test_the_next_address_of_a_name_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name often stands for one of IPv6 where nothing listens, and one of IPv4 where something does."""
    async with Writer(document(b"1")).serving() as server:
        port = int(server.url.rpartition(":")[2])
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as closed:
            closed.bind(("127.0.0.2", 0))
            refusing = closed.getsockname()
            rows = [
                (socket.AF_INET, socket.SOCK_STREAM, 6, "", address)
                for address in (refusing, ("127.0.0.1", port))
            ]
            monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_named: rows)
            client = HttpClient("http://two.example:1")
            assert await client.get_json("/a") == 1
            await client.aclose()


async def test_a_refusal_says_more_than_a_missing_route(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no address of a name answers, the server's own machine has the word."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as closed:
        closed.bind(("127.0.0.1", 0))
        addresses = [("255.255.255.255", 9), closed.getsockname()]
        rows = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", address) for address in addresses]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_named: rows)
        client = HttpClient("http://two.example:1")
        with pytest.raises(CallError) as caught:
            await client.get_json("/a")
        assert (caught.value.cause, caught.value.phase) == (CallCause.REFUSED, "connect")
        await client.aclose()


async def test_an_answer_before_the_whole_request_was_read_counts() -> None:
    """A server that refuses a large body may close at once."""

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(document(b'{"error": "too large"}', "Connection: close", status="413 Too Large"))
        await writer.drain()
        writer.write_eof()
        await reader.read()

    async with serving(refuse) as url:
        client = HttpClient(url)
        with pytest.raises(CallError) as caught:
            await client.post_json("/a", {"text": "x" * 5_000_000}, timeout_s=10.0)
        assert (caught.value.status, caught.value.text) == (413, "too large")
        await client.aclose()
