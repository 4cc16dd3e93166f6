"""Evidence for tests of pure functions: a stack that is well, with what a test changes."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from opskit.checks.container_assessment import ContainerRules, assess_container
from opskit.checks.probe_record import NodeProbe, ProbeOptions
from opskit.checks.state import NodeState
from opskit.config.load import LoadedConfig
from opskit.config.schema import AgentConfig, Config, NodeConfig, RecoveryConfig
from opskit.doctor.diagnosis import order
from opskit.doctor.evidence import Evidence, ExaminedContainer
from opskit.doctor.examination import causes
from opskit.doctor.target import ExaminationTarget
from opskit.facts.container import Container, PublishedPort
from opskit.facts.model_requests import ModelRequests
from opskit.facts.node import NodeFacts
from opskit.facts.port_owner import PortOwner
from opskit.logs.calls import ModelCall
from opskit.providers import kinds
from opskit.providers.base import ModelInfo, Resident
from opskit.providers.kinds import ServerKind
from opskit.records import replace
from opskit.system.host import MemoryGauge
from opskit.system.process import Process

GIB = 1024**3
OLLAMA = NodeConfig("ollama", "http://127.0.0.1:11434", "ollama")
MLX = NodeConfig("mlx", "http://127.0.0.1:11435", "mlx")
VICTORIA = AgentConfig("victoria", "http://127.0.0.1:8010")
MODEL = ModelInfo("m:7b", 4 * GIB, context_length=131_072)
CONFIG = Config("/state", (OLLAMA, MLX), (VICTORIA,))


def well(
    *,
    config: Config = CONFIG,
    platform: str = "linux",
    environ: Mapping[str, str] | None = None,
    **changes: Any,
) -> Evidence:
    """A stack without a cause, but for what is changed."""
    target = ExaminationTarget(
        loaded=LoadedConfig(config, {}), environ=environ or {}, cwd=Path("/"), platform=platform
    )
    nodes = (probe(OLLAMA, models=(MODEL,)), probe(MLX, kind=kinds.MLX_LM))
    base = Evidence(target=target, nodes=nodes, memory=MemoryGauge(64 * GIB, 32 * GIB, 50.0, 0, 0.0))
    return replace(base, **changes)


def probe(
    config: NodeConfig = OLLAMA,
    state: NodeState = NodeState.OK,
    detail: str = "",
    *,
    kind: ServerKind | None = kinds.OLLAMA,
    models: tuple[ModelInfo, ...] | None = (ModelInfo("default_model"),),
    resident: tuple[Resident, ...] = (),
) -> NodeProbe:
    facts = NodeFacts(config=config, kind=kind, models=models, resident=resident)
    return NodeProbe(config=config, options=ProbeOptions(), facts=facts, state=state, detail=detail)


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
    record = Container(name=name, variables=variables or {}, **{**given, **about})
    rules = ContainerRules.of(RecoveryConfig())
    return ExaminedContainer(record, assess_container(record, peers={}, events=None, rules=rules, now=now))


def owner(address: str = "127.0.0.1", *, pid: int = 7, name: str = "ollama", **about: Any) -> PortOwner:
    process = Process(pid, 1, name, (name, "serve"), "me", "sleeping", 0.0, 0.0, GIB)
    return PortOwner(port=11434, address=address, pid=pid, process=process, **about)


def requests(**counts: int) -> tuple[ModelRequests, ...]:
    """What opskit's own log tells: so many calls of each node, all answered."""
    calls = [ModelCall(1, node, "m", None, "ok") for node, count in counts.items() for _ in range(count)]
    return (ModelRequests("opskit", tuple(calls)),)


def keys(evidence: Evidence) -> list[str]:
    return [cause.key for cause in sorted(causes(evidence), key=order)]
