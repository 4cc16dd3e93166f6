"""One step for each model node: ready is what gives a token, not what answers a health page (ops facts 0.1).

Slow, busy, loading and starting servers are left to themselves; what is wedged, refused or failing is
restarted by whoever keeps it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from opskit.checks.node_probe import NodeProbe, ProbeOptions, limit_s, probe_node
from opskit.checks.state import CODES, NodeState
from opskit.config.schema import NodeConfig
from opskit.llm.loads import load_budget_s
from opskit.providers.kinds import expected_kind
from opskit.recovery.context import RecoveryContext
from opskit.recovery.step import Condition, Repair, TargetObservation
from opskit.recovery.steps.decision import NodeProblem
from opskit.recovery.steps.diagnostics import gathered, some
from opskit.recovery.steps.repairing import Repairing
from opskit.recovery.steps.subject import RepairSubject, of_node, weights_bytes
from opskit.result import Finding

_TITLES = {"mlx": "MLX API server", "ollama": "Ollama"}
_WAITING = (NodeState.SLOW, NodeState.BUSY, NodeState.LOADING)


def nodes(ground: RecoveryContext) -> list["NodeStep"]:
    """A step for each node of the configuration; one on another machine is looked at and never repaired."""
    return [NodeStep(ground, node) for node in ground.config.nodes]


class NodeStep:
    """One node. The target bears its name."""

    requires: tuple[str, ...] = ()

    def __init__(self, ground: RecoveryContext, node: NodeConfig) -> None:
        self.name = node.name
        self.title = _TITLES.get(node.name, f"model node {node.name}")
        # A node may live in a container; Docker being down does not keep others from being mended.
        self.after = ("docker", *(f"compose:{name}" for name in ground.config.stack.compose))
        self.look_s = 2 * limit_s(ground.config)
        self._ground = ground
        self._node = node
        self._subject = of_node(node, ground.config)
        self._repairing = Repairing(ground, self._subject, settle_s(ground, self._subject, node))
        self._trouble: NodeProblem | None = None

    async def look(self) -> Sequence[TargetObservation]:
        """Ask a resident model for a token; loads, pins and swaps nothing."""
        probe = await self._probe()
        if probe.state is NodeState.FAILING:
            # A runner that crashed is brought back by the next request (wire facts A6): one bad answer is
            # not enough to restart a server.
            probe = await self._probe()
        await self._repairing.note_start()
        told = some(probe.evidence(), "url", "ladder", "model", "resident", "first_token_s", "process")
        return [await self._judged(probe, told)]

    async def evidence(self, seen: TargetObservation) -> Mapping[str, Any]:
        del seen
        now = await self._repairing.situation()
        return await gathered(self._ground, self._subject, now, self._node)

    async def plan(self, seen: TargetObservation) -> Repair | None:
        del seen
        return None if self._trouble is None else await self._repairing.plan(self._trouble)

    async def _probe(self) -> NodeProbe:
        return await probe_node(self._ground.survey, self._node, ProbeOptions())

    async def _judged(self, probe: NodeProbe, told: Mapping[str, Any]) -> TargetObservation:
        state, self._trouble = probe.state, None
        found = probe.finding()
        names = self._subject.containers
        if state in (NodeState.OK, NodeState.IDLE):
            return TargetObservation(self.name, Condition.HEALTHY, "ok", found.detail, names, told)
        if state in _WAITING:
            return TargetObservation(
                self.name, Condition.WAITING, found.state, found.detail, names, told, found.remedy
            )
        if state is NodeState.UNAUTHORISED:
            return TargetObservation(
                self.name, Condition.UNKNOWN, found.state, found.detail, names, told, found.remedy
            )
        self._trouble = trouble(probe, self._ground.config.recovery.load_grace_s)
        if not self._subject.local and not self._node.required:
            return self._far(found, told)
        decision = await self._repairing.decide(self._trouble)
        code = CODES.get(state) if decision.condition is Condition.BROKEN else None
        return TargetObservation(
            self.name, decision.condition, decision.state, decision.cause, names, told, decision.remedy, code
        )

    def _far(self, found: Finding, told: Mapping[str, Any]) -> TargetObservation:
        """Not well, and on another machine: not ours to mend."""
        names = self._subject.containers
        if not self._subject.explicit:
            why = f"{found.detail}, and nobody configured it"
            return TargetObservation(self.name, Condition.ABSENT, "absent", why, names, told, found.remedy)
        why = f"{found.detail}; it is on another machine, and not required"
        return TargetObservation(self.name, Condition.LEFT, found.state, why, names, told, found.remedy)


def trouble(probe: NodeProbe, load_grace_s: float) -> NodeProblem:
    """What a probe means for a repair. Pure."""
    # Nothing listens: it may be starting. Something listens and gives no token: it may be loading.
    fresh_s = 0.0 if probe.state is NodeState.REFUSED else load_grace_s
    return NodeProblem(
        probe.state.shown, probe.detail, probe.speaks, not probe.server_is_well, probe.advice(), fresh_s
    )


def settle_s(ground: RecoveryContext, subject: RepairSubject, node: NodeConfig) -> float | None:
    """How long a restarted node may take where it loads its model first; None for the usual time."""
    config = ground.config
    if expected_kind(node.source).loads_on_demand:
        return None
    loads_s = load_budget_s(config.budgets, weights_bytes(subject.start, config))
    return max(config.recovery.step_s, loads_s + config.probe.first_token_s)
