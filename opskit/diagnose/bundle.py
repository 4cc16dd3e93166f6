"""What goes into a bundle besides the areas: configuration, logs, containers, files; all masked."""

import asyncio
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from opskit import __version__
from opskit.config.origins import Origin, shown
from opskit.diagnose import compose_text, text
from opskit.diagnose.archive import Member, Written, written
from opskit.diagnose.containers import log_of, secrets_of
from opskit.diagnose.diagnosis import DiagnosticReport, known_secrets
from opskit.diagnose.docker_here import not_installed, of_stack
from opskit.diagnose.quantities import size
from opskit.diagnose.redaction import MASK, Redactor
from opskit.diagnose.stack_files import projects
from opskit.errors import OpskitError
from opskit.facts.container import container
from opskit.facts.survey import Survey
from opskit.logs.record import LogEntry
from opskit.recovery.audit import FILE_NAME as AUDIT_NAME
from opskit.result import Finding, Status
from opskit.system.docker import Docker
from opskit.system.logfile import LOG_NAME

LOG_BYTES = 1024 * 1024
_LOG_LINES = 10_000
_LOG_S = 15.0
_AT_ONCE = 4
#: All container logs together; further ones are left out, and said to be.
_LOGS_BYTES = 64 * 1024 * 1024
_FILE_BYTES = 512 * 1024
#: Variables that change what the stack does.
_VARIABLES = re.compile(
    r"(?:OPSKIT|OLLAMA|MLX|HF|VICTORIA|VERONICA|USE|ENABLE|SMART_WORKER|DOCKER|COMPOSE|XDG|LC)_\w+"
    r"|PATH|LANG|(?:https?|no|all)_proxy",
    re.IGNORECASE,
)
_NOT_IN_A_NAME = re.compile(r"[^\w.-]+")
_README = """What `opskit diagnose --bundle` saw, for a bug report.

Made by opskit {version} at {at}.
Areas: {areas}.
Conclusion: {conclusion}

diagnosis.json       all findings and areas, for programs
areas/*.txt, *.json  each area, for people and for programs
configuration.*      every effective value and where it comes from
environment.txt      variables that change what the stack does
logs/                the last lines of opskit's own log and of its audit
containers/          the last lines and `docker inspect` of each container, variables without their values
compose/             the Compose files

Secrets are replaced by ***: the keys of the configuration; values of the environment, of .env files, of
Compose files and of containers whose names promise a secret; passwords among arguments of commands; and
whatever looks like a key, a token, a cookie or a password. Look through it before you hand it on.
"""


async def write(
    path: Path,
    diagnosis: DiagnosticReport,
    around: Survey,
    origins: Mapping[str, Origin],
    *,
    force: bool,
) -> tuple[DiagnosticReport, Written | None]:
    """The bundle; when it cannot be written, the diagnosis says so and is not lost."""
    try:
        members = await _members(diagnosis, around, origins)
        return diagnosis, await asyncio.to_thread(written, path, members, diagnosis.at, force=force)
    except OSError as exc:
        told = f"not written: {exc.strerror or exc}"
        remedy = "free some space, or name another place with --bundle"
        trouble = Finding("bundle", str(path), Status.FAIL, "not written", told, None, remedy)
        return replace(diagnosis, trouble=(trouble,)), None


async def _members(
    diagnosis: DiagnosticReport, around: Survey, origins: Mapping[str, Origin]
) -> list[Member]:
    items, problem = await _inspected(around)
    known = await asyncio.to_thread(known_secrets, around.config, around.environ, around.cwd)
    redactor = Redactor(known | secrets_of(items))
    readme = _README.format(
        version=__version__,
        at=f"{diagnosis.at:%Y-%m-%d %H:%M:%S} UTC",
        areas=", ".join(area.name for area in diagnosis.areas),
        conclusion=diagnosis.conclusion,
    )
    found = [
        Member("README.txt", readme.encode()),
        _document("diagnosis.json", diagnosis.as_json()),
        *_areas(diagnosis),
        *_configuration(around, origins, redactor),
        _environment(around.environ, redactor),
        *await asyncio.to_thread(lambda: list(_own_logs(Path(around.config.state_dir), redactor))),
        *await _containers(around, items, redactor),
        *await asyncio.to_thread(lambda: list(_compose(around, redactor))),
    ]
    if problem is not None:
        found.append(Member("containers/problem.txt", redactor.text(problem).encode()))
    return found


def _areas(diagnosis: DiagnosticReport) -> Iterator[Member]:
    for area in diagnosis.areas:
        yield _document(f"areas/{area.name}.json", area.as_json())
        yield Member(f"areas/{area.name}.txt", _encoded(text.of_area(area)))


def _configuration(around: Survey, origins: Mapping[str, Origin], redactor: Redactor) -> Iterator[Member]:
    values = list(shown(around.config, origins))
    rows = [{"key": one.key, "value": one.value, "origin": str(one.origin)} for one in values]
    yield _document("configuration.json", {"path": around.config.path, "values": redactor.value(rows)})
    lines = (f"{one.key} = {one.text}  ({one.origin})\n" for one in values)
    yield Member("configuration.txt", _encoded(redactor.text("".join(lines))))


