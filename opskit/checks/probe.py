"""`opskit probe`: nodes and agents are probed at once, and the chain says whether a request is answered.

Its checks run on the runner of every checklist; what they come to is judged by the probes themselves.
"""

from collections.abc import Sequence
from functools import partial

from opskit.checks import runner
from opskit.checks.agent_probe import probe_agent, run_cycle
from opskit.checks.node_probe import limit_s, probe_node
from opskit.checks.probe_record import NodeProbe, ProbeOptions
from opskit.checks.remedies import FIRST_SERVER
from opskit.checks.spec import CheckContext, assessing
from opskit.checks.state import GONE, NodeState
from opskit.config.schema import AgentConfig, Config, NodeConfig
from opskit.facts.survey import Survey
from opskit.records import Record
from opskit.result import Finding, Report, Status

#: Small, harmless, and its right answer is not in the question's beginning.
CYCLE_GOAL = "Reply with the single word ready."
_STANDARD_NODES = ("ollama", "mlx")
_STANDARD_AGENTS = ("victoria", "veronica")
_CYCLE_AGENT = "victoria"
#: States in which a node answers, though no token was seen.
_ALIVE = (NodeState.OK, NodeState.IDLE, NodeState.BUSY, NodeState.LOADING)
#: The state of a cycle that is not worth a line.
_NOT_ASKED = "not asked"
#: The probes end by themselves; this much later the runner ends them.
_SPARE_S = 10.0


class ProbeRequest(Record):
    """What `probe` is asked for.

    `use_mlx` makes MLX the node that must answer, and the one that `model` and `goal` are tried on (SPEC A5).
    """

    use_mlx: bool = False
    model: str | None = None
    goal: str | None = None
    load: bool = False

    def options(self, node: NodeConfig) -> ProbeOptions:
        """What the probe of one node may do."""
        if self.use_mlx and not node.is_mlx:
            return ProbeOptions()
        return ProbeOptions(self.model, self.load, self.goal, required=self.use_mlx)


async def probe(survey: Survey, request: ProbeRequest) -> Report:
    """Probe everything at once; the whole takes as long as the slowest probe, plus the cycle."""
    config = survey.config
    limit = limit_s(config, may_load=request.load or request.model is not None) + _SPARE_S
    agents = [
        assessing("agent", _agent, agent, agent.name, timeout_s=2 * config.probe.http_s + _SPARE_S)
        for agent in config.agents
    ]
    nodes = [
        assessing("node", _node, (node, request.options(node)), node.name, timeout_s=limit)
        for node in config.nodes
    ]
    probes = [check.name for check in (*agents, *nodes)]
    victoria, cycle = config.agent_named(_CYCLE_AGENT), []
    if victoria is not None:
        cycle.append(assessing("cycle", _cycle, (victoria, request), victoria.name, after=probes))
    chain = assessing("chain", _chain, request, "chain", after=[*probes, *(check.name for check in cycle)])
    findings = await runner.run([*agents, *nodes, *cycle, chain], survey)
    through = findings[len(probes) : -1]
    shown = [finding for finding in through if finding.state != _NOT_ASKED]
    return Report("probe", [*findings[: len(probes)], *_missing(config, request), *shown, findings[-1]])


async def _node(params: tuple[NodeConfig, ProbeOptions], context: CheckContext) -> Finding:
    return (await context.survey.get(probe_node, *params)).finding()


async def _agent(agent: AgentConfig, context: CheckContext) -> Finding:
    return (await context.survey.get(probe_agent, agent)).finding()


async def _cycle(params: tuple[AgentConfig, ProbeRequest], context: CheckContext) -> Finding:
    """Run the request cycle through Victoria, when she is there and it would load nothing unasked."""
    survey, (agent, request) = context.survey, params
    if not (await survey.get(probe_agent, agent)).is_well:
        return Finding("cycle", agent.name, Status.SKIP, _NOT_ASKED)
    probes = await _probes(survey, request)
    up = [probe for probe in probes if probe.facts.models]
    loaded = any(probe.facts.resident and probe.facts.residency_known for probe in up)
    if up and not loaded and request.goal is None and not request.load:
        why = "no model is loaded, and a request would load one"
        return Finding("cycle", agent.name, Status.SKIP, "", why, remedy="`opskit probe --load` runs it")
    return await survey.get(run_cycle, agent, request.goal or CYCLE_GOAL)


