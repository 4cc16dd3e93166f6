"""A climb under way: its rungs, how it ends early, and what a failed call says of the server."""

from dataclasses import dataclass, field
from typing import Any

from opskit.checks.state import NodeState, judge_silence, state_of
from opskit.config.schema import AgentConfig, Config, NodeConfig
from opskit.llm.faults import SERVER_IS_WELL, Fault, FaultKind, classify
from opskit.llm.remedies import fault_remedy
from opskit.providers.base import CallCause, CallError
from opskit.providers.kinds import OPENAI, ServerKind, expected_kind
from opskit.result import Status
from opskit.system.host import is_loopback
from opskit.system.network import connects, endpoint
from opskit.system.sockets import Listener, listener


@dataclass(slots=True)
class Ladder:
    """One climb in progress.

    `remedy` is for an end that knows better than its state; `kind` is what a node turned out to be.
    """

    node: NodeConfig | AgentConfig
    rungs: list[dict[str, Any]] = field(default_factory=list)
    state: NodeState = NodeState.OK
    detail: str = ""
    remedy: str | None = None
    kind: ServerKind | None = None
    evidence: dict[str, Any] = field(default_factory=dict)

    def rung(self, name: str, status: Status, seconds: float, detail: str) -> None:
        self.rungs.append(
            {"rung": name, "status": status.value, "seconds": round(seconds, 4), "detail": detail}
        )


class ProbeFailed(Exception):  # noqa: N818 - the climb ends here, which is a result
    def __init__(self, state: NodeState, detail: str, remedy: str | None = None) -> None:
        self.state = state
        self.detail = detail
        self.remedy = remedy
        super().__init__(detail)


def fallen(ladder: Ladder, fault: Fault, model: str, detail: str) -> ProbeFailed:
    """The end of a ladder at a fault of a call; the fault and the model are kept as evidence.

    A fault of the model or of the request has a remedy of its own, which is better than that of the state.
    """
    remedy = None
    if fault.kind in SERVER_IS_WELL:
        expected = expected_kind(ladder.node.source) if isinstance(ladder.node, NodeConfig) else OPENAI
        remedy = fault_remedy(
            fault.kind,
            model=model,
            node=ladder.node.name,
            server=ladder.kind or expected,
            again="`opskit probe`",
        )
        ladder.evidence |= {"fault": fault.kind.value, "model": model}
    return ProbeFailed(state_of(fault), detail, remedy)


async def tcp(ladder: Ladder, whole: Config) -> None:
    """The lowest rung; raises Fallen when nothing accepts a connection."""
    url = ladder.node.url
    result = await connects(url, timeout_s=whole.budgets.connect_s)
    host, port = endpoint(url)
    if result.problem is None:
        ladder.rung("tcp", Status.PASS, result.seconds, f"{host}:{port} accepts connections")
        return
    sentences = {
        "refused": (NodeState.REFUSED, f"nothing listens on {host}:{port}"),
        "timeout": (
            NodeState.UNREACHABLE,
            f"{host}:{port} does not answer within {whole.budgets.connect_s:g} s (host down, or a firewall)",
        ),
        "name": (NodeState.UNREACHABLE, f"the name {host} does not resolve"),
        "unreachable": (NodeState.UNREACHABLE, f"there is no route to {host}:{port}"),
    }
    state, detail = sentences[result.problem]
    ladder.rung("tcp", Status.FAIL, result.seconds, detail)
    raise ProbeFailed(state, detail)


async def why(ladder: Ladder, error: CallError, took: float) -> tuple[NodeState, str]:
    """The state behind a failed call; silence after an accepted connection is judged by evidence."""
    fault = classify(error)
    if fault.kind is FaultKind.FIRST_TOKEN_TIMEOUT and error.cause is CallCause.TIMEOUT:
        state, detail = judge_silence(
            progress_seen=False, others_served=False, process=await process_of(ladder), seconds=took
        )
        return state, detail.replace("no token in", "it accepts connections and answers nothing for")
    return state_of(fault), _plain(fault)


def _plain(fault: Fault) -> str:
    status = f"HTTP {fault.status}: " if fault.status and fault.status != 200 else ""
    return f"{status}{fault.detail}"


async def process_of(ladder: Ladder) -> Listener | None:
    """The process behind the port, when it is one of this machine; kept as evidence."""
    if not is_loopback(ladder.node.url):
        return None
    found = await listener(endpoint(ladder.node.url)[1])
    if found is not None:
        ladder.evidence["process"] = {
            "pid": found.pid,
            "name": found.name,
            "stopped": found.stopped,
            "cpu_cores": round(found.cpu, 2),
        }
    return found
