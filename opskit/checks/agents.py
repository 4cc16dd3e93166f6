"""The ladder of an agent: tcp, http, its levels, and the full request cycle through it (SPEC A5, D1, D2)."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from opskit.checks.remedies import agent_remedy
from opskit.checks.state import CODES, NodeState, judge_silence, state_of
from opskit.config.schema import AgentConfig, Config
from opskit.llm.faults import FaultKind, classify
from opskit.llm.verdict import judge
from opskit.providers.base import CallError, Cause
from opskit.result import Finding, Status
from opskit.system.host import is_loopback
from opskit.system.network import connects, endpoint
from opskit.system.process import listener
from opskit.tags import new_correlation_id

LEVELS = ("agent", "enhanced", "initiative")


class Reply(Protocol):
    """What an agent gives back."""

    @property
    def output(self) -> str: ...
    @property
    def method(self) -> str: ...


class Agent(Protocol):
    """The client of an agent, as far as a probe needs it."""

    config: AgentConfig

    async def status(self, *, timeout_s: float | None = None) -> Mapping[str, Any]: ...
    async def run(self, goal: str, *, session_id: str, deadline_s: float) -> Reply: ...


@dataclass(slots=True)
class _Climb:
    rungs: list[dict[str, Any]] = field(default_factory=list)
    evidence: dict[str, Any] = field(default_factory=dict)

    def rung(self, name: str, status: Status, seconds: float, detail: str) -> None:
        self.rungs.append(
            {"rung": name, "status": status.value, "seconds": round(seconds, 4), "detail": detail}
        )


async def climb_agent(agent: Agent, whole: Config) -> Finding:
    """tcp, http and levels of one agent. Never raises for what the agent does."""
    began = time.monotonic()
    climb = _Climb()
    state, detail = await _climb(climb, agent, whole)
    config = agent.config
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
        detail,
        CODES.get(state) if status in (Status.FAIL, Status.WARN) else None,
        agent_remedy(config, state),
        time.monotonic() - began,
        {"url": config.url, "ladder": climb.rungs, **climb.evidence},
    )


async def _climb(climb: _Climb, agent: Agent, whole: Config) -> tuple[NodeState, str]:
    url = agent.config.url
    host, port = endpoint(url)
    tcp = await connects(url, timeout_s=whole.budgets.connect_s)
    if tcp.problem is not None:
        detail = {
            "refused": f"nothing listens on {host}:{port}",
            "name": f"the name {host} does not resolve",
        }.get(tcp.problem, f"{host}:{port} cannot be reached")
        climb.rung("tcp", Status.FAIL, tcp.seconds, detail)
        return (NodeState.REFUSED if tcp.problem == "refused" else NodeState.UNREACHABLE), detail
    climb.rung("tcp", Status.PASS, tcp.seconds, f"{host}:{port} accepts connections")
    began = time.monotonic()
    try:
        body = await agent.status(timeout_s=whole.probe.http_s)
    except CallError as error:
        took = time.monotonic() - began
        state, detail = await _why(url, error, took)
        climb.rung("http", Status.FAIL, took, detail)
        return state, detail
    took = time.monotonic() - began
    climb.rung("http", Status.PASS, took, "its status page answers")
    levels = body.get("victoria_levels")
    detail = f"its status page answers in {took:.2f} s"
    if isinstance(levels, Mapping):
        on = {level: bool(levels.get(level)) for level in LEVELS}
        climb.evidence["levels"] = on
        shown = ", ".join(f"{level} {'on' if value else 'off'}" for level, value in on.items())
        climb.rung("levels", Status.PASS if all(on.values()) else Status.WARN, 0.0, shown)
        detail = f"{detail}; levels: {shown}"
    return (NodeState.SLOW if took > whole.probe.slow_http_s else NodeState.OK), detail


async def cycle(agent: Agent, whole: Config, goal: str) -> Finding:
    """The full request cycle: a goal in, a judged answer out."""
    began = time.monotonic()
    name = agent.config.name
    try:
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
            agent_remedy(agent.config, NodeState.FAILING),
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
            agent_remedy(agent.config, NodeState.FAILING),
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


async def _why(url: str, error: CallError, took: float) -> tuple[NodeState, str]:
    fault = classify(error)
    if error.cause is Cause.TIMEOUT and error.phase != "connect":
        process = await listener(endpoint(url)[1]) if is_loopback(url) else None
        state, detail = judge_silence(progress_seen=False, others_served=False, process=process, seconds=took)
        return state, detail.replace("no token in", "it accepts connections and answers nothing for")
    status = f"HTTP {fault.status}: " if fault.status and fault.status != 200 else ""
    return state_of(fault), f"{status}{fault.detail}"
