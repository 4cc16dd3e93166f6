"""One container as a table row, as JSON and as a finding; how it is was assessed elsewhere. Pure."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from opskit.checks.container_assessment import AssessedContainer, ContainerCondition, ContainerState
from opskit.checks.kinds.containers import container_values
from opskit.diagnose.quantities import age, share, size
from opskit.facts.container import Container
from opskit.result import Finding, Status

COLUMNS = ("container", "state", "health", "up", "restarts", "cpu", "memory", "ports")
_ANSI = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")
_CHECK_CHARS = 2000


@dataclass(frozen=True, slots=True)
class Use:
    """What it takes of the machine: percent of one core, and memory without what can be given back."""

    cpu_percent: float | None
    memory_bytes: int | None
    limit_bytes: int | None


@dataclass(frozen=True, slots=True)
class SampledContainer:
    """One container: how it is, a sample of its use, its last lines."""

    assessed: AssessedContainer
    use: Use | None = None
    log: tuple[str, ...] = ()
    log_problem: str | None = None


def use_of(stats: Mapping[str, Any]) -> Use:
    """As `docker stats` shows it; cgroups 1 and 2 name their caches differently."""
    now, before = stats.get("cpu_stats") or {}, stats.get("precpu_stats") or {}
    work = _number(now, "cpu_usage", "total_usage") - _number(before, "cpu_usage", "total_usage")
    whole = _number(now, "system_cpu_usage") - _number(before, "system_cpu_usage")
    cores = int(now.get("online_cpus") or len((now.get("cpu_usage") or {}).get("percpu_usage") or ()) or 1)
    cpu = round(100.0 * cores * work / whole, 1) if whole > 0 and before.get("system_cpu_usage") else None
    memory = stats.get("memory_stats") or {}
    used = memory.get("usage")
    if used is None:
        return Use(cpu, None, None)
    parts = memory.get("stats") or {}
    cache = parts.get("inactive_file", parts.get("total_inactive_file", 0))
    return Use(cpu, max(0, int(used) - int(cache)), memory.get("limit"))


def described(sample: SampledContainer) -> dict[str, Any]:
    """For programs; names of variables, never their values."""
    container, values = sample.assessed.container, container_values(sample.assessed)
    use = sample.use or Use(None, None, None)
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


def cells(one: Mapping[str, Any]) -> tuple[str, ...]:
    """One row under COLUMNS, out of `described`."""
    state = one["state"] if one["state"] != "exited" else f"exited ({one['exit_code']})"
    state = f"{state}, out of memory" if one["oom_killed"] else state
    memory = "" if one["memory_used_bytes"] is None else size(one["memory_used_bytes"])
    if memory and one["memory_limit_bytes"]:
        memory = f"{memory} of {size(one['memory_limit_bytes'])}"
    return (
        one["name"],
        state,
        "" if one["health"] == "none" else one["health"],
        age(one["up_s"]),
        str(one["restarts"] or ""),
        "" if one["cpu_percent"] is None else share(one["cpu_percent"]),
        memory,
        ", ".join(one["ports"]),
    )


def judged(sample: SampledContainer, memory_percent: float) -> Finding:
    """The finding of a container; one that is well may still be near its memory limit."""
    one, assessment = sample.assessed, sample.assessed.assessment
    name, status = one.container.name, assessment.status
    state, detail = _state(one), assessment.words
    logs = f"`docker logs --tail 50 {name}` tells why"
    remedy = logs if status is Status.FAIL else assessment.remedy
    if status is Status.PASS:
        remedy = None
        if assessment.state is ContainerState.UP:
            detail = f"up for {age(assessment.age_s)}"
        used = sample.use.memory_bytes if sample.use else None
        limit = sample.use.limit_bytes if sample.use and one.container.memory_limit_bytes else None
        if used and limit and 100.0 * used / limit > memory_percent:
            status, state, remedy = Status.WARN, "full", logs
            detail = f"it uses {size(used)} of the {size(limit)} that it may"
    evidence = {"condition": one.condition.value}
    return Finding("container", name, status, state, detail, None, remedy, evidence=evidence)


def _state(one: AssessedContainer) -> str:
    if one.container.oom_killed and not one.container.running:
        return "out of memory"
    if one.condition is ContainerCondition.LEFT and one.container.status == "exited":
        return "stopped"
    return one.word


def ports(container: Container) -> list[str]:
    """`8010->80/tcp` for what is published, `80/tcp` for what is not."""
    found: dict[str, set[str]] = {}
    for port in container.ports:
        shown = found.setdefault(port.inside, set())
        if port.host_port is not None:
            shown.add(f"{_host(port.host_ip)}{port.host_port}->{port.inside}")
    return [text for inside, shown in found.items() for text in (sorted(shown) or [inside])]


def readable(raw: bytes) -> str:
    """A log line for people: invalid UTF-8 replaced, colours dropped, other control characters blank."""
    text = _ANSI.sub("", raw.decode("utf-8", "replace")).rstrip("\r\n")
    return "".join(char if char.isprintable() or char == "\t" else " " for char in text)


def _host(address: str | None) -> str:
    return "" if address in (None, "", "0.0.0.0", "::") else f"{address}:"  # noqa: S104 - what Docker tells


def _number(tree: Mapping[str, Any], *path: str) -> float:
    found: Any = tree
    for key in path:
        found = (found or {}).get(key)
    return float(found or 0)
