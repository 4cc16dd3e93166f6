"""The system area: memory, processor, disks, graphics, versions, ports, files of the stack (SPEC C1, C2)."""

import asyncio
import os
import platform
import sys
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from opskit import __version__
from opskit.checks.kinds.agents import APIS
from opskit.checks.kinds.docker import daemon_values
from opskit.checks.kinds.network import port_values
from opskit.config.schema import AgentConfig, Config, NodeConfig
from opskit.diagnose.area import Columns, Section, SectionSource, TableSection, observe_kind, table
from opskit.diagnose.stack_files import compose_files, docker_is_used, environment_files
from opskit.facts.docker_daemon import read_docker_daemon
from opskit.facts.port_owner import Protocol, read_port
from opskit.facts.survey import Survey
from opskit.result import Finding, Status
from opskit.system.compose import find
from opskit.system.host import is_loopback, up_s
from opskit.system.network import endpoint
from opskit.system.program import NotStarted
from opskit.text import size, span

_SHORT_S = 8.0
_PROGRAMS_S = 15.0
_COMPOSE_S = 20.0
_FULL = "full"
_UNLOAD = "`opskit models loaded` shows models; `ollama stop NAME` unloads one"
#: The ports of SPEC C1, B7 and D7, whatever is configured.
USUAL = {api.port: name for name, api in APIS.items()} | {11434: "ollama", 11435: "mlx"}
#: The section that everything else waits for: reading the others is work too.
LOAD = "system load"


def sources() -> list[SectionSource]:
    part = partial(SectionSource, "system")
    return [
        part("machine", "machine", host, _SHORT_S),
        part("load", "load", load, _SHORT_S),
        part("disks", "disks", disks, _PROGRAMS_S),
        part("gpus", "gpu", graphics, _PROGRAMS_S),
        part("versions", "versions", versions, _PROGRAMS_S),
        part("ports", "ports", ports, _PROGRAMS_S),
        part("env_files", ".env", environment_files, _SHORT_S),
        part("compose_files", "compose files", partial(compose_files, limit_s=_COMPOSE_S - 1), _COMPOSE_S),
    ]


async def host(survey: Survey) -> Section:
    """Read what machine this is, and for how long it has been up."""
    uptime_s = await asyncio.to_thread(up_s)
    config = survey.config
    data = {
        "host": platform.node(),
        "os": await asyncio.to_thread(system_name),
        "kernel": platform.release(),
        "architecture": platform.machine(),
        "up_s": None if uptime_s is None else round(uptime_s),
        "python": platform.python_version(),
        "python_path": sys.executable,
        "opskit": __version__,
        "config": config.path,
        "state_dir": config.state_dir,
    }
    rows = (
        ("system", f"{data['os']} ({data['architecture']}, kernel {data['kernel']})"),
        ("host", str(data["host"])),
        ("up", "?" if uptime_s is None else span(uptime_s)),
        ("python", f"{data['python']} ({data['python_path']})"),
        ("opskit", f"{__version__}, configuration: {config.path or 'none'}"),
    )
    return Section(data, (TableSection("machine", ("property", "value"), rows),))


def system_name() -> str:
    """Return the name of the system as its maker writes it."""
    if sys.platform == "darwin":
        return f"macOS {platform.mac_ver()[0]}"
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", "Linux")
    except OSError:
        return platform.system()


async def load(survey: Survey) -> Section:
    (memory, used), (cpu, cores) = await asyncio.gather(
        observe_kind("memory", survey), observe_kind("cpu", survey)
    )
    limits = survey.config.watch
    rows = []
    findings = [gauge for gauge, values in ((memory, used), (cpu, cores)) if values is None]
    if used is not None:
        swap_used = share(used["swap_used_percent"])
        swap = f"{size(used['swap_total_bytes'])}, {swap_used} used" if used["swap_total_bytes"] else "none"
        available = f"{size(used['available_bytes'])} of {size(used['total_bytes'])} available"
        rows += [("memory", share(used["used_percent"]), available), ("swap", swap_used, swap)]
        findings += _over("memory", used, limits.memory_percent, memory.detail, _UNLOAD)
    if cores is not None:
        loads = f"load {cores['load_1']:.2f} (1 min), {cores['load_5']:.2f} (5 min)"
        rows.append(("cpu", share(cores["used_percent"]), f"{cores['count']} cores, {loads}"))
        findings += _over("cpu", cores, limits.cpu_percent, rows[-1][-1], "`top` shows what works")
    rows += [(gauge.target, "?", gauge.detail) for gauge in findings if gauge.state != _FULL]
    data = {"memory": _without_error(used), "cpu": _without_error(cores)}
    return Section(data, (TableSection("load", ("what", "used", ""), tuple(rows)),), tuple(findings))


