"""One step for each model node: ready is what gives a token, not what answers a health page (ops facts 0.1).

Slow, busy, loading and starting servers are left to themselves. A process that is stopped is let go on, a
model that crashes or writes garbage is unloaded; a server is restarted, by its owner, when it is
refused or wedged, or fails as a whole.
"""

from collections.abc import Sequence

from opskit.checks.node_probe import limit_s, probe_node
from opskit.checks.probe_record import NodeProbe, ProbeOptions
from opskit.checks.state import CODES, NodeState
from opskit.config.schema import NodeConfig
from opskit.llm.faults import FaultKind
from opskit.records import replace
from opskit.recovery.step import Condition, RecoveryContext, Step, TargetFinding
from opskit.recovery.steps.decision import ServerProblem, unload_mark
from opskit.recovery.steps.server_step import ServerStep

#: Faults of a model after which its next load may be well: it crashed, held too much memory, wrote garbage.
_UNLOADING_MENDS = frozenset({
    FaultKind.RUNNER_CRASHED, FaultKind.OUT_OF_MEMORY, FaultKind.RESET, FaultKind.BAD_PAYLOAD,
    FaultKind.EMPTY_REPLY, FaultKind.TRUNCATED, FaultKind.SERVER_ERROR,
})  # fmt: skip
#: Within this time after an unload that did not help a server is restarted.
_UNLOADED_S = 600.0


def nodes(context: RecoveryContext) -> list[Step]:
    """Return a step for each node of the configuration; one on another machine is never repaired."""
    return [_step(context, node) for node in context.config.nodes]


def _step(context: RecoveryContext, node: NodeConfig) -> Step:
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
