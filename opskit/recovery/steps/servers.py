"""One step for each model node and each agent (SPEC B12, D1).

A node is ready when it gives a token, not when it answers a health page (ops facts 0.1). Slow, busy, loading
and starting servers are left to themselves. A process that is stopped is let go on, a model that crashes or
writes garbage is unloaded; a server is restarted, by its owner, when it is refused or wedged, or fails as a
whole. An agent is asked for its status, Victoria for all three levels.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from opskit.checks.agent_probe import probe_agent
from opskit.checks.node_probe import limit_s, probe_node
from opskit.checks.probe_record import AgentProbe, NodeProbe, ProbeOptions
from opskit.checks.state import CODES, NodeState, is_working
from opskit.checks.upkeep import upkeep_here
from opskit.config.schema import AgentConfig, NodeConfig
from opskit.errors import OpskitError
from opskit.facts.container import docker_time
from opskit.facts.port_owner import PortOwner
from opskit.llm.faults import FaultKind
from opskit.providers.agent import LEVELS
from opskit.records import replace
from opskit.recovery.step import Condition, RecoveryContext, Step, TargetFinding
from opskit.recovery.steps.decision import ServerProblem, unload_mark
from opskit.recovery.steps.server import ServerFacts
from opskit.recovery.steps.server_step import ServerStep

#: Faults of a model after which its next load may be well: it crashed, held too much memory, wrote garbage.
_UNLOADING_MENDS = frozenset({
    FaultKind.RUNNER_CRASHED, FaultKind.OUT_OF_MEMORY, FaultKind.RESET, FaultKind.BAD_PAYLOAD,
    FaultKind.EMPTY_REPLY, FaultKind.TRUNCATED, FaultKind.SERVER_ERROR,
})  # fmt: skip
#: Within this time after an unload that did not help a server is restarted.
_UNLOADED_S = 600.0
#: Which variable of Victoria's container switches which level on (SPEC D1); the agent itself always is.
SWITCHES = {"enhanced": "USE_VICTORIA_ENHANCED", "initiative": "ENABLE_EVENT_MONITORING"}
#: Installs our own server, or brings its unit up to date with the settings of this shell.
VICTORIA_INSTALL = "opskit schedule install victoria"
_TRUE = ("true", "1", "yes", "on")


def nodes(context: RecoveryContext) -> list[Step]:
    """Return a step for each node of the configuration; one on another machine is never repaired."""
    return [_node_step(context, node) for node in context.config.nodes]


def _node_step(context: RecoveryContext, node: NodeConfig) -> Step:
    step = ServerStep(context, node)

    async def look() -> Sequence[TargetFinding]:
        """Ask a resident model for a token; loads, pins and swaps nothing."""
        probe = await probe_node(context.survey, node, ProbeOptions())
        if probe.state is NodeState.FAILING or (probe.runner is not None and probe.runner.needs_time):
            # A runner that crashed is brought back by the next request (wire facts A6), and a long batch
            # moves no counter: neither one bad answer nor one standstill is enough.
            probe = await probe_node(context.survey, node, ProbeOptions())
        await step.note_start()
        finding = step.finding(probe)
        if finding.condition is not Condition.BROKEN:
            return [finding]
        problem = node_problem(probe, context.config.recovery.load_grace_s)
        unloaded_at = context.memory.marks.get(unload_mark(node.name), float("-inf"))
        if not probe.model_fails and 0 <= context.clock() - unloaded_at < _UNLOADED_S:
            # It did not help against a scheduler that hangs.
            problem = replace(problem, unload=None)
        return [await step.decided(finding, problem, code=CODES.get(probe.state))]

    # A node may live in a container; Docker being down does not keep others from being repaired.
    after = ("docker", *(f"compose:{name}" for name in context.config.stack.compose))
    return Step(node.name, look, after=after, look_s=2 * limit_s(context.config))


def node_problem(probe: NodeProbe, load_grace_s: float) -> ServerProblem:
    """Return what a probe means for a repair. Pure."""
    # Nothing listens: it may be starting. Something listens and gives no token: it may be loading.
    fresh_s = 0.0 if probe.state is NodeState.REFUSED else load_grace_s
    runner, model = probe.runner, probe.model
    may_unload = probe.facts.likely_kind.loads_on_demand and probe.config.api_key is None
    held_up = runner is not None and runner.scheduler
    mended = probe.fault in _UNLOADING_MENDS if probe.model_fails else held_up
    return ServerProblem(
        state=probe.state.shown,
        detail=probe.detail,
        speaks=probe.speaks,
        curable=not probe.server_is_well,
        remedy=probe.advice(),
        fresh_s=fresh_s,
        stopped=None if runner is None else runner.stopped,
        unload=model if may_unload and mended else None,
        restart=not probe.model_fails,
    )


def agents(context: RecoveryContext) -> list[Step]:
    return [agent_step(context, agent) for agent in context.config.agents]


def agent_step(context: RecoveryContext, agent: AgentConfig, *, all_levels: bool = False) -> Step:
    """Return the step of one agent.

    A level that is off is broken when the container is configured to switch it on; with `all_levels` always.
    """
    compose = (f"compose:{name}" for name in context.config.stack.compose)
    after = ("docker", "network", *compose, *(node.name for node in context.config.nodes))
    return Step(agent.name, _AgentStep(context, agent, all_levels).look, after=after)


class _AgentStep(ServerStep):
    def __init__(self, context: RecoveryContext, agent: AgentConfig, all_levels: bool) -> None:
        super().__init__(context, agent)
        self._agent = agent
        self._all_levels = all_levels

    async def look(self) -> Sequence[TargetFinding]:
        """Ask for its status, and give it no work."""
        probe = await probe_agent(self.context.survey, self._agent)
        await self.note_start()
        finding = self.finding(probe)
        if probe.is_well:
            return [await self._with_levels(probe, finding)]
        if finding.condition is not Condition.BROKEN:
            return [finding]
        facts = await self.read() if probe.state is NodeState.WEDGED else None
        if facts is not None and (work := await self._work(facts)):
            why = f"{finding.cause}, but {work}"
            return [replace(finding, condition=Condition.WAITING, state="busy", cause=why)]
        speaks = probe.facts.page is not None
        problem = ServerProblem(finding.state, finding.cause, speaks, remedy=finding.remedy)
        code = CODES.get(probe.state, "COMM_001")
        return [await self.decided(finding, problem, facts, code=code)]

    async def _with_levels(self, probe: AgentProbe, finding: TargetFinding) -> TargetFinding:
        """Return the finding of an agent that answers: broken when a level is off that should be on."""
        levels = probe.facts.levels
        if levels is None and self._all_levels:
            why = f"{finding.cause}; it does not tell its levels"
            return replace(finding, condition=Condition.UNKNOWN, state="no levels", cause=why)
        off = [level for level in LEVELS if not levels.get(level)] if levels else []
        if not off:
            return finding
        facts = await self.read()
        switches = [assessed.container.variables for assessed in facts.containers]
        wanted = [level for level in off if self._all_levels or switched_on(level, switches)]
        if not switches and facts.owner is not None and facts.owner.environment is not None:
            # A process keeps the settings that it was started with: a restart switches on what they name.
            wanted = [level for level in off if switched_on(level, [facts.owner.environment.settings])]
            if not wanted and self._all_levels:
                return self._switched_off(finding, off, facts.owner)
        if not wanted:
            return finding
        noun = "level is" if len(wanted) == 1 else "levels are"
        problem = ServerProblem("level off", f"the {noun} off: {', '.join(wanted)}", speaks=True)
        return await self.decided(
            replace(finding, state=probe.state.shown), problem, facts, code=CODES.get(probe.state, "COMM_001")
        )

    def _switched_off(self, finding: TargetFinding, off: Sequence[str], owner: PortOwner) -> TargetFinding:
        """Return the finding of levels that nobody has switched on where the server is started."""
        again = f"`{VICTORIA_INSTALL}`"
        if owner.service is None or owner.service.kind == "stray":
            again = upkeep_here(owner).restart
        values = ", ".join(f"{SWITCHES[level]}=true" for level in off if level in SWITCHES)
        why = f"{finding.cause}; {owner.words} was started without {values}"
        remedy = f"set {values}, then {again}"
        return replace(finding, condition=Condition.BROKEN, state="level off", cause=why, remedy=remedy)

    async def _work(self, facts: ServerFacts) -> str:
        """Return what shows that a silent agent is working, in words; nothing when it is not."""
        for assessed in facts.containers:
            if not assessed.container.running:
                continue
            try:
                cores = cores_of(await self.context.docker.stats(assessed.container.name))
            except OpskitError:
                continue
            if is_working(cores):
                return f"container {assessed.container.name} is using {cores:.1f} cores"
        return ""


def switched_on(level: str, environments: Sequence[Mapping[str, str]]) -> bool:
    """Tell whether a container or a process is configured to switch a level on, by its variables. Pure."""
    switch = SWITCHES.get(level)
    if switch is None:
        return True
    return any(variables.get(switch, "").strip().lower() in _TRUE for variables in environments)


def cores_of(stats: Mapping[str, Any]) -> float:
    """Return how many cores a container used between Docker's two samples; 0 when it does not tell."""
    try:
        now, before = stats["cpu_stats"]["cpu_usage"], stats["precpu_stats"]["cpu_usage"]
        began, ended = docker_time(stats["preread"]), docker_time(stats["read"])
        used_ns = int(now["total_usage"]) - int(before["total_usage"])
    except (KeyError, TypeError, ValueError):
        return 0.0
    if began is None or ended is None or (seconds := (ended - began).total_seconds()) <= 0:
        return 0.0
    return max(0.0, used_ns / 1e9 / seconds)