async def disks(survey: Survey) -> Section:
    """Read the disks behind the folders that matter."""
    folders = {name: str(path) for name, path in (await _folders(survey)).items()}
    gauges = await asyncio.gather(*(observe_kind("disk", survey, path=path) for path in folders.values()))
    limit = survey.config.watch.disk_percent
    rows, data, findings = [], [], []
    for (name, path), (finding, values) in zip(folders.items(), gauges, strict=True):
        if values is None:
            rows.append((name, path, "?", finding.detail))
            data.append({"name": name, "path": path, "error": finding.detail})
            findings.append(finding)
            continue
        free = f"{size(values['free_bytes'])} of {size(values['total_bytes'])} free"
        rows.append((name, path, share(values["used_percent"]), free))
        data.append({"name": name, "path": path, **(_without_error(values) or {})})
        findings += _over(f"disk of {path}", values, limit, finding.detail, finding.remedy)
    columns = ("folder", "path", "used", "")
    return Section(data, (TableSection("disks", columns, tuple(rows)),), tuple(findings))


async def graphics(survey: Survey) -> Section:
    """Read the GPUs; a machine without one is fine."""
    gauge, values = await observe_kind("gpu", survey, timeout_s=10.0)
    if values is None:
        findings = () if gauge.status is Status.SKIP else (gauge,)
        return Section([], (TableSection("gpu", lines=(gauge.detail,)),), findings)
    gpus = list(gauge.evidence.get("gpus", ()))
    columns: Columns = {
        "name": "name",
        "used": lambda gpu: share(gpu["used_percent"]),
        "memory": lambda gpu: (
            f"{size(gpu['memory_used_bytes'])} of {size(gpu['memory_total_bytes'])}"
            if gpu["memory_total_bytes"]
            else "the machine's"
        ),
        "temperature": lambda gpu: "?" if gpu["temperature_c"] is None else f"{gpu['temperature_c']:.0f} °C",
    }
    return Section(gpus, (table("gpu", gpus, columns),))


async def versions(survey: Survey) -> Section:
    """Read the versions of Docker and Compose, as they are found from here."""
    daemon, compose = await asyncio.gather(survey.get(read_docker_daemon), compose_version(survey.environ))
    error, findings = daemon.error, list[Finding]()
    engine = f"{daemon.version} (API {daemon.api_version})" if error is None else error.message
    rows = [("docker", engine), ("compose", compose or "neither `docker compose` nor `docker-compose`")]
    if error is None:
        counts = f"{daemon.running} of {daemon.containers} containers run, {daemon.images} images"
        rows.append(("", f"{counts}, {daemon.cpus} cores, {size(daemon.memory_bytes)}, {daemon.storage}"))
        warnings = (text.removeprefix("WARNING: ") for text in daemon.warnings)
        findings += [Finding("system", "docker", Status.WARN, "warning", text) for text in warnings]
    elif await docker_is_used(survey):
        state = Status.WARN, "silent"
        findings.append(Finding("system", "docker", *state, error.message, error.code, error.remedy))
    data = {
        "docker": daemon_values(daemon) if error is None else None,
        "docker_error": None if error is None else error.message,
        "compose": compose,
    }
    return Section(data, (TableSection("versions", ("program", "version"), tuple(rows)),), tuple(findings))


