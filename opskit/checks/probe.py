"""`opskit probe`: all ladders side by side, and the question that decides: is there a chain that answers?"""

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path

from opskit.checks.agents import climb_agent, cycle, skipped_cycle
from opskit.checks.ladder import ProbeOptions, climb
from opskit.checks.state import NodeState
from opskit.config.schema import Config, NodeConfig
from opskit.result import Finding, Report, Status

#: Small, harmless, and its right answer is not in the question's beginning.
CYCLE_GOAL = "Reply with the single word ready."
_STANDARD_NODES = ("ollama", "mlx")
_STANDARD_AGENTS = ("victoria", "veronica")


async def probe(
    config: Config,
    *,
    use_mlx: bool = False,
    model: str | None = None,
    goal: str | None = None,
    load: bool = False,
    locks: Path,
) -> Report:
    """Probe everything at once; the whole takes as long as the slowest ladder, plus the cycle.

    `use_mlx` makes MLX the node that must answer, and the one that `model` and `goal` are tried on (SPEC A5).
    """
    nodes = [
        climb(
            node,
            config,
            _wish(node, use_mlx=use_mlx, model=model, goal=goal, load=load),
            locks,
        )
        for node in config.nodes
    ]
    agents = [climb_agent(agent, config) for agent in config.agents]
    found = await asyncio.gather(*nodes, *agents)
    node_findings, agent_findings = found[: len(nodes)], found[len(nodes) :]
    missing = [
        _not_configured("node", name, required=use_mlx and name == "mlx")
        for name in _STANDARD_NODES
        if all(node.name != name for node in config.nodes)
    ]
    missing += [
        _not_configured("agent", name, required=False)
        for name in _STANDARD_AGENTS
        if config.agent(name) is None
    ]
    cycles = await _cycles(config, agent_findings, node_findings, goal=goal, load=load)
    findings = [*agent_findings, *node_findings, *missing, *cycles]
    # What was asked for by flag must itself be proven; otherwise any node or the cycle will do.
    required = [
        finding
        for node, finding in zip(config.nodes, node_findings, strict=True)
        if (use_mlx and node.is_mlx) or (not use_mlx and model is not None)
    ]
    findings.append(_chain(required or node_findings, [] if required else cycles))
    return Report("probe", findings)


def _wish(
    node: NodeConfig, *, use_mlx: bool, model: str | None, goal: str | None, load: bool
) -> ProbeOptions:
    tested = not use_mlx or node.is_mlx
    return ProbeOptions(
        model=model if tested else None,
        load=load and tested,
        goal=goal if tested else None,
        required=use_mlx and node.is_mlx,
    )


async def _cycles(
    config: Config,
    agent_findings: Sequence[Finding],
    node_findings: Sequence[Finding],
    *,
    goal: str | None,
    load: bool,
) -> list[Finding]:
    """The request cycle through Victoria, when she is there and it would load nothing behind one's back."""
    victoria = config.agent("victoria")
    answers = any(
        f.target == "victoria" and f.state in (NodeState.OK.value, NodeState.SLOW.value)
        for f in agent_findings
    )
    if victoria is None or not answers:
        return []
    up = [f for f in node_findings if f.evidence.get("models")]
    if up and not any(f.evidence.get("resident") for f in up) and goal is None and not load:
        return [skipped_cycle("victoria", "no model is loaded, and a request would load one")]
    return [await cycle(victoria, config, goal or CYCLE_GOAL)]


def _chain(nodes: Sequence[Finding], cycles: Sequence[Finding]) -> Finding:
    """Whether a request can be answered at all. A missing optional service is no failure; this is."""
    began = time.monotonic()
    proven = [f for f in nodes if f.state in (NodeState.OK.value, NodeState.SLOW.value) and _gave_token(f)]
    through = [f for f in cycles if f.status is Status.PASS]
    alive = [
        f
        for f in nodes
        if f.state in (NodeState.OK.value, NodeState.BUSY.value, NodeState.LOADING.value)
        and not _gave_token(f)
        and f.evidence.get("lists_it") is not False
    ]
    if proven or through:
        by = [f"{f.evidence['model']} on {f.target}" for f in proven] + [
            f"the cycle through {f.target}" for f in through
        ]
        slow = bool(proven) and all(f.state == NodeState.SLOW.value for f in proven) and not through
        return Finding(
            "chain",
            "chain",
            Status.WARN if slow else Status.PASS,
            NodeState.SLOW.value if slow else NodeState.OK.value,
            f"a request is answered: {', '.join(by)}",
            seconds=time.monotonic() - began,
        )
    if alive:
        return Finding(
            "chain",
            "chain",
            Status.INCONCLUSIVE,
            alive[0].state,
            "nodes answer, but no token was seen: " + "; ".join(f"{f.target}: {f.detail}" for f in alive),
            "MODEL_002",
            alive[0].remedy,
        )
    return Finding(
        "chain",
        "chain",
        Status.FAIL,
        NodeState.FAILING.value,
        "no model answers: "
        + ("; ".join(f"{f.target}: {f.detail}" for f in nodes) or "no node is configured"),
        "MODEL_001",
        next((f.remedy for f in nodes if f.remedy), "`opskit config init`, then name a node"),
    )


def _gave_token(finding: Finding) -> bool:
    return "first_token_s" in finding.evidence


def _not_configured(kind: str, name: str, *, required: bool) -> Finding:
    return Finding(
        kind,
        name,
        Status.FAIL if required else Status.SKIP,
        NodeState.NOT_CONFIGURED.value,
        "it is switched off in the configuration",
        "MODEL_001" if required else None,
        f"set {name.upper()}_URL" if kind == "agent" else f"set {name.upper()}_API_URL",
    )
