"""The lowest layer: what holds when nobody said anything (SPEC B7, D7)."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import get_type_hints

from opskit.config.origins import Setting, Settings
from opskit.config.schema import Config, Source
from opskit.config.state import default_state_dir

#: Source and port of the nodes, and port of the agents, that are there without being named.
NODES: dict[str, tuple[Source, int]] = {"ollama": ("ollama", 11434), "mlx": ("mlx", 11435)}
AGENTS: dict[str, int] = {"victoria": 8010, "veronica": 8011}


def sections() -> dict[str, type]:
    """The sections with fixed keys, by name: `budgets` is `Budgets`."""
    hints = get_type_hints(Config).items()
    return {name: hint for name, hint in hints if isinstance(hint, type) and is_dataclass(hint)}


def settings(environ: Mapping[str, str], *, in_docker: bool) -> Settings:
    host = "host.docker.internal" if in_docker else "localhost"
    result = {}
    for name, (source, port) in NODES.items():
        result[f"nodes.{name}.url"] = Setting(f"http://{host}:{port}")
        result[f"nodes.{name}.source"] = Setting(source)
    for name, port in AGENTS.items():
        result[f"agents.{name}.url"] = Setting(f"http://{host}:{port}")
    for name, schema in sections().items():
        values = schema()
        for one in fields(schema):
            if isinstance(entries := getattr(values, one.name), dict):
                # Named entries are merged one by one with those of a file.
                result |= {f"{name}.{one.name}.{key}": Setting(item) for key, item in entries.items()}
    result["state_dir"] = Setting(default_state_dir(environ))
    return result


def running_in_docker(root: Path = Path("/")) -> bool:
    """Whether this process lives in a container: Docker's or Podman's marker file, or the first cgroup."""
    if any((root / marker).exists() for marker in (".dockerenv", "run/.containerenv")):
        return True
    try:
        cgroup = (root / "proc/1/cgroup").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return any(word in cgroup for word in ("docker", "containerd", "kubepods"))
