"""The agent as a server under a load of submissions; server, models and load are processes of their own.

The bare application inserts one row into SQLite for each request: the least that a queue can do. Submissions
come as fast as they are answered; `/status` is timed while 300 of them come in each second. The processor
time of the server for one submission holds on a busy machine too.
"""

import asyncio
import contextlib
import http.client
import json
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil

from tests.bench.measure import Figure
from tests.parts.command import sandbox
from tests.parts.postgres import free_port
from tests.parts.postgres import server as postgres_server
from tests.parts.victoria_server import VictoriaServer

CONNECTIONS = 16
SECONDS = 6.0
RATE = 300.0
LOOK_EVERY_S = 0.04
BODY = {"goal": "What is 6 times 7?", "async_mode": True}
BARE = """
import json, sqlite3, sys, time, uuid
import uvicorn
from fastapi import FastAPI
from fastapi.responses import JSONResponse
from pydantic import BaseModel
class Body(BaseModel):
    goal: str
    async_mode: bool = False
api = FastAPI()
database = sqlite3.connect(sys.argv[1], isolation_level=None)
database.execute("PRAGMA journal_mode = WAL")
database.execute("PRAGMA synchronous = NORMAL")
database.execute("CREATE TABLE runs (id TEXT PRIMARY KEY, body TEXT, at REAL)")
@api.post("/run")
async def run(body: Body):
    row = (str(uuid.uuid4()), json.dumps(body.model_dump()), time.time())
    database.execute("INSERT INTO runs VALUES (?, ?, ?)", row)
    return JSONResponse({"task_id": row[0]}, status_code=202)
@api.get("/status")
async def status():
    return {"status": "online"}
uvicorn.run(api, port=int(sys.argv[2]), log_level="warning", access_log=False)
"""


def figures() -> list[Figure]:
    with tempfile.TemporaryDirectory() as folder, postgres_server() as postgres:
        bare = _bare(Path(folder))
        slow = "slow-token,seconds=5"
        rows = [*_served(Path(folder) / "slow", "models that take 5 s", slow, bare)]
        rows += _served(Path(folder) / "quick", "models that answer at once", "", bare)
        rows += _served(Path(folder) / "postgres", "PostgreSQL", slow, bare, DATABASE_URL=postgres.url)
    return rows


def _served(home: Path, name: str, fault: str, bare: dict[str, Any], **extra: str) -> list[Figure]:
    """Measure Victoria, and count what a kill in the middle of the load leaves of what she took."""
    home.mkdir()
    faults = [f"{node}={fault}" for node in ("mlx", "ollama")] if fault else []
    with sandbox(home / "stack", *faults) as nodes:
        env = {key: url for key, url in nodes.items() if not key.startswith("V")} | extra
        server = VictoriaServer(home / "home", env)
        server.start()
        try:
            paced = _loaded(server.url, server.pid, RATE)
            full = _loaded(server.url, server.pid, 0.0)
            server.kill()
            server.start()
            ids = [*paced["ids"], *full["ids"]]
            lost = json.loads(_load("lost", server.url, *ids))
        finally:
            server.kill()
    ratios = (
        f"{full['cpu_ms']:.2f} ms of processor each; bare FastAPI with one INSERT {bare['rate']:.0f} /s, "
    )
    ratios += f"{bare['cpu_ms']:.2f} ms"
    under = f"while {paced['rate']:.0f} submissions/s came in; bare {bare['status_p95_ms']:.1f} ms"
    return [
        Figure(f"serve, {name}: submissions", full["rate"], "/s", ">= 300", ratios),
        Figure(f"serve, {name}: `/status`, p95", paced["status_p95_ms"], "ms", "<= 20", under),
        Figure(f"serve, {name}: lost after a kill", lost, "runs", "0", f"of {len(ids)}"),
    ]


def _bare(folder: Path) -> dict[str, Any]:
    port = free_port()
    process = subprocess.Popen([sys.executable, "-c", BARE, str(folder / "bare.db"), str(port)])
    try:
        url = f"http://127.0.0.1:{port}"
        until = time.monotonic() + 30
        while time.monotonic() < until:
            with contextlib.suppress(OSError):
                _status(url)
                break
            time.sleep(0.05)
        paced = _loaded(url, process.pid, RATE)
        return {**_loaded(url, process.pid, 0.0), "status_p95_ms": paced["status_p95_ms"]}
    finally:
        process.kill()
        process.wait()


def _loaded(url: str, pid: int, rate: float) -> dict[str, Any]:
    """Load a server from another process, and time its status page from this one."""
    server, looks = psutil.Process(pid), list[float]()
    before = server.cpu_times()
    with ThreadPoolExecutor() as threads:
        load = threads.submit(_load, "submit", url, str(rate))
        while not load.done():
            looks.append(_status(url))
            time.sleep(LOOK_EVERY_S)
    document = json.loads(load.result())
    after = server.cpu_times()
    cpu_s = after.user + after.system - before.user - before.system
    return {
        **document,
        "cpu_ms": cpu_s * 1000 / len(document["ids"]),
        "status_p95_ms": statistics.quantiles(looks, n=20)[-1] * 1000,
    }


def _load(*arguments: str) -> str:
    command = [sys.executable, "-m", "tests.bench.serving", *arguments[:3]]
    return subprocess.run(
        command, input="\n".join(arguments[2:]), capture_output=True, text=True, check=True
    ).stdout


def _status(url: str) -> float:
    began = time.perf_counter()
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=30)
    try:
        connection.request("GET", "/status")
        connection.getresponse().read()
    finally:
        connection.close()
    return time.perf_counter() - began


async def submissions(url: str, rate: float) -> dict[str, Any]:
    """Submit over every connection for a while, `rate` a second, or as many as are answered when it is 0."""
    import aiohttp

    ids: list[str] = []
    connector = aiohttp.TCPConnector(limit=CONNECTIONS)
    # An answer that is remembered would make a run of a moment out of one of five seconds.
    headers = {"Cache-Control": "no-cache"}
    async with aiohttp.ClientSession(connector=connector, headers=headers) as client:
        began = time.perf_counter()

        async def submit(number: int) -> None:
            due = began + number / rate if rate else began
            while (now := time.perf_counter()) - began < SECONDS:
                if rate and due > now:
                    await asyncio.sleep(due - now)
                async with client.post(f"{url}/run", json=BODY) as reply:
                    assert reply.status == 202, await reply.text()
                    ids.append((await reply.json())["task_id"])
                due += CONNECTIONS / rate if rate else 0

        await asyncio.gather(*map(submit, range(CONNECTIONS)))
        return {"ids": ids, "rate": len(ids) / (time.perf_counter() - began)}


async def lost(url: str, ids: list[str]) -> int:
    """Count the runs that the server does not know."""
    import aiohttp

    connector = aiohttp.TCPConnector(limit=CONNECTIONS)
    async with aiohttp.ClientSession(connector=connector) as client:

        async def known(task_id: str) -> bool:
            async with client.get(f"{url}/run/status/{task_id}") as reply:
                return (await reply.json()).get("task_id") == task_id

        return (await asyncio.gather(*map(known, ids))).count(False)


if __name__ == "__main__":
    if sys.argv[1] == "lost":
        print(asyncio.run(lost(sys.argv[2], sys.stdin.read().split())))
    else:
        print(json.dumps(asyncio.run(submissions(sys.argv[2], float(sys.argv[3])))))
