"""One step for each agent (SPEC B12, D1): its status page, and for Victoria all three levels."""

from collections.abc import Mapping, Sequence
from typing import Any

from opskit.checks.agent_probe import AgentProbe, probe_agent
from opskit.checks.state import CODES, WORKING_CORES, NodeState
from opskit.config.schema import AgentConfig
from opskit.errors import OpskitError
from opskit.facts.container import Container, docker_time
from opskit.providers.agent import LEVELS
from opskit.recovery.context import RecoveryContext
from opskit.recovery.step import LOOK_S, Condition, Repair, TargetObservation
from opskit.recovery.steps.decision import NodeProblem
from opskit.recovery.steps.diagnostics import gathered, some
from opskit.recovery.steps.repairing import Repairing
from opskit.recovery.steps.subject import of_agent
from opskit.result import Finding

#: Which variable of Victoria's container switches which level on (SPEC D1); the agent itself always is.
SWITCHES = {"enhanced": "USE_VICTORIA_ENHANCED", "initiative": "ENABLE_EVENT_MONITORING"}
_TRUE = ("true", "1", "yes", "on")


def agents(ground: RecoveryContext) -> list["AgentStep"]:
    """A step for each agent of the configuration."""
    return [AgentStep(ground, agent) for agent in ground.config.agents]


class AgentStep:
    """One agent. The target bears its name.

    A level that is off is broken when the container was told to switch it on; with `all_levels` always.
    """

    requires: tuple[str, ...] = ()
    look_s = LOOK_S

    def __init__(self, ground: RecoveryContext, agent: AgentConfig, *, all_levels: bool = False) -> None:
        self.name = agent.name
        self.title = agent.name.capitalize()
        compose = [f"compose:{name}" for name in ground.config.stack.compose]
        self.after = ("docker", "network", *compose, *(node.name for node in ground.config.nodes))
        self._ground = ground
        self._agent = agent
        self._all_levels = all_levels
        self._subject = of_agent(agent, ground.config)
        self._repairing = Repairing(ground, self._subject)
        self._trouble: NodeProblem | None = None

    async def look(self) -> Sequence[TargetObservation]:
        """Ask for its status, and give it no work."""
        probe = await probe_agent(self._ground.survey, self._agent)
        await self._repairing.note_start()
        return [await self._judged(probe)]

    async def evidence(self, seen: TargetObservation) -> Mapping[str, Any]:
        del seen
        return await gathered(self._ground, self._subject, await self._repairing.situation(), None)

    async def plan(self, seen: TargetObservation) -> Repair | None:
        del seen
        return None if self._trouble is None else await self._repairing.plan(self._trouble)

    async def _judged(self, probe: AgentProbe) -> TargetObservation:
        state, self._trouble = probe.state, None
        found = probe.finding()
        told = some(found.evidence, "url", "ladder", "levels", "process")
        names = self._subject.containers
        if state in (NodeState.OK, NodeState.SLOW):
            levels = probe.facts.levels
            if levels is None and self._all_levels:
                why = f"{found.detail}; it does not tell its levels"
                return TargetObservation(self.name, Condition.UNKNOWN, "no levels", why, names, told)
            self._trouble = await self._levels_off(levels) if levels else None
            if self._trouble is None:
                condition = Condition.HEALTHY if state is NodeState.OK else Condition.WAITING
                return TargetObservation(
                    self.name, condition, found.state, found.detail, names, told, found.remedy
                )
        elif state in (NodeState.BUSY, NodeState.LOADING):
            return TargetObservation(
                self.name, Condition.WAITING, found.state, found.detail, names, told, found.remedy
            )
        elif state is NodeState.UNAUTHORISED:
            return TargetObservation(
                self.name, Condition.UNKNOWN, found.state, found.detail, names, told, found.remedy
            )
        else:
            self._trouble = trouble(probe)
            if state is NodeState.WEDGED and (busy := await self._busy()):
                why = f"{found.detail}, but {busy}"
                return TargetObservation(self.name, Condition.WAITING, "busy", why, names, told, found.remedy)
        if not self._subject.local and not self._agent.required:
            return self._far(found, told)
        decision = await self._repairing.decide(self._trouble)
        broken = decision.condition is Condition.BROKEN
        return TargetObservation(
            self.name,
            decision.condition,
            decision.state,
            decision.cause,
            names,
            told,
            decision.remedy,
            CODES.get(state, "COMM_001") if broken else None,
        )

    def _far(self, found: Finding, told: Mapping[str, Any]) -> TargetObservation:
        """Not well, and on another machine: not ours to mend."""
        names = self._subject.containers
        if not self._subject.explicit:
            why = f"{found.detail}, and nobody configured it"
            return TargetObservation(self.name, Condition.ABSENT, "absent", why, names, told, found.remedy)
        why = f"{found.detail}; it is on another machine, and not required"
        return TargetObservation(self.name, Condition.LEFT, found.state, why, names, told, found.remedy)

    async def _levels_off(self, levels: Mapping[str, bool]) -> NodeProblem | None:
        """The trouble of levels that should be on; None when those that are off were never switched on."""
        off = [level for level in LEVELS if not levels.get(level)]
        if not off:
            return None
        containers = [one.container for one in (await self._repairing.situation()).containers]
        wanted = off if self._all_levels else [level for level in off if switched_on(level, containers)]
        if not wanted:
            return None
        noun = "level is" if len(wanted) == 1 else "levels are"
        detail = f"the {noun} off: {', '.join(wanted)}"
        return NodeProblem("level off", detail, speaks=True)

    async def _busy(self) -> str:
        """What shows that a silent agent is working, in words; nothing when it is not."""
        for one in (await self._repairing.situation()).containers:
            if not one.container.running:
                continue
            try:
                cores = cores_of(await self._ground.door.stats(one.container.name))
            except OpskitError:
                continue
            if cores >= WORKING_CORES:
                return f"container {one.container.name} is using {cores:.1f} cores"
        return ""


def switched_on(level: str, containers: Sequence[Container]) -> bool:
    """Whether the container was told to switch a level on. Pure."""
    switch = SWITCHES.get(level)
    if switch is None:
        return True
    return any(one.variables.get(switch, "").strip().lower() in _TRUE for one in containers)


def trouble(probe: AgentProbe) -> NodeProblem:
    """What a probe means for a repair. Pure."""
    speaks = probe.facts.page is not None
    return NodeProblem(probe.state.shown, probe.detail, speaks, remedy=probe.advice())


def cores_of(stats: Mapping[str, Any]) -> float:
    """How many cores a container used between the two samples that Docker takes; 0 when it does not tell."""
    try:
        now, before = stats["cpu_stats"]["cpu_usage"], stats["precpu_stats"]["cpu_usage"]
        began, ended = docker_time(stats["preread"]), docker_time(stats["read"])
        used_ns = int(now["total_usage"]) - int(before["total_usage"])
    except (KeyError, TypeError, ValueError):
        return 0.0
    if began is None or ended is None or (seconds := (ended - began).total_seconds()) <= 0:
        return 0.0
    return max(0.0, used_ns / 1e9 / seconds)
