"""The system area: memory, processor, disks, graphics, versions, ports, files of the stack (SPEC C1, C2)."""

import asyncio
import os
import platform
import shutil
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from opskit import __version__
from opskit.checks.kinds.network import port_values
from opskit.config.schema import AgentConfig, Config, NodeConfig
from opskit.diagnose.area import Section, SectionSource, TableSection, observe_kind
from opskit.diagnose.stack_files import compose_files, docker_is_used, environment_files
from opskit.errors import OpskitError
from opskit.facts.port_owner import Protocol, read_port
from opskit.facts.survey import Survey
from opskit.result import Finding, Status
from opskit.system.host import is_loopback, up_s
from opskit.system.network import endpoint
from opskit.system.program import NotStarted, run
from opskit.text import size, span

_SHORT_S = 8.0
_PROGRAMS_S = 15.0
_COMPOSE_S = 20.0
_UNLOAD = "`opskit models loaded` shows models; `ollama stop NAME` unloads one"
#: The ports of SPEC C1, B7 and D7, whatever is configured.
USUAL = {
    8003: "starcoder-chat",
    8010: "victoria",
    8011: "veronica",
    9001: "generator-agent",
    9002: "reviewer-agent",
    11434: "ollama",
    11435: "mlx",
}
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
    memory, cpu = await asyncio.gather(observe_kind("memory", survey), observe_kind("cpu", survey))
    limits = survey.config.watch
    rows, findings = [], []
    if (values := memory.values) is not None:
        used, swap_used = values["used_percent"], share(values["swap_used_percent"])
        swap = (
            f"{size(values['swap_total_bytes'])}, {swap_used} used" if values["swap_total_bytes"] else "none"
        )
        available = f"{size(values['available_bytes'])} of {size(values['total_bytes'])} available"
        rows += [("memory", share(used), available), ("swap", swap_used, swap)]
        findings += _over("memory", used, limits.memory_percent, memory.finding.detail, _UNLOAD)
    if (values := cpu.values) is not None:
        detail = (
            f"{values['count']} cores, load {values['load_1']:.2f} (1 min), {values['load_5']:.2f} (5 min)"
        )
        rows.append(("cpu", share(values["used_percent"]), detail))
        findings += _over("cpu", values["used_percent"], limits.cpu_percent, detail, "`top` shows what works")
    for unseen in (gauge.finding for gauge in (memory, cpu) if gauge.values is None):
        findings.append(unseen)
        rows.append((unseen.target, "?", unseen.detail))
    data = {"memory": _without_error(memory.values), "cpu": _without_error(cpu.values)}
    return Section(data, (TableSection("load", ("what", "used", ""), tuple(rows)),), tuple(findings))


async def disks(survey: Survey) -> Section:
    """Read the disks behind the folders that matter."""
    folders = await _folders(survey)
    gauges = await asyncio.gather(
        *(observe_kind("disk", survey, path=str(path)) for path in folders.values())
    )
    limit = survey.config.watch.disk_percent
    rows, data, findings = [], [], []
    for (name, path), gauge in zip(folders.items(), gauges, strict=True):
        values, finding = gauge.values, gauge.finding
        if values is None:
            rows.append((name, str(path), "?", finding.detail))
            data.append({"name": name, "path": str(path), "error": finding.detail})
            findings.append(finding)
            continue
        free = f"{size(values['free_bytes'])} of {size(values['total_bytes'])} free"
        rows.append((name, str(path), share(values["used_percent"]), free))
        data.append({"name": name, "path": str(path), **(_without_error(values) or {})})
        findings += _over(f"disk of {path}", values["used_percent"], limit, finding.detail, finding.remedy)
    columns = ("folder", "path", "used", "")
    return Section(data, (TableSection("disks", columns, tuple(rows)),), tuple(findings))


async def graphics(survey: Survey) -> Section:
    """Read the GPUs; a machine without one is fine."""
    gauge = await observe_kind("gpu", survey, timeout_s=10.0)
    if gauge.values is None:
        findings = () if gauge.finding.status is Status.SKIP else (gauge.finding,)
        return Section([], (TableSection("gpu", lines=(gauge.finding.detail,)),), findings)
    gpus = list(gauge.finding.evidence.get("gpus", ()))
    rows = tuple(
        (
            str(gpu["name"]),
            share(gpu["used_percent"]),
            f"{size(gpu['memory_used_bytes'])} of {size(gpu['memory_total_bytes'])}"
            if gpu["memory_total_bytes"]
            else "the machine's",
            "?" if gpu["temperature_c"] is None else f"{gpu['temperature_c']:.0f} °C",
        )
        for gpu in gpus
    )
    return Section(gpus, (TableSection("gpu", ("name", "used", "memory", "temperature"), rows),))


