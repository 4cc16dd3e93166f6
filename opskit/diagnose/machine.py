"""The system area, as far as it is the machine: memory, processor, disks, graphics, versions (SPEC C2)."""

import asyncio
import os
import platform
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from opskit import __version__
from opskit.config.schema import WatchConfig
from opskit.diagnose.area import Part, TableSection
from opskit.diagnose.checked_values import seen
from opskit.diagnose.docker_here import not_installed
from opskit.diagnose.quantities import age, share, size
from opskit.errors import OpskitError
from opskit.facts.survey import Survey
from opskit.result import Finding, Status
from opskit.system.host import up_s
from opskit.system.program import NotStarted, run

_UNLOAD = "`opskit models loaded` shows models; `ollama stop NAME` unloads one"


async def host(around: Survey) -> Part:
    """What machine this is, and for how long it has been up."""
    uptime = await asyncio.to_thread(up_s)
    data = {
        "host": platform.node(),
        "os": await asyncio.to_thread(system_name),
        "kernel": platform.release(),
        "architecture": platform.machine(),
        "up_s": None if uptime is None else round(uptime),
        "python": platform.python_version(),
        "python_path": sys.executable,
        "opskit": __version__,
        "config": around.config.path,
        "state_dir": around.config.state_dir,
    }
    rows = (
        ("system", f"{data['os']} ({data['architecture']}, kernel {data['kernel']})"),
        ("host", str(data["host"])),
        ("up", age(uptime) or "?"),
        ("python", f"{data['python']} ({data['python_path']})"),
        ("opskit", f"{__version__}, configuration: {around.config.path or 'none'}"),
    )
    return Part(data, (TableSection("machine", ("property", "value"), rows),))


def system_name() -> str:
    """The name of the system as its maker writes it."""
    if sys.platform == "darwin":
        return f"macOS {platform.mac_ver()[0]}"
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", "Linux")
    except OSError:
        return platform.system()


async def load(around: Survey) -> Part:
    """Memory, swap and processor."""
    memory, cpu = await asyncio.gather(seen("memory", around), seen("cpu", around))
    limits = around.config.watch
    rows, findings = [], []
    if (m := memory.values) is not None:
        swap = f"{size(m['swap_total_bytes'])}, {share(m['swap_used_percent'])} used"
        rows.append(
            (
                "memory",
                share(m["used_percent"]),
                f"{size(m['available_bytes'])} of {size(m['total_bytes'])} available",
            )
        )
        rows.append(("swap", share(m["swap_used_percent"]), swap if m["swap_total_bytes"] else "none"))
        if m["used_percent"] > limits.memory_percent:
            findings.append(
                _over("memory", m["used_percent"], limits.memory_percent, memory.finding.detail, _UNLOAD)
            )
    if (c := cpu.values) is not None:
        detail = f"{c['count']} cores, load {c['load_1']:.2f} (1 min), {c['load_5']:.2f} (5 min)"
        rows.append(("cpu", share(c["used_percent"]), detail))
        if c["used_percent"] > limits.cpu_percent:
            findings.append(
                _over("cpu", c["used_percent"], limits.cpu_percent, detail, "`top` shows what works")
            )
    for one in (memory, cpu):
        if one.values is None:
            findings.append(one.finding)
            rows.append((one.finding.target, "?", one.finding.detail))
    data = {"memory": _plain(memory.values), "cpu": _plain(cpu.values)}
    return Part(data, (TableSection("load", ("what", "used", ""), tuple(rows)),), tuple(findings))


async def disks(around: Survey) -> Part:
    """The disks behind the folders that matter; those on the same one share a row."""
    folders = await _folders(around)
    looked = await asyncio.gather(*(seen("disk", around, path=str(path)) for path in folders.values()))
    limits: WatchConfig = around.config.watch
    rows, data, findings = [], [], []
    for (name, path), one in zip(folders.items(), looked, strict=True):
        if one.values is None:
            rows.append((name, str(path), "?", one.finding.detail))
            data.append({"name": name, "path": str(path), "error": one.finding.detail})
            findings.append(one.finding)
            continue
        v = one.values
        rows.append(
            (
                name,
                str(path),
                share(v["used_percent"]),
                f"{size(v['free_bytes'])} of {size(v['total_bytes'])} free",
            )
        )
        data.append({"name": name, "path": str(path), **(_plain(v) or {})})
        if v["used_percent"] > limits.disk_percent:
            findings.append(
                _over(
                    f"disk of {path}",
                    v["used_percent"],
                    limits.disk_percent,
                    one.finding.detail,
                    one.finding.remedy,
                )
            )
    return Part(data, (TableSection("disks", ("folder", "path", "used", ""), tuple(rows)),), tuple(findings))


