"""Requests that failed within the last hour: evidence with causes of its own, whatever answers by now.

The log of opskit names nodes and models; a server's own log names the reason; the kernel's log names what it
killed. What was answered since is no cause, and neither is a server that had much to do.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import cache

from opskit.checks.probe_record import AgentProbe, NodeProbe
from opskit.checks.remedies import agent_remedy
from opskit.checks.state import GONE, NodeState
from opskit.checks.upkeep import kept
from opskit.doctor.areas.containers import of_member
from opskit.doctor.areas.models import silencing
from opskit.doctor.cause import Cause, key_of
from opskit.doctor.evidence import Evidence
from opskit.facts.kernel_log import KernelKill
from opskit.facts.model_requests import LeftQuestion, ModelRequests
from opskit.facts.runner import PROGRAMS
from opskit.facts.server_log import LoggedFailure, ServerLog
from opskit.llm.faults import OF_ONE_REQUEST, FaultKind, fault_remedy
from opskit.llm.verdict import Verdict
from opskit.logs.calls import ModelCall
from opskit.providers.base import short_name
from opskit.records import Record, replace
from opskit.result import Status
from opskit.system.host import is_loopback
from opskit.text import counted, listing

Probe = NodeProbe | AgentProbe

_VERDICTS = frozenset(Verdict)
#: A node had too much to do, or the caller was too quick: nothing is broken.
_UNDER_LOAD = frozenset({
    FaultKind.BUSY, FaultKind.RATE_LIMITED, FaultKind.LOADING, FaultKind.NOT_LISTED, FaultKind.UNAUTHORISED,
})  # fmt: skip
_SILENCES = frozenset({
    FaultKind.FIRST_TOKEN_TIMEOUT, FaultKind.IDLE_TIMEOUT, FaultKind.TOTAL_TIMEOUT, FaultKind.WEDGED,
    FaultKind.LOAD_TIMEOUT, FaultKind.CONNECT_TIMEOUT,
})  # fmt: skip
#: How a call ends whose model's process is killed.
_OF_A_KILL = frozenset({
    FaultKind.RUNNER_CRASHED, FaultKind.SERVER_ERROR, FaultKind.RESET, FaultKind.EMPTY_REPLY,
    FaultKind.TRUNCATED, FaultKind.REFUSED, FaultKind.OUT_OF_MEMORY,
})  # fmt: skip
#: What a token for a probe does not refute: one long prompt, or an answer that was none.
_UNPROBED = frozenset({FaultKind.CONTEXT_EXCEEDED, *Verdict})
_WORKING = (NodeState.BUSY, NodeState.LOADING, NodeState.SLOW)
#: A kill within so many seconds of a failure explains it.
_KILL_S = 60.0
#: The log of a server counts whole seconds, and begins to count when it has read a question.
_SAME_END_S = 2.0
_SAME_LENGTH_S = 1.0
#: The kernel knows this much of a program's name.
_COMM_CHARS = 15


class FailingRequests(Record, kw_only=True):
    """Requests to one node, or one model of it, of which none was answered since.

    `fault` is the value of a FaultKind or of a Verdict. `kill` is that of a process which explains them.
    """

    node: str
    model: str | None
    fault: str
    signs: tuple[str, ...]
    kill: KernelKill | None = None

    @property
    def target(self) -> str:
        return f"{self.node}/{self.model}" if self.model else self.node


class FailureJudgement(Record, kw_only=True):
    """What the failures of an hour come to.

    `kills` explain by node what failed, or why it is down; `notes` tell what is well again.
    """

    failing: tuple[FailingRequests, ...]
    kills: Mapping[str, KernelKill]
    notes: tuple[str, ...]


def judge_failures(
    probes: Sequence[Probe],
    requests: Iterable[ModelRequests],
    logs: Iterable[ServerLog],
    kills: Sequence[KernelKill],
) -> FailureJudgement:
    """Tell failures that last from failures that are over. Pure."""
    own = next((read for read in requests if read.client == "opskit"), ModelRequests("opskit"))
    by_node = {log.node: log for log in logs}
    failing: list[FailingRequests] = []
    lasting_kills: dict[str, KernelKill] = {}
    notes: list[str] = []
    for probe in probes:
        name = probe.config.name
        of_node = [kill for kill in kills if _is_of(kill, probe)]
        calls = [call for call in own.calls if call.node == name and call.url in (None, probe.config.url)]
        left = [
            question for question in own.left if (question.node, question.url) == (name, probe.config.url)
        ]
        left += (
            LeftQuestion(name, call.url or "", call.ended or 0.0, call.seconds or 0.0)
            for call in calls
            if call.fault in _SILENCES
        )
        of_models = list(_of_models(probe, calls, of_node, notes))
        answered_at = max((call.ended or 0.0 for call in calls if call.outcome == "ok"), default=0.0)
        log = by_node.get(name, ServerLog(node=name))
        log = replace(log, failures=tuple(_of_others(log.failures, left)))
        of_server = _of_log(probe, log, answered_at, of_node, notes)
        if of_server is not None and of_models:
            # The server tells the reason of what its client saw.
            of_models[-1] = _joined(of_models[-1], of_server)
        lasting = of_models or ([of_server] if of_server is not None else [])
        failing += lasting
        kill = next((requests.kill for requests in reversed(lasting) if requests.kill is not None), None)
        if kill is None and probe.state is NodeState.REFUSED:
            kill = next((kill for kill in reversed(of_node) if _is_server(kill, probe)), None)
        if kill is not None:
            lasting_kills[name] = kill
    return FailureJudgement(failing=tuple(failing), kills=lasting_kills, notes=tuple(notes))


def _of_others(failures: Iterable[LoggedFailure], left: Sequence[LeftQuestion]) -> Iterator[LoggedFailure]:
    """Yield what failed for somebody else: each question that opskit left accounts for one failure."""
    questions = list(left)
    for failure in failures:
        own = next((question for question in questions if _is_logged(question, failure)), None)
        if own is None:
            yield failure
        else:
            questions.remove(own)


def _is_logged(question: LeftQuestion, failure: LoggedFailure) -> bool:
    """Tell whether a failure without a reason ended when, and after as long as, a question was left."""
    took_s = question.seconds if failure.seconds is None else failure.seconds
    return (
        failure.kind is FaultKind.SERVER_ERROR
        and abs(failure.at - question.at) <= _SAME_END_S
        and abs(took_s - question.seconds) <= _SAME_LENGTH_S
    )


def _of_models(
    probe: Probe, calls: Sequence[ModelCall], kills: Sequence[KernelKill], notes: list[str]
) -> Iterator[FailingRequests]:
    """What opskit's own log tells of each model of a node."""
    for model in dict.fromkeys(call.model for call in calls if call.model):
        of_model = [call for call in calls if call.model == model]
        failed = [
            _Failure(call.ended or 0.0, call.fault or "", call.detail)
            for call in of_model
            if call.failed and _counts(call.fault or "", probe)
        ]
        answered_at = max((call.ended or 0.0 for call in of_model if call.outcome == "ok"), default=0.0)
        lasting = [failure for failure in failed if failure.at > answered_at]
        if _is_answering(probe, model):
            lasting = [failure for failure in lasting if failure.fault in _UNPROBED]
        if lasting:
            yield _summed(probe, model, lasting, "the log of opskit", kills)
        elif failed:
            requests = counted(len(failed), "request")
            notes.append(f"{requests} to {model} on {probe.config.name} failed, and it has answered since")


