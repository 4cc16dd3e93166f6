"""Talking to a server on loopback without an HTTP client in between, and waiting for what it sees."""

import asyncio
import json
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

LIMIT_S = 30.0
POLL_S = 0.001


async def until(true: Callable[[], object]) -> None:
    """Return as soon as the condition holds; `TimeoutError` after `LIMIT_S`."""
    async with asyncio.timeout(LIMIT_S):
        while not true():
            await asyncio.sleep(POLL_S)


def http_request(method: str, path: str, body: Any = None, **headers: str) -> bytes:
    """Write an HTTP/1.1 request; `body` becomes JSON, header names have `_` for `-`."""
    raw = b"" if body is None else json.dumps(body).encode()
    fields = {"Host": "localhost", "Content-Length": str(len(raw))}
    fields |= {name.replace("_", "-"): value for name, value in headers.items()}
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items()), "", ""]
    return "\r\n".join(lines).encode() + raw


async def dial(url: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Open a connection to the server of this URL."""
    parts = urlsplit(url)
    assert parts.hostname is not None
    return await asyncio.open_connection(parts.hostname, parts.port)


async def exchange(url: str, request: bytes) -> bytes:
    """Send bytes and return everything that comes back until the server closes."""
    reader, writer = await dial(url)
    try:
        writer.write(request)
        await writer.drain()
        async with asyncio.timeout(LIMIT_S):
            return await reader.read()
    finally:
        writer.close()
