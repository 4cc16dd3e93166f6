"""The containers area: what runs, how it is, what it uses and says, and what it stands on (SPEC C3, C12)."""

import asyncio
from datetime import UTC, datetime
from functools import partial
from typing import Any

from opskit.checks.container_assessment import AssessedContainer, ContainerRules, assessed
from opskit.checks.kinds.docker import network_values
from opskit.diagnose.area import Section, SectionSource, TableSection
from opskit.diagnose.container import (
    COLUMNS,
    ContainerUse,
    SampledContainer,
    cells,
    described,
    judged,
    readable,
    use_of,
)
from opskit.diagnose.known_secrets import of_container
from opskit.diagnose.stack_files import docker_is_used
from opskit.errors import OpskitError
from opskit.facts.container import Container
from opskit.facts.container_log import read_container_log
from opskit.facts.stack_containers import StackContainers, missing_containers, read_stack_containers
from opskit.facts.survey import Survey
from opskit.logs.record import LogEntry
from opskit.result import Finding, Status
from opskit.system.docker import Docker
from opskit.system.docker_records import PROJECT
from opskit.text import size

#: How many containers are sampled at once: each costs the daemon a second of two threads.
_AT_ONCE = 24
_SAMPLE_S = 8.0
_LOG_S = 5.0
_LIMIT_S = 30.0
_SHORT_S = 10.0
_LINE_CHARS = 2000
#: What is kept of a log at most; the newest lines win.
_LOG_BYTES = 1024 * 1024


def sources(lines: int) -> list[SectionSource]:
    """Return the sections of the area, with so many lines of each log."""
    part = partial(SectionSource, "containers", requires=("containers docker",))
    return [
        SectionSource("containers", "docker", "docker", docker, _LIMIT_S),
        part("containers", "containers", partial(containers, lines=lines), _LIMIT_S),
        part("images", "images", images, _SHORT_S),
        part("volumes", "volumes", volumes, _SHORT_S),
        part("networks", "networks", networks, _SHORT_S),
    ]


def secrets_of(stack: StackContainers) -> frozenset[str]:
    """Return what environments, commands and labels of the containers hold that nobody must read."""
    return frozenset(secret for document in stack.documents.values() for secret in of_container(document))


async def docker(survey: Survey) -> Section:
    """Read whether Docker answers: nothing where it does, else why, once for all sections."""
    if not survey.config.stack.compose and not await docker_is_used(survey):
        status, text = Status.SKIP, "Docker is not installed, and no Compose project is configured"
        finding = Finding("containers", "docker", status, "absent", text)
    else:
        try:
            await (await survey.docker()).containers()
        except OpskitError as error:
            status, text = Status.INCONCLUSIVE, f"Docker does not answer: {error.message}"
            finding = Finding("containers", "docker", status, "silent", text, error.code, error.remedy)
        else:
            return Section(None)
    return Section(None, (TableSection("docker", lines=(text,)),), (finding,))


async def containers(survey: Survey, lines: int) -> Section:
    """Read each container with its state, its use and its last lines."""
    stack = await survey.get(read_stack_containers)
    client, gate, config = await survey.docker(), asyncio.Semaphore(_AT_ONCE), survey.config
    rules, members = ContainerRules.of(config.recovery), {member.id for member in stack.members}
    samples = await asyncio.gather(
        *(
            _sample(client, member, lines, gate)
            for member in assessed(stack.survey, rules)
            if member.container.id in members
        )
    )
    data = list(map(described, samples))
    findings = [judged(sample, config.watch.memory_percent) for sample in samples]
    for name in missing_containers(stack.listed, config.stack):
        text, remedy = "there is no such container", "`docker compose up -d` creates those of the stack"
        findings.append(Finding("container", name, Status.FAIL, "missing", text, "DOCKER_002", remedy))
    count, total = len(members), len(stack.listed)
    title = "containers" if count == total else f"containers of the stack ({count} of {total})"
    tables = [TableSection(title, COLUMNS, tuple(map(cells, data)), () if data else ("there is none",))]
    for document in data if lines else ():
        log = tuple(document["log"].splitlines()) or ("(nothing)",)
        shown = (document["log_problem"],) if document["log_problem"] else log
        tables.append(TableSection(f"log of {document['name']}, last {lines} lines", lines=shown))
    if not findings:
        findings.append(Finding("containers", "docker", Status.PASS, "ok", "there is no container"))
    return Section(data, tuple(tables), tuple(findings))


