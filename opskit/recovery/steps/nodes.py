"""One step for each model node: ready is what gives a token, not what answers a health page (ops facts 0.1).

Slow, busy, loading and starting servers are left to themselves; what is wedged, refused or failing is
restarted by whoever keeps it.
"""

from collections.abc import Sequence

from opskit.checks.node_probe import limit_s, probe_node
from opskit.checks.probe_record import NodeProbe, ProbeOptions
from opskit.checks.state import CODES, NodeState
from opskit.config.schema import NodeConfig
from opskit.recovery.step import Condition, RecoveryContext, Step, TargetFinding
from opskit.recovery.steps.decision import ServerProblem
from opskit.recovery.steps.server_step import ServerStep


def nodes(context: RecoveryContext) -> list[Step]:
    """Return a step for each node of the configuration; one on another machine is never repaired."""
    return [_step(context, node) for node in context.config.nodes]


def _step(context: RecoveryContext, node: NodeConfig) -> Step:
    step = ServerStep(context, node)

    async def look() -> Sequence[TargetFinding]:
        """Ask a resident model for a token; loads, pins and swaps nothing."""
        probe = await probe_node(context.survey, node, ProbeOptions())
        if probe.state is NodeState.FAILING:
            # A runner that crashed is brought back by the next request (wire facts A6): one bad answer is
            # not enough to restart a server.
            probe = await probe_node(context.survey, node, ProbeOptions())
        await step.note_start()
        finding = step.finding(probe)
        if finding.condition is not Condition.BROKEN:
            return [finding]
        problem = node_problem(probe, context.config.recovery.load_grace_s)
        return [await step.decided(finding, problem, code=CODES.get(probe.state))]

    # A node may live in a container; Docker being down does not keep others from being repaired.
    after = ("docker", *(f"compose:{name}" for name in context.config.stack.compose))
    return Step(node.name, look, after=after, look_s=2 * limit_s(context.config))


def node_problem(probe: NodeProbe, load_grace_s: float) -> ServerProblem:
    """Return what a probe means for a repair. Pure."""
    # Nothing listens: it may be starting. Something listens and gives no token: it may be loading.
    fresh_s = 0.0 if probe.state is NodeState.REFUSED else load_grace_s
    return ServerProblem(
        state=probe.state.shown,
        detail=probe.detail,
        speaks=probe.speaks,
        curable=not probe.server_is_well,
        remedy=probe.advice(),
        fresh_s=fresh_s,
    )
