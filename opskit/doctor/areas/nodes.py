"""Model nodes: who is behind the port, and in what condition. Busy, loading and slow are no causes."""

from collections.abc import Iterator
from dataclasses import replace

from opskit.checks.remedies import node_remedy
from opskit.checks.state import NodeState
from opskit.config.schema import AgentConfig, NodeConfig
from opskit.doctor.areas.containers import of_member
from opskit.doctor.cause import Cause, Fix, counted, key_of
from opskit.doctor.evidence import Evidence, ExaminedNode
from opskit.facts.port_owner import PortOwner
from opskit.llm.faults import FaultKind
from opskit.providers.kinds import expected_kind
from opskit.system.host import is_loopback
from opskit.system.network import endpoint
from opskit.system.process import Listener

#: How a server looks that is none of ours: no protocol that we know, no HTTP, or an end without a word.
_STRANGER = frozenset({FaultKind.BAD_PAYLOAD, FaultKind.EMPTY_REPLY, FaultKind.RESET})
_MODEL_FAULTS = {
    FaultKind.BROKEN_MODEL_FILE: "its file is broken",
    FaultKind.BROKEN_TEMPLATE: "its chat template is broken",
    FaultKind.UNKNOWN_ARCHITECTURE: "the server is too old for it",
    FaultKind.CONTEXT_EXCEEDED: "its context is too small",
    FaultKind.BAD_REQUEST: "the server refuses the request",
    FaultKind.UNPARSABLE_ANSWER: "the server could not parse its answer",
    FaultKind.UNSUPPORTED: "it does not support chat",
}
_HERE = "this very process"
_START = "`ollama serve` starts Ollama, `mlx_lm.server --model DIR --port 11435` an MLX server"
_START_IN_DOCKER = (
    "opskit runs in a container: start it with `--add-host host.docker.internal:host-gateway`, or set "
    "OLLAMA_API_URL and MLX_API_URL; on the host `ollama serve` starts Ollama"
)


def causes(evidence: Evidence) -> Iterator[Cause]:
    for node in evidence.nodes:
        yield from _of(node, evidence)
    yield from _two_servers(evidence)
    if _nobody(evidence):
        yield Cause(
            "node-down",
            "",
            "no model server answers",
            tuple(f"{one.config.name}: {one.detail}" for one in evidence.nodes),
            _START_IN_DOCKER if evidence.in_docker else _START,
            frozenset(f"node {one.config.name}" for one in evidence.nodes),
            code="MODEL_001",
        )


def check_of(name: str) -> frozenset[str]:
    return frozenset({f"node {name}"})


def holders_of(config: NodeConfig | AgentConfig, evidence: Evidence) -> tuple[PortOwner, ...]:
    """Who listens on its port, when that is a port of this machine."""
    return evidence.holders.get(endpoint(config.url)[1], ()) if is_loopback(config.url) else ()


def who(holders: tuple[PortOwner, ...]) -> str:
    """The holder of a port in words."""
    if not holders:
        return "something"
    return _HERE if holders[0].is_ours else holders[0].words


def taken(config: NodeConfig | AgentConfig, what: str, told: str, evidence: Evidence) -> Cause:
    """Somebody else has the port."""
    host, port = endpoint(config.url)
    holders = holders_of(config, evidence)
    look = f"`opskit verify --add port port={port}` shows it whole; " if holders else ""
    return Cause(
        "port-taken",
        config.name,
        f"port {port} is held by {who(holders)}, not by {what}",
        (told, f"`{config.name}` is expected at {host}:{port}"),
        f"{look}move it to another port, or correct the address of {config.name} (`opskit config show`)",
        frozenset({f"node {config.name}", f"agent {config.name}"}),
        code="COMM_001",
    )


def stopped(
    config: NodeConfig | AgentConfig, pid: int, words: str, because: tuple[str, ...], told: str
) -> Cause:
    command = ("kill", "-CONT", str(pid))
    return Cause(
        "process-stopped",
        config.name,
        f"the process of {config.name} is stopped",
        (f"{words} was stopped by SIGSTOP or a debugger; its port still accepts connections", told),
        f"`kill -CONT {pid}` lets it go on",
        frozenset({f"node {config.name}", f"agent {config.name}"}),
        because,
        Fix(command, safe=True, target=config.name, undo=f"`kill -STOP {pid}`"),
        code="MODEL_002",
    )


