"""The containers area: what runs, how it is, what it uses and says, and what it stands on (SPEC C3, C12)."""

import asyncio
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Any

from opskit.checks.container_assessment import (
    AssessedContainer,
    ContainerCondition,
    ContainerRules,
    ContainerState,
    assessed,
)
from opskit.checks.kinds.docker import container_values, network_values
from opskit.diagnose.area import Columns, Section, SectionSource, TableSection, table
from opskit.diagnose.known_secrets import of_container
from opskit.diagnose.machine import share
from opskit.diagnose.stack_files import docker_is_used
from opskit.errors import OpskitError
from opskit.facts.container import Container
from opskit.facts.container_survey import read_container_log
from opskit.facts.docker_daemon import read_docker_daemon
from opskit.facts.stack_containers import StackContainers, missing_containers, read_stack_containers
from opskit.facts.survey import Survey
from opskit.records import Record
from opskit.result import Finding, Status
from opskit.system.docker import Docker
from opskit.system.docker_records import PROJECT
from opskit.text import size, span

_ANSI = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")
_CHECK_CHARS = 2000


class ContainerUse(Record):
    """What a container takes of the machine: percent of one core, memory without what can be given back."""

    cpu_percent: float | None
    memory_bytes: int | None
    limit_bytes: int | None


class SampledContainer(Record):
    """One container with its assessment, a sample of its use and its last lines."""

    assessed: AssessedContainer
    use: ContainerUse | None = None
    log: tuple[str, ...] = ()
    log_problem: str | None = None


def use_of(stats: Mapping[str, Any]) -> ContainerUse:
    """Read the use as `docker stats` shows it; cgroups 1 and 2 name their caches differently."""
    now, before = stats.get("cpu_stats") or {}, stats.get("precpu_stats") or {}
    work = _number(now, "cpu_usage", "total_usage") - _number(before, "cpu_usage", "total_usage")
    whole = _number(now, "system_cpu_usage") - _number(before, "system_cpu_usage")
    cores = int(now.get("online_cpus") or len((now.get("cpu_usage") or {}).get("percpu_usage") or ()) or 1)
    cpu = round(100.0 * cores * work / whole, 1) if whole > 0 and before.get("system_cpu_usage") else None
    memory = stats.get("memory_stats") or {}
    used = memory.get("usage")
    if used is None:
        return ContainerUse(cpu, None, None)
    parts = memory.get("stats") or {}
    cache = parts.get("inactive_file", parts.get("total_inactive_file", 0))
    return ContainerUse(cpu, max(0, int(used) - int(cache)), memory.get("limit"))


def described(sample: SampledContainer) -> dict[str, Any]:
    """Describe a container for programs: names of variables, never their values."""
    container, values = sample.assessed.container, container_values(sample.assessed)
    use = sample.use or ContainerUse(None, None, None)
    return {
        "variable_names": values.pop("variables"),
        **values,
        "id": container.id[:12],
        "project": container.project,
        "service": container.service,
        "health_output": values["health_output"][:_CHECK_CHARS],
        "restart_policy": container.restart_policy,
        "up_s": None if values["up_s"] is None else round(values["up_s"], 1),
        "ports": ports(container),
        "volumes": [mount.name for mount in container.mounts if mount.kind == "volume"],
        "cpu_percent": use.cpu_percent,
        "memory_used_bytes": use.memory_bytes,
        # Without a limit of its own Docker tells the memory of the machine.
        "memory_limit_bytes": use.limit_bytes if container.memory_limit_bytes else None,
        # One text: what spans several lines, a key for instance, must be seen as one.
        "log": "\n".join(sample.log),
        "log_problem": sample.log_problem,
    }


def _state_cell(described_container: Mapping[str, Any]) -> str:
    document = described_container
    state = document["state"] if document["state"] != "exited" else f"exited ({document['exit_code']})"
    return f"{state}, out of memory" if document["oom_killed"] else state


def _memory_cell(described_container: Mapping[str, Any]) -> str:
    used, limit = described_container["memory_used_bytes"], described_container["memory_limit_bytes"]
    return "" if used is None else f"{size(used)} of {size(limit)}" if limit else size(used)


#: The table of containers, out of what `described` returns.
COLUMNS: Columns = {
    "container": "name",
    "state": _state_cell,
    "health": lambda document: document["health"].removeprefix("none"),
    "up": lambda document: "" if document["up_s"] is None else span(document["up_s"]),
    "restarts": lambda document: document["restarts"] or "",
    "cpu": lambda document: "" if document["cpu_percent"] is None else share(document["cpu_percent"]),
    "memory": _memory_cell,
    "ports": "ports",
}


