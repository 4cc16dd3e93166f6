"""What a watch asks of servers, and how it reads logs that come fast."""

import asyncio
import re
from contextlib import aclosing
from pathlib import Path

from opskit.config.schema import Budgets, NodeConfig
from opskit.facts.node import read_all_metadata, read_metadata
from opskit.facts.survey import Survey
from opskit.logs.files import FileSource
from opskit.logs.record import LogEntry
from opskit.logs.source import LeftOut, Note, Window
from opskit.providers.node import Node
from opskit.watch.logs import Reader
from opskit.watch.targets import NodeTarget
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
            target = NodeTarget(config, survey, required=False)
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
            target = NodeTarget(config, survey, required=False)
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


async def test_a_reader_keeps_what_belongs_together_and_leaves_the_rest(tmp_path: Path) -> None:
    """Errors with their tracebacks and tagged lines; the last one without waiting for a next line."""
    path = tmp_path / "app.log"
    path.write_text("ERROR an old one\n")
    found: list[LogEntry] = []
    notes: list[Note] = []
    reader = Reader(FileSource(path), on_entry=found.append, on_note=notes.append)
    task = asyncio.create_task(reader.run())
    try:
        await reader.caught_up.wait()
        with path.open("a") as file:
            file.write("INFO fine\nERROR bad\nTraceback (most recent call last):\n  File 'a'\nKeyError: 1\n")
            file.write("[LLM_CALL] node=a model=b\nINFO no error here\n[FALLBACK] x\n")
        await until(lambda: len(found) == 3)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert [entry.raw.count(b"\n") for entry in found] == [3, 0, 0]
    assert (reader.lines, reader.left_out, notes) == (8, 0, [])


async def test_a_log_that_does_not_exist_yet_is_waited_for_and_read_from_its_start(tmp_path: Path) -> None:
    """All of it is new."""
    path = tmp_path / "later.log"
    found: list[LogEntry] = []
    reader = Reader(FileSource(path), on_entry=found.append, on_note=lambda _: None)
    task = asyncio.create_task(reader.run())
    try:
        await asyncio.sleep(0)
        path.write_text("ERROR first\n" + "INFO more\n" * 20)
        await until(lambda: found)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert [entry.raw for entry in found] == [b"ERROR first"]
