"""Many trivial checks: 242 of them after start, and ten thousand as a whole process."""

import asyncio
import statistics
import sys
import tempfile
from pathlib import Path

from tests.bench.measure import Figure, Process, process
from tests.parts.command import environment

FEW, MANY, RUNS = 242, 10_000, 5
_REPLY = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"


def checklist(count: int, port: int) -> str:
    """`count` checks, a quarter each of file, port, command and http."""
    kinds = (
        "kind: file, with: {path: /etc/hostname}",
        "kind: port, with: {port: 1}, expect: {listening: false}",
        "kind: command, with: {run: ['true']}",
        f"kind: http, with: {{url: 'http://127.0.0.1:{port}/'}}",
    )
    lines = [f"  - {{name: check {number}, {kinds[number % 4]}}}" for number in range(count)]
    return "\n".join(["checks:", *lines]) + "\n"


async def figures() -> list[Figure]:
    server = await asyncio.start_server(_answer, "127.0.0.1", 0, backlog=1024)
    port = server.sockets[0].getsockname()[1]
    async with server:
        with tempfile.TemporaryDirectory() as home:
            none = [await _verified(Path(home), 1, port) for _ in range(RUNS)]
            few = [await _verified(Path(home), FEW, port) for _ in range(RUNS)]
            many = await _verified(Path(home), MANY, port)
    start = statistics.median(run.wall_s for run in none)
    return [
        Figure("242 trivial checks, after start", _median(few) - start, "s", "<= 0.6"),
        Figure("10,000 trivial checks, whole process", many.wall_s, "s", "<= 15"),
        Figure("the same, peak memory", many.peak_mib, "MiB", "<= 200"),
    ]


async def _verified(home: Path, count: int, port: int) -> Process:
    path = home / f"{count}.yaml"
    path.write_text(checklist(count, port))
    done = await asyncio.to_thread(
        process, [sys.executable, "-m", "opskit", "verify", str(path), "--format", "tap"], environment(home)
    )
    assert done.status == 0
    return done


def _median(runs: list[Process]) -> float:
    return statistics.median(run.wall_s for run in runs)


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(_REPLY)
    await writer.drain()
    writer.close()
