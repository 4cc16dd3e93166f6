"""A check and its negation never agree: on what is there, on what is not, and on what cannot be judged.

Every kind has a row in TARGETS. A kind that is added without one fails the last test.
"""

import contextlib
import math
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from pytest_httpserver import HTTPServer

from opskit.checks import runner
from opskit.checks.kinds import KINDS
from opskit.config.schema import Config, ProbeConfig, StackConfig
from opskit.facts.survey import Survey, _KeptFact, read_sockets
from opskit.records import replace
from opskit.result import Finding
from opskit.sandbox.faults import parse_fault
from opskit.sandbox.stage import Stage
from opskit.system.sockets import SocketTable
from tests.parts.checking import check, configuration, written
from tests.parts.docker import IMAGE, Engine
from tests.parts.postgres import Postgres, postgres
from tests.parts.raw_server import Reply, serving

__all__ = ["postgres"]

QUICK = ProbeConfig(http_s=1.0, first_token_s=0.3, cycle_s=1.0)
Expect = Mapping[str, Any]


@dataclass(frozen=True)
class Target:
    """What a check looks at, and in which environment."""

    params: Mapping[str, Any] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    config: Config | None = None


@dataclass(frozen=True)
class Targets:
    """Something that is as it should be, and something that is not; None where the machine has but one."""

    there: Target
    absent: Target | None = None


@dataclass(frozen=True)
class Place:
    """Where the targets of one test are made, and what they are made of, each only when it is asked for."""

    folder: Path
    request: pytest.FixtureRequest

    @property
    def web(self) -> HTTPServer:
        return self.request.getfixturevalue("httpserver")

    @property
    def docker(self) -> Engine:
        return self.request.getfixturevalue("box")

    @property
    def postgres(self) -> Postgres:
        return self.request.getfixturevalue("postgres")


def quick(folder: Path, stage: Stage) -> Config:
    """The configuration of a stage whose silence is soon noticed."""
    return replace(configuration(folder, stage.environment()), probe=QUICK)


Make = Callable[[Place], AbstractAsyncContextManager[Targets]]
TARGETS: list[tuple[str, Expect, Expect, Make]] = []


def row(kind: str, positive: Expect, negated: Expect) -> Callable[[Make], Make]:
    """Enter a function that makes targets for a kind: the first expectation holds for what is there."""

    def entered(make: Make) -> Make:
        TARGETS.append((kind, positive, negated, make))
        return make

    return entered


