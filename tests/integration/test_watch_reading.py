"""What a watch asks of servers, and how it reads logs that come fast."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

from opskit.config.schema import Budgets, NodeConfig
from opskit.facts.node import read_all_metadata, read_metadata
from opskit.facts.survey import Survey
from opskit.logs.files import FileSource
from opskit.logs.record import LogEntry
from opskit.logs.source import LeftOut, Note, Window
from opskit.providers.node import Node
from opskit.watch.logs import LogWatch, wanted
from opskit.watch.targets import NodeReader
from tests.parts.checking import configuration
from tests.parts.loopback import until
from tests.parts.raw_server import RawServer, reply_json, serving

VERSION, TAGS, PS = "/api/version", "/api/tags", "/api/ps"
MODEL = {"name": "phi3.5:3.8b", "model": "phi3.5:3.8b", "size": 2_200_000_000, "details": {"family": "phi3"}}


def replies(server: RawServer) -> None:
    loaded = {**MODEL, "size_vram": 2_200_000_000, "expires_at": "2126-01-01T00:00:00Z"}
    server.replies = {
        VERSION: reply_json({"version": "0.30.0"}),
        TAGS: reply_json({"models": [MODEL]}),
        PS: reply_json({"models": [loaded]}),
    }


def surveying(folder: Path) -> Survey:
    return Survey(configuration(folder), {}, state_folder=folder, cwd=folder)


async def test_looking_again_asks_only_for_life_and_what_is_loaded(tmp_path: Path) -> None:
    """The list of models is read once; nothing is posted, so no model is asked, loaded or kept longer."""
    async with serving() as server:
        replies(server)
        config = NodeConfig("ollama", server.url, "ollama")
        async with surveying(tmp_path) as survey:
            target = NodeReader(survey, config)
            answers = [await target.read() for _ in range(5)]
    assert [one.finding.state for one in answers] == ["ok"] * 5
    assert [row.shown for row in answers[-1].loaded] == ["phi3.5:3.8b"]
    assert sum(request.path == TAGS for request in server.seen) == 1
    assert sum(request.path == PS for request in server.seen) == 5
    assert {request.method for request in server.seen} == {"GET"}


async def test_a_second_look_sees_what_a_first_would(tmp_path: Path) -> None:
    """Both ways to look give the same account of a node that has not changed."""
    async with serving() as server:
        replies(server)
        node = Node(NodeConfig("ollama", server.url, "ollama"), Budgets())
        try:
            (first,) = await read_all_metadata([node])
            second = await read_metadata(node, first)
        finally:
            await node.aclose()
    assert (second.view, second.silence) == (first.view, first.silence)


async def test_what_was_loaded_stays_shown_when_a_node_falls_silent(tmp_path: Path) -> None:
    """The state is the new one, the models are those of the answer before, and are known to be old."""
    async with serving() as server:
        replies(server)
        config = NodeConfig("ollama", server.url, "ollama")
        async with surveying(tmp_path) as survey:
            target = NodeReader(survey, config)
            well = await target.read()
            server.replies = {}
            ill = await target.read()
            replies(server)
            again = await target.read()
    assert (well.finding.state, again.finding.state) == ("ok", "ok")
    assert ill.finding.state != "ok"
    assert (ill.loaded, ill.loaded_at) == (well.loaded, well.loaded_at)


async def test_a_file_that_runs_ahead_is_gone_on_with_near_its_end(tmp_path: Path) -> None:
    """Every line is either read or counted as left out, and none is read in pieces."""
    path = tmp_path / "fast.log"
    path.write_bytes(b"")
    whole, written = re.compile(rb"line \d{8} x+"), 0
    read, left_out = 0, 0
    async with aclosing(FileSource(path).follow(Window(tail=0, behind_bytes=1_000_000))) as batches:
        assert await anext(batches) == []
        for lines in (100, 30_000, 5, 50_000, 1):
            with path.open("ab") as file:
                file.writelines(b"line %08d %b\n" % (written + number, b"x" * 85) for number in range(lines))
            written += lines
            while read + left_out < written:
                for item in await anext(batches):
                    if isinstance(item, LeftOut):
                        left_out += item.lines
                    else:
                        assert isinstance(item, LogEntry)
                        assert whole.fullmatch(item.raw)
                        read += 1
    assert read + left_out == written
    assert left_out > 0


@asynccontextmanager
async def reading(path: Path, folder: Path) -> AsyncIterator[tuple[LogWatch, list[str], list[Note]]]:
    """A watch that reads one file as our own log, the errors that it tells, and the notes of the file."""
    errors: list[str] = []
    notes: list[Note] = []
    tasks: list[asyncio.Task[None]] = []
    logs = LogWatch(
        configuration(folder),
        ["errors"],
        wall=lambda: 0.0,
        emit=lambda kind, body, at=0.0: errors.append(body["message"]),
        note=notes.append,
        start=lambda work: tasks.append(asyncio.create_task(work)),
    )
    logs.follow(FileSource(path), is_own=True)
    try:
        yield logs, errors, notes
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_reader_keeps_what_belongs_together_and_leaves_the_rest(tmp_path: Path) -> None:
    """Errors with their tracebacks and tagged lines; the last one without waiting for a next line."""
    path = tmp_path / "app.log"
    path.write_text("")
    async with reading(path, tmp_path) as (logs, errors, notes):
        await logs.caught_up.wait()
        with path.open("a") as file:
            file.write("INFO fine\nERROR bad\nTraceback (most recent call last):\n  File 'a'\nKeyError: 1\n")
            file.write("[LLM_CALL] node=a model=b\nINFO no error here\n[FALLBACK] x\n")
        await until(lambda: len(errors) == 2)
    assert errors == ["bad: KeyError: 1", "x"]
    assert (logs.state.lines, logs.state.left_out, notes) == (8, 0, [])
    assert [wanted(LogEntry("a", raw)) for raw in (b"[LLM_CALL] node=a", b"INFO no error here")] == [
        True,
        False,
    ]


async def test_an_error_that_only_its_envelope_calls_so_is_one(tmp_path: Path) -> None:
    """The priority of the journal, of a program that writes no level into its lines."""
    path = tmp_path / "journal.json"
    path.write_text("")
    async with reading(path, tmp_path) as (logs, errors, _):
        await logs.caught_up.wait()
        line = '{"__REALTIME_TIMESTAMP":"1763629171000000","PRIORITY":"%d","_PID":"7","MESSAGE":"%s"}\n'
        path.write_text(line % (6, "all is well") + line % (3, "no route to the database"))
        await until(lambda: errors)
    assert errors == ["no route to the database"]


async def test_a_log_that_does_not_exist_yet_is_waited_for_and_read_from_its_start(tmp_path: Path) -> None:
    """All of it is new, and that it is waited for is no news."""
    path = tmp_path / "later.log"
    async with reading(path, tmp_path) as (_, errors, notes):
        await asyncio.sleep(0)
        path.write_text("ERROR first\n" + "INFO more\n" * 20)
        await until(lambda: errors)
    assert (errors, notes) == (["first"], [])
