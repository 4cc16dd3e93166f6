"""Each kind of check on the real thing: passing, failing, and a target that hangs."""

import asyncio
import hashlib
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pytest_httpserver import HTTPServer

from opskit.checks import runner
from opskit.facts.survey import Survey, read_sockets
from opskit.result import Finding
from tests.parts.checking import check, configuration, findings, statuses, written
from tests.parts.raw_server import RawServer, Reply, answer, serving


def values(found: Finding) -> dict[str, Any]:
    return found.evidence["values"]


@pytest.fixture
def listening() -> Iterator[int]:
    """A port that accepts connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def closed() -> int:
    """A port where nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


@pytest.fixture
async def silent() -> AsyncIterator[RawServer]:
    """A web server that accepts requests and never answers; `/slow` sends a byte now and then."""
    async with serving() as server:
        server.replies["/"] = Reply((), "silence")
        server.replies["/drip"] = Reply(
            (b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", b"x"), "silence"
        )
        yield server


async def test_http_judges_status_headers_body_and_json(tmp_path: Path, httpserver: HTTPServer):
    """One request gives all of them."""
    httpserver.expect_request("/v").respond_with_json(
        {"version": "0.5.1", "list": [{"n": 1}]}, headers={"X-A": "b"}
    )
    found = await check(
        tmp_path,
        "http",
        {"url": httpserver.url_for("/v?token=geheim")},
        {
            "status": 200,
            "headers": {"jsonpath": {"$['x-a']": "b"}},
            "body": {"contains": "0.5.1"},
            "json": {"$.version": {"semver": "^0.5"}, "$.list[*].n": [1]},
            "seconds": {"lt": "5s"},
        },
    )
    assert found.status == "pass", found.detail
    assert "geheim" not in str(found.as_json())


async def test_http_fails_by_its_status(tmp_path: Path, httpserver: HTTPServer):
    """Without `expect` a status of 400 and more fails, with the beginning of the body as evidence."""
    httpserver.expect_request("/v").respond_with_data("no room", status=503)
    found = await check(tmp_path, "http", {"url": httpserver.url_for("/v")})
    assert (found.status, found.evidence["body"]) == ("fail", "no room")
    assert found.detail.startswith("status is 503, expected less than 400")


async def test_http_sends_json(tmp_path: Path, httpserver: HTTPServer):
    """`send` is the JSON body of a POST."""
    httpserver.expect_request("/v", method="POST", json={"goal": "x"}).respond_with_json({})
    found = await check(
        tmp_path, "http", {"url": httpserver.url_for("/v"), "method": "POST", "send": {"goal": "x"}}
    )
    assert found.status == "pass", found.detail


async def test_http_refused_is_no_pass_for_a_fast_answer(tmp_path: Path, closed: int):
    """Nobody there fails, although `seconds` alone would match; expected by name it passes."""
    params = {"url": f"http://127.0.0.1:{closed}/"}
    assert (await check(tmp_path, "http", params, {"seconds": {"lt": 5}})).status == "fail"
    assert (await check(tmp_path, "http", params, {"error": "refused"})).status == "pass"


@pytest.mark.parametrize("path", ["/", "/drip"])
async def test_http_that_hangs_is_cut(tmp_path: Path, silent: RawServer, path: str):
    """A silent server, and one that sends a byte at a time, end at the deadline."""
    found = await check(tmp_path, "http", {"url": f"{silent.url}{path}"}, timeout="100ms")
    assert (found.status, found.state) == ("fail", "timeout")


async def test_http_reads_no_more_than_it_may(tmp_path: Path):
    """An endless body is read up to max_bytes."""
    async with serving() as server:
        head = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n"
        server.replies["/"] = Reply((head, b"x" * 200_000), "silence")
        found = await check(
            tmp_path,
            "http",
            {"url": f"{server.url}/", "max_bytes": "64KiB"},
            {"size_bytes": 65536, "truncated": True},
        )
    assert found.status == "pass", found.detail


async def test_http_that_is_no_http_is_told(tmp_path: Path):
    """Garbage instead of a reply is a failure in words; so is a body that is no UTF-8, which is read."""
    async with serving() as server:
        server.replies["/a"] = Reply((b"\x00\xff\xfe garbage\r\n\r\n",))
        server.replies["/b"] = answer(b"\xff\xfe")
        garbage = await check(tmp_path, "http", {"url": f"{server.url}/a"})
        binary = await check(tmp_path, "http", {"url": f"{server.url}/b"}, {"json": {"$.a": 1}})
    assert garbage.status == "fail"
    assert "the body is no JSON" in binary.detail


async def test_tcp_open_and_refused(tmp_path: Path, listening: int, closed: int):
    """A port that accepts passes, one where nothing listens fails."""
    assert (await check(tmp_path, "tcp", {"host": "127.0.0.1", "port": listening})).status == "pass"
    found = await check(tmp_path, "tcp", {"host": "127.0.0.1", "port": closed})
    assert (found.status, found.state) == ("fail", "refused")


async def test_dns_resolves_and_does_not(tmp_path: Path):
    """localhost has an address; a name under .invalid has none."""
    assert (await check(tmp_path, "dns", {"name": "localhost", "family": "ipv4"})).status == "pass"
    found = await check(tmp_path, "dns", {"name": "nothing.invalid"})
    assert (found.status, found.state) == ("fail", "unresolved")


async def test_port_names_its_owner(tmp_path: Path, listening: int, closed: int):
    """A held port says which process holds it; a free one is free."""
    found = await check(tmp_path, "port", {"port": listening}, {"pid": os.getpid(), "public": False})
    assert found.status == "pass", found.detail
    assert str(os.getpid()) in found.detail
    assert (await check(tmp_path, "port", {"port": closed})).state == "free"


async def test_udp_ports_are_seen(tmp_path: Path):
    """A bound UDP socket holds its port."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as bound:
        bound.bind(("127.0.0.1", 0))
        found = await check(tmp_path, "port", {"port": bound.getsockname()[1], "protocol": "udp"})
    assert found.status == "pass"


async def test_sockets_are_read_once_for_all_port_checks(tmp_path: Path, listening: int):
    """Many port checks look at one table, and a check that waits for another looks again."""
    ports = [{"name": f"p{n}", "kind": "port", "with": {"port": listening}} for n in range(5)]
    late = {"name": "late", "kind": "port", "with": {"port": listening}, "requires": ["p0"]}
    checklist = written(tmp_path, *ports, late)
    async with Survey(configuration(tmp_path), {}, state_folder=tmp_path, cwd=tmp_path) as survey:
        before = time.monotonic()
        await runner.run(checklist.checks[:5], survey)
        first = await survey.get(read_sockets, not_before=before)
        await runner.run(checklist.checks, survey)
        assert (await survey.get(read_sockets, not_before=before)) is not first


@pytest.fixture
def sleeper(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process with a name of its own on its command line."""
    with subprocess.Popen(
        [sys.executable, "-c", "import sys; sys.stdin.read()", "opskit-sleeper-7"], stdin=subprocess.PIPE
    ) as process:
        (tmp_path / "it.pid").write_text(f"{process.pid}\n")
        yield process
        process.kill()


async def test_process_is_found_by_command_and_pid_file(tmp_path: Path, sleeper: subprocess.Popen[bytes]):
    """A pattern on the command line and a pid file lead to the same process."""
    for params in ({"command": "opskit-sleeper-[0-9]"}, {"pid_file": "it.pid"}):
        found = await check(tmp_path, "process", params, {"pids": [sleeper.pid], "memory_bytes": {"gt": 0}})
        assert found.status == "pass", found.detail


async def test_process_that_is_stopped_or_gone_is_told(tmp_path: Path, sleeper: subprocess.Popen[bytes]):
    """A stopped process shows its state; one that ended fails."""
    os.kill(sleeper.pid, signal.SIGSTOP)
    os.waitpid(sleeper.pid, os.WUNTRACED)
    stopped = await check(tmp_path, "process", {"pid_file": "it.pid"}, {"states": {"contains": "stopped"}})
    sleeper.kill()
    sleeper.wait()
    gone = await check(tmp_path, "process", {"pid_file": "it.pid"})
    assert (stopped.status, gone.status) == ("pass", "fail")


async def test_command_gives_exit_and_output(tmp_path: Path):
    """A list of words is run as it is; without `expect` exit 0 is expected."""
    run = [sys.executable, "-c", "import sys; print('out'); print('err', file=sys.stderr); sys.exit(3)"]
    found = await check(tmp_path, "command", {"run": run}, {"exit": 3, "stdout": "out\n", "stderr": "err\n"})
    assert found.status == "pass", found.detail
    failed = await check(tmp_path, "command", {"run": run})
    assert (failed.status, "err" in failed.detail) == ("fail", True)


@pytest.mark.parametrize("run", [["echo", "a;", "touch", "hit", ">", "hit"], "echo 'a; touch hit > hit'"])
async def test_command_is_never_a_shell(tmp_path: Path, run: str | list[str]):
    """In a list, and in quotes, `;` and `>` mean nothing."""
    found = await check(tmp_path, "command", {"run": run}, {"stdout": "a; touch hit > hit\n"})
    assert found.status == "pass", found.detail
    assert not (tmp_path / "hit").exists()


async def test_command_that_does_not_exist_is_told(tmp_path: Path):
    """What cannot be started fails in words."""
    found = await check(tmp_path, "command", {"run": "opskit-no-such-program"})
    assert (found.status, found.detail) == ("fail", "opskit-no-such-program: No such file or directory")


async def test_command_that_hangs_is_killed_with_its_children(tmp_path: Path):
    """At the deadline the whole process group ends."""
    script = "sleep 1000 & echo $! > child; wait"
    found = await check(tmp_path, "command", {"run": ["sh", "-c", script]}, timeout="300ms")
    assert found.state == "timeout"
    child = int((tmp_path / "child").read_text())
    async with asyncio.timeout(30):
        while Path(f"/proc/{child}").exists() and " Z " not in Path(f"/proc/{child}/stat").read_text():
            await asyncio.sleep(0.01)


async def test_command_output_is_capped(tmp_path: Path):
    """A program that writes without end is read to the cap and does not fill the memory."""
    found = await check(
        tmp_path,
        "command",
        {"run": [sys.executable, "-c", "print('x' * 10_000_000)"], "max_output": "1KiB"},
        {"stdout": {"len": 1024}, "truncated": True},
    )
    assert found.status == "pass", found.detail


async def test_command_that_leaves_a_child_behind_ends(tmp_path: Path):
    """A daemon that keeps the output open does not hold the check."""
    found = await check(tmp_path, "command", {"run": ["sh", "-c", "sleep 5 & echo started"]}, timeout="4s")
    assert found.status == "pass", found.detail
    assert found.seconds < 4


async def test_file_is_judged_by_all_it_has(tmp_path: Path):
    """Existence, size, mode, digest and content; a relative path belongs to the checklist."""
    path = tmp_path / "f.txt"
    path.write_text("hello\n")
    path.chmod(0o640)
    found = await check(
        tmp_path,
        "file",
        {"path": "f.txt"},
        {
            "type": "file",
            "size_bytes": 6,
            "mode": "0640",
            "sha256": hashlib.sha256(b"hello\n").hexdigest(),
            "content": {"contains": "hell"},
            "age_s": {"lt": "1h"},
        },
    )
    assert found.status == "pass", found.detail
    assert (await check(tmp_path, "file", {"path": "gone"})).state == "missing"


async def test_file_that_hangs_is_cut(tmp_path: Path):
    """A pipe that nobody writes into would be read for ever: its content is never opened."""
    os.mkfifo(tmp_path / "pipe")
    found = await check(tmp_path, "file", {"path": "pipe"}, {"content": {"contains": "x"}}, timeout="1s")
    assert (found.status, found.state) == ("fail", "present")


async def test_env_file_names_what_is_missing_and_no_value(tmp_path: Path):
    """Missing keys and empty secrets fail; a value is nowhere in the finding."""
    (tmp_path / ".env").write_text("API_KEY=\nOTHER=geheim\n")
    found = await check(tmp_path, "env_file", {"path": ".env", "keys": ["OTHER", "DATABASE_URL"]})
    assert found.status == "fail"
    assert "missing: DATABASE_URL" in found.detail
    assert "without a value: API_KEY" in found.detail
    assert "geheim" not in str(found.as_json())


@pytest.mark.parametrize("kind", ["disk", "memory", "cpu"])
async def test_the_machine_is_measured(tmp_path: Path, kind: str):
    """Percentages lie between 0 and 100, and an impossible bound fails."""
    good = await check(tmp_path, kind, {}, {"used_percent": {"ge": 0, "le": 100}})
    bad = await check(tmp_path, kind, {}, {"used_percent": {"lt": 0}})
    assert (good.status, bad.status) == ("pass", "fail")


async def test_a_machine_without_a_gpu_is_no_failure(tmp_path: Path):
    """No nvidia-smi on the path is a skip with its reason."""
    found = await check(tmp_path, "gpu", env={"PATH": str(tmp_path)})
    assert (found.status, found.state) == ("skip", "absent")


async def test_gpu_that_fails_is_not_called_absent(tmp_path: Path):
    """A driver that does not answer is inconclusive, with its words."""
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 'could not communicate with the NVIDIA driver'\nexit 9\n")
    tool.chmod(0o755)
    found = await check(tmp_path, "gpu", env={"PATH": f"{tmp_path}:{os.environ['PATH']}"})
    assert found.status == "inconclusive"
    assert "NVIDIA driver" in found.detail


async def test_log_pattern_looks_into_its_window(tmp_path: Path):
    """An old line counts without a window and does not within one."""
    now = datetime.now(UTC)
    (tmp_path / "w.log").write_text(
        f"2020-01-01T00:00:00Z heartbeat error\n{now:%Y-%m-%dT%H:%M:%SZ} Found 7 pending tasks\n"
    )
    old = {"path": "w.log", "pattern": "heartbeat error"}
    assert (await check(tmp_path, "log_pattern", old)).status == "pass"
    recent = await check(tmp_path, "log_pattern", {**old, "since": "1h"}, {"seen": False})
    assert recent.status == "pass", recent.detail
    seen = await check(
        tmp_path,
        "log_pattern",
        {"path": "w.log", "pattern": r"Found \d+ pending", "since": "1h"},
        {"count": 1},
    )
    assert seen.status == "pass", seen.detail
    assert "Found 7 pending tasks" in seen.evidence["values"]["last"]


async def test_a_log_that_cannot_be_read_fails(tmp_path: Path):
    """A missing log is not a log without the pattern."""
    found = await check(tmp_path, "log_pattern", {"path": "gone.log", "pattern": "x"}, {"seen": False})
    assert (found.status, found.state) == ("fail", "unreadable")


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "knowledge.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE tasks (id INTEGER, status TEXT)")
        connection.executemany("INSERT INTO tasks VALUES (?, ?)", [(1, "completed"), (2, "pending")])
    connection.close()
    return path


