"""A probe under way: its stages, how it ends early, and what a failed call says of the server."""

from dataclasses import dataclass
from typing import Any, NoReturn

from opskit.checks.state import NodeState, judge_silence, state_of
from opskit.config.schema import AgentConfig, NodeConfig
from opskit.facts.address import AddressProblem
from opskit.facts.connection import connection_problem
from opskit.llm.faults import FaultKind, classify
from opskit.providers.base import CallCause, CallError
from opskit.records import MutableRecord, Record, field
from opskit.result import Status
from opskit.system.host import is_loopback
from opskit.system.network import TcpResult, endpoint
from opskit.system.sockets import Listener, listener


class ProbeStage(Record):
    """One stage of a probe: tcp, http, models, resident, first token, ..."""

    name: str
    status: Status
    seconds: float
    detail: str

    def as_json(self) -> dict[str, Any]:
        return {
            "rung": self.name,
            "status": self.status.value,
            "seconds": round(self.seconds, 4),
            "detail": self.detail,
        }


@dataclass(eq=False)
class ProbeFailed(Exception):  # noqa: N818 - the probe ends here, which is a result
    """The probe ends in this state, by `fault` where a request to a model failed."""

    state: NodeState
    detail: str
    remedy: str | None = None
    fault: FaultKind | None = None


class Stages(MutableRecord):
    """The stages of one probe so far, and what was seen on the way: see the fields of NodeProbe."""

    target: NodeConfig | AgentConfig
    passed: list[ProbeStage] = field(default_factory=list)
    process: Listener | None = None
    slots: tuple[int, int] | None = None
    answer: str | None = None

    def add(self, name: str, status: Status, seconds: float, detail: str) -> None:
        self.passed.append(ProbeStage(name, status, seconds, detail))

    def end(
        self,
        name: str,
        state: NodeState,
        detail: str,
        seconds: float = 0.0,
        *,
        status: Status = Status.FAIL,
        remedy: str | None = None,
        fault: FaultKind | None = None,
    ) -> NoReturn:
        """Add the last stage. Raises ProbeFailed."""
        self.add(name, status, seconds, detail)
        raise ProbeFailed(state, detail, remedy, fault=fault)

    def connected(self, tcp: TcpResult) -> None:
        """Add the first stage. Raises ProbeFailed when nothing accepts a connection."""
        proxy = self.target.proxy if isinstance(self.target, NodeConfig) else None
        url = proxy or self.target.url
        if tcp.problem is None:
            (host, port), name = endpoint(url), "" if proxy is None else "the proxy "
            self.add("tcp", Status.PASS, tcp.seconds, f"{name}{host}:{port} accepts connections")
            return
        state = NodeState.REFUSED if tcp.problem == "refused" else NodeState.UNREACHABLE
        self.end("tcp", state, connection_problem(url, tcp), tcp.seconds)

    def end_at_address(
        self, problem: AddressProblem, error: CallError, tcp: TcpResult, http_s: float
    ) -> NoReturn:
        """Add the stage at which an address leads past its server. Raises ProbeFailed."""
        name = "tcp"
        if tcp.problem is None:
            self.connected(tcp)
            name = "http"
        state = NodeState.FAILING if error.relayed else state_of(classify(error))
        self.end(name, state, problem.detail, http_s)

    async def reason(self, error: CallError, took_s: float) -> tuple[NodeState, str]:
        """Return the state behind a failed call; silence after an accepted connection needs evidence."""
        fault = classify(error)
        if fault.kind is FaultKind.FIRST_TOKEN_TIMEOUT and error.cause is CallCause.TIMEOUT:
            state, detail = judge_silence(
                progress_seen=False, others_served=False, process=await self.look_at_process(), seconds=took_s
            )
            return state, detail.replace("no token in", "it accepts connections and answers nothing for")
        status = f"HTTP {fault.status}: " if fault.status and fault.status != 200 else ""
        return state_of(fault), f"{status}{fault.detail}"

    async def look_at_process(self) -> Listener | None:
        """Return the process behind the port, when it is one of this machine; it is kept."""
        if not is_loopback(self.target.url):
            return None
        self.process = await listener(endpoint(self.target.url)[1]) or self.process
        return self.process


def process_json(process: Listener) -> dict[str, Any]:
    return {
        "pid": process.pid,
        "name": process.name,
        "stopped": process.stopped,
        "cpu_cores": round(process.cpu, 2),
    }