def _environment(environ: Mapping[str, str], redactor: Redactor) -> Member:
    chosen = sorted((name, value) for name, value in environ.items() if _VARIABLES.fullmatch(name))
    lines = (f"{name}={' '.join(value.split())}\n" for name, value in chosen)
    return Member("environment.txt", _encoded(redactor.text("".join(lines))))


def _own_logs(folder: Path, redactor: Redactor) -> Iterator[Member]:
    for name in (LOG_NAME, AUDIT_NAME):
        try:
            with (folder / name).open("rb") as stream:
                whole = stream.seek(0, 2)
                # A little more than is kept: a secret that the cut would halve is masked first.
                stream.seek(max(0, whole - LOG_BYTES - 64 * 1024))
                raw = stream.read(LOG_BYTES + 64 * 1024)
        except OSError:
            continue
        if whole > len(raw):
            raw = raw.partition(b"\n")[2]
        yield _log(f"logs/{name}", redactor.text(raw.decode("utf-8", "replace")), whole)


def _log(name: str, masked: str, whole_bytes: int | None = None, note: str = "") -> Member:
    """The newest lines, at most LOG_BYTES of them."""
    raw = _encoded(masked)
    if len(raw) > LOG_BYTES:
        raw = raw[-LOG_BYTES:].partition(b"\n")[2] or raw[-LOG_BYTES:]
        note = note or f"cut: only the last {size(len(raw))}"
    if whole_bytes is not None and whole_bytes > LOG_BYTES:
        note = f"cut: the last {size(len(raw))} of {size(whole_bytes)}"
    return Member(name, raw, note)


async def _inspected(around: Survey) -> tuple[list[Mapping[str, Any]], str | None]:
    if await asyncio.to_thread(not_installed, around.environ):
        return [], None
    try:
        door = await around.docker()
        mine = of_stack(
            await door.containers(), projects(around.config, around.cwd), around.config.stack.containers
        )
        found = await asyncio.gather(*(door.named(one.id) for one in mine))
    except OpskitError as error:
        return [], f"Docker does not answer: {error.message}\n"
    return [one for one in found if one is not None], None


async def _containers(around: Survey, items: Sequence[Mapping[str, Any]], redactor: Redactor) -> list[Member]:
    if not items:
        return []
    door, gate = await around.docker(), asyncio.Semaphore(_AT_ONCE)
    logs = await asyncio.gather(*(_container_log(door, item, redactor, gate) for item in items))
    found: list[Member] = []
    held = 0
    for item, log in zip(items, logs, strict=True):
        held += len(log.content)
        found.append(
            log if held <= _LOGS_BYTES else Member(log.name, b"", "left out: the logs are too large")
        )
        found.append(
            _document(f"containers/{_file_name(item)}.inspect.json", redactor.value(without_values(item)))
        )
    return found


async def _container_log(
    door: Docker, item: Mapping[str, Any], redactor: Redactor, gate: asyncio.Semaphore
) -> Member:
    async with gate:
        entries, problem = await log_of(door, container(item), _LOG_LINES, _LOG_S, LOG_BYTES)
        content = await asyncio.to_thread(_lines, entries, redactor)
        member = _log(f"containers/{_file_name(item)}.log", content, note=problem or "")
    if len(entries) >= _LOG_LINES and not member.note:
        return replace(member, note=f"cut: the last {_LOG_LINES} lines")
    return member


def _lines(entries: Sequence[LogEntry], redactor: Redactor) -> str:
    """Masked before the times are put in front, which would part what spans several lines."""
    texts = redactor.lines([entry.raw.decode("utf-8", "replace") for entry in entries])
    times = (
        "" if one.at is None else f"{datetime.fromtimestamp(one.at, UTC).isoformat()} " for one in entries
    )
    return "".join(f"{time}{text}\n" for time, text in zip(times, texts, strict=True))


def without_values(item: Mapping[str, Any]) -> dict[str, Any]:
    """`docker inspect` with the names of variables only. Pure."""
    config = dict(item.get("Config") or {})
    config["Env"] = [f"{str(one).partition('=')[0]}={MASK}" for one in config.get("Env") or ()]
    return {**item, "Config": config}


def _compose(around: Survey, redactor: Redactor) -> Iterator[Member]:
    for project in projects(around.config, around.cwd):
        for number, path in enumerate(project.files, 1):
            name = f"compose/{_safe(project.shown)}/{number}-{_safe(path.name)}"
            try:
                with path.open("rb") as stream:
                    raw = stream.read(_FILE_BYTES + 1)
            except OSError as exc:
                yield Member(name, b"", f"cannot be read: {exc.strerror}")
                continue
            note = f"cut: the first {size(_FILE_BYTES)}" if len(raw) > _FILE_BYTES else ""
            content = raw[:_FILE_BYTES].decode("utf-8", "replace")
            yield Member(name, _encoded(compose_text.masked(content, redactor)), note)


def _file_name(item: Mapping[str, Any]) -> str:
    return _safe(str(item["Name"]).lstrip("/"))


def _safe(name: str) -> str:
    return _NOT_IN_A_NAME.sub("_", name).lstrip(".") or "_"


def _document(name: str, content: Mapping[str, Any]) -> Member:
    return Member(name, _encoded(json.dumps(content, ensure_ascii=False, indent=2, default=str) + "\n"))


def _encoded(content: str) -> bytes:
    return content.encode("utf-8", "replace")