def _of(node: ExaminedNode, evidence: Evidence) -> Iterator[Cause]:
    config, name = node.config, node.config.name
    holders = holders_of(config, evidence)
    halted = next((one for one in holders if one.is_stopped and one.pid is not None), None)
    if node.trouble is not None and _is_stranger(node):
        yield taken(config, _server(config), f"it answers, but not as a model server: {node.trouble.detail}",
                    evidence)  # fmt: skip
        return
    expected = expected_kind(config.source)
    if expected.own_protocol and config.protocol == "auto" and node.kind not in (expected, None):
        yield Cause(
            "wrong-server",
            name,
            f"behind the {expected.label} address {config.url} answers {node.kind.phrase}",
            (f"it is {node.kind.label}; clients of {expected.label}'s own API get nothing there",),
            "`opskit config show` tells where the address comes from; Ollama's port is usually 11434, "
            "MLX's 11435",
            check_of(name),
            code="COMM_001",
        )
    pid = halted.pid if halted is not None else node.pid
    if (halted is not None or node.stopped) and pid is not None and node.state is NodeState.WEDGED:
        words = halted.words if halted is not None else f"process {pid}"
        yield stopped(config, pid, words, of_member(evidence, name), node.detail)
        return
    cause = _condition(node, evidence)
    if cause is not None:
        yield cause


def _is_stranger(node: ExaminedNode) -> bool:
    trouble = node.trouble
    if trouble is None or node.state is not NodeState.FAILING:
        return False
    # A server that is ours and ill answers 5xx; a stranger answers 404 to everything we know.
    return trouble.kind in _STRANGER or (trouble.kind is FaultKind.SERVER_ERROR and trouble.status == 404)


def _condition(node: ExaminedNode, evidence: Evidence) -> Cause | None:
    config, state = node.config, node.state
    process = None if node.pid is None else Listener(node.pid, "", (), node.stopped, 0.0)
    remedy = node_remedy(config, state, model=None, process=process, kind=node.kind) or ""
    base = Cause(
        "node-failing",
        config.name,
        f"{config.name} answers with errors",
        (node.detail,),
        remedy,
        check_of(config.name),
        of_member(evidence, config.name),
    )
    match state:
        case NodeState.WEDGED:
            title = f"{config.name} is wedged: it accepts requests and gives no token"
            return replace(base, id="node-wedged", title=title, code="MODEL_002")
        case NodeState.UNAUTHORISED:
            return replace(base, id="node-unauthorised", title=f"{config.name} wants a key", code="COMM_001")
        case NodeState.UNREACHABLE if config.explicit or config.required:
            title = f"{config.name} cannot be reached"
            return replace(base, id="node-unreachable", title=title, code="COMM_002")
        case NodeState.REFUSED if config.explicit or config.required:
            root = key_of("localhost-in-container", config.name)
            title = f"{config.name} is down"
            return replace(base, id="node-down", title=title, because=(root, *base.because), code="COMM_001")
        case NodeState.FAILING if node.model_fault is not None:
            title = f"{node.asked} on {config.name} cannot be used: {_MODEL_FAULTS[node.model_fault]}"
            return replace(base, id="model-unusable", title=title, remedy=node.remedy, code="GEN_001")
        case NodeState.FAILING if node.models is None or node.models:
            return replace(base, code="GEN_001")
    return None


def _nobody(evidence: Evidence) -> bool:
    """No node at all is there, and nobody asked for one in particular."""
    gone = (NodeState.REFUSED, NodeState.UNREACHABLE)
    if not evidence.nodes:
        return False
    missing = all(
        one.state in gone and not (one.config.explicit or one.config.required) for one in evidence.nodes
    )
    return missing and len(evidence.nodes) == len(evidence.config.nodes)


def _server(config: NodeConfig) -> str:
    return expected_kind(config.source).phrase


def _two_servers(evidence: Evidence) -> Iterator[Cause]:
    """Two programs on one port, at different addresses: which one answers depends on the name."""
    for name, port in _ports(evidence).items():
        holders = [one for one in evidence.holders.get(port, ()) if one.pid is not None]
        servers = {one.container or one.pid: one for one in holders}
        places = {one.address for one in holders}
        if len(servers) < 2 or len(places) < 2 or len({one.words for one in servers.values()}) < 2:
            continue
        yield Cause(
            "two-servers",
            name,
            f"{counted(len(servers), 'server')} share port {port}: localhost may mean either",
            tuple(f"{one.words} listens on {one.address}" for one in servers.values()),
            "stop one of them, or give it another port; until then write the address in numbers "
            f"(http://127.0.0.1:{port})",
            check_of(name),
            code="COMM_001",
        )


def _ports(evidence: Evidence) -> dict[str, int]:
    members = [(one.name, one.url) for one in evidence.config.nodes]
    members += [(one.name, one.url) for one in evidence.config.agents]
    found: dict[int, str] = {}
    for name, url in members:
        if is_loopback(url):
            found.setdefault(endpoint(url)[1], name)
    return {name: port for port, name in found.items()}
