"""Evidence for tests of pure functions: a stack that is well, with what a test changes."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from opskit.checks.container_assessment import ContainerRules, assess_container
from opskit.checks.state import NodeState
from opskit.config.schema import AgentConfig, Config, NodeConfig, RecoveryConfig
from opskit.doctor.areas import every
from opskit.doctor.attribution import order
from opskit.doctor.evidence import Evidence, ExaminedContainer, ExaminedNode
from opskit.facts.container import Container, PublishedPort
from opskit.facts.environment import known
from opskit.facts.port_owner import PortOwner
from opskit.providers import kinds
from opskit.providers.base import ModelInfo
from opskit.system.running import Running

OLLAMA = NodeConfig("ollama", "http://127.0.0.1:11434", "ollama")
MLX = NodeConfig("mlx", "http://127.0.0.1:11435", "mlx")
VICTORIA = AgentConfig("victoria", "http://127.0.0.1:8010")
MODEL = ModelInfo("m:7b", 4 * 1024**3, context_length=131_072)
GIB = 1024**3


def well(**changes: Any) -> Evidence:
    config = Config("/state", (OLLAMA, MLX), (VICTORIA,))
    nodes = (
        ExaminedNode(OLLAMA, NodeState.OK, kind=kinds.OLLAMA, models=(MODEL,)),
        ExaminedNode(MLX, NodeState.OK, kind=kinds.MLX_LM, models=(ModelInfo("default_model"),)),
    )
    base = Evidence(config, datetime.now(UTC), nodes=nodes, memory_total_bytes=64 * GIB,
                    memory_available_bytes=32 * GIB)  # fmt: skip
    return replace(base, **changes)


def container(
    name: str = "worker",
    *,
    variables: dict[str, str] | None = None,
    published: int | None = None,
    **about: Any,
) -> ExaminedContainer:
    """One that runs, or what `about` says, assessed as of now; `published` is a port of the host."""
    now = datetime.now(UTC)
    ports = () if published is None else (PublishedPort(inside="80/tcp", host_port=published),)
    given = {"id": name, "status": "running", "started": now - timedelta(hours=1), "bindings": ports}
    record = Container(name=name, **{**given, **about})
    rules = ContainerRules.of(RecoveryConfig())
    assessment = assess_container(record, peers={}, events=None, rules=rules, now=now)
    return ExaminedContainer(record, assessment, environment=known(variables or {}))


def holder(address: str = "127.0.0.1", *, pid: int = 7, name: str = "ollama", **about: Any) -> PortOwner:
    process = Running(pid, 1, name, (name, "serve"), "me", "sleeping", 0.0, 0.0, GIB)
    return PortOwner(port=11434, address=address, pid=pid, process=process, **about)


def keys(evidence: Evidence) -> list[str]:
    return [one.key for one in sorted(every.causes(evidence), key=order)]
