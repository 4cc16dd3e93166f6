"""One container as JSON, as a table row and as a finding, by the assessment that all commands share. Pure."""

import re
from collections.abc import Mapping
from typing import Any

from opskit.checks.container_assessment import AssessedContainer, ContainerCondition, ContainerState
from opskit.checks.kinds.docker import container_values
from opskit.diagnose.machine import share
from opskit.facts.container import Container
from opskit.records import Record
from opskit.result import Finding, Status
from opskit.text import size, span

COLUMNS = ("container", "state", "health", "up", "restarts", "cpu", "memory", "ports")
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
        "name": container.name,
        "id": container.id[:12],
        "image": container.image,
        "project": container.project,
        "service": container.service,
        "state": values["state"],
        "health": values["health"],
        "health_output": values["health_output"][:_CHECK_CHARS],
        "condition": values["condition"],
        "restarts": values["restarts"],
        "restart_policy": container.restart_policy,
        "exit_code": values["exit_code"],
        "oom_killed": values["oom_killed"],
        "up_s": None if values["up_s"] is None else round(values["up_s"], 1),
        "ports": ports(container),
        "networks": values["networks"],
        "volumes": [mount.name for mount in container.mounts if mount.kind == "volume"],
        "variable_names": values["variables"],
        "cpu_percent": use.cpu_percent,
        "memory_used_bytes": use.memory_bytes,
        # Without a limit of its own Docker tells the memory of the machine.
        "memory_limit_bytes": use.limit_bytes if container.memory_limit_bytes else None,
        # One text: what spans several lines, a key for instance, must be seen as one.
        "log": "\n".join(sample.log),
        "log_problem": sample.log_problem,
    }


def cells(described_container: Mapping[str, Any]) -> tuple[str, ...]:
    """Return one row under COLUMNS, out of `described`."""
    document = described_container
    state = document["state"] if document["state"] != "exited" else f"exited ({document['exit_code']})"
    memory = "" if document["memory_used_bytes"] is None else size(document["memory_used_bytes"])
    if memory and document["memory_limit_bytes"]:
        memory = f"{memory} of {size(document['memory_limit_bytes'])}"
    return (
        document["name"],
        f"{state}, out of memory" if document["oom_killed"] else state,
        "" if document["health"] == "none" else document["health"],
        "" if document["up_s"] is None else span(document["up_s"]),
        str(document["restarts"] or ""),
        "" if document["cpu_percent"] is None else share(document["cpu_percent"]),
        memory,
        ", ".join(document["ports"]),
    )


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
