"""The containers area: what runs, how it is, what it uses and says, and what it stands on (SPEC C3, C12)."""

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from opskit.checks.container_assessment import AssessedContainer, ContainerRules, assessed
from opskit.checks.kinds.docker import network_values
from opskit.diagnose.area import Area, Look, Part, TableSection, gathered
from opskit.diagnose.container import (
    COLUMNS,
    SampledContainer,
    Use,
    cells,
    described,
    judged,
    readable,
    use_of,
)
from opskit.diagnose.docker_here import missing, not_installed, of_stack
from opskit.diagnose.quantities import size
from opskit.diagnose.secrets import of_container
from opskit.diagnose.stack_files import projects
from opskit.errors import OpskitError
from opskit.facts.container import Container, container
from opskit.facts.container_survey import survey_containers
from opskit.facts.survey import Survey
from opskit.logs.container import ContainerSource
from opskit.logs.record import LogEntry
from opskit.logs.source import Window
from opskit.result import Finding, Status
from opskit.system.docker import Docker
from opskit.system.docker_records import ListedContainer

#: How many containers are sampled at once: each costs the daemon a second of two threads.
_AT_ONCE = 24
_SAMPLE_S = 8.0
_LOG_S = 5.0
_LIMIT_S = 30.0
_SHORT_S = 10.0
_LINE_CHARS = 2000
#: What is kept of a log at most; the newest lines win.
_LOG_BYTES = 1024 * 1024


async def area(around: Survey, lines: int) -> Area:
    """Everything of Docker that belongs to the stack. A daemon that does not answer is told once."""
    if await asyncio.to_thread(not_installed, around.environ) and not around.config.stack.compose:
        told = "Docker is not installed, and no Compose project is configured"
        skipped = Finding("containers", "docker", Status.SKIP, "absent", told)
        return Area("containers", 0.0, {"docker": None}, (TableSection("docker", lines=(told,)),), (skipped,))
    try:
        door = await around.docker()
        there = await door.containers()
    except OpskitError as error:
        return unanswered("containers", error)
    mine = of_stack(there, projects(around.config, around.cwd), around.config.stack.containers)
    survey = asyncio.ensure_future(_inspected(door, mine))
    looks = [
        Look("containers", "containers", _containers(around, door, survey, there, lines), _LIMIT_S),
        Look("images", "images", _images(door, survey), _SHORT_S),
        Look("volumes", "volumes", _volumes(door, survey), _SHORT_S),
        Look("networks", "networks", networks(door), _SHORT_S),
    ]
    try:
        return await gathered("containers", looks)
    finally:
        survey.cancel()
        await asyncio.gather(survey, return_exceptions=True)


def unanswered(area_name: str, error: OpskitError) -> Area:
    """Docker cannot be asked: one finding, for whatever was wanted of it."""
    text = f"Docker does not answer: {error.message}"
    finding = Finding(area_name, "docker", Status.INCONCLUSIVE, "silent", text, error.code, error.remedy)
    return Area(area_name, 0.0, {"docker": None}, (TableSection("docker", lines=(text,)),), (finding,))


async def _inspected(door: Docker, mine: Sequence[ListedContainer]) -> list[Mapping[str, Any]]:
    """All that is told of each; one that was removed meanwhile is left out."""
    found = await asyncio.gather(*(door.named(one.id) for one in mine))
    return [one for one in found if one is not None]


async def _containers(
    around: Survey,
    door: Docker,
    inspected: "asyncio.Future[list[Mapping[str, Any]]]",
    there: Sequence[ListedContainer],
    lines: int,
) -> Part:
    documents = await asyncio.shield(inspected)
    gate = asyncio.Semaphore(_AT_ONCE)
    survey = await survey_containers(door, [container(item) for item in documents], around.config)
    rules = ContainerRules.of(around.config.recovery)
    samples = await asyncio.gather(*(_sampled(door, one, lines, gate) for one in assessed(survey, rules)))
    data = [described(one) for one in samples]
    limit = around.config.watch.memory_percent
    findings = [judged(one, limit) for one in samples]
    gone = missing(there, around.config.stack)
    findings += [
        Finding(
            "container",
            name,
            Status.FAIL,
            "missing",
            "there is no such container",
            "DOCKER_002",
            "`docker compose up -d` creates those of the stack",
        )
        for name in gone
    ]
    title = (
        "containers"
        if len(documents) == len(there)
        else f"containers of the stack ({len(documents)} of {len(there)})"
    )
    tables = [TableSection(title, COLUMNS, tuple(map(cells, data)), () if data else ("there is none",))]
    tables += [
        TableSection(
            f"log of {one['name']}, last {lines} lines",
            lines=(one["log_problem"],)
            if one["log_problem"]
            else tuple(one["log"].splitlines()) or ("(nothing)",),
        )
        for one in data
        if lines
    ]
    if not findings:
        findings.append(Finding("containers", "docker", Status.PASS, "ok", "there is no container"))
    return Part(data, tuple(tables), tuple(findings), secrets_of(documents))


