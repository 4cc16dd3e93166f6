"""What a check did not see, it neither passes nor fails: on real servers, files, processes and databases."""

import os
import signal
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pytest_httpserver import HTTPServer

from tests.parts import postgres
from tests.parts.checking import check

LONG = "a" * 5000 + " error"


@pytest.fixture(scope="module")
def database() -> Iterator[postgres.Postgres]:
    """A real PostgreSQL with a table of two rows."""
    with postgres.server() as server:
        server.run("CREATE TABLE tasks (id int)", "INSERT INTO tasks VALUES (1), (2)")
        server.run('CREATE TABLE "Mixed" (id int)')
        yield server


@pytest.mark.parametrize("bound, status", [(1000, "inconclusive"), (10_000, "fail")])
async def test_a_word_behind_the_bytes_that_are_read_is_not_absent(
    tmp_path: Path, httpserver: HTTPServer, bound: int, status: str
):
    """A page, a file and the output of a command are judged by what was read of them."""
    httpserver.expect_request("/").respond_with_data(LONG)
    (tmp_path / "f").write_text(LONG)
    absent = {"not": {"contains": "error"}}
    page = await check(
        tmp_path, "http", {"url": httpserver.url_for("/"), "max_bytes": bound}, {"body": absent}
    )
    file = await check(tmp_path, "file", {"path": "f", "max_bytes": bound}, {"content": absent})
    cat = {"run": ["cat", str(tmp_path / "f")], "max_output": bound}
    output = await check(tmp_path, "command", cat, {"stdout": absent})
    assert {page.status, file.status, output.status} == {status}, (page, file, output)


async def test_json_that_was_not_read_to_its_end_is_not_judged(tmp_path: Path, httpserver: HTTPServer):
    """It is not called a body that is no JSON."""
    httpserver.expect_request("/").respond_with_json({"long": LONG, "ok": True})
    params = {"url": httpserver.url_for("/"), "max_bytes": 100}
    found = await check(tmp_path, "http", params, {"json": {"$.ok": True}})
    assert (found.status, "no JSON" in found.detail) == ("inconclusive", False)
    assert "max_bytes" in (found.remedy or "")


@pytest.mark.parametrize(
    "rows, status",
    [({"lt": 1500}, "inconclusive"), ({"lt": 500}, "fail"), ({"gt": 500}, "pass")],
)
async def test_rows_that_were_not_counted_are_not_absent(tmp_path: Path, rows: Any, status: str):
    """Of 5000 rows 1000 are counted."""
    with sqlite3.connect(tmp_path / "a.db") as connection:
        connection.execute("CREATE TABLE t (x)")
        connection.executemany("INSERT INTO t VALUES (?)", [(number,) for number in range(5000)])
    connection.close()
    params = {"url": "sqlite:a.db", "query": "SELECT x FROM t"}
    assert (await check(tmp_path, "database", params, {"rows": rows})).status == status


@pytest.mark.parametrize(
    "query",
    [
        "SET TRANSACTION READ WRITE; DELETE FROM tasks",
        "COMMIT; DELETE FROM tasks",
        "SET default_transaction_read_only = off; COMMIT; BEGIN READ WRITE; DELETE FROM tasks; COMMIT",
        "DO $$ BEGIN COMMIT; SET TRANSACTION READ WRITE; DELETE FROM tasks; COMMIT; END $$",
        "WITH gone AS (DELETE FROM tasks RETURNING id) SELECT count(*) FROM gone",
    ],
)
async def test_no_query_writes(tmp_path: Path, database: postgres.Postgres, query: str):
    """Whatever stands in it, it fails, and the rows are there afterwards."""
    found = await check(tmp_path, "database", {"url": database.url, "query": query})
    assert (found.status, found.state) == ("fail", "failing")
    after = {"url": database.url, "query": "SELECT count(*) FROM tasks WHERE '%' <> ''"}
    assert (await check(tmp_path, "database", after, {"value": 2})).status == "pass"


@pytest.mark.parametrize("table", ["tasks", "TASKS", "public.Tasks", "Mixed", '"Mixed"'])
async def test_a_table_is_named_as_in_sql(tmp_path: Path, database: postgres.Postgres, table: str):
    """SQL folds a name that is not quoted; the name as it stands counts too."""
    assert (await check(tmp_path, "database", {"url": database.url, "table": table})).status == "pass"


async def test_redirects_without_end_fail(tmp_path: Path, httpserver: HTTPServer):
    """With `follow` nothing was reached; without it the report names the target."""
    httpserver.expect_request("/a").respond_with_data(status=302, headers={"Location": "/b?key=geheim"})
    httpserver.expect_request("/b").respond_with_data(status=302, headers={"Location": "/a"})
    url = httpserver.url_for("/a")
    assert (await check(tmp_path, "http", {"url": url, "follow": True})).status == "fail"
    found = await check(tmp_path, "http", {"url": url})
    assert (found.status, httpserver.url_for("/b") in found.detail) == ("pass", True)
    assert "geheim" not in found.detail


async def test_what_a_server_says_of_its_failure_is_told(tmp_path: Path, httpserver: HTTPServer):
    """The first words of the body stand in the report for people."""
    httpserver.expect_request("/").respond_with_data("no such table: tasks", status=500)
    assert "no such table: tasks" in (await check(tmp_path, "http", {"url": httpserver.url_for("/")})).detail


async def test_a_stopped_process_is_told(tmp_path: Path):
    """It runs and does nothing: its check says so, and what lets it go on."""
    mark = f"stopped-{os.getpid()}"
    with subprocess.Popen(["sh", "-c", f"read line # {mark}"], stdin=subprocess.PIPE) as process:
        try:
            process.send_signal(signal.SIGSTOP)
            os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
            found = await check(tmp_path, "process", {"command": mark}, {"states": {"contains": "stopped"}})
        finally:
            process.kill()
    assert (found.status, f"kill -CONT {process.pid}" in found.detail) == ("pass", True)
