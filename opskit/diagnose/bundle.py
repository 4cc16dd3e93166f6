"""The bundle for a bug report: areas, configuration, logs, containers and files, all masked, in one archive.

It is written whole or not at all, for its owner alone, and its members are always in the same order.
"""

import asyncio
import gzip
import io
import json
import os
import re
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from opskit import __version__
from opskit.config.origins import Origin, shown
from opskit.diagnose import compose_text
from opskit.diagnose.containers import secrets_of
from opskit.diagnose.redaction import Redactor
from opskit.diagnose.report import DiagnosticReport
from opskit.diagnose.secret_trees import MASK
from opskit.diagnose.stack_files import docker_is_used
from opskit.errors import OpskitError
from opskit.facts.compose_project import stack_files
from opskit.facts.container_survey import read_container_log
from opskit.facts.stack_containers import StackContainers, read_stack_containers
from opskit.facts.survey import Survey
from opskit.logs.record import LogEntry
from opskit.records import Record, replace
from opskit.recovery.audit import FILE_NAME as AUDIT_NAME
from opskit.result import Finding, Status
from opskit.system.docker import Docker
from opskit.system.logfile import LOG_NAME
from opskit.system.textfile import beside, create
from opskit.text import size

_FOLDER = "opskit-diagnose"
LOG_BYTES = 1024 * 1024
_LOG_LINES = 10_000
_LOG_S = 15.0
_AT_ONCE = 4
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

