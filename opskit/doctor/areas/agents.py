"""Agents: down, wedged, failing, or somebody else at their port."""

from collections.abc import Iterator
from dataclasses import replace

from opskit.checks.remedies import agent_remedy
from opskit.checks.state import NodeState
from opskit.doctor.areas.containers import of_member
from opskit.doctor.areas.nodes import holders_of, stopped, taken
from opskit.doctor.cause import Cause, key_of
from opskit.doctor.evidence import Evidence, ExaminedAgent


def causes(evidence: Evidence) -> Iterator[Cause]:
    for agent in evidence.agents:
        cause = _of(agent, evidence)
        if cause is not None:
            yield cause


def _of(agent: ExaminedAgent, evidence: Evidence) -> Cause | None:
    config, state = agent.config, agent.state
    if state is NodeState.FAILING and agent.known is False:
        return taken(config, config.name, f"it answers, but not as an agent: {agent.detail}", evidence)
    base = Cause(
        "agent-failing",
        config.name,
        f"{config.name} answers with errors",
        (agent.detail,),
        agent_remedy(config, state) or "",
        frozenset({f"agent {config.name}"}),
        of_member(evidence, config.name),
        code="GEN_001",
    )
    match state:
        case NodeState.WEDGED:
            halted = next((one for one in holders_of(config, evidence) if one.is_stopped), None)
            if halted is not None and halted.pid is not None:
                return stopped(config, halted.pid, halted.words, base.because, agent.detail)
            title = f"{config.name} accepts connections and never answers"
            return replace(base, id="agent-wedged", title=title, code="COMM_003")
        case NodeState.REFUSED | NodeState.UNREACHABLE if config.explicit or config.required:
            root = key_of("localhost-in-container", config.name)
            title = f"{config.name} is down"
            return replace(base, id="agent-down", title=title, because=(root, *base.because), code="COMM_001")
        case NodeState.FAILING | NodeState.UNAUTHORISED:
            return base
    return None
