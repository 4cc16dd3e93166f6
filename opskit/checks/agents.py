"""The ladder of an agent: tcp, http, its levels, and the full request cycle through it (SPEC A5, D1, D2)."""

import time

from opskit.checks.remedies import agent_remedy
from opskit.checks.rungs import Ladder, ProbeFailed, tcp, why
from opskit.checks.state import CODES, NodeState, state_of
from opskit.config.schema import AgentConfig, Config
from opskit.llm.faults import FaultKind, classify
from opskit.llm.verdict import judge
from opskit.providers.agent import AgentClient, levels_of
from opskit.providers.base import CallError
from opskit.result import Finding, Status
from opskit.tags import new_correlation_id


async def climb_agent(config: AgentConfig, whole: Config) -> Finding:
    """tcp, http and levels of one agent. Never raises for what the agent does."""
    began = time.monotonic()
    ladder = Ladder(config)
    try:
        async with AgentClient(config, whole.budgets) as agent:
            await _climb(ladder, agent, whole)
    except ProbeFailed as fallen:
        ladder.state, ladder.detail = fallen.state, fallen.detail
    state = ladder.state
    missing = state in (NodeState.REFUSED, NodeState.UNREACHABLE)
    if state is NodeState.OK:
        status = Status.PASS
    elif state in (NodeState.SLOW, NodeState.BUSY):
        status = Status.WARN
    elif missing and not config.required:
        status = Status.WARN if config.explicit else Status.SKIP
    else:
        status = Status.FAIL
    return Finding(
        "agent",
        config.name,
        status,
        state.shown,
        ladder.detail,
        CODES.get(state) if status in (Status.FAIL, Status.WARN) else None,
        agent_remedy(config, state),
        time.monotonic() - began,
        {"url": config.url, "ladder": ladder.rungs, **ladder.evidence},
    )


async def _climb(ladder: Ladder, agent: AgentClient, whole: Config) -> None:
    await tcp(ladder, whole)
    began = time.monotonic()
    try:
        body = await agent.status(timeout_s=whole.probe.http_s)
    except CallError as error:
        took = time.monotonic() - began
        state, detail = await why(ladder, error, took)
        ladder.rung("http", Status.FAIL, took, detail)
        raise ProbeFailed(state, detail) from error
    took = time.monotonic() - began
    ladder.rung("http", Status.PASS, took, "its status page answers")
    ladder.detail = f"its status page answers in {took:.2f} s"
    ladder.state = NodeState.SLOW if took > whole.probe.slow_http_s else NodeState.OK
    if levels := levels_of(body):
        ladder.evidence["levels"] = levels
        shown = ", ".join(f"{level} {'on' if value else 'off'}" for level, value in levels.items())
        ladder.rung("levels", Status.PASS if all(levels.values()) else Status.WARN, 0.0, shown)
        ladder.detail = f"{ladder.detail}; levels: {shown}"


async def cycle(config: AgentConfig, whole: Config, goal: str) -> Finding:
    """The full request cycle: a goal in, a judged answer out."""
    began = time.monotonic()
    name = config.name
    try:
        async with AgentClient(config, whole.budgets) as agent:
            reply = await agent.run(goal, session_id=new_correlation_id(), deadline_s=whole.probe.cycle_s)
    except CallError as error:
        fault = classify(error)
        took = time.monotonic() - began
        late = fault.kind is FaultKind.FIRST_TOKEN_TIMEOUT
        state = NodeState.BUSY if late else state_of(fault)
        return Finding(
            "cycle",
            name,
            Status.INCONCLUSIVE if late else Status.FAIL,
            state.shown,
            f"the full cycle through {name} failed: {fault.detail}",
            "COMM_003" if late else "GEN_001",
            agent_remedy(config, NodeState.FAILING),
            took,
        )
    took = time.monotonic() - began
    verdict = judge(reply.output, (goal,))
    if verdict is not None:
        return Finding(
            "cycle",
            name,
            Status.FAIL,
            NodeState.FAILING.value,
            f"the answer through {name} is no answer: {verdict.value}",
            "GEN_001",
            agent_remedy(config, NodeState.FAILING),
            took,
            {"output": reply.output[:500]},
        )
    return Finding(
        "cycle",
        name,
        Status.PASS,
        NodeState.OK.value,
        f"a goal went through {name} and came back as an answer (method {reply.method})",
        seconds=took,
        evidence={"output": reply.output[:500], "method": reply.method},
    )


def skipped_cycle(name: str, why: str) -> Finding:
    """The cycle was not asked for, and why."""
    return Finding("cycle", name, Status.SKIP, "", why, remedy="`opskit probe --load` runs it")