async def graphics(around: Survey) -> Part:
    """GPUs; a machine without one is fine."""
    found = await seen("gpu", around, timeout_s=10.0)
    if found.values is None:
        findings = () if found.finding.status is Status.SKIP else (found.finding,)
        return Part([], (TableSection("gpu", lines=(found.finding.detail,)),), findings)
    gpus = list(found.finding.evidence.get("gpus", ()))
    rows = tuple(
        (
            str(one["name"]),
            share(one["used_percent"]),
            f"{size(one['memory_used_bytes'])} of {size(one['memory_total_bytes'])}"
            if one["memory_total_bytes"]
            else "the machine's",
            "?" if one["temperature_c"] is None else f"{one['temperature_c']:.0f} °C",
        )
        for one in gpus
    )
    return Part(gpus, (TableSection("gpu", ("name", "used", "memory", "temperature"), rows),))


async def versions(around: Survey) -> Part:
    """Docker and Compose, as they are found from here."""
    daemon, compose = await asyncio.gather(
        seen("docker_daemon", around, timeout_s=6.0), compose_version(around)
    )
    values = daemon.values if daemon.values is not None and daemon.values.get("answers") else None
    engine = f"{values['version']} (API {values['api_version']})" if values else daemon.finding.detail
    rows = [("docker", str(engine)), ("compose", compose or "neither `docker compose` nor `docker-compose`")]
    findings: list[Finding] = []
    if values:
        told = f"{values['running']} of {values['containers']} containers run, {values['images']} images"
        rows.append(
            ("", f"{told}, {values['cpus']} cores, {size(values['memory_bytes'])}, {values['storage']}")
        )
        findings += [
            Finding("system", "docker", Status.WARN, "warning", text.removeprefix("WARNING: "))
            for text in values["warnings"]
        ]
    elif not await asyncio.to_thread(not_installed, around.environ):
        silent = daemon.finding
        findings.append(
            Finding("system", "docker", Status.WARN, "silent", silent.detail, silent.code, silent.remedy)
        )
    data = {
        "docker": _plain(values),
        "docker_error": None if values else daemon.finding.detail,
        "compose": compose,
    }
    return Part(data, (TableSection("versions", ("program", "version"), tuple(rows)),), tuple(findings))


async def compose_version(around: Survey) -> str | None:
    """What Compose says of itself; None when there is none."""
    where = around.environ.get("PATH")
    docker, old = shutil.which("docker", path=where), shutil.which("docker-compose", path=where)
    for program, *rest in ((docker, "compose", "version", "--short"), (old, "version", "--short")):
        if program is None:
            continue
        try:
            done = await run((program, *(str(one) for one in rest)), env=around.environ)
        except NotStarted:
            continue
        if done.exit == 0 and done.out.strip():
            return f"{done.out.strip()} ({' '.join([Path(program).name, *map(str, rest[:-2])])})"
    return None


async def _folders(around: Survey) -> dict[str, Path]:
    found = {"root": Path("/"), "state": _there(Path(around.config.state_dir))}
    try:
        door = await around.docker()
        root = Path(str((await door.info()).get("DockerRootDir") or ""))
        # In a virtual machine of a Mac it is a path of that machine.
        if root.is_absolute() and os.path.isdir(root):  # noqa: PTH112 - no exception for want of rights
            found["docker"] = root
    except OpskitError:
        pass
    there = [path for path in model_folders(around.environ) if path.is_dir()]
    return found | {
        f"models {number}" if number > 1 else "models": path for number, path in enumerate(there, 1)
    }


def model_folders(environ: Mapping[str, str]) -> list[Path]:
    """Where Ollama and Hugging Face keep weights: as the environment says, else at their usual places."""
    home = Path(environ.get("HOME") or "/")
    ollama = environ.get("OLLAMA_MODELS")
    cache = environ.get("HF_HOME")
    return [
        *(
            [Path(ollama)]
            if ollama
            else [home / ".ollama" / "models", Path("/usr/share/ollama/.ollama/models")]
        ),
        Path(cache) / "hub" if cache else home / ".cache" / "huggingface" / "hub",
    ]


def _there(path: Path) -> Path:
    """The folder, or the nearest one above it that exists: it lies on the same disk."""
    return next((one for one in (path, *path.parents) if one.exists()), Path("/"))


def _over(target: str, used: float, limit: float, detail: str, remedy: str | None) -> Finding:
    told = f"{used:.0f} % used, over {limit:g} %: {detail}"
    return Finding("system", target, Status.WARN, "full", told, None, remedy)


def _plain(values: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The values of a check without its word for no error."""
    return None if values is None else {key: value for key, value in values.items() if key != "error"}