async def compose_version(environ: Mapping[str, str]) -> str | None:
    """Return the version of Compose and how it is called; None when there is none."""
    try:
        compose = await find((), env=environ)
    except NotStarted:
        return None
    return f"{compose.version} ({' '.join(compose.command)})"


def expected_ports(config: Config) -> dict[int, str]:
    """Return every port that belongs to the stack on this machine, and whose it is. Pure."""
    members: tuple[NodeConfig | AgentConfig, ...] = (*config.nodes, *config.agents)
    moved = {member.name for member in members if member.explicit}
    names: dict[int, list[str]] = {port: [] if name in moved else [name] for port, name in USUAL.items()}
    for member in members:
        port = endpoint(member.url)[1]
        host_is_here = is_loopback(member.url) or "host.docker.internal" in member.url
        if host_is_here and member.name not in names.setdefault(port, []):
            names[port].append(member.name)
    return {port: ", ".join(owners) or f"{USUAL[port]}, usually" for port, owners in sorted(names.items())}


async def ports(survey: Survey) -> Section:
    """Read who holds each port of the stack: a process, a unit or a container."""
    expected, hidden = expected_ports(survey.config), "the sockets of other users are not shown to this user"
    tcp: Protocol = "tcp"
    facts = await asyncio.gather(*(survey.get(read_port, tcp, port) for port in expected))
    findings, data = [], []
    for port, whose in zip(facts, expected.values(), strict=True):
        head: dict[str, Any] = {"port": port.port, "whose": whose, "listening": port.listening}
        data.append(head if port.listening is None else {**head, **port_values(port)})
        if port.listening is None:
            text = f"port {port.port}: {hidden}"
            findings.append(Finding("system", whose, Status.INCONCLUSIVE, "unknown", text))
        if any(owner.is_public for owner in port.owners) and whose in ("ollama", "mlx"):
            addresses = ", ".join(data[-1]["addresses"])
            text = f"port {port.port} is open to other machines ({addresses}); it asks nobody for a key"
            remedy = "bind it to 127.0.0.1, or close it in the firewall"
            findings.append(Finding("system", whose, Status.WARN, "public", text, None, remedy))
    holders = {True: "hidden from this user", False: "", None: hidden}
    columns: Columns = {
        "port": "port",
        "whose": "whose",
        "state": lambda port: {True: "held", False: "free", None: "?"}[port["listening"]],
        "held by": lambda port: port.get("owner") or holders[port["listening"]],
        "addresses": lambda port: port.get("addresses"),
    }
    return Section(data, (table("ports", data, columns),), tuple(findings))


async def _folders(survey: Survey) -> dict[str, Path]:
    state = Path(survey.config.state_dir)
    # The nearest folder that exists lies on the same disk.
    folders = {"root": Path("/"), "state": next(path for path in (state, *state.parents) if path.exists())}
    root = (await survey.get(read_docker_daemon)).root
    # In a virtual machine of a Mac it is a path of that machine.
    if root is not None and os.path.isdir(root):  # noqa: PTH112 - no exception for want of rights
        folders["docker"] = Path(root)
    # By the environment, else at the usual places.
    home, ollama = Path(survey.environ.get("HOME") or "/"), survey.environ.get("OLLAMA_MODELS")
    weights = (
        [Path(ollama)] if ollama else [home / ".ollama/models", Path("/usr/share/ollama/.ollama/models")]
    )
    weights.append(Path(survey.environ.get("HF_HOME") or home / ".cache/huggingface") / "hub")
    return folders | {
        f"models {number}" if number > 1 else "models": path
        for number, path in enumerate(filter(Path.is_dir, weights), 1)
    }


def share(percent: float | None) -> str:
    return "?" if percent is None else f"{percent:.0f} %"


def _over(
    target: str, values: Mapping[str, Any], limit: float, detail: str, remedy: str | None
) -> Iterator[Finding]:
    if (used := values["used_percent"]) > limit:
        text = f"{used:.0f} % used, over {limit:g} %: {detail}"
        yield Finding("system", target, Status.WARN, _FULL, text, None, remedy)


def _without_error(values: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return the values of a check without its word for no error."""
    return None if values is None else {key: value for key, value in values.items() if key != "error"}