def judged(sample: SampledContainer, memory_percent: float) -> Finding:
    """Return the finding of a container; one that is well may still be near its memory limit."""
    container, assessment = sample.assessed.container, sample.assessed.assessment
    status, state, detail = assessment.status, _state(sample.assessed), assessment.words
    logs = f"`docker logs --tail 50 {container.name}` tells why"
    remedy = logs if status is Status.FAIL else assessment.remedy
    if status is Status.PASS:
        remedy = None
        if assessment.state is ContainerState.UP:
            detail = "up" if assessment.age_s is None else f"up for {span(assessment.age_s)}"
        used = sample.use.memory_bytes if sample.use else None
        limit = sample.use.limit_bytes if sample.use and container.memory_limit_bytes else None
        if used and limit and 100.0 * used / limit > memory_percent:
            status, state, remedy = Status.WARN, "full", logs
            detail = f"it uses {size(used)} of the {size(limit)} that it may"
    evidence = {"condition": sample.assessed.condition.value}
    return Finding("container", container.name, status, state, detail, None, remedy, evidence=evidence)


def _state(assessed: AssessedContainer) -> str:
    if assessed.container.oom_killed and not assessed.container.running:
        return "out of memory"
    if assessed.condition is ContainerCondition.LEFT and assessed.container.status == "exited":
        return "stopped"
    return assessed.word


def ports(container: Container) -> list[str]:
    """Write `8010->80/tcp` for what is published, `80/tcp` for what is not."""
    published: dict[str, set[str]] = {}
    for port in container.ports:
        shown = published.setdefault(port.inside, set())
        if port.host_port is not None:
            shown.add(f"{_host(port.host_ip)}{port.host_port}->{port.inside}")
    return [text for inside, shown in published.items() for text in (sorted(shown) or [inside])]


def readable(raw: bytes) -> str:
    """Make a log line printable: invalid UTF-8 replaced, colours dropped, other control characters blank."""
    text = _ANSI.sub("", raw.decode("utf-8", "replace")).rstrip("\r\n")
    return "".join(char if char.isprintable() or char == "\t" else " " for char in text)


def _host(address: str | None) -> str:
    return "" if address in (None, "", "0.0.0.0", "::") else f"{address}:"  # noqa: S104 - what Docker tells


def _number(tree: Mapping[str, Any], *path: str) -> float:
    value: Any = tree
    for key in path:
        value = (value or {}).get(key)
    return float(value or 0)


#: How many containers are sampled at once: each costs the daemon a second of two threads.
_AT_ONCE = 24
_SAMPLE_S = 8.0
_LOG_S = 5.0
_LIMIT_S = 30.0
_SHORT_S = 10.0
_LINE_CHARS = 2000


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
    status, state, code, remedy = Status.SKIP, "absent", None, None
    text = "Docker is not installed, and no Compose project is configured"
    if survey.config.stack.compose or await docker_is_used(survey):
        if (error := (await survey.get(read_docker_daemon)).error) is None:
            return Section(None)
        status, state, code, remedy = Status.INCONCLUSIVE, "silent", error.code, error.remedy
        text = f"Docker does not answer: {error.message}"
    finding = Finding("containers", "docker", status, state, text, code, remedy)
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
        text, remedy = "there is no such container", "`docker compose up -d` creates the stack's"
        findings.append(Finding("container", name, Status.FAIL, "missing", text, "DOCKER_002", remedy))
    count, total = len(members), len(stack.listed)
    title = "containers" if count == total else f"containers of the stack ({count} of {total})"
    tables = [table(title, data, COLUMNS)]
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
        use, log = await asyncio.gather(
            _use(client, container.container),
            read_container_log(client, container.container.name, lines, limit_s=_LOG_S),
        )
    shown = tuple(readable(entry.raw)[:_LINE_CHARS] for entry in log.entries)
    return SampledContainer(container, use, shown, log.problem)


async def _use(client: Docker, container: Container) -> ContainerUse | None:
    if not container.running:
        return None
    try:
        async with asyncio.timeout(_SAMPLE_S):
            return use_of(await client.stats(container.id))
    except (OpskitError, TimeoutError):
        return None


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
    columns: Columns = {
        "image": lambda image: image["tags"] or f"(no name) {image['id']}",
        "size": lambda image: size(image["size_bytes"]),
        "built": lambda image: image["created_at"][:10],
        "used by": "used_by",
    }
    return Section(data, (table("images", data, columns),))


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
    columns = {"volume": "name", "driver": "driver", "used by": "used_by", "where": "mountpoint"}
    return Section(data, (table("volumes", data, columns),))


async def networks(survey: Survey) -> Section:
    """Read every Docker network with the containers in it."""
    client = await survey.docker()
    listed = await client.all_of("network")
    documents = await asyncio.gather(*(client.found("network", str(network["Id"])) for network in listed))
    data = [{"name": str(network.get("Name")), **network_values(network)} for network in documents if network]
    data.sort(key=lambda network: network["name"])
    columns: Columns = {
        "network": "name",
        "driver": "driver",
        "subnets": "subnets",
        "internal": lambda network: "yes" if network["internal"] else "",
        "running in it": "containers",
    }
    return Section(data, (table("docker networks", data, columns),))
