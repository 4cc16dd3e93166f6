"""Where looks leave their facts while they run side by side; and how a look becomes a check."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from opskit.checks.expectation import Expectation
from opskit.checks.kinds import KINDS
from opskit.checks.kinds.machine import NoParams
from opskit.checks.spec import Check, CheckContext, Kind, Observation
from opskit.doctor.evidence import (
    Call,
    ClockFacts,
    Cut,
    DiskFacts,
    DockerFacts,
    EnvFileFacts,
    ExaminedAgent,
    ExaminedContainer,
    ExaminedNode,
    ProjectFacts,
)
from opskit.doctor.scheduled import ScheduleFacts
from opskit.facts.port_owner import PortOwner

Look = Callable[[CheckContext], Awaitable[Observation]]
#: What becomes of an observation of the engine: facts are taken, and a problem is told or not.
Judge = Callable[[Observation], Observation]


@dataclass(slots=True)
class FactBoard:
    """The facts so far. Each look writes its own field only."""

    nodes: dict[str, ExaminedNode] = field(default_factory=dict)
    agents: dict[str, ExaminedAgent] = field(default_factory=dict)
    holders: dict[int, tuple[PortOwner, ...]] = field(default_factory=dict)
    disks: list[DiskFacts] = field(default_factory=list)
    memory: Mapping[str, Any] = field(default_factory=dict)
    localhost: tuple[str, ...] | None = None
    docker: DockerFacts = field(default_factory=DockerFacts)
    containers: tuple[ExaminedContainer, ...] = ()
    network_exists: bool | None = None
    projects: dict[str, ProjectFacts] = field(default_factory=dict)
    clocks: list[ClockFacts] = field(default_factory=list)
    docker_clock: ClockFacts | None = None
    env_files: dict[str, EnvFileFacts] = field(default_factory=dict)
    calls: list[Call] = field(default_factory=list)
    cuts: list[Cut] = field(default_factory=list)
    schedule: ScheduleFacts | None = None


def check(
    name: str,
    look: Look,
    *,
    area: str,
    target: str = "",
    requires: Sequence[str] = (),
    timeout_s: float = 10.0,
    imports: tuple[str, ...] = (),
) -> Check:
    """A look as a check: it fails with its observation's `problem`, and passes without one."""

    async def observe(params: NoParams, scene: CheckContext) -> Observation:
        del params
        return await look(scene)

    kind = Kind(area, "", NoParams, {}, {}, observe, lambda _: target or name, timeout_s, imports)
    return Check(
        name, kind, NoParams(), Expectation({}), requires=tuple(requires), timeout_s=timeout_s, tags=(area,)
    )


def engine(
    kind: str,
    params: Mapping[str, Any],
    judge: Judge,
    *,
    name: str,
    area: str,
    target: str,
    requires: Sequence[str] = (),
) -> Check:
    """A check of one of the engine's kinds whose observation is judged here."""
    known = KINDS[kind]
    given = known.params(**params)

    async def look(scene: CheckContext) -> Observation:
        return judge(cast("Observation", await known.observe(given, scene)))

    return check(
        name,
        look,
        area=area,
        target=target,
        requires=requires,
        timeout_s=known.timeout_s,
        imports=known.imports,
    )


def nearest(path: Path) -> Path:
    """The path, or the nearest folder above it that exists."""
    return next((one for one in (path, *path.parents) if one.exists()), Path("/"))
