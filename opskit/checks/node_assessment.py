"""What the metadata of a node says of its condition: pure. A probe has more evidence, and judges better."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from opskit.checks.remedies import address_remedy, node_remedy, stranger_remedy
from opskit.checks.state import CODES, SILENT_LIST, NodeState, state_of
from opskit.config.schema import NodeConfig, RouterConfig
from opskit.facts.address import AddressProblem
from opskit.facts.node import NodeFacts
from opskit.llm.faults import Fault, FaultKind, classify
from opskit.llm.fit import Fit, fit
from opskit.providers.base import ModelInfo
from opskit.providers.kinds import ServerKind
from opskit.records import replace
from opskit.result import Finding, Status
from opskit.system.host import is_loopback

if TYPE_CHECKING:
    from opskit.checks.runner_assessment import RunnerAssessment


def assess_contents(facts: NodeFacts) -> Finding:
    """A node that lists models passes; one that could not be read says why, and what to type next."""
    node, fault = facts.config, facts.fault
    if fault is not None:
        return assess_fault(node, fault, facts.kind, facts.seconds, facts.address_problem)
    count = len(facts.models or ())
    if count == 0:
        detail, remedy = "no model that can chat is installed", facts.likely_kind.fill
        return Finding("node", node.name, Status.WARN, "empty", detail, "MODEL_001", remedy, facts.seconds)
    detail = f"{count} model{'s' if count > 1 else ''}"
    return Finding("node", node.name, Status.PASS, "ok", detail, seconds=facts.seconds)


def assess_residency(facts: NodeFacts, behind: "RunnerAssessment | None" = None) -> Finding:
    """A node that tells what is loaded passes; one that never tells is skipped.

    `behind` is what the processes behind its models show of a list that is silent.
    """
    node, fault = facts.config, facts.fault
    if fault is not None:
        return assess_fault(node, fault, facts.kind, facts.seconds, facts.address_problem)
    silence = None if facts.silence is None else classify(facts.silence)
    if silence is None and not facts.residency_known:
        detail = "it never tells what is loaded"
        return Finding("node", node.name, Status.SKIP, "ok", detail, seconds=facts.seconds)
    if silence is None:
        count = len(facts.resident)
        detail = f"{count} model{'s are' if count > 1 else ' is'} loaded" if count else "no model is loaded"
        return Finding("node", node.name, Status.PASS, "ok", detail, seconds=facts.seconds)
    detail, state = f"it does not tell what is loaded: {silence.detail}", state_of(silence)
    if silence.kind is FaultKind.FIRST_TOKEN_TIMEOUT:
        detail = f"it does not tell what is loaded ({silence.detail})"
        if not facts.likely_kind.loads_on_demand:
            return _silent(node, detail, facts.seconds)
        detail = f"{detail}: {SILENT_LIST if behind is None else behind.detail}"
        state = NodeState.BUSY if behind is None else behind.state
    remedy = None if behind is None else behind.remedy
    remedy = remedy or node_remedy(node, state, process=None, kind=facts.kind)
    status = Status.FAIL if state is NodeState.WEDGED else Status.INCONCLUSIVE
    return Finding("node", node.name, status, state.shown, detail, CODES.get(state), remedy, facts.seconds)


def assess_fault(
    node: NodeConfig,
    fault: Fault,
    kind: ServerKind | None,
    seconds: float,
    problem: AddressProblem | None = None,
) -> Finding:
    """A node whose metadata could not be read; `problem` is what is wrong with its address."""
    state = state_of(fault)
    detail = f"{node.url}: {fault.detail}" if problem is None else problem.detail
    if fault.kind is FaultKind.FIRST_TOKEN_TIMEOUT and fault.status is None:
        return _silent(node, detail, seconds)
    status = Status.FAIL
    if state in (NodeState.BUSY, NodeState.LOADING):
        status = Status.INCONCLUSIVE
    elif state in (NodeState.REFUSED, NodeState.UNREACHABLE) and not node.required:
        status = Status.WARN if node.explicit else Status.SKIP
    code = CODES.get(state) if status in (Status.FAIL, Status.WARN) else None
    if problem is not None:
        remedy = address_remedy(node, problem)
    elif fault.kind is FaultKind.BAD_PAYLOAD and kind is None:
        remedy = stranger_remedy(node)
    else:
        remedy = node_remedy(node, state, process=None, kind=kind)
    return Finding("node", node.name, status, state.shown, detail, code, remedy, seconds)


def assess_whole(nodes: Sequence[NodeFacts]) -> list[Finding]:
    """A finding where no node at all could be read: that is a failure, whichever nodes were expected."""
    if any(node.failed is None for node in nodes):
        return []
    detail = "no node could be read" if nodes else "no node is configured"
    first = next((assess_contents(node).remedy for node in nodes), None)
    remedy = first or "`opskit config init`, or set OLLAMA_API_URL or MLX_API_URL"
    return [Finding("catalog", "models", Status.FAIL, "failing", detail, "MODEL_001", remedy)]


def assess_fit(facts: NodeFacts, model: ModelInfo, router: RouterConfig, available_bytes: int | None) -> Fit:
    """Tell whether a model fits in the memory of its node, of which one elsewhere has its own."""
    return fit(
        model.size_bytes,
        resident=any(loaded.name == model.name for loaded in facts.resident),
        local=is_loopback(facts.config.url),
        available_bytes=available_bytes,
        resident_bytes=[loaded.size_bytes or 0 for loaded in facts.resident],
        factor=router.memory_factor,
        reserve_bytes=router.memory_reserve_bytes,
    )


def as_news(finding: Finding) -> Finding:
    """Return a failed finding as a warning: a node that could not be read is reported, and fails nothing."""
    if finding.status in (Status.FAIL, Status.INCONCLUSIVE):
        return replace(finding, status=Status.WARN)
    return finding


def unread(nodes: Sequence[NodeFacts]) -> list[Finding]:
    """The nodes that did not tell everything, as news."""
    findings = [as_news(assess_residency(node)) for node in nodes]
    return [finding for finding in findings if finding.status is not Status.PASS]


def _silent(node: NodeConfig, detail: str, seconds: float) -> Finding:
    """So short a silence does not tell a busy server from a wedged one; a probe has the evidence."""
    detail, remedy = f"{detail}: it is busy, loading or wedged", "`opskit probe --verbose` tells which"
    return Finding("node", node.name, Status.INCONCLUSIVE, "silent", detail, "MODEL_002", remedy, seconds)