@contextlib.contextmanager
def ports() -> Iterator[tuple[int, int]]:
    """A port that accepts connections, and one where nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        free = int(closed.getsockname()[1])
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield int(server.getsockname()[1]), free


@row("http", {"error": None}, {"error": "refused"})
@asynccontextmanager
async def _http(place: Place) -> AsyncIterator[Targets]:
    place.web.expect_request("/").respond_with_data("well")
    with ports() as (_, free):
        yield Targets(Target({"url": place.web.url_for("/")}), Target({"url": f"http://127.0.0.1:{free}/"}))


@row("http", {"status": 200}, {"status": {"not": 200}})
@asynccontextmanager
async def _status(place: Place) -> AsyncIterator[Targets]:
    place.web.expect_request("/").respond_with_data("well")
    yield Targets(Target({"url": place.web.url_for("/")}), Target({"url": place.web.url_for("/gone")}))


@row("http", {"json": {"$.ok": True}}, {"json": {"$.ok": {"not": True}}})
@asynccontextmanager
async def _json(place: Place) -> AsyncIterator[Targets]:
    place.web.expect_request("/well").respond_with_json({"ok": True})
    place.web.expect_request("/ill").respond_with_json({"ok": False})
    yield Targets(Target({"url": place.web.url_for("/well")}), Target({"url": place.web.url_for("/ill")}))


@row("tcp", {"open": True}, {"open": False})
@row("port", {"listening": True}, {"listening": False})
@asynccontextmanager
async def _ports(_place: Place) -> AsyncIterator[Targets]:
    with ports() as (held, free):
        yield Targets(Target({"port": held}), Target({"port": free}))


@row("dns", {"resolves": True}, {"resolves": False})
@row("dns", {"addresses": {"len": {"gt": 0}}}, {"addresses": {"len": 0}})
@asynccontextmanager
async def _dns(_place: Place) -> AsyncIterator[Targets]:
    yield Targets(Target({"name": "localhost"}), Target({"name": "nothing.invalid"}))


@row("process", {"running": True}, {"running": False})
@row("process", {"count": {"ge": 1}}, {"count": 0})
@asynccontextmanager
async def _process(_place: Place) -> AsyncIterator[Targets]:
    program = [sys.executable, "-c", "import sys; sys.stdin.read()", "opskit-negation-3"]
    with subprocess.Popen(program, stdin=subprocess.PIPE) as process:
        yield Targets(
            Target({"command": "opskit-negation-[0-9]"}), Target({"command": "opskit-negation-[a-z]"})
        )
        process.kill()


@row("process", {"running": True}, {"running": False})
@asynccontextmanager
async def _pid_file(place: Place) -> AsyncIterator[Targets]:
    (place.folder / "own.pid").write_text(str(os.getpid()))
    yield Targets(Target({"pid_file": "own.pid"}), Target({"pid_file": "gone.pid"}))


@row("command", {"exit": 0}, {"exit": {"not": 0}})
@asynccontextmanager
async def _command(_place: Place) -> AsyncIterator[Targets]:
    yield Targets(Target({"run": "true"}), Target({"run": "false"}))


@row("file", {"exists": True}, {"exists": False})
@row("env_file", {"exists": True}, {"exists": False})
@asynccontextmanager
async def _file(place: Place) -> AsyncIterator[Targets]:
    (place.folder / "there").write_text("A=b\n")
    yield Targets(Target({"path": "there"}), Target({"path": "gone"}))


@row("file", {"content": {"contains": "A"}}, {"content": {"not": {"contains": "A"}}})
@row("env_file", {"keys": {"contains": "A"}}, {"keys": {"not": {"contains": "A"}}})
@asynccontextmanager
async def _content(place: Place) -> AsyncIterator[Targets]:
    (place.folder / "with").write_text("A=b\n")
    (place.folder / "without").write_text("B=c\n")
    yield Targets(Target({"path": "with"}), Target({"path": "without"}))


@row("disk", {"free_percent": {"ge": 0}}, {"free_percent": {"not": {"ge": 0}}})
@row("memory", {"used_percent": {"ge": 0}}, {"used_percent": {"not": {"ge": 0}}})
@row("cpu", {"used_percent": {"ge": 0}}, {"used_percent": {"not": {"ge": 0}}})
@asynccontextmanager
async def _machine(_place: Place) -> AsyncIterator[Targets]:
    yield Targets(Target())


@row("gpu", {"used_percent": {"lt": 90}}, {"used_percent": {"not": {"lt": 90}}})
@asynccontextmanager
async def _gpu(place: Place) -> AsyncIterator[Targets]:
    made = []
    for used in (5, 95):
        tool = place.folder / str(used) / "nvidia-smi"
        tool.parent.mkdir()
        tool.write_text(f"#!/bin/sh\necho 'Card, 100, 50, {used}, 60'\n")
        tool.chmod(0o755)
        made.append(Target(env={"PATH": f"{tool.parent}:{os.environ['PATH']}"}))
    yield Targets(*made)


@row("docker_daemon", {"answers": True}, {"answers": False})
@asynccontextmanager
async def _daemon(place: Place) -> AsyncIterator[Targets]:
    nowhere = {"DOCKER_HOST": f"unix://{place.folder}/nowhere.sock"}
    yield Targets(Target(env=place.docker.environment), Target(env=nowhere))


@row("container", {"exists": True}, {"exists": False})
@row("container", {"state": "running"}, {"state": {"not": "running"}})
@asynccontextmanager
async def _container(place: Place) -> AsyncIterator[Targets]:
    env, made = place.docker.environment, place.docker.run("sleep 1000")
    yield Targets(Target({"name": made.name}, env), Target({"name": "opskit-nothing"}, env))


@row("container", {"state": "running"}, {"state": {"not": "running"}})
@row("container", {"exit_code": 0}, {"exit_code": {"not": 0}})
@asynccontextmanager
async def _ended(place: Place) -> AsyncIterator[Targets]:
    env, runs, ended = place.docker.environment, place.docker.run("sleep 1000"), place.docker.run("exit 7")
    ended.wait()
    yield Targets(Target({"name": runs.name}, env), Target({"name": ended.name}, env))


@row("stack_containers", {"exists": True}, {"exists": False})
@asynccontextmanager
async def _stack(place: Place) -> AsyncIterator[Targets]:
    env, made = place.docker.environment, place.docker.run("sleep 1000")

    def stack(name: str) -> Config:
        return replace(configuration(place.folder, env), stack=StackConfig(containers={"web": (name,)}))

    yield Targets(
        Target(env=env, config=stack(str(made.name))), Target(env=env, config=stack("opskit-nothing"))
    )


@row("docker_network", {"exists": True}, {"exists": False})
@asynccontextmanager
async def _network(place: Place) -> AsyncIterator[Targets]:
    env = place.docker.environment
    yield Targets(Target({"name": "host"}, env), Target({"name": "opskit-nothing"}, env))


@row("volume", {"exists": True}, {"exists": False})
@asynccontextmanager
async def _volume(place: Place) -> AsyncIterator[Targets]:
    env, name = place.docker.environment, place.docker.name("v")
    volume = place.docker.client.volumes.create(name)
    try:
        yield Targets(Target({"name": name}, env), Target({"name": "opskit-nothing"}, env))
    finally:
        volume.remove()


@row("image", {"exists": True}, {"exists": False})
@asynccontextmanager
async def _image(place: Place) -> AsyncIterator[Targets]:
    env = place.docker.environment
    yield Targets(Target({"name": IMAGE}, env), Target({"name": "opskit-nothing:1"}, env))


@row("compose", {"valid": True}, {"valid": False})
@asynccontextmanager
async def _compose(place: Place) -> AsyncIterator[Targets]:
    if shutil.which("docker-compose") is None:
        pytest.skip("there is no docker-compose: apt-get install docker-compose")
    service = "version: '3'\nservices:\n  web:\n    {}: x\n"
    for name, key in (("well", "image"), ("ill", "imgae")):
        (place.folder / f"{name}.yml").write_text(service.format(key))
    env = place.docker.environment
    yield Targets(Target({"file": "well.yml"}, env), Target({"file": "ill.yml"}, env))


@row("log_pattern", {"seen": True}, {"seen": False})
@row("log_pattern", {"count": {"ge": 1}}, {"count": 0})
@asynccontextmanager
async def _log(place: Place) -> AsyncIterator[Targets]:
    (place.folder / "w.log").write_text("2026-01-01T00:00:00Z ERROR heartbeat\n")
    yield Targets(
        Target({"path": "w.log", "pattern": "heart"}), Target({"path": "w.log", "pattern": "liver"})
    )


@row("probe", {"status": "pass"}, {"status": {"not": "pass"}})
@row("node_ladder", {"token": True}, {"token": False})
@row("model", {"answered": True}, {"answered": False})
@asynccontextmanager
async def _node(place: Place) -> AsyncIterator[Targets]:
    async with Stage() as well, Stage([parse_fault("ollama=refuse")]) as ill:
        params = {"node": "ollama"}
        yield Targets(
            Target(params, config=quick(place.folder, well)), Target(params, config=quick(place.folder, ill))
        )


@row("model", {"answered": True}, {"answered": False})
@asynccontextmanager
async def _echo(place: Place) -> AsyncIterator[Targets]:
    async with Stage() as well, Stage([parse_fault("ollama:phi3.5:3.8b=echo")]) as ill:
        params = {"node": "ollama", "model": "phi3.5:3.8b"}
        yield Targets(
            Target(params, config=quick(place.folder, well)), Target(params, config=quick(place.folder, ill))
        )


@row("agent_api", {"failed": {"len": 0}}, {"failed": {"len": {"gt": 0}}})
@row("agent_api", {"answered": {"len": {"gt": 0}}}, {"answered": {"len": 0}})
@row("agent_chain", {"held": True}, {"held": False})
@asynccontextmanager
async def _agent(place: Place) -> AsyncIterator[Targets]:
    async with Stage() as well, Stage([parse_fault("victoria=refuse")]) as ill:
        params = {"agent": "victoria"}
        yield Targets(
            Target(params, config=quick(place.folder, well)), Target(params, config=quick(place.folder, ill))
        )


@row("database", {"connected": True}, {"connected": False})
@asynccontextmanager
async def _sqlite(place: Place) -> AsyncIterator[Targets]:
    sqlite3.connect(place.folder / "there.db").execute("CREATE TABLE t (a)").connection.close()
    yield Targets(Target({"url": "sqlite:there.db"}), Target({"url": "sqlite:gone.db"}))


@row("database", {"connected": True}, {"connected": False})
@asynccontextmanager
async def _postgres(place: Place) -> AsyncIterator[Targets]:
    with ports() as (_, free):
        absent = place.postgres.url.replace(f":{place.postgres.port}/", f":{free}/")
        yield Targets(Target({"url": place.postgres.url}), Target({"url": absent}))


@row("database", {"connected": True}, {"connected": False})
@asynccontextmanager
async def _no_such_database(place: Place) -> AsyncIterator[Targets]:
    absent = place.postgres.url.replace("/knowledge", "/nothing")
    yield Targets(Target({"url": place.postgres.url}), Target({"url": absent}))


@row("database", {"table_exists": True}, {"table_exists": False})
@row("database", {"complete": True}, {"complete": False})
@asynccontextmanager
async def _table(place: Place) -> AsyncIterator[Targets]:
    place.postgres.run("CREATE TABLE IF NOT EXISTS negation (id int)")
    url = place.postgres.url
    yield Targets(Target({"url": url, "table": "negation"}), Target({"url": url, "table": "nothing"}))


@row("database", {"table_exists": True}, {"table_exists": False})
@asynccontextmanager
async def _queried_table(place: Place) -> AsyncIterator[Targets]:
    sqlite3.connect(place.folder / "there.db").execute("CREATE TABLE t (a)").connection.close()
    yield Targets(
        Target({"url": "sqlite:there.db", "table": "t", "query": "SELECT count(*) FROM t"}),
        Target({"url": "sqlite:there.db", "table": "u", "query": "SELECT count(*) FROM u"}),
    )


@row("postgres_pool", {"used_percent": {"lt": 100}}, {"used_percent": {"not": {"lt": 100}}})
@asynccontextmanager
async def _pool(place: Place) -> AsyncIterator[Targets]:
    yield Targets(Target({"url": place.postgres.url}))


@row("config", {"valid": True}, {"valid": False})
@asynccontextmanager
async def _config(place: Place) -> AsyncIterator[Targets]:
    (place.folder / "well.yaml").write_text("router:\n  max_fallbacks: 3\n")
    (place.folder / "ill.yaml").write_text("router:\n  max_fallback: 3\n")
    yield Targets(Target({"file": "well.yaml"}), Target({"file": "ill.yaml"}))


async def judged(place: Place, kind: str, target: Target, expect: Expect) -> Finding:
    return await check(
        place.folder, kind, target.params, expect, env=target.env, config=target.config, timeout="20s"
    )


@pytest.mark.parametrize(
    "kind, positive, negated, make", TARGETS, ids=[f"{kind}{make.__name__}" for kind, _, _, make in TARGETS]
)
async def test_an_expectation_and_its_negation_disagree(
    tmp_path: Path, request: pytest.FixtureRequest, kind: str, positive: Expect, negated: Expect, make: Make
):
    """What is there passes the one and fails the other, what is not there the other way round."""
    place = Place(tmp_path, request)
    async with make(place) as targets:
        for target, good, bad in ((targets.there, positive, negated), (targets.absent, negated, positive)):
            if target is None:
                continue
            passed, failed = await judged(place, kind, target, good), await judged(place, kind, target, bad)
            assert (passed.status, failed.status) == ("pass", "fail"), (passed.detail, failed.detail)
            assert failed.state != "ok"


NOWHERE = {"DOCKER_HOST": "unix:///nonexistent/docker.sock"}
BOTH_WAYS = [
    ("tcp", {"host": "nothing.invalid", "port": 80}, "open"),
    ("http", {"url": "http://nothing.invalid/"}, "truncated"),
    ("process", {"pid_file": "text"}, "running"),
    ("process", {"pid_file": "loop"}, "running"),
    ("file", {"path": "loop"}, "exists"),
    ("env_file", {"path": "loop"}, "exists"),
    ("log_pattern", {"path": "gone.log", "pattern": "x"}, "seen"),
    ("log_pattern", {"path": "loop", "pattern": "x"}, "seen"),
    ("log_pattern", {"path": "text", "pattern": "number", "since": "1h"}, "seen"),
    ("container", {"name": "x"}, "exists"),
    ("docker_network", {"name": "x"}, "exists"),
    ("volume", {"name": "x"}, "exists"),
    ("image", {"name": "x"}, "exists"),
    ("log_pattern", {"container": "x", "pattern": "x"}, "seen"),
    ("compose", {"file": "gone.yml"}, "valid"),
    ("compose", {"file": "loop"}, "valid"),
    ("config", {"file": "gone.yaml"}, "valid"),
    ("node_ladder", {"url": "http://nothing.invalid"}, "token"),
    ("node_ladder", {"node": "nothing"}, "token"),
    ("model", {"url": "http://nothing.invalid"}, "answered"),
    ("agent_chain", {"url": "http://nothing.invalid"}, "held"),
    ("database", {"url": "postgresql://x@nothing.invalid/y"}, "connected"),
    ("database", {"url": "sqlite:loop"}, "connected"),
]


@pytest.mark.parametrize("kind, params, value", BOTH_WAYS)
async def test_what_cannot_be_judged_passes_neither_way(
    tmp_path: Path, kind: str, params: Mapping[str, Any], value: str
):
    """No daemon, no name, no file to read: neither true nor false may be expected of it with success."""
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "text").write_text("no number\n")
    for wanted in (True, False, {"not": True}, {"not": False}):
        found = await check(tmp_path, kind, params, {value: wanted}, env=NOWHERE, timeout="5s")
        assert found.status in ("fail", "inconclusive"), (wanted, found.detail)
        assert found.state != "bug"


async def test_a_port_that_does_not_answer_is_not_called_closed(tmp_path: Path):
    """A full queue drops what comes, as a firewall does: only `error: timeout` can be expected."""
    with socket.socket() as server, contextlib.ExitStack() as clients:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        for _ in range(4):
            client = clients.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(server.getsockname())
        params = {"host": "127.0.0.1", "port": server.getsockname()[1]}
        closed = await check(tmp_path, "tcp", params, {"open": False}, timeout="300ms")
        opened = await check(tmp_path, "tcp", params, {"open": True}, timeout="300ms")
        dropped = await check(tmp_path, "tcp", params, {"error": "timeout", "open": False}, timeout="300ms")
    assert (closed.status, opened.status, dropped.status) == ("inconclusive", "fail", "pass")
    assert "that does not tell `open`" in closed.detail


async def test_a_port_that_other_users_may_hold_is_asked(tmp_path: Path):
    """Where sockets of others are hidden, a connection tells of a TCP port, and nothing of a UDP port."""
    with ports() as (held, free):
        params = [{"port": held}, {"port": free}, {"port": free, "protocol": "udp"}]
        checklist = written(
            tmp_path,
            *(
                {"name": f"{number} {wanted}", "kind": "port", "with": one, "expect": {"listening": wanted}}
                for number, one in enumerate(params)
                for wanted in (True, False)
            ),
        )
        async with Survey(configuration(tmp_path), {}, state_folder=tmp_path, cwd=tmp_path) as survey:
            survey._readings[read_sockets,] = hidden = _KeptFact()
            hidden.known, hidden.began, hidden.fact = True, math.inf, SocketTable(math.inf, complete=False)
            found = await runner.run(checklist.checks, survey)
    assert [one.status for one in found] == ["pass", "fail", "fail", "pass", "inconclusive", "inconclusive"]


async def test_a_daemon_that_speaks_something_else_is_not_called_absent(tmp_path: Path):
    """Something answers at Docker's address, so nobody can tell that no daemon is there."""
    async with serving() as server:
        server.replies["/version"] = Reply((b"\x00 no HTTP\r\n\r\n",))
        env = {"DOCKER_HOST": server.url.replace("http://", "tcp://")}
        found = await check(tmp_path, "docker_daemon", {}, {"answers": False}, env=env)
    assert found.status == "inconclusive"


