"""What logs tell of requests to models: opskit's own, Ollama's, and those of clients in containers."""

import asyncio
import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from opskit.checks.spec import Check, NotHere, Observation, Scene
from opskit.doctor.cause import counted
from opskit.doctor.evidence import Call, Cut
from opskit.doctor.looks.board import Board, check
from opskit.errors import OpskitError
from opskit.logs.files import FileSource
from opskit.logs.record import Entry, Facts, facts
from opskit.logs.scan import entries
from opskit.logs.select import Selection
from opskit.system.logfile import LOG_NAME

#: How far back requests count. What was wrong yesterday may be mended.
WINDOW_S = 3600.0
_LINES = 20_000
_CONTAINER_LINES = 2000
_CONTAINER_S = 5.0
_TAGS = ("LLM_CALL", "LLM_RESPONSE", "LLM_ERROR", "LLM_CRASH")
#: As Ollama's runner writes it: msg="truncating input prompt" limit=2048 prompt=5065 keep=5 new=2048
_CUT = re.compile(r'msg="truncating input prompt" limit=(\d+) prompt=(\d+)')
_OLLAMA_LOGS = (".ollama/logs/server.log",)
_IMPORTS = ("opskit.logs.select", "opskit.logs.container")


def in_files(board: Board, state_dir: Path, home: Path) -> Check:
    """Our own log and Ollama's; what systemd or a container keeps of the latter is read elsewhere."""

    async def look(scene: Scene) -> Observation:
        del scene
        since = time.time() - WINDOW_S
        await asyncio.to_thread(_own, board, state_dir / LOG_NAME, since)
        await asyncio.to_thread(_ollama, board, [home / name for name in _OLLAMA_LOGS], since)
        if not board.calls and not board.cuts:
            raise NotHere("no log tells of a request in the last hour")
        return Observation({}, f"{counted(len(board.calls), 'request')} in the last hour", state="ok")

    return check("requests", look, area="requests", target="logs", timeout_s=20.0, imports=_IMPORTS)


def in_containers(board: Board) -> Check:
    """What the containers of the stack wrote of their requests; one that cannot be read is passed over."""

    async def look(scene: Scene) -> Observation:
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


def _own(board: Board, path: Path, since: float) -> None:
    if not path.is_file():
        return
    found = entries("opskit", FileSource(path).blocks(_LINES), Selection(tags=_TAGS, since=since))
    board.calls += joined(map(_timed, found), "opskit")


def _ollama(board: Board, paths: Iterable[Path], since: float) -> None:
    for path in paths:
        if not path.is_file():
            continue
        try:
            source = FileSource(path)
            selection = Selection(grep=("truncating input prompt",), since=since)
            for entry in entries(source.name, source.blocks(_LINES), selection):
                _cut(board, entry)
        except OpskitError:
            continue


async def _client(board: Board, door: Any, name: str, since: float) -> None:
    from opskit.logs.container import containers
    from opskit.logs.source import Window

    selection = Selection(tags=_TAGS)
    found: list[Facts] = []
    try:
        async with asyncio.timeout(_CONTAINER_S):
            for source in await containers(name, docker=door):
                async for batch in source.read(Window(since=since, tail=_CONTAINER_LINES)):
                    for one in batch:
                        if not isinstance(one, Entry):
                            continue
                        if b"truncating input prompt" in one.raw:
                            _cut(board, one)
                        elif selection.accepts(one):
                            found.append(_timed(one))
    except (OpskitError, TimeoutError):
        return
    board.calls += joined(found, name)


def _cut(board: Board, entry: Entry) -> None:
    match = _CUT.search(entry.raw.decode("utf-8", "replace"))
    if match is not None:
        board.cuts.append(Cut(entry.source, int(match[1]), int(match[2])))


def _timed(entry: Entry) -> Facts:
    read = facts(entry.raw)
    return read if read.at is not None else replace(read, at=entry.at)


def joined(lines: Iterable[Facts], client: str) -> list[Call]:
    """Each LLM_CALL with the fault of the line that ended it. Pure."""
    found: list[Call] = []
    open_calls: dict[tuple[str, str, str], int] = {}
    for line in lines:
        node, model = _text(line.fields, "node", "source"), _text(line.fields, "model")
        key = (line.correlation_id or "", node, model)
        if line.tag == "LLM_CALL":
            open_calls[key] = len(found)
            found.append(Call(client, node, model, line.at, _number(line.fields, "num_ctx")))
        elif key in open_calls:
            at = open_calls.pop(key)
            failed = line.tag in ("LLM_ERROR", "LLM_CRASH")
            fault = (_text(line.fields, "fault") or "failed") if failed else None
            tokens = _number(line.fields, "prompt_eval_count", "prompt_tokens")
            found[at] = replace(found[at], fault=fault, prompt_tokens=tokens)
    return found


def _text(fields: Mapping[str, Any], *names: str) -> str:
    return next((str(fields[name]) for name in names if fields.get(name)), "")


def _number(fields: Mapping[str, Any], *names: str) -> int | None:
    value = next((fields[name] for name in names if fields.get(name) is not None), None)
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None