async def _chain(request: ProbeRequest, context: CheckContext) -> Finding:
    """Whether a request can be answered at all. A missing optional service is no failure; this is."""
    survey = context.survey
    probes = await _probes(survey, request)
    # What was asked for by flag must itself be proven; otherwise any node or the cycle will do.
    by_name = request.model is not None
    demanded = [probe for probe in probes if (probe.config.is_mlx if request.use_mlx else by_name)]
    cycles = [] if demanded else list(survey.known(run_cycle).values())
    return assess_chain(demanded or probes, cycles)


async def _probes(survey: Survey, request: ProbeRequest) -> list[NodeProbe]:
    return [await survey.get(probe_node, node, request.options(node)) for node in survey.config.nodes]


async def answered(context: CheckContext) -> Finding:
    """Judge as `opskit probe` without options does whether a request is answered."""
    request, victoria = ProbeRequest(), context.survey.config.agent_named(_CYCLE_AGENT)
    if victoria is not None:
        await _cycle((victoria, request), context)
    return await _chain(request, context)


def assess_chain(probes: Sequence[NodeProbe], cycles: Sequence[Finding]) -> Finding:
    """Judge whether a request is answered, by the probes of nodes and the cycles through agents. Pure."""
    finding = partial(Finding, "chain", "chain")
    proven = [probe for probe in probes if probe.is_well and probe.first_token_s is not None]
    through = [cycle for cycle in cycles if cycle.status is Status.PASS]
    if proven or through:
        by = [f"{probe.model} on {probe.config.name}" for probe in proven]
        by += [f"the cycle through {cycle.target}" for cycle in through]
        slow = not through and all(probe.state is NodeState.SLOW for probe in proven)
        status, state = (Status.WARN, NodeState.SLOW) if slow else (Status.PASS, NodeState.OK)
        return finding(status, state.value, f"a request is answered: {', '.join(by)}")
    details = "; ".join(f"{probe.config.name}: {probe.detail}" for probe in probes)
    alive = [probe for probe in probes if probe.state in _ALIVE and probe.listed]
    if alive:
        details = "; ".join(f"{probe.config.name}: {probe.detail}" for probe in alive)
        detail, remedy = f"nodes answer, but no token was seen: {details}", alive[0].advice()
        return finding(Status.INCONCLUSIVE, alive[0].state.shown, detail, "MODEL_002", remedy)
    remedies = (advice for probe in probes if (advice := probe.advice()))
    remedy = next(remedies, "`opskit config init`, then name a node")
    if probes and all(probe.state in GONE and probe.status is Status.SKIP for probe in probes):
        detail = f"no model server is there, and none is configured: {details}"
        unasked = NodeState.NOT_CONFIGURED.shown
        return finding(Status.INCONCLUSIVE, unasked, detail, "MODEL_001", FIRST_SERVER)
    detail = f"no model answers: {details or 'no node is configured'}"
    return finding(Status.FAIL, NodeState.FAILING.value, detail, "MODEL_001", remedy)


def _missing(config: Config, request: ProbeRequest) -> list[Finding]:
    """The usual nodes and agents that the configuration switches off."""
    nodes = {node.name for node in config.nodes}
    missing = [("node", name, f"{name.upper()}_API_URL") for name in _STANDARD_NODES if name not in nodes]
    missing += [
        ("agent", name, f"{name.upper()}_URL")
        for name in _STANDARD_AGENTS
        if config.agent_named(name) is None
    ]
    state, detail = NodeState.NOT_CONFIGURED.value, "it is switched off in the configuration"
    return [
        Finding(kind, name, Status.FAIL, state, detail, "MODEL_001", f"set {setting}")
        if request.use_mlx and (kind, name) == ("node", "mlx")
        else Finding(kind, name, Status.SKIP, state, detail, None, f"set {setting}")
        for kind, name, setting in missing
    ]
