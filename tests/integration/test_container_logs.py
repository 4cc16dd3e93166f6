"""Containers as log sources, on a real Docker daemon."""

import asyncio
import contextlib
import os
import shutil
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from pytest_httpserver import HTTPServer

from opskit.errors import OpskitError
from opskit.logs.container import ContainerGroup, ContainerSource, containers
from opskit.logs.frames import CUT, LINE_BYTES
from opskit.logs.record import LogEntry
from opskit.logs.source import Batch, Note, Window
from opskit.system.docker import Docker
from opskit.system.docker_records import PROJECT, SERVICE
from tests.parts.docker import Cutter, Engine

LIMIT_S = 20.0
ALL = Window()

#: Numbered lines in bursts, without end: generation, start within it, number. Every tenth goes to stderr.
WRITER = """
starts=$(cat /starts 2>/dev/null || echo 0); starts=$((starts + 1)); echo $starts > /starts
i=0
while :; do
  b=0
  while [ $b -lt 20 ]; do
    i=$((i + 1)); b=$((b + 1))
    if [ $((i % 10)) = 0 ]; then echo "$GENERATION $starts $i err" >&2; else echo "$GENERATION $starts $i"; fi
  done
  usleep 5000
done
"""


class Listener:
    """Follows a source in a task of its own and keeps what it says."""

    def __init__(self, batches: AsyncGenerator[Batch, None]) -> None:
        self._batches = batches
        self.items: Batch = []
        self.task = asyncio.create_task(self._listen())
        self.news = asyncio.Event()

    async def _listen(self) -> None:
        async with contextlib.aclosing(self._batches) as batches:
            async for batch in batches:
                self.items += batch
                self.news.set()

    @property
    def lines(self) -> list[bytes]:
        return [item.raw for item in self.items if isinstance(item, LogEntry)]

    @property
    def notes(self) -> list[str]:
        return [item.text for item in self.items if isinstance(item, Note)]

    def lines_of(self, source: str) -> list[bytes]:
        return [item.raw for item in self.items if isinstance(item, LogEntry) and item.source == source]

    async def until(self, true: Callable[[], Any]) -> None:
        """Return once the condition holds; fails when it never does, or when following failed."""
        try:
            async with asyncio.timeout(LIMIT_S):
                while not true():
                    self.news.clear()
                    waiting = asyncio.create_task(self.news.wait())
                    await asyncio.wait([waiting, self.task], return_when=asyncio.FIRST_COMPLETED)
                    waiting.cancel()
                    if self.task.done():
                        self.task.result()
                        assert true(), "the source ended"
        except TimeoutError:
            pytest.fail(f"not within {LIMIT_S} s; notes: {self.notes}; last lines: {self.lines[-3:]}")

    async def aclose(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


@contextlib.asynccontextmanager
async def listening(batches: AsyncGenerator[Batch, None]) -> AsyncIterator[Listener]:
    listener = Listener(batches)
    try:
        yield listener
    finally:
        await listener.aclose()


def kept(container: Any) -> list[bytes]:
    """The lines of a container as Docker itself keeps them, in its order."""
    raw = container.logs(stdout=True, stderr=True)
    lines = raw.split(b"\n")
    assert lines.pop() == b""
    return [line.removesuffix(b"\r") for line in lines]


async def source_of(docker: Docker, name: str) -> ContainerSource:
    (source,) = await containers(name, docker=docker)
    assert isinstance(source, ContainerSource)
    return source


async def lines_of(batches: AsyncGenerator[Batch, None]) -> list[bytes]:
    async with contextlib.aclosing(batches):
        return [item.raw async for batch in batches for item in batch if isinstance(item, LogEntry)]


async def in_turn(*steps: Callable[[], Any]) -> None:
    for step in steps:
        await asyncio.to_thread(step)


def talked_since(listener: Listener, starts: int) -> bool:
    """Whether a line came after so many starts were told of."""
    told = [
        place
        for place, item in enumerate(listener.items)
        if isinstance(item, Note) and item.text == "started"
    ]
    return len(told) >= starts and any(
        isinstance(item, LogEntry) for item in listener.items[told[starts - 1] :]
    )


async def _one_life(container: Any, listener: Listener, starts: int) -> list[bytes]:
    """Restart and kill a writer while it talks; returns what Docker kept of it."""
    await listener.until(lambda: talked_since(listener, starts) if starts else listener.lines)
    await in_turn(lambda: container.restart(timeout=0), container.kill, container.start)
    await listener.until(lambda: talked_since(listener, starts + 2))
    await in_turn(container.kill, container.wait)
    return await asyncio.to_thread(kept, container)


async def _lives(box: Engine, name: str, listener: Listener, *, tty: bool) -> list[bytes]:
    """Torment a writer and the one that takes its place; returns what Docker kept of both."""
    first = box.client.containers.get(name)
    truth = await _one_life(first, listener, 0)
    await asyncio.to_thread(first.remove)
    second = await asyncio.to_thread(
        lambda: box.run(WRITER, name=name, tty=tty, environment={"GENERATION": "2"})
    )
    return truth + await _one_life(second, listener, 3)


async def test_no_line_is_lost_or_doubled_while_containers_are_restarted_killed_and_recreated(box: Engine):
    """Every line that Docker kept of a plain and of a TTY container comes once, in Docker's order."""
    names = {box.name("plain"): False, box.name("tty"): True}
    for name, tty in names.items():
        box.run(WRITER, name=name, tty=tty, environment={"GENERATION": "1"})
    async with contextlib.AsyncExitStack() as stack:
        door = box.door()
        listeners = [
            await stack.enter_async_context(listening((await source_of(door, name)).follow(ALL)))
            for name in names
        ]
        truths = await asyncio.gather(
            *(
                _lives(box, name, listener, tty=tty)
                for (name, tty), listener in zip(names.items(), listeners, strict=True)
            )
        )
        for listener, truth in zip(listeners, truths, strict=True):
            await listener.until(lambda one=listener: one.notes.count("died with exit code 137") == 6)
            assert listener.lines == truth


def counting(lines: int, pause_us: int = 1000) -> str:
    """A script that writes numbered lines in bursts of fifty and ends."""
    return (
        f"i=0; while [ $i -lt {lines} ]; do b=0; "
        "while [ $b -lt 50 ]; do b=$((b + 1)); i=$((i + 1)); echo line $i; done; "
        f"usleep {pause_us}; done"
    )


def counted(lines: int) -> list[bytes]:
    return [b"line %d" % number for number in range(1, lines + 1)]


@pytest.mark.parametrize("tty", [False, True], ids=["plain", "terminal"])
async def test_a_log_that_is_rotated_while_it_is_followed_loses_and_repeats_nothing(box: Engine, tty: bool):
    """Docker throws files of 50 kB away all the while; each line still comes once, in order."""
    made = box.run(counting(5000), tty=tty, log={"max-size": "50k", "max-file": "2"}, start=False)
    source = await source_of(box.door(), made.name)
    async with listening(source.follow(ALL)) as listener:
        await asyncio.to_thread(made.start)
        await listener.until(lambda: "died with exit code 0" in listener.notes)
        assert listener.lines == counted(5000)
    assert len(kept(made)) < 5000, "nothing was rotated: the test proves nothing"


@pytest.mark.parametrize("tty", [False, True], ids=["plain", "terminal"])
async def test_connections_that_break_at_any_byte_lose_and_repeat_nothing(
    box: Engine, cutter: Cutter, tty: bool
):
    """First in the middle of a line or of a frame, then wherever they happen to be."""
    made = box.run(counting(2000, 5000), tty=tty)
    source = await source_of(Docker(cutter.environment), made.name)
    cutter.cut_after_bytes = 30_011
    async with listening(source.follow(ALL)) as listener:
        await listener.until(lambda: len(listener.lines) >= 200)
        cutter.cut_after_bytes = None
        for lines in (700, 1200, 1700):
            await listener.until(lambda at_least=lines: len(listener.lines) >= at_least)
            cutter.cut()
        await listener.until(lambda: "died with exit code 0" in listener.notes)
        assert listener.lines == counted(2000)
        assert "connected to Docker again" in listener.notes


async def test_what_is_written_while_the_daemon_is_away_comes_afterwards(box: Engine, cutter: Cutter):
    """An outage is told of once, with the reason; no line of that time is missing."""
    made = box.run("i=0; while :; do i=$((i + 1)); echo line $i; usleep 20000; done")
    source = await source_of(Docker(cutter.environment), made.name)
    async with listening(source.follow(ALL)) as listener:
        await listener.until(lambda: len(listener.lines) >= 5)
        await cutter.refuse()
        await listener.until(lambda: any("Docker" in note for note in listener.notes))
        before = len(kept(made))
        async with asyncio.timeout(LIMIT_S):
            while len(await asyncio.to_thread(kept, made)) < before + 10:
                await asyncio.sleep(0.02)
        await cutter.listen()
        await listener.until(lambda: "connected to Docker again" in listener.notes)
        await asyncio.to_thread(made.kill)
        await listener.until(lambda: "died with exit code 137" in listener.notes)
        assert listener.lines == kept(made)
        assert len([note for note in listener.notes if "Docker" in note]) == 2


async def test_a_container_that_is_stopped_and_much_later_started_is_followed_on(box: Engine):
    """Notes stand between the lines where they happened."""
    made = box.run("echo one; exec sleep 100")
    async with listening((await source_of(box.door(), made.name)).follow(ALL)) as listener:
        await listener.until(lambda: listener.lines == [b"one"])
        await in_turn(made.kill, made.wait)
        await listener.until(lambda: "died with exit code 137" in listener.notes)
        await asyncio.to_thread(made.start)
        await listener.until(lambda: len(listener.lines) == 2 and "started" in listener.notes)
        said = [item.raw if isinstance(item, LogEntry) else item.text for item in listener.items]
        assert said[:3] == [b"one", "was sent signal 9", "died with exit code 137"]
        assert sorted(map(str, said[3:])) == ["b'one'", "started"]


async def test_crashes_and_their_restarts_by_docker_are_followed(box: Engine):
    """A container with a restart policy is read through every run of it, unfinished lines included."""
    made = box.run(
        "echo begin; printf half; exit 3", restart_policy={"Name": "on-failure", "MaximumRetryCount": 3}
    )
    async with listening((await source_of(box.door(), made.name)).follow(ALL)) as listener:
        await listener.until(lambda: len(listener.lines) == 8)
        assert listener.lines == [b"begin", b"half"] * 4
        await listener.until(lambda: "died with exit code 3" in listener.notes)


async def test_a_running_container_that_lost_its_name_is_left_for_the_one_that_has_it_now(box: Engine):
    """As when a deployment renames the old container away and lets it run on for a while."""
    name = box.name()
    old = box.run("while :; do echo old; usleep 20000; done", name=name)
    async with listening((await source_of(box.door(), name)).follow(ALL)) as listener:
        await listener.until(lambda: b"old" in listener.lines)
        await in_turn(lambda: old.rename(f"{name}-old"), lambda: box.run("echo new; sleep 100", name=name))
        await listener.until(lambda: b"new" in listener.lines)
        assert listener.lines[-1] == b"new"


async def test_changes_of_health_are_told(box: Engine):
    """What Docker itself finds out about a container stands among its lines."""
    probe = {"test": ["CMD-SHELL", "test -e /ok"], "interval": 50_000_000, "timeout": 10**9, "retries": 1}
    made = box.run("echo begin; sleep 100", healthcheck=probe, start=False)
    async with listening((await source_of(box.door(), made.name)).follow(ALL)) as listener:
        await asyncio.to_thread(made.start)
        await listener.until(lambda: "health: unhealthy" in listener.notes)
        await asyncio.to_thread(made.exec_run, "touch /ok")
        await listener.until(lambda: "health: healthy" in listener.notes)


async def test_a_window_is_what_docker_finds(box: Engine):
    """`tail`, `since` and `until`, alone and together, read and followed."""
    made = box.run("for i in 1 2 3 4 5 6; do echo line $i; usleep 50000; done")
    await asyncio.to_thread(made.wait)
    source = await source_of(box.door(), made.name)
    entries = [entry async for batch in source.read(ALL) for entry in batch]
    assert [entry.raw for entry in entries] == counted(6)
    since, until = entries[2].at - 1e-6, entries[4].at + 1e-6
    assert await lines_of(source.read(Window(tail=2))) == counted(6)[4:]
    assert await lines_of(source.read(Window(since=since))) == counted(6)[2:]
    assert await lines_of(source.read(Window(since=since, until=until))) == counted(6)[2:5]
    assert await lines_of(source.read(Window(since=since, tail=1))) == counted(6)[5:]
    assert await lines_of(source.read(Window(tail=0))) == []
    for window, want in ((Window(tail=2), counted(6)[4:]), (Window(since=since), counted(6)[2:])):
        async with listening(source.follow(window)) as listener:
            await listener.until(lambda one=listener, all_of=want: len(one.lines) >= len(all_of))
            assert listener.lines == want


async def test_a_follow_without_history_begins_with_the_next_line(box: Engine):
    """`tail` 0: nothing old, also not after a reconnect."""
    made = box.run("echo old; echo old >&2; while [ ! -e /go ]; do usleep 20000; done; echo new; sleep 100")
    async with asyncio.timeout(LIMIT_S):
        while len(await asyncio.to_thread(kept, made)) < 2:
            await asyncio.sleep(0.02)
    door = box.door()
    async with door, listening((await source_of(door, made.name)).follow(Window(tail=0))) as listener:
        await asyncio.to_thread(made.exec_run, "touch /go")
        await listener.until(lambda: listener.lines)
        await asyncio.to_thread(made.restart, timeout=0)
        await listener.until(lambda: len(listener.lines) == 4)
        assert listener.lines[0] == b"new"
        assert sorted(listener.lines[1:]) == [b"new", b"old", b"old"]


@pytest.mark.parametrize("tty", [False, True], ids=["plain", "terminal"])
async def test_a_huge_line_is_cut_and_the_next_one_is_whole(box: Engine, tty: bool):
    """Docker hands it over in pieces of 16 KiB, each with a time in front."""
    made = box.run("head -c 3000000 /dev/zero | tr '\\0' a; echo; echo next", tty=tty)
    await asyncio.to_thread(made.wait)
    lines = await lines_of((await source_of(box.door(), made.name)).read(ALL))
    assert lines == [b"a" * LINE_BYTES + CUT % LINE_BYTES, b"next"]


async def test_a_consumer_that_stops_makes_docker_wait(box: Engine, cutter: Cutter):
    """Nothing piles up here: reading stops, and goes on where it was."""
    text = "x" * 200
    made = box.run(f"i=0; while [ $i -lt 60000 ]; do i=$((i + 1)); echo line $i {text}; done")
    await asyncio.to_thread(made.wait)
    size = sum(map(len, kept(made)))
    source = await source_of(Docker(cutter.environment), made.name)
    async with contextlib.aclosing(source.follow(ALL)) as batches:
        got = [item async for item in _first(batches)]
        carried = -1
        while carried != cutter.carried_bytes:
            carried = cutter.carried_bytes
            await asyncio.sleep(0.2)
        assert carried < size / 4
        async for batch in batches:
            got += batch
            if len(got) >= 60000:
                break
    assert [entry.raw.split()[1] for entry in got if isinstance(entry, LogEntry)] == [
        b"%d" % number for number in range(1, 60001)
    ]


async def _first(batches: AsyncGenerator[Batch, None]) -> AsyncIterator[Any]:
    for item in await anext(batches):
        yield item


async def test_a_follow_that_is_cancelled_leaves_nothing_behind(box: Engine, cutter: Cutter):
    """No task, no connection and no thread of ours."""
    made = box.run("while :; do echo line; usleep 10000; done")
    before, threads = asyncio.all_tasks(), set(threading.enumerate())
    mine = set(cutter._tasks)
    for _ in range(3):
        async with listening(
            (await source_of(Docker(cutter.environment), made.name)).follow(ALL)
        ) as listener:
            await listener.until(lambda one=listener: len(one.lines) > 3)
    async with asyncio.timeout(LIMIT_S):
        while cutter.open_connections:
            await asyncio.sleep(0.01)
    left = asyncio.all_tasks() - before - mine - cutter._tasks
    assert not {task for task in left if "opskit" in str(task.get_coro())}
    assert all(thread.name.startswith("asyncio_") for thread in set(threading.enumerate()) - threads)


async def test_a_selection_takes_in_what_appears_later(box: Engine):
    """Containers of a compose service: scaled up, removed and made anew while followed."""
    project = box.name("shop")
    labels = {PROJECT: project, SERVICE: "web"}
    one, two = box.name("web-1"), box.name("web-2")
    script = "echo I am here; sleep 100"
    first = box.run(script, name=one, labels=labels)
    box.run(script, labels={PROJECT: project, SERVICE: "db"})
    (group,) = await containers(f"compose:{project}/web", follow=True, docker=box.door())
    assert isinstance(group, ContainerGroup)
    async with listening(group.follow(ALL)) as listener:
        await listener.until(lambda: listener.lines_of(one))
        await asyncio.to_thread(lambda: box.run(script, name=two, labels=labels))
        await listener.until(lambda: listener.lines_of(two))
        await in_turn(lambda: first.remove(force=True), lambda: box.run(script, name=one, labels=labels))
        await listener.until(lambda: len(listener.lines_of(one)) == 2)
        assert {item.source for item in listener.items} == {one, two}


async def test_a_spec_chooses_by_name_id_glob_label_and_compose(box: Engine):
    """Stopped containers count too, and nothing is chosen twice."""
    project = box.name("proj")
    one, two = f"{project}-one", f"{project}-two"
    first = box.run("true", name=one, labels={PROJECT: project, SERVICE: "api"}, start=False)
    box.run("true", name=two, labels={PROJECT: project, SERVICE: "db", "role": project}, start=False)

    async def names(*specs: str) -> list[str]:
        return [source.name for source in await containers(*specs, docker=box.door())]

    assert await names(one) == [one]
    assert await names(first.id[:12]) == [one]
    assert await names(f"{project}*") == [one, two]
    assert await names(f"label:role={project}") == [two]
    assert await names(f"compose:{project}") == [one, two]
    assert await names(f"compose:{project}/api") == [one]
    assert await names(one, f"{project}*") == [one, two]


@pytest.mark.parametrize("spec", ["{name}x", "compose:{name}x", "label:opskit.tes={mark}"])
async def test_a_spec_that_means_nothing_names_what_comes_near(box: Engine, spec: str):
    """So that a slip of the finger is seen at once."""
    name = box.name("victoria")
    box.run("true", name=name, labels={PROJECT: name}, start=False)
    with pytest.raises(OpskitError) as caught:
        await containers(spec.format(name=name, mark=box.mark), docker=box.door())
    assert caught.value.code == "DOCKER_002"
    assert "did you mean" in caught.value.message


async def test_a_log_that_docker_does_not_keep_is_refused_before_the_first_line(box: Engine):
    """The log driver `none`, for one; Docker's own words say why."""
    made = box.run("sleep 100", driver="none")
    source = await source_of(box.door(), made.name)
    for batches in (source.follow(ALL), source.read(ALL)):
        with pytest.raises(OpskitError) as caught:
            await lines_of(batches)
        assert caught.value.code == "DOCKER_003"


async def test_a_container_removed_after_it_was_chosen_is_an_error(box: Engine):
    """Before the first batch, as every source promises."""
    made = box.run("true", start=False)
    source = await source_of(box.door(), made.name)
    made.remove()
    with pytest.raises(OpskitError) as caught:
        await lines_of(source.follow(ALL))
    assert caught.value.code == "DOCKER_002"


async def test_a_daemon_that_is_not_there_has_a_remedy(tmp_path: Path):
    """A socket that is missing, and one that nobody listens on."""
    for path in (tmp_path / "missing.sock", tmp_path / "file"):
        (tmp_path / "file").touch()
        with pytest.raises(OpskitError) as caught:
            await containers("any", docker=Docker({"DOCKER_HOST": f"unix://{path}"}))
        assert caught.value.code == "DOCKER_001"
        assert str(path) in caught.value.message
        assert "start" in caught.value.remedy


async def test_a_daemon_that_accepts_and_never_answers_is_given_up(cutter: Cutter):
    """As Docker Desktop does after sleep."""
    cutter.silent = True
    with pytest.raises(OpskitError) as caught:
        await containers("any", docker=Docker(cutter.environment, timeout_s=0.2))
    assert caught.value.code == "DOCKER_001"
    assert "no answer within 0.2 s" in caught.value.message


async def test_an_address_that_is_none_is_told(box: Engine):
    """DOCKER_HOST can hold anything."""
    for host in ("nonsense://x", "tcp://127.0.0.1:9"):
        with pytest.raises(OpskitError) as caught:
            await containers("any", docker=Docker({"DOCKER_HOST": host}))
        assert caught.value.code == "DOCKER_001"


@pytest.mark.parametrize("body", ['{"a": 1}', "[[]]", "<html>", "null"])
async def test_a_server_that_is_no_docker_is_told(httpserver: HTTPServer, body: str):
    """DOCKER_HOST may point at anything that speaks HTTP."""
    httpserver.expect_request("/containers/json").respond_with_data(body)
    host = f"tcp://127.0.0.1:{httpserver.port}"
    with pytest.raises(OpskitError, match="does not speak Docker's API") as caught:
        await containers("any", docker=Docker({"DOCKER_HOST": host}))
    assert caught.value.code == "DOCKER_001"


async def test_docker_behind_ssh_is_followed_like_any_other(
    box: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """`ssh` here is a program that stays on this machine; what it carries is the real thing."""
    if shutil.which("docker") is None:
        pytest.skip("the Docker command line is not installed")
    ssh = tmp_path / "ssh"
    ssh.write_text(
        f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\nexec docker --host {box.host} system dial-stdio\n'
    )
    ssh.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    made = box.run(counting(500))
    door = Docker({"DOCKER_HOST": "ssh://ops@far.example:2222", "PATH": os.environ["PATH"]})
    async with listening((await source_of(door, made.name)).follow(ALL)) as listener:
        await listener.until(lambda: len(listener.lines) == 500)
    assert listener.lines == counted(500)
    asked = (tmp_path / "asked").read_text()
    assert "-l ops -p 2222 -- far.example docker system dial-stdio" in asked


async def test_an_ssh_that_fails_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Its own words, on one line."""
    ssh = tmp_path / "ssh"
    ssh.write_text("#!/bin/sh\necho 'far.example: Permission denied (publickey).' >&2\nexit 255\n")
    ssh.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(OpskitError) as caught:
        await containers("any", docker=Docker({"DOCKER_HOST": "ssh://far.example"}))
    assert caught.value.code == "DOCKER_001"
    assert "Permission denied" in caught.value.message
