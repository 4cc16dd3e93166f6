"""Kinds that look at processes: process, command."""

import asyncio
import os
import shlex
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, WithJsonSchema

from opskit.checks.command_line import words
from opskit.checks.spec import CheckContext, Kind, Observation
from opskit.config.fields import CONFIG, AnyText, Bytes, Text
from opskit.system.program import NotStarted, run


def _pattern(text: str) -> str:
    from opskit.errors import OpskitError
    from opskit.logs.select import compiled

    try:
        compiled(text)
    except OpskitError as exc:
        raise ValueError(exc.message) from exc
    return text


Pattern = Annotated[Text, AfterValidator(_pattern)]


@dataclass(frozen=True, slots=True)
class ProcessParams:
    """At least one of them; all that are given must hold."""

    __pydantic_config__ = CONFIG

    name: Text | None = None
    command: Pattern | None = None
    pid_file: Text | None = None

    def __post_init__(self) -> None:
        if self.name is None and self.command is None and self.pid_file is None:
            raise ValueError("needs name, command (a pattern) or pid_file")


async def _process(params: ProcessParams, scene: CheckContext) -> Observation:
    pid: int | None = None
    values: dict[str, Any] = {"running": False, "count": 0, "pids": [], "error": None}
    if params.pid_file is not None:
        try:
            pid = _pid(scene.path(params.pid_file))
        except FileNotFoundError:
            return Observation(values, f"{params.pid_file} is not there", state="stopped")
        except (OSError, ValueError) as exc:
            why = exc.strerror if isinstance(exc, OSError) else "it holds no process id"
            values["error"] = "unreadable"
            problem = f"{params.pid_file} cannot be read: {why}"
            return Observation(values, problem=problem, undecided=problem, state="unreadable")
    found, hidden = await asyncio.to_thread(_matching, params, pid)
    now = time.time()
    values = {
        "running": bool(found),
        "count": len(found),
        "pids": [one["pid"] for one in found],
        "memory_bytes": sum(one["memory_bytes"] for one in found),
        "age_s": max((now - one["started"] for one in found), default=0.0),
        "states": sorted({one["status"] for one in found}),
        "users": sorted({one["user"] for one in found}),
        "error": None,
    }
    if not found and hidden:
        problem = f"no process {_described(params)} is seen; {hidden} processes are hidden from this user"
        return Observation(values, problem=problem, undecided=problem, state="unknown")
    if not found:
        return Observation(values, f"no process {_described(params)}", state="stopped")
    first = found[0]
    more = f" and {len(found) - 1} more" if len(found) > 1 else ""
    return Observation(values, f"process {first['pid']} ({first['name']}){more} runs", state="running")


def _pid(path: Path) -> int:
    """Raises OSError for a file that cannot be read and ValueError for one that holds no number."""
    return int(path.read_text(encoding="ascii", errors="replace")[:32])


def _matching(params: ProcessParams, pid: int | None) -> tuple[list[dict[str, Any]], int]:
    """The processes, and the number of those that may be meant but may not be looked at."""
    import psutil

    from opskit.logs.select import compiled

    regex = compiled(params.command) if params.command is not None else None
    us = {os.getpid(), *(one.pid for one in psutil.Process().parents())}
    found, hidden = [], 0
    for process in psutil.process_iter():
        if (pid is not None and process.pid != pid) or (pid is None and process.pid in us):
            continue
        try:
            with process.oneshot():
                if params.name is not None and process.name() != params.name:
                    continue
                line = " ".join(process.cmdline()) if regex is not None else ""
                if regex is not None and not regex.search(line.encode("utf-8", "surrogateescape")):
                    continue
                found.append(
                    {
                        "pid": process.pid,
                        "name": process.name(),
                        "status": process.status(),
                        "user": process.username(),
                        "memory_bytes": process.memory_info().rss,
                        "started": process.create_time(),
                    }
                )
        except psutil.AccessDenied:
            hidden += 1
        except psutil.Error:
            continue
    # What has ended and was not waited for does not run.
    return [one for one in found if one["status"] != psutil.STATUS_ZOMBIE], hidden


def _described(params: ProcessParams) -> str:
    parts = [
        f"named {params.name}" if params.name else "",
        f"like /{params.command}/" if params.command else "",
    ]
    return " ".join(part for part in parts if part) or f"of {params.pid_file}"


def _cut(value: object) -> object:
    return words(value) if isinstance(value, str) else value


CommandLine = Annotated[
    tuple[AnyText, ...],
    BeforeValidator(_cut),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "array", "minItems": 1, "items": {"type": "string"}},
                {"type": "string", "minLength": 1},
            ],
            "description": "the words of a command, or one text that is cut into words; no shell runs",
        }
    ),
]


@dataclass(frozen=True, slots=True)
class CommandParams:
    __pydantic_config__ = CONFIG

    run: CommandLine
    cwd: Text | None = None
    env: dict[Text, AnyText] = field(default_factory=dict)
    stdin: AnyText = ""
    max_output: Bytes = 64 * 1024

    def __post_init__(self) -> None:
        if not self.run or not self.run[0]:
            raise ValueError("there is no command to run")


async def _command(params: CommandParams, scene: CheckContext) -> Observation:
    began = time.monotonic()
    try:
        done = await run(
            params.run,
            cwd=scene.path(params.cwd) if params.cwd else scene.around.cwd,
            env={**scene.around.environ, **params.env},
            stdin=params.stdin.encode(),
            max_output=params.max_output,
        )
    except NotStarted as exc:
        values: dict[str, Any] = {"exit": None, "stdout": "", "stderr": "", "error": "not started"}
        return Observation(values, problem=exc.message, state="not started")
    took = time.monotonic() - began
    values = {
        "exit": done.exit,
        "stdout": done.out,
        "stderr": done.err,
        "truncated": done.cut,
        "seconds": took,
        "error": None,
    }
    ended = f"exit {done.exit}" if done.exit >= 0 else f"ended by signal {-done.exit}"
    said = f": {done.complaint}" if done.exit and (done.out or done.err) else ""
    return Observation(values, f"{ended} in {took:.3f} s{said}", state="ok" if done.exit == 0 else "failed")


def _shown(run: tuple[str, ...]) -> str:
    text = shlex.join(run)
    return text if len(text) <= 80 else text[:79] + "…"


KINDS = (
    Kind(
        "process",
        "a process runs (opskit's own and its parents do not count)",
        ProcessParams,
        {
            "running": "whether there is one",
            "count": "how many",
            "pids": "their ids",
            "memory_bytes": "resident memory of all together",
            "age_s": "age of the oldest",
            "states": "their states: running, sleeping, stopped, ...",
            "users": "their users",
            "error": "unreadable (the pid file), or null",
        },
        {"running": True},
        _process,
        _described,
        imports=("psutil", "opskit.logs.select"),
    ),
    Kind(
        "command",
        "a command ends well: a list of words, or one text that is cut into words; no shell runs",
        CommandParams,
        {
            "exit": "exit status; negative for a signal",
            "stdout": "text, as far as max_output goes",
            "stderr": "text, as far as max_output goes",
            "truncated": "whether there was more",
            "seconds": "how long it ran",
            "error": "'not started', or null",
        },
        {"exit": 0},
        _command,
        lambda p: _shown(p.run),
        30.0,
    ),
)
