"""What would be gone after a restart: last log lines, loaded models, memory, the state of the process.

Asked in ollama#15950 and autoheal#111 (ops facts 14.2). Every source has its own short deadline, and one
that fails is left out: evidence never holds a repair up.
"""

import asyncio
import os
from collections.abc import Awaitable, Mapping, Sequence
from pathlib import Path
from typing import Any

from opskit.config.schema import NodeConfig
from opskit.errors import OpskitError
from opskit.facts.node import read_node
from opskit.logs.frames import Bare, Framed, LineJoiner
from opskit.recovery.context import RecoveryContext
from opskit.recovery.steps.situation import RepairContext
from opskit.recovery.steps.subject import RepairSubject
from opskit.system.docker_records import LogQuery
from opskit.system.host import available_memory_bytes
from opskit.system.program import NotStarted, run

LINES = 20
_LINE_CHARS = 300
_TAIL_BYTES = 32 * 1024
_LOG_BYTES = 1024 * 1024
_SOURCE_S = 4.0
#: Where Ollama's application and `ollama serve` under brew write (wire facts A7).


async def gathered(
    ground: RecoveryContext, subject: RepairSubject, now: RepairContext, node: NodeConfig | None
) -> dict[str, Any]:
    """What can be told of a server before it is restarted; empty parts are left out."""
    logs, resident = await asyncio.gather(_logs(ground, subject, now), _resident(ground, node))
    process = now.holder.process if now.holder is not None else now.program
    told: dict[str, Any] = {
        "owner": now.holder.words if now.holder is not None else None,
        "process": process
        and {
            "pid": process.pid,
            "status": process.status,
            "cpu_s": round(process.cpu_s, 2),
            "rss_bytes": process.rss_bytes,
            "age_s": round(process.age_s(ground.clock()), 1),
        },
        "containers": [
            {
                "name": one.container.name,
                "status": one.container.status,
                "health": one.assessment.health,
                "age_s": one.assessment.age_s and round(one.assessment.age_s, 1),
            }
            for one in now.containers
        ],
        "resident": resident,
        "memory_available_bytes": available_memory_bytes(),
        "logs": logs,
    }
    return {name: value for name, value in told.items() if value not in (None, [], {})}


async def _logs(ground: RecoveryContext, subject: RepairSubject, now: RepairContext) -> dict[str, list[str]]:
    """The last lines of each log there is, by its name."""
    home = Path(ground.environ.get("HOME", "/"))
    files = {}
    if subject.kind is not None and subject.kind.log_file:
        files[f"~/{subject.kind.log_file}"] = home / subject.kind.log_file
    if subject.start:
        name = f"start-{Path(subject.start[0]).name}.log"
        files[name] = ground.folder / name
    found = {name: await asyncio.to_thread(tail_of, path) for name, path in files.items()}
    service = now.resting.service if now.resting is not None else None
    service = now.holder.service if now.holder is not None else service
    if service is not None and service.kind == "systemd" and service.name:
        scope = ("--user-unit",) if service.domain == "user" else ("--unit",)
        command = ("journalctl", *scope, service.name, "--lines", str(LINES), "--no-pager", "--output=cat")
        found[f"journal of {service.name}"] = await _within(_said(ground, command), [])
    names = [one.container.name for one in now.containers]
    if not names and now.holder is not None and now.holder.container is not None:
        names = [now.holder.container]
    for name in names:
        found[f"container {name}"] = await _within(container_tail(ground, name), [])
    return {name: lines for name, lines in found.items() if lines}


async def _resident(ground: RecoveryContext, node: NodeConfig | None) -> list[str] | str | None:
    """What the server says is loaded; its silence is evidence too."""
    if node is None:
        return None
    try:
        async with asyncio.timeout(_SOURCE_S):
            facts = await read_node(ground.survey, node)
    except TimeoutError:
        return "not told: no answer"
    problem = facts.error or facts.silence
    if problem is not None:
        return f"not told: {problem}"
    return [model.name for model in facts.resident] if facts.residency_known else None


async def container_tail(ground: RecoveryContext, name: str, lines: int = LINES) -> list[str]:
    """The last lines of a container's log. Raises OpskitError DOCKER_*."""
    item = await ground.door.inspect(name)
    reader: Bare | Framed = Bare() if item.tty else Framed()
    joined, found, read_bytes = LineJoiner(tty=item.tty), [], 0
    async with ground.door.logs(item.id, LogQuery(tail=lines)) as stream:
        while (piece := await stream.piece(_SOURCE_S)) and read_bytes < _LOG_BYTES:
            read_bytes += len(piece)
            found += joined.feed(reader.feed(piece))
    found += [*joined.feed(reader.finish()), *joined.finish()]
    return shown([line.text.decode("utf-8", "replace") for line in found[-lines:]])


def tail_of(path: Path, lines: int = LINES) -> list[str]:
    """The last lines of a file; none when it cannot be read. Nothing but a regular file is opened."""
    try:
        if not path.is_file():
            return []
        with path.open("rb") as stream:
            stream.seek(max(0, os.fstat(stream.fileno()).st_size - _TAIL_BYTES))
            return shown(stream.read(_TAIL_BYTES).decode("utf-8", "replace").splitlines()[-lines:])
    except OSError:
        return []


def shown(lines: Sequence[str]) -> list[str]:
    """Lines of a bounded length."""
    return [line if len(line) <= _LINE_CHARS else line[:_LINE_CHARS] + "..." for line in lines]


async def _said(ground: RecoveryContext, command: Sequence[str]) -> list[str]:
    done = await run(command, env=ground.environ)
    return shown(done.out.splitlines()[-LINES:]) if done.exit == 0 else []


async def _within(work: Awaitable[list[str]], otherwise: list[str]) -> list[str]:
    try:
        async with asyncio.timeout(_SOURCE_S):
            return await work
    except (TimeoutError, OpskitError, NotStarted):
        return otherwise


def some(evidence: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """The parts of a probe's evidence that a person wants to see."""
    return {name: evidence[name] for name in names if name in evidence}