async def versions(survey: Survey) -> Section:
    """Read the versions of Docker and Compose, as they are found from here."""
    daemon, compose = await asyncio.gather(
        observe_kind("docker_daemon", survey, timeout_s=6.0), compose_version(survey.environ)
    )
    values = daemon.values if daemon.values is not None and daemon.values.get("answers") else None
    silent = daemon.finding
    engine = f"{values['version']} (API {values['api_version']})" if values else silent.detail
    rows = [("docker", engine), ("compose", compose or "neither `docker compose` nor `docker-compose`")]
    findings: list[Finding] = []
    if values:
        counts = f"{values['running']} of {values['containers']} containers run, {values['images']} images"
        room = f"{values['cpus']} cores, {size(values['memory_bytes'])}, {values['storage']}"
        rows.append(("", f"{counts}, {room}"))
        findings += [
            Finding("system", "docker", Status.WARN, "warning", text.removeprefix("WARNING: "))
            for text in values["warnings"]
        ]
    elif await docker_is_used(survey):
        findings.append(
            Finding("system", "docker", Status.WARN, "silent", silent.detail, silent.code, silent.remedy)
        )
    data = {
        "docker": _without_error(values),
        "docker_error": None if values else silent.detail,
        "compose": compose,
    }
    return Section(data, (TableSection("versions", ("program", "version"), tuple(rows)),), tuple(findings))


async def compose_version(environ: Mapping[str, str]) -> str | None:
    """Return what Compose says of itself; None when there is none."""
    for program, *words in (("docker", "compose"), ("docker-compose",)):
        path = shutil.which(program, path=environ.get("PATH"))
        if path is None:
            continue
        try:
            done = await run((path, *words, "version", "--short"), env=environ)
        except NotStarted:
            continue
        if done.exit == 0 and done.out.strip():
            return f"{done.out.strip()} ({' '.join([program, *words])})"
    return None


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
    expected = expected_ports(survey.config)
    protocol: Protocol = "tcp"
    facts = await asyncio.gather(*(survey.get(read_port, protocol, port) for port in expected))
    rows, findings = [], []
    data: list[dict[str, Any]] = []
    for port, whose in zip(facts, expected.values(), strict=True):
        head, values = {"port": port.port, "whose": whose, "listening": port.listening}, port_values(port)
        data.append(head if port.listening is None else {**head, **values})
        addresses = ", ".join(values["addresses"])
        state, held_by = {True: "held", False: "free", None: "?"}[port.listening], ""
        if port.listening:
            held_by = values["owner"] or "hidden from this user"
        elif port.listening is None:
            held_by = "the sockets of other users are not shown to this user"
            text = f"port {port.port}: {held_by}"
            findings.append(Finding("system", whose, Status.INCONCLUSIVE, "unknown", text))
        rows.append((str(port.port), whose, state, held_by, addresses))
        if any(owner.is_public for owner in port.owners) and whose in ("ollama", "mlx"):
            text = f"port {port.port} is open to other machines ({addresses}); it asks nobody for a key"
            remedy = "bind it to 127.0.0.1, or close it in the firewall"
            findings.append(Finding("system", whose, Status.WARN, "public", text, None, remedy))
    table = TableSection("ports", ("port", "whose", "state", "held by", "addresses"), tuple(rows))
    return Section(data, (table,), tuple(findings))


async def _folders(survey: Survey) -> dict[str, Path]:
    state = Path(survey.config.state_dir)
    # The nearest folder that exists lies on the same disk.
    folders = {"root": Path("/"), "state": next(path for path in (state, *state.parents) if path.exists())}
    try:
        root = Path(str((await (await survey.docker()).info()).get("DockerRootDir") or ""))
        # In a virtual machine of a Mac it is a path of that machine.
        if root.is_absolute() and os.path.isdir(root):  # noqa: PTH112 - no exception for want of rights
            folders["docker"] = root
    except OpskitError:
        pass
    weights = [path for path in model_folders(survey.environ) if path.is_dir()]
    return folders | {
        f"models {number}" if number > 1 else "models": path for number, path in enumerate(weights, 1)
    }


def model_folders(environ: Mapping[str, str]) -> list[Path]:
    """Return where Ollama and Hugging Face keep weights: by the environment, else at the usual places."""
    home = Path(environ.get("HOME") or "/")
    ollama, cache = environ.get("OLLAMA_MODELS"), environ.get("HF_HOME")
    usual = [home / ".ollama" / "models", Path("/usr/share/ollama/.ollama/models")]
    return [
        *([Path(ollama)] if ollama else usual),
        Path(cache) / "hub" if cache else home / ".cache" / "huggingface" / "hub",
    ]


def share(percent: float | None) -> str:
    return "?" if percent is None else f"{percent:.0f} %"


def _over(target: str, used: float, limit: float, detail: str, remedy: str | None) -> list[Finding]:
    if used <= limit:
        return []
    text = f"{used:.0f} % used, over {limit:g} %: {detail}"
    return [Finding("system", target, Status.WARN, "full", text, None, remedy)]


def _without_error(values: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return the values of a check without its word for no error."""
    return None if values is None else {key: value for key, value in values.items() if key != "error"}