def _of_log(
    probe: Probe, log: ServerLog, answered_at: float, kills: Sequence[KernelKill], notes: list[str]
) -> FailingRequests | None:
    """What the log of the server itself tells."""
    name, answered_at = probe.config.name, max(log.answered_at or 0.0, answered_at)
    failed = [failure for failure in log.failures if _counts(failure.kind, probe)]
    is_well = _is_answering(probe)
    # That other prompts are answered says nothing of one that is longer than the context.
    lasting = [
        failure
        for failure in failed
        if failure.kind is FaultKind.CONTEXT_EXCEEDED or not (is_well or failure.at < answered_at)
    ]
    if over := len(failed) - len(lasting):
        notes.append(f"{counted(over, 'request')} to {name} failed by its own log, and it has answered since")
    if not lasting:
        return None
    source = f"the log of {name} ({lasting[-1].source})"
    failures = [_Failure(failure.at, failure.kind, failure.text) for failure in lasting]
    return _summed(probe, None, failures, source, kills)


class _Failure(Record):
    at: float
    fault: str
    words: str


def _summed(
    probe: Probe, model: str | None, failures: Sequence[_Failure], source: str, kills: Sequence[KernelKill]
) -> FailingRequests:
    """Sum failures up under their most frequent fault, or under the kill that explains them."""
    named = [failure for failure in failures if failure.fault != FaultKind.SERVER_ERROR] or failures
    faults = [failure.fault for failure in reversed(named)]
    times = [failure.at for failure in failures if failure.fault in _OF_A_KILL]
    near = (kill for kill in reversed(kills) if any(abs(kill.at - at) <= _KILL_S for at in times))
    kill = next(near, None)
    words = f"{counted(len(failures), 'request')} failed, the last at {_clock(failures[-1].at)}"
    return FailingRequests(
        node=probe.config.name,
        model=model,
        fault=FaultKind.OUT_OF_MEMORY if kill is not None else max(faults, key=faults.count),
        signs=(": ".join(filter(None, (source, words, named[-1].words))),),
        kill=kill,
    )