def secrets_of(items: Sequence[Mapping[str, Any]]) -> frozenset[str]:
    """What the environments, commands and labels of these containers hold that nobody must read."""
    return frozenset(secret for item in items for secret in of_container(item))


async def _sampled(
    door: Docker, one: AssessedContainer, lines: int, gate: asyncio.Semaphore
) -> SampledContainer:
    async with gate:
        use, (log, problem) = await asyncio.gather(
            _use(door, one.container), log_of(door, one.container, lines, _LOG_S)
        )
    shown = tuple(readable(entry.raw)[:_LINE_CHARS] for entry in log)
    return SampledContainer(one, use, shown, problem)


async def _use(door: Docker, one: Container) -> Use | None:
    if not one.running:
        return None
    try:
        async with asyncio.timeout(_SAMPLE_S):
            return use_of(await door.stats(one.id))
    except (OpskitError, TimeoutError):
        return None


async def log_of(
    door: Docker, read: Container, lines: int, limit_s: float, limit_bytes: int = _LOG_BYTES
) -> tuple[list[LogEntry], str | None]:
    """The last lines, at most `limit_bytes` of them, and why there are none or not all."""
    if lines <= 0:
        return [], None
    one = ListedContainer(read.id, read.name, read.image, read.status)
    kept: deque[LogEntry] = deque()
    held, cut, problem = 0, False, None
    try:
        async with asyncio.timeout(limit_s):
            async for batch in ContainerSource(door, one).read(Window(tail=lines)):
                for entry in batch:
                    if not isinstance(entry, LogEntry):
                        continue
                    kept.append(entry)
                    held += len(entry.raw)
                    while held > limit_bytes and len(kept) > 1:
                        held -= len(kept.popleft().raw)
                        cut = True
    except OpskitError as error:
        problem = f"its log cannot be read: {error.message}"
    except TimeoutError:
        problem = f"its log did not end within {limit_s:g} s"
    if cut and problem is None:
        problem = f"only the last {size(held)} of it"
    return list(kept), problem


async def _images(door: Docker, survey: "asyncio.Future[list[Mapping[str, Any]]]") -> Part:
    found, items = await asyncio.gather(door.all_of("image"), asyncio.shield(survey))
    users: dict[str, list[str]] = {}
    for item in items:
        read = container(item)
        users.setdefault(read.image_id, []).append(read.name)
    data: list[dict[str, Any]] = [
        {
            "id": str(one.get("Id", ""))[:19],
            "tags": [tag for tag in one.get("RepoTags") or () if tag != "<none>:<none>"],
            "size_bytes": one.get("Size"),
            "created_at": datetime.fromtimestamp(int(one.get("Created") or 0), UTC).isoformat(),
            "used_by": sorted(users.get(str(one.get("Id")), [])),
        }
        for one in found
    ]
    data.sort(key=lambda one: -(one["size_bytes"] or 0))
    rows = tuple(
        (
            ", ".join(one["tags"]) or f"(no name) {one['id']}",
            size(one["size_bytes"]),
            one["created_at"][:10],
            ", ".join(one["used_by"]),
        )
        for one in data
    )
    return Part(data, (TableSection("images", ("image", "size", "built", "used by"), rows),))


async def _volumes(door: Docker, survey: "asyncio.Future[list[Mapping[str, Any]]]") -> Part:
    found, items = await asyncio.gather(door.all_of("volume"), asyncio.shield(survey))
    users: dict[str, list[str]] = {}
    for item in items:
        read = container(item)
        for mount in read.mounts:
            if mount.kind == "volume":
                users.setdefault(mount.name, []).append(read.name)
    data: list[dict[str, Any]] = [
        {
            "name": str(one.get("Name")),
            "driver": one.get("Driver"),
            "mountpoint": one.get("Mountpoint"),
            "project": (one.get("Labels") or {}).get("com.docker.compose.project"),
            "used_by": sorted(users.get(str(one.get("Name")), [])),
        }
        for one in sorted(found, key=lambda one: str(one.get("Name")))
    ]
    rows = tuple(
        (one["name"], str(one["driver"]), ", ".join(one["used_by"]), str(one["mountpoint"])) for one in data
    )
    none = () if rows else ("there is none",)
    return Part(data, (TableSection("volumes", ("volume", "driver", "used by", "where"), rows, none),))


async def networks(door: Docker) -> Part:
    """Every Docker network with who is in it."""
    listed = await door.all_of("network")
    found = await asyncio.gather(*(door.found("network", str(one["Id"])) for one in listed))
    data = [
        {"name": str(one.get("Name")), **network_values(one)}
        for one in sorted((one for one in found if one is not None), key=lambda one: str(one.get("Name")))
    ]
    rows = tuple(
        (
            one["name"],
            str(one["driver"]),
            ", ".join(map(str, one["subnets"])),
            "yes" if one["internal"] else "",
            ", ".join(one["containers"]),
        )
        for one in data
    )
    columns = ("network", "driver", "subnets", "internal", "running in it")
    return Part(data, (TableSection("docker networks", columns, rows),))