async def test_a_node_that_was_not_asked_gave_no_proof(tmp_path: Path):
    """A busy node, and a model that may not be loaded, are inconclusive; what is loaded is known."""
    busy = ("ollama=fast-503", "node_ladder", {"node": "ollama"}, "token")
    unloaded = (
        "ollama:phi3.5:3.8b=echo",
        "model",
        {"node": "ollama", "model": "qwen2.5-coder:7b"},
        "answered",
    )
    for fault, kind, params, value in (busy, unloaded):
        async with Stage([parse_fault(fault)]) as stage:
            config = quick(tmp_path, stage)
            for wanted in (True, False):
                found = await check(tmp_path, kind, params, {value: wanted}, config=config)
                assert found.status == "inconclusive", (kind, wanted, found.detail)
    async with Stage() as stage:
        _, kind, params, _ = unloaded
        found = await check(tmp_path, kind, params, {"resident": False}, config=quick(tmp_path, stage))
    assert found.status == "pass", found.detail


@pytest.mark.parametrize("expect", [{"health": {"any": ["healthy", "none"]}}, {"exit_code": None}])
async def test_a_container_that_is_not_there_has_no_health(tmp_path: Path, box: Engine, expect: Expect):
    """No container is not a container without a health check."""
    found = await check(tmp_path, "container", {"name": "opskit-nothing"}, expect, env=box.environment)
    assert found.status == "fail"


async def test_a_table_that_may_not_be_read_is_there(tmp_path: Path, postgres: Postgres):
    """A user without a privilege on a table sees that it exists."""
    postgres.run(
        "DROP ROLE IF EXISTS stranger",
        "CREATE ROLE stranger LOGIN",
        "CREATE TABLE IF NOT EXISTS hidden (a int)",
    )
    url = postgres.url.replace(f"{postgres.user}@", "stranger@")
    found = [
        await check(tmp_path, "database", {"url": url, "table": "hidden"}, {"table_exists": wanted})
        for wanted in (True, False)
    ]
    assert [one.status for one in found] == ["pass", "fail"]


def test_every_kind_has_its_targets():
    """A kind that is added later needs a row of its own above."""
    assert {kind for kind, _, _, _ in TARGETS} == set(KINDS)