async def test_sqlite_tables_and_queries_are_judged(tmp_path: Path, database: Path):
    """A relative file, a table with its columns, and the value of a query."""
    params = {"url": "sqlite:knowledge.db", "table": "tasks", "query": "SELECT count(*) AS n FROM tasks"}
    found = await check(
        tmp_path, "database", params, {"value": 2, "columns": ["id", "status"], "row": {"has_key": "n"}}
    )
    assert found.status == "pass", found.detail
    assert (
        await check(tmp_path, "database", {"url": f"sqlite://{database}", "table": "nope"})
    ).status == "fail"


@pytest.mark.parametrize(
    "query, part", [("DELETE FROM tasks", "readonly database"), ("SELEC", "syntax error")]
)
async def test_sqlite_is_never_written(tmp_path: Path, database: Path, query: str, part: str):
    """A query that writes fails, as does one that is none."""
    found = await check(tmp_path, "database", {"url": "sqlite:knowledge.db", "query": query})
    assert (found.status, part in found.detail) == ("fail", True)
    with sqlite3.connect(database) as connection:
        assert connection.execute("SELECT count(*) FROM tasks").fetchone() == (2,)
    connection.close()


async def test_a_sqlite_query_that_never_ends_is_cut(tmp_path: Path, database: Path):
    """An endless query is interrupted before the deadline, and its thread does not go on."""
    query = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n"
    found = await check(tmp_path, "database", {"url": "sqlite:knowledge.db", "query": query}, timeout="300ms")
    assert found.status == "fail"
    assert "interrupted" in found.detail
    assert database.exists()


