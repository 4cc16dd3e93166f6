"""The probe of an agent: tcp, http, its levels, and the full request cycle through it (SPEC A5, D1, D2)."""

import contextlib
import time
from functools import partial

from opskit.checks.probe_record import AgentProbe, ProbeEnded
from opskit.checks.remedies import agent_remedy
from opskit.checks.state import NodeState, judge_queue, state_of
from opskit.config.schema import AgentConfig, Config
from opskit.facts.agent import read_agent
from opskit.facts.survey import Survey
from opskit.llm.faults import FaultKind, classify
from opskit.llm.verdict import judge
from opskit.providers.agent import AgentClient
from opskit.providers.base import CallError
from opskit.result import Finding, Status
from opskit.tags import new_correlation_id


async def probe_agent(survey: Survey, config: AgentConfig) -> AgentProbe:
    """Probe an agent by its status page, and give it no work. Never raises for what the agent does."""
    began = time.monotonic()
    probe = AgentProbe(config=config, facts=await survey.get(read_agent, config, not_before=began))
    with contextlib.suppress(ProbeEnded):
        probe.state, probe.detail = await _judge(probe, survey.config)
    if probe.state in (NodeState.WEDGED, NodeState.FAILING):
        from opskit.checks.upkeep import read_upkeep  # only what is broken needs it

        probe.upkeep = await read_upkeep(survey, config.url)
    probe.seconds = time.monotonic() - began
    return probe


async def _judge(probe: AgentProbe, whole: Config) -> tuple[NodeState, str]:
    """The stages tcp, http and levels. Raises ProbeEnded where one ends the probe."""
    facts = probe.facts
    if facts.address_problem is not None and facts.error is not None:
        probe.end_at_address(facts.address_problem, facts.error, facts.tcp, facts.http_s)
    probe.connected(facts.tcp)
    if facts.error is not None:
        probe.end(*await probe.reason(facts.error, facts.http_s), stage="http", seconds=facts.http_s)
    probe.add("http", Status.PASS, facts.http_s, "its status page answers")
    detail = f"its status page answers in {facts.http_s:.2f} s"
    if levels := facts.levels:
        shown = ", ".join(f"{level} {'on' if value else 'off'}" for level, value in levels.items())
        probe.add("levels", Status.PASS if all(levels.values()) else Status.WARN, 0.0, shown)
        detail = f"{detail}; levels: {shown}"
    if (queue := facts.queue) is not None:
        hindered, words = judge_queue(queue)
        probe.add("queue", Status.PASS if hindered is None else Status.WARN, 0.0, words)
        last = f"its last error: {facts.last_error}" if facts.last_error else ""
        detail = "; ".join(filter(None, (detail, words, last)))
        if hindered is not None:
            return hindered, detail
    return NodeState.SLOW if facts.http_s > whole.probe.slow_http_s else NodeState.OK, detail


async def run_cycle(survey: Survey, config: AgentConfig, goal: str) -> Finding:
    """Send a goal through an agent and judge the answer that comes back."""
    whole, began, name = survey.config, time.monotonic(), config.name
    finding, remedy = partial(Finding, "cycle", name), agent_remedy(config, NodeState.FAILING)
    try:
        async with AgentClient(config, whole.budgets) as agent:
            reply = await agent.run(goal, session_id=new_correlation_id(), deadline_s=whole.probe.cycle_s)
    except CallError as error:
        fault = classify(error)
        late = fault.kind is FaultKind.FIRST_TOKEN_TIMEOUT
        state = NodeState.BUSY if late else state_of(fault)
        status, code = (Status.INCONCLUSIVE, "COMM_003") if late else (Status.FAIL, "GEN_001")
        detail = f"the full cycle through {name} failed: {fault.detail}"
        return finding(status, state.shown, detail, code, remedy, time.monotonic() - began)
    finding = partial(finding, seconds=time.monotonic() - began)
    verdict, evidence = judge(reply.output, (goal,)), {"output": reply.output[:500]}
    if verdict is not None:
        detail = f"the answer through {name} is no answer: {verdict.value}"
        return finding(Status.FAIL, NodeState.FAILING.value, detail, "GEN_001", remedy, evidence=evidence)
    if reply.metadata.get("cached"):
        detail = f"{name} answered out of a cache, which shows nothing of the models behind it"
        return finding(Status.INCONCLUSIVE, "cached", detail, evidence=evidence)
    detail = f"a goal went through {name} and came back as an answer (method {reply.method})"
    evidence["method"] = reply.method
    return finding(Status.PASS, NodeState.OK.value, detail, evidence=evidence)