def _joined(client: FailingRequests, server: FailingRequests) -> FailingRequests:
    vague = client.fault in (FaultKind.SERVER_ERROR, FaultKind.RUNNER_CRASHED, FaultKind.EMPTY_REPLY)
    certain = server.fault not in (FaultKind.SERVER_ERROR, FaultKind.NOT_INSTALLED)
    return replace(
        client,
        fault=server.fault if vague and certain else client.fault,
        signs=(*client.signs, *server.signs),
        kill=client.kill or server.kill,
    )


def _counts(fault: str, probe: Probe) -> bool:
    """Tell whether a failure says something: not under load, nor a silence of a node that works.

    A server that nobody asked for in the configuration may be ended by the person who started it.
    """
    is_ended = probe.state in GONE and not (probe.config.explicit or probe.config.required)
    return not (fault in _UNDER_LOAD or is_ended or (fault in _SILENCES and probe.state in _WORKING))


def _is_answering(probe: Probe, model: str | None = None) -> bool:
    """Tell whether the probe of a moment ago got a token, of this model where one is named."""
    if not isinstance(probe, NodeProbe):
        return False
    asked = probe.model if probe.is_well and probe.first_token_s is not None else None
    return asked is not None and (model is None or short_name(asked) == short_name(model))


def _is_of(kill: KernelKill, probe: Probe) -> bool:
    """Tell whether a process that was killed belonged to a node of this machine."""
    if not isinstance(probe, NodeProbe) or not is_loopback(probe.config.url):
        return False
    kind, program = probe.facts.likely_kind, kill.program.lower()
    runners = [name[:_COMM_CHARS] for name in PROGRAMS] if kind.runs_model_processes else []
    return program in runners or _is_server(kill, probe)


def _is_server(kill: KernelKill, probe: Probe) -> bool:
    """Tell whether what was killed was the server itself, by its program."""
    words = probe.facts.likely_kind.known_by if isinstance(probe, NodeProbe) else ()
    return any(word in kill.program.lower() for word in words)