@pytest.mark.parametrize("content", [None, b"this is no database, just text that is long enough"])
async def test_a_file_that_is_no_database_fails(tmp_path: Path, content: bytes | None):
    """A missing file is not created, and text is not taken for a database."""
    if content is not None:
        (tmp_path / "x.db").write_bytes(content)
    found = await check(tmp_path, "database", {"url": "sqlite:x.db"})
    assert (found.status, found.evidence["values"]["error"]) == ("fail", "connect")
    assert (tmp_path / "x.db").exists() is (content is not None)


async def test_config_is_checked_with_file_and_line(tmp_path: Path):
    """A broken configuration fails with its problem; a good one names its nodes."""
    (tmp_path / "o.yaml").write_text("router:\n  max_fallback: 3\n")
    bad = await check(tmp_path, "config", {"file": "o.yaml"})
    (tmp_path / "o.yaml").write_text("router:\n  max_fallbacks: 3\n")
    good = await check(tmp_path, "config", {"file": "o.yaml"}, {"nodes": {"contains": "ollama"}})
    assert (bad.status, good.status) == ("fail", "pass")
    assert "o.yaml:2" in bad.detail


async def test_docker_that_does_not_run_makes_its_checks_inconclusive(tmp_path: Path):
    """The daemon's own check fails; those of containers, networks and logs cannot be judged."""
    env = {"DOCKER_HOST": f"unix://{tmp_path}/nowhere.sock"}
    checklist = written(
        tmp_path,
        {"name": "daemon", "kind": "docker_daemon"},
        {"name": "container", "kind": "container", "with": {"name": "x"}},
        {"name": "network", "kind": "docker_network", "with": {"name": "x"}},
        {"name": "volume", "kind": "volume", "with": {"name": "x"}},
        {"name": "image", "kind": "image", "with": {"name": "x"}},
        {"name": "log", "kind": "log_pattern", "with": {"container": "x", "pattern": "y"}},
    )
    found = await findings(checklist, tmp_path, env=env)
    assert statuses(found).pop("daemon") == "fail"
    assert {one.status for one in found[1:]} == {"inconclusive"}
    assert {one.code for one in found} == {"DOCKER_001"}


async def test_without_compose_its_check_is_inconclusive(tmp_path: Path):
    """A machine without any compose program says so."""
    (tmp_path / "docker-compose.yml").write_text("services: {}\n")
    found = await check(tmp_path, "compose", env={"PATH": str(tmp_path)})
    assert found.status == "inconclusive"
    assert "neither `docker compose` nor `docker-compose`" in found.detail
