"""One container as Docker tells of it, and whether it is well. Pure."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from opskit.checks.health_check import health_check_fault, health_check_remedy
from opskit.checks.kinds.containers import container_values
from opskit.diagnose.quantities import age, share, size
from opskit.facts.container import container
from opskit.result import Finding, Status
from opskit.system.docker_records import PROJECT, SERVICE

COLUMNS = ("container", "state", "health", "up", "restarts", "cpu", "memory", "ports")
#: Ends by a signal that `docker stop` sends: a person's doing more often than a crash.
_STOPPED = {137: "SIGKILL", 143: "SIGTERM"}
_OFTEN = 3
_LATELY_S = 600.0
_ANSI = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")
_CHECK_CHARS = 2000


@dataclass(frozen=True, slots=True)
class Use:
    """What it takes of the machine: percent of one core, and memory without what can be given back."""

    cpu_percent: float | None
    memory_bytes: int | None
    limit_bytes: int | None


@dataclass(frozen=True, slots=True)
class Seen:
    """One container: `docker inspect` of it, a sample of its use, its last lines."""

    item: Mapping[str, Any]
    use: Use | None = None
    log: tuple[str, ...] = ()
    log_problem: str | None = None

    @property
    def name(self) -> str:
        return str(self.item["Name"]).lstrip("/")


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


def described(seen: Seen, now: datetime) -> dict[str, Any]:
    """For programs; names of variables, never their values."""
    item, values = seen.item, container_values(seen.item, now)
    labels = item["Config"].get("Labels") or {}
    use = seen.use or Use(None, None, None)
    # Without a limit of its own Docker tells the memory of the machine.
    limited = bool((item.get("HostConfig") or {}).get("Memory"))
    return {
        "name": values["name"],
        "id": str(item["Id"])[:12],
        "image": values["image"],
        "project": labels.get(PROJECT),
        "service": labels.get(SERVICE),
        "state": values["state"],
        "health": values["health"],
        "health_output": values["health_output"][:_CHECK_CHARS],
        "restarts": values["restarts"],
        "restart_policy": ((item.get("HostConfig") or {}).get("RestartPolicy") or {}).get("Name") or "no",
        "exit_code": values["exit_code"],
        "oom_killed": values["oom_killed"],
        "up_s": None if values["up_s"] is None else round(values["up_s"], 1),
        "ports": ports(item),
        "networks": values["networks"],
        "volumes": [one["Name"] for one in item.get("Mounts") or () if one.get("Type") == "volume"],
        "variable_names": values["variables"],
        "cpu_percent": use.cpu_percent,
        "memory_used_bytes": use.memory_bytes,
        "memory_limit_bytes": use.limit_bytes if limited else None,
        # One text: what spans several lines, a key for instance, must be seen as one.
        "log": "\n".join(seen.log),
        "log_problem": seen.log_problem,
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


def unchecked(item: Mapping[str, Any]) -> Finding | None:
    """Return a finding for a container that runs with a health check which cannot; else None."""
    record = container(item)
    fault = health_check_fault(record) if record.running else None
    if fault is None:
        return None
    remedy = health_check_remedy(record, fault)
    return Finding("container", record.name, Status.INCONCLUSIVE, "unchecked", fault.detail, None, remedy)


def judged(one: Mapping[str, Any], memory_percent: float) -> Finding:
    """Whether a container is well. One that ended with 0 has done its work."""
    status, state, detail = _judgement(one, memory_percent)
    remedy = None if status is Status.PASS else f"`docker logs --tail 50 {one['name']}` tells why"
    return Finding("container", one["name"], status, state, detail, None, remedy)


def _judgement(one: Mapping[str, Any], memory_percent: float) -> tuple[Status, str, str]:
    state, code = str(one["state"]), one["exit_code"]
    restarts = f", restarted {one['restarts']} times" if one["restarts"] else ""
    match state:
        case "restarting":
            return Status.FAIL, state, f"it ends with {code} and is started again{restarts}"
        case "dead" | "removing":
            return Status.FAIL, state, "Docker could not remove it"
        case "created":
            return Status.WARN, state, "it was never started"
        case "paused":
            return Status.WARN, state, "somebody paused it"
        case "exited":
            if one["oom_killed"]:
                return Status.FAIL, "out of memory", f"it was killed for want of memory{restarts}"
            if code in _STOPPED:
                return Status.WARN, "stopped", f"it was ended by {_STOPPED[code]}{restarts}"
            ended = Status.FAIL if code else Status.PASS
            return ended, "exited", f"it ended with {code}{restarts}"
    if one["health"] == "unhealthy":
        said = " ".join(one["health_output"].split())[:300]
        return Status.FAIL, "unhealthy", f"its health check says: {said or 'nothing'}"
    if one["restarts"] >= _OFTEN and (one["up_s"] or 0) < _LATELY_S:
        return Status.WARN, "unsteady", f"up for {age(one['up_s'])} only{restarts}"
    used, limit = one["memory_used_bytes"], one["memory_limit_bytes"]
    if used and limit and 100.0 * used / limit > memory_percent:
        return Status.WARN, "full", f"it uses {size(used)} of the {size(limit)} that it may"
    return Status.PASS, one["health"] if one["health"] != "none" else state, f"up for {age(one['up_s'])}"


def ports(item: Mapping[str, Any]) -> list[str]:
    """`8010->80/tcp` for what is published, `80/tcp` for what is not."""
    found: list[str] = []
    bound = (item.get("NetworkSettings") or {}).get("Ports") or {}
    for inside, outside in sorted(bound.items()):
        seen = {f"{_host(one.get('HostIp'))}{one.get('HostPort')}->{inside}" for one in outside or ()}
        found += sorted(seen) or [str(inside)]
    return found


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