async def _sample(
    client: Docker, container: AssessedContainer, lines: int, gate: asyncio.Semaphore
) -> SampledContainer:
    async with gate:
        use, (log, problem) = await asyncio.gather(
            _use(client, container.container), log_of(client, container.container, lines, _LOG_S)
        )
    shown = tuple(readable(entry.raw)[:_LINE_CHARS] for entry in log)
    return SampledContainer(container, use, shown, problem)


async def _use(client: Docker, container: Container) -> ContainerUse | None:
    if not container.running:
        return None
    try:
        async with asyncio.timeout(_SAMPLE_S):
            return use_of(await client.stats(container.id))
    except (OpskitError, TimeoutError):
        return None


async def log_of(
    client: Docker, container: Container, lines: int, limit_s: float, limit_bytes: int = _LOG_BYTES
) -> tuple[list[LogEntry], str | None]:
    """Return the last lines, at most `limit_bytes` of them, and why there are none or not all."""
    if lines <= 0:
        return [], None
    log = await read_container_log(client, container.name, lines, limit_s=limit_s, limit_bytes=limit_bytes)
    problem = log.problem
    if log.is_cut and problem is None:
        problem = f"only the last {size(log.size_bytes)} of it"
    return list(log.entries), problem


async def images(survey: Survey) -> Section:
    """Read every image, largest first, with the containers of the stack that are made of it."""
    documents = await (await survey.docker()).all_of("image")
    stack = (await survey.get(read_stack_containers)).members
    data: list[dict[str, Any]] = [
        {
            "id": str(image.get("Id", ""))[:19],
            "tags": [tag for tag in image.get("RepoTags") or () if tag != "<none>:<none>"],
            "size_bytes": image.get("Size"),
            "created_at": datetime.fromtimestamp(int(image.get("Created") or 0), UTC).isoformat(),
            "used_by": sorted(user.name for user in stack if user.image_id == str(image.get("Id"))),
        }
        for image in documents
    ]
    data.sort(key=lambda image: -(image["size_bytes"] or 0))
    rows = tuple(
        (
            ", ".join(image["tags"]) or f"(no name) {image['id']}",
            size(image["size_bytes"]),
            image["created_at"][:10],
            ", ".join(image["used_by"]),
        )
        for image in data
    )
    return Section(data, (TableSection("images", ("image", "size", "built", "used by"), rows),))


async def volumes(survey: Survey) -> Section:
    """Read every volume with the containers of the stack that mount it."""
    documents = await (await survey.docker()).all_of("volume")
    stack = (await survey.get(read_stack_containers)).members
    mounts = [(mount.name, user.name) for user in stack for mount in user.mounts if mount.kind == "volume"]
    data: list[dict[str, Any]] = [
        {
            "name": str(volume.get("Name")),
            "driver": volume.get("Driver"),
            "mountpoint": volume.get("Mountpoint"),
            "project": (volume.get("Labels") or {}).get(PROJECT),
            "used_by": sorted(user for name, user in mounts if name == volume.get("Name")),
        }
        for volume in sorted(documents, key=lambda volume: str(volume.get("Name")))
    ]
    rows = tuple(
        (volume["name"], str(volume["driver"]), ", ".join(volume["used_by"]), str(volume["mountpoint"]))
        for volume in data
    )
    none = () if rows else ("there is none",)
    return Section(data, (TableSection("volumes", ("volume", "driver", "used by", "where"), rows, none),))


async def networks(survey: Survey) -> Section:
    """Read every Docker network with the containers in it."""
    client = await survey.docker()
    listed = await client.all_of("network")
    documents = await asyncio.gather(*(client.found("network", str(network["Id"])) for network in listed))
    data = sorted(
        (
            {"name": str(network.get("Name")), **network_values(network)}
            for network in documents
            if network is not None
        ),
        key=lambda network: str(network["name"]),
    )
    rows = tuple(
        (
            str(network["name"]),
            str(network["driver"]),
            ", ".join(map(str, network["subnets"])),
            "yes" if network["internal"] else "",
            ", ".join(network["containers"]),
        )
        for network in data
    )
    columns = ("network", "driver", "subnets", "internal", "running in it")
    return Section(data, (TableSection("docker networks", columns, rows),))