def causes(evidence: Evidence) -> Iterator[Cause]:
    probes: tuple[Probe, ...] = (*evidence.nodes, *evidence.agents)
    judgement = judge_failures(probes, evidence.requests, evidence.server_logs, evidence.kernel_kills)
    for node, kill in judgement.kills.items():
        yield _killed(node, kill, evidence)
    for failing in judgement.failing:
        probe = next(probe for probe in probes if probe.config.name == failing.node)
        yield _failing(failing, probe, evidence)


def _killed(node: str, kill: KernelKill, evidence: Evidence) -> Cause:
    return Cause(
        id="oom-killed",
        target=node,
        title=f"the kernel killed {kill.program} of {node} for want of memory",
        evidence=(f"the kernel's log: process {kill.pid} ({kill.program}) at {_clock(kill.at)}",),
        remedy="`opskit models list` shows which models fit: take a smaller model or context, or end what "
        "else needs memory",
        because=(*of_member(evidence, node), "memory-full"),
        code="MODEL_003",
    )


def _failing(failing: FailingRequests, probe: Probe, evidence: Evidence) -> Cause:
    from opskit.explain.catalogue import ExplanationKind, entry_of  # a file of texts that few runs need

    node, model = failing.node, failing.model
    kind = ExplanationKind.VERDICT if failing.fault in _VERDICTS else ExplanationKind.FAULT
    entry = entry_of(kind, failing.fault)
    remedy = None if entry is None else entry.remedy
    upkeep = evidence.upkeep(probe.config)
    if isinstance(probe, AgentProbe):
        remedy = agent_remedy(probe.config, NodeState.FAILING, restart=upkeep.restart, log=upkeep.log)
    elif failing.fault not in _VERDICTS:
        again = f"`opskit models test --node {node}" + (f" --model {model}`" if model else "`")
        fault = FaultKind(failing.fault)
        server = kept(probe.facts.likely_kind, upkeep)
        named = fault_remedy(fault, model=model or "NAME", node=node, server=server, again=again)
        log = f"{server.log} tells why; then {again}" if server.log and fault in _OF_A_KILL else None
        remedy = named or log or remedy
    whose = f"{model} on {node}" if model and isinstance(probe, NodeProbe) else node
    what = "answers of {} are refused" if failing.fault in _VERDICTS else "requests to {} fail"
    meaning = failing.fault.replace("_", " ") if entry is None else entry.title
    identifier = "context-exceeded" if failing.fault == FaultKind.CONTEXT_EXCEEDED else "requests-failing"
    return Cause(
        id=identifier,
        target=failing.target,
        title=f"{what.format(whose)}: {meaning}",
        evidence=failing.signs,
        remedy=remedy or f"`opskit explain {failing.fault}`",
        claims=frozenset({"requests"}),
        because=(key_of("oom-killed", node), *_behind(node, evidence)),
        status=Status.WARN if failing.fault in OF_ONE_REQUEST else Status.FAIL,
        code=None if entry is None else entry.code,
    )


def _behind(node: str, evidence: Evidence) -> tuple[str, ...]:
    """Return keys of the causes for which requests to a node or an agent fail."""
    agent = tuple(key_of(f"agent-{kind}", node) for kind in ("down", "wedged", "failing", "unauthorised"))
    large = tuple(
        key_of("model-too-large", f"{node}/{model.name}")
        for probe in evidence.nodes
        for model in probe.facts.models or ()
        if probe.config.name == node
    )
    return (*silencing(node), *agent, key_of("model-unusable", node), key_of("address-wrong", node), *large,
            "node-down")  # fmt: skip


@cache
def _clock(at: float) -> str:
    return datetime.fromtimestamp(at).astimezone().strftime("%H:%M:%S")


def noted(judgement: FailureJudgement) -> tuple[str, str]:
    """Return what lasts, as a problem, and what is over, as a note. Pure."""
    problem = listing([f"{failing.target} ({failing.fault})" for failing in judgement.failing])
    return (f"requests fail: {problem}" if problem else ""), "; ".join(judgement.notes)
