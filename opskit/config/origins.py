"""Where each value comes from, and the values as a person may see them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Literal

from opskit.config.schema import AgentConfig, Config, NodeConfig, Secret


@dataclass(frozen=True, slots=True)
class Origin:
    """`detail` is `opskit.yaml:12` for a file and the variable's name for the environment.

    `unset` names the variable that a secret refers to and that holds nothing.
    """

    kind: Literal["default", "file", "env"]
    detail: str = ""
    unset: str | None = None

    def __str__(self) -> str:
        return {"default": "default", "file": self.detail, "env": f"env {self.detail}"}[self.kind]


DEFAULT = Origin("default")


@dataclass(frozen=True, slots=True)
class Setting:
    """One value of one layer (defaults, file, environment). `note` is worth telling if the value is used."""

    value: Any
    origin: Origin = DEFAULT
    note: str | None = None


#: Key path to setting. A later layer is laid over an earlier one with `|`.
Settings = dict[str, Setting]


@dataclass(frozen=True, slots=True)
class Shown:
    """One line of `opskit config show`."""

    key: str
    value: Any
    origin: Origin

    @property
    def text(self) -> str:
        """The value in YAML's words."""
        match self.value:
            case None:
                return "null"
            case bool():
                return str(self.value).lower()
            case list():
                return ", ".join(self.value) if self.value else "[]"
            case _:
                return str(self.value)


def shown(config: Config, origins: Mapping[str, Origin]) -> Iterator[Shown]:
    """Every effective value with its origin; secrets are `***`, or `(unset: NAME)`.

    A node or an agent that is switched off appears as `nodes.NAME.enabled` false and nothing else.
    """
    for key, value in _leaves(config):
        origin = origins.get(key, DEFAULT)
        if isinstance(value, Secret):
            yield Shown(key, "***", origin)
        elif value is None and origin.unset:
            yield Shown(key, f"(unset: {origin.unset})", origin)
        else:
            yield Shown(key, list(value) if isinstance(value, tuple) else value, origin)
    present = {f"nodes.{node.name}" for node in config.nodes} | {
        f"agents.{one.name}" for one in config.agents
    }
    for key, origin in origins.items():
        if key.endswith(".enabled") and key.removesuffix(".enabled") not in present:
            yield Shown(key, False, origin)


def _leaves(config: Config) -> Iterator[tuple[str, Any]]:
    for group, members in (("nodes", config.nodes), ("agents", config.agents)):
        for member in members:
            yield from _member_leaves(f"{group}.{member.name}", member)
    for field in fields(config):
        value = getattr(config, field.name)
        if is_dataclass(value):
            yield from _section_leaves(field.name, value)
        elif field.name not in ("nodes", "agents", "path"):
            yield field.name, value


def _section_leaves(section: str, values: Any) -> Iterator[tuple[str, Any]]:
    for field in fields(values):
        value = getattr(values, field.name)
        if isinstance(value, dict):
            yield from ((f"{section}.{field.name}.{name}", item) for name, item in value.items())
        else:
            yield f"{section}.{field.name}", value


def _member_leaves(prefix: str, member: NodeConfig | AgentConfig) -> Iterator[tuple[str, Any]]:
    for field in fields(member):
        if field.name not in ("name", "explicit"):
            yield f"{prefix}.{field.name}", getattr(member, field.name)