Secrets are replaced by ***: by their value where it is known, by the name in front of them, among arguments
of commands, and whatever looks like a key, a token or a password. Look through it before you hand it on.
"""


@dataclass(frozen=True, slots=True)
class Member:
    """One file of the archive; `note` says what was cut."""

    name: str
    content: bytes = field(repr=False)
    note: str = ""


class Written(Record):
    path: Path
    size_bytes: int
    members: tuple[Member, ...]

    def as_json(self) -> dict[str, Any]:
        return {
            "path": str(self.path),
            "size_bytes": self.size_bytes,
            "members": [
                {"name": member.name, "size_bytes": len(member.content), "note": member.note}
                for member in self.members
            ],
        }


async def write(
    path: Path, report: DiagnosticReport, survey: Survey, origins: Mapping[str, Origin], *, force: bool
) -> tuple[DiagnosticReport, Written | None]:
    """Write the bundle; where it cannot be written, the report says so and is not lost."""
    try:
        members = await _members(report, survey, origins)
        return report, await asyncio.to_thread(_write, path, members, report.at, force=force)
    except OSError as exc:
        detail = f"not written: {exc.strerror or exc}"
        remedy = "free some space, or name another place with --bundle"
        trouble = Finding("bundle", str(path), Status.FAIL, "not written", detail, None, remedy)
        return replace(report, trouble=(trouble,)), None


def _write(path: Path, members: Sequence[Member], at: datetime, *, force: bool) -> Written:
    """Write the members in their order. Raises OSError, FileExistsError too; then nothing is left behind."""
    temporary = beside(path)
    try:
        # No name and no time in the frame: the same members give the same bytes.
        with (
            os.fdopen(create(temporary, 0o600), "wb") as file,
            gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0) as packed,
            tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive,
        ):
            for member in members:
                info = tarfile.TarInfo(f"{_FOLDER}/{member.name}")
                info.size, info.mode, info.mtime = len(member.content), 0o600, int(at.timestamp())
                archive.addfile(info, io.BytesIO(member.content))
            archive.close()
            packed.close()
            file.flush()
            os.fsync(file.fileno())
            size_bytes = file.tell()
        if force:
            temporary.replace(path)
        else:
            # Unlike a rename, a link does not replace what somebody put there meanwhile.
            os.link(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return Written(path, size_bytes, tuple(members))


async def _members(report: DiagnosticReport, survey: Survey, origins: Mapping[str, Origin]) -> list[Member]:
    stack, problem = await _stack(survey)
    redactor = report.redactor.knowing(secrets_of(stack) if stack else frozenset())
    readme = _README.format(
        version=__version__,
        at=f"{report.at:%Y-%m-%d %H:%M:%S} UTC",
        areas=", ".join(area.name for area in report.areas),
        conclusion=report.conclusion,
    )
    members = [
        Member("README.txt", readme.encode()),
        _document("diagnosis.json", report.as_json()),
        *(_document(f"areas/{area.name}.json", area.as_json()) for area in report.areas),
        *(Member(f"areas/{area.name}.txt", _encoded(area.plain())) for area in report.areas),
        *_configuration(survey, origins, redactor),
        _environment(survey.environ, redactor),
        *await asyncio.to_thread(lambda: list(_own_logs(Path(survey.config.state_dir), redactor))),
        *await _containers(survey, stack, redactor),
        *await asyncio.to_thread(lambda: list(_compose(survey, redactor))),
    ]
    if problem is not None:
        members.append(Member("containers/problem.txt", redactor.text(problem).encode()))
    return members


def _configuration(survey: Survey, origins: Mapping[str, Origin], redactor: Redactor) -> Iterator[Member]:
    values = list(shown(survey.config, origins))
    rows = [{"key": value.key, "value": value.value, "origin": str(value.origin)} for value in values]
    yield _document("configuration.json", {"path": survey.config.path, "values": redactor.value(rows)})
    lines = (f"{value.key} = {value.text}  ({value.origin})\n" for value in values)
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
        note = f"cut: the end of {size(whole)}" if whole > LOG_BYTES else ""
        yield _log(f"logs/{name}", redactor.text(raw.decode("utf-8", "replace")), note)


def _log(name: str, masked: str, note: str) -> Member:
    """The newest lines, at most LOG_BYTES of them."""
    raw = _encoded(masked)
    if len(raw) > LOG_BYTES:
        raw = raw[-LOG_BYTES:].partition(b"\n")[2] or raw[-LOG_BYTES:]
        note = note or f"cut: only the last {size(len(raw))}"
    return Member(name, raw, note)


async def _stack(survey: Survey) -> tuple[StackContainers | None, str | None]:
    """Return the containers of the stack, and why there are none."""
    if not await docker_is_used(survey):
        return None, None
    try:
        return await survey.get(read_stack_containers), None
    except OpskitError as error:
        return None, f"Docker does not answer: {error.message}\n"


async def _containers(survey: Survey, stack: StackContainers | None, redactor: Redactor) -> list[Member]:
    if stack is None:
        return []
    documents = [stack.documents[member.id] for member in stack.members]
    client, gate = await survey.docker(), asyncio.Semaphore(_AT_ONCE)
    logs = await asyncio.gather(*(_container_log(client, document, redactor, gate) for document in documents))
    members: list[Member] = []
    for document, log in zip(documents, logs, strict=True):
        name = f"containers/{_file_name(document)}.inspect.json"
        members += (log, _document(name, redactor.value(without_values(document))))
    return members


async def _container_log(
    client: Docker, document: Mapping[str, Any], redactor: Redactor, gate: asyncio.Semaphore
) -> Member:
    async with gate:
        log = await read_container_log(client, str(document["Name"]).lstrip("/"), _LOG_LINES, limit_s=_LOG_S)
        content = await asyncio.to_thread(_lines, log.entries, redactor)
        member = _log(f"containers/{_file_name(document)}.log", content, log.problem or "")
    if len(log.entries) >= _LOG_LINES and not member.note:
        return replace(member, note=f"cut: the last {_LOG_LINES} lines")
    return member


def _lines(entries: Sequence[LogEntry], redactor: Redactor) -> str:
    """Masked before the times are put in front, which would part what spans several lines."""
    texts = redactor.lines([entry.raw.decode("utf-8", "replace") for entry in entries])
    times = (
        "" if entry.at is None else f"{datetime.fromtimestamp(entry.at, UTC).isoformat()} "
        for entry in entries
    )
    return "".join(f"{time}{text}\n" for time, text in zip(times, texts, strict=True))


def without_values(document: Mapping[str, Any]) -> dict[str, Any]:
    """`docker inspect` with the names of variables only. Pure."""
    config = dict(document.get("Config") or {})
    config["Env"] = [f"{str(entry).partition('=')[0]}={MASK}" for entry in config.get("Env") or ()]
    return {**document, "Config": config}


def _compose(survey: Survey, redactor: Redactor) -> Iterator[Member]:
    for project, files in stack_files(survey.config, survey.cwd).items():
        for number, path in enumerate(files, 1):
            name = f"compose/{_safe(project)}/{number}-{_safe(path.name)}"
            try:
                with path.open("rb") as stream:
                    raw = stream.read(_FILE_BYTES + 1)
            except OSError as exc:
                yield Member(name, b"", f"cannot be read: {exc.strerror}")
                continue
            note = f"cut: the first {size(_FILE_BYTES)}" if len(raw) > _FILE_BYTES else ""
            content = raw[:_FILE_BYTES].decode("utf-8", "replace")
            yield Member(name, _encoded(compose_text.masked(content, redactor)), note)


def _file_name(document: Mapping[str, Any]) -> str:
    return _safe(str(document["Name"]).lstrip("/"))


def _safe(name: str) -> str:
    return _NOT_IN_A_NAME.sub("_", name).lstrip(".") or "_"


def _document(name: str, content: Mapping[str, Any]) -> Member:
    return Member(name, _encoded(json.dumps(content, ensure_ascii=False, indent=2, default=str) + "\n"))


def _encoded(content: str) -> bytes:
    return content.encode("utf-8", "replace")
