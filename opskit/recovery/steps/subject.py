"""A server that recovery watches, a node or an agent, as far as starting and restarting it goes."""

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from opskit.config.schema import AgentConfig, Config, NodeConfig
from opskit.providers.kinds import ServerKind, expected_kind
from opskit.recovery.context import RecoveryContext
from opskit.system.host import is_loopback
from opskit.system.network import endpoint


@dataclass(frozen=True, slots=True)
class RepairSubject:
    """`start` is the command of the configuration, empty without one; `containers` those of the stack.

    `services` are names under which a service may be installed (`ollama.service`, `brew install ollama`);
    `kind` is what a node is configured as, None for an agent.
    """

    name: str
    url: str
    explicit: bool
    known_by: tuple[str, ...]
    containers: tuple[str, ...]
    start: tuple[str, ...]
    services: tuple[str, ...] = ()
    kind: ServerKind | None = None

    @property
    def port(self) -> int:
        return endpoint(self.url)[1]

    @property
    def local(self) -> bool:
        return is_loopback(self.url)

    def known(self, *words: str) -> bool:
        """Whether one of these words, of a process or its owner, speaks of this server."""
        text = " ".join(words).lower()
        return any(word in text for word in self.known_by)


def of_node(node: NodeConfig, config: Config) -> RepairSubject:
    kind = expected_kind(node.source)
    return RepairSubject(
        node.name,
        node.url,
        node.explicit,
        (*kind.known_by, node.name.lower()),
        config.stack.containers.get(node.name, ()),
        config.stack.start.get(node.name, ()),
        tuple(dict.fromkeys((node.name.lower(), *kind.services))),
        kind,
    )


def of_agent(agent: AgentConfig, config: Config) -> RepairSubject:
    return RepairSubject(
        agent.name,
        agent.url,
        agent.explicit,
        (agent.name.lower(),),
        config.stack.containers.get(agent.name, ()),
        config.stack.start.get(agent.name, ()),
        (agent.name.lower(), f"{agent.name.lower()}-agent"),
    )


def folder_of(config: Config) -> str:
    """Where the start command runs: the folder of the configuration file, whatever the scheduler's is."""
    return str(config.located("."))


def weights_bytes(start: tuple[str, ...], config: Config) -> int | None:
    """The size of the model that a start command names by its folder (`--model DIR`); None when not told."""
    for before, value in pairwise(start):
        if before == "--model":
            try:
                return sum(one.stat().st_size for one in _folder(value, config).glob("*.safetensors")) or None
            except OSError:
                return None
    return None


def _folder(value: str, config: Config) -> Path:
    return Path(folder_of(config)) / value


def started_by_us(ground: RecoveryContext, subject: RepairSubject) -> tuple[int, float] | None:
    """Process id and start of the server that an earlier repair started; None when there is none."""
    kept: Any = ground.memory.facts.get(_key(subject))
    try:
        return int(kept["pid"]), float(kept["began"])
    except (KeyError, TypeError, ValueError):
        return None


def remember(ground: RecoveryContext, subject: RepairSubject, pid: int, began: float) -> None:
    """Keep that this process is one that a repair started."""
    ground.memory.facts[_key(subject)] = {"pid": pid, "began": began}


def _key(subject: RepairSubject) -> str:
    """Where the healer keeps the server that it started, too."""
    return f"started:{subject.name}"
