"""What logs tell of requests to models: opskit's own, Ollama's, and those of clients in containers."""

import asyncio
import re
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from opskit.checks.spec import Check, CheckContext, NotHere, Observation
from opskit.doctor.cause import counted
from opskit.doctor.evidence import Call, Cut
from opskit.doctor.looks.board import FactBoard, check
from opskit.errors import OpskitError
from opskit.logs.calls import TAGS, RequestCalls
from opskit.logs.files import FileSource
from opskit.logs.record import Facts, LogEntry, facts
from opskit.logs.scan import entries
from opskit.logs.select import EntryFilter
from opskit.system.logfile import LOG_NAME

#: How far back requests count. What was wrong yesterday may be mended.
WINDOW_S = 3600.0
_LINES = 20_000
_CONTAINER_LINES = 2000
_CONTAINER_S = 5.0
#: As Ollama's runner writes it: msg="truncating input prompt" limit=2048 prompt=5065 keep=5 new=2048
_CUT = re.compile(r'msg="truncating input prompt" limit=(\d+) prompt=(\d+)')
_OLLAMA_LOGS = (".ollama/logs/server.log",)
_IMPORTS = ("opskit.logs.select", "opskit.logs.container")


def in_files(board: FactBoard, state_dir: Path, home: Path) -> Check:
    """Our own log and Ollama's; what systemd or a container keeps of the latter is read elsewhere."""

    async def look(scene: CheckContext) -> Observation:
        del scene
        since = time.time() - WINDOW_S
        states = await asyncio.to_thread(_own, board, state_dir / LOG_NAME, since)
        await asyncio.to_thread(_ollama, board, [home / name for name in _OLLAMA_LOGS], since)
        if not states and not board.calls and not board.cuts:
            raise NotHere("no log tells of a request in the last hour")
        detail = f"{counted(states.total(), 'request')} in the last hour, {counted(len(board.calls), 'call')}"
        failed = f", {states['failed']} failed" if states["failed"] else ""
        return Observation({}, f"{detail}{failed}", state="ok")

    return check("requests", look, area="requests", target="logs", timeout_s=20.0, imports=_IMPORTS)


def in_containers(board: FactBoard) -> Check:
    """What the containers of the stack wrote of their requests; one that cannot be read is passed over."""

    async def look(scene: CheckContext) -> Observation:
        since, before = time.time() - WINDOW_S, len(board.calls)
        names = [
            one.name
            for one in board.containers
            if one.container.status in ("running", "restarting", "exited")
        ]
        door = await scene.around.docker()
        await asyncio.gather(*(_client(board, door, name, since) for name in names))
        found = len(board.calls) - before
        if not found:
            raise NotHere("no container tells of a request in the last hour")
        return Observation({}, f"{counted(found, 'request')} in the last hour", state="ok")

    return check(
        "requests of containers",
        look,
        area="requests",
        target="logs",
        requires=("containers",),
        timeout_s=20.0,
        imports=_IMPORTS,
    )


def _own(board: FactBoard, path: Path, since: float) -> Counter[str]:
    """Read the calls of our own log; how many requests of it are in which state."""
    if not path.is_file():
        return Counter()
    found = entries("opskit", FileSource(path).blocks(_LINES), EntryFilter(tags=TAGS, since=since))
    lines = list(map(_timed, found))
    board.calls += joined(lines, "opskit")
    requests: dict[str, RequestCalls] = {}
    for line in lines:
        if line.correlation_id is not None:
            requests.setdefault(line.correlation_id, RequestCalls()).take(line, line.at)
    return Counter(request.settled for request in requests.values())


def _ollama(board: FactBoard, paths: Iterable[Path], since: float) -> None:
    for path in paths:
        if not path.is_file():
            continue
        try:
            source = FileSource(path)
            selection = EntryFilter(grep=("truncating input prompt",), since=since)
            for entry in entries(source.name, source.blocks(_LINES), selection):
                _cut(board, entry)
        except OpskitError:
            continue


async def _client(board: FactBoard, door: Any, name: str, since: float) -> None:
    from opskit.logs.container import containers
    from opskit.logs.source import Window

    selection = EntryFilter(tags=TAGS)
    found: list[Facts] = []
    try:
        async with asyncio.timeout(_CONTAINER_S):
            for source in await containers(name, docker=door):
                async for batch in source.read(Window(since=since, tail=_CONTAINER_LINES)):
                    for one in batch:
                        if not isinstance(one, LogEntry):
                            continue
                        if b"truncating input prompt" in one.raw:
                            _cut(board, one)
                        elif selection.accepts(one):
                            found.append(_timed(one))
    except (OpskitError, TimeoutError):
        return
    board.calls += joined(found, name)


def _cut(board: FactBoard, entry: LogEntry) -> None:
    match = _CUT.search(entry.raw.decode("utf-8", "replace"))
    if match is not None:
        board.cuts.append(Cut(entry.source, int(match[1]), int(match[2])))


def _timed(entry: LogEntry) -> Facts:
    read = facts(entry.raw)
    return read if read.at is not None else replace(read, at=entry.at)


def joined(lines: Iterable[Facts], client: str) -> list[Call]:
    """Each call whose beginning was seen, with the fault of the line that ended it. Pure."""
    requests: dict[str, RequestCalls] = {}
    found: dict[tuple[str, int], Call] = {}
    for line in lines:
        identifier = line.correlation_id or ""
        call = requests.setdefault(identifier, RequestCalls()).take(line, line.at)
        if call is None or (call.outcome != "unfinished" and (identifier, call.number) not in found):
            continue
        found[identifier, call.number] = Call(
            client,
            call.node or "",
            call.model or "",
            call.began,
            call.num_ctx,
            call.fault if call.outcome == "fault" else None,
            call.prompt_tokens,
        )
    return list(found.values())
