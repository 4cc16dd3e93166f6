"""Model nodes and agents: who is behind the port, and in what condition. Busy and loading are no causes."""

from collections.abc import Iterator
from functools import partial

from opskit.checks.agent_probe import probe_agent
from opskit.checks.node_probe import limit_s, probe_node
from opskit.checks.probe_record import AgentProbe, NodeProbe, ProbeOptions
from opskit.checks.remedies import FIRST_SERVER, address_remedy, address_setting
from opskit.checks.spec import Check, CheckContext, NotHere, Observation, assessing
from opskit.checks.state import GONE, NodeState
from opskit.config.schema import AgentConfig, NodeConfig
from opskit.doctor.areas.addresses import ollama_port_of
from opskit.doctor.areas.agents import of_answering
from opskit.doctor.areas.containers import names_of_member, of_member
from opskit.doctor.cause import Cause, Fix, claims_of, key_of
from opskit.doctor.evidence import Evidence, read_victoria_job
from opskit.doctor.target import ExaminationTarget, Member
from opskit.explain.search import system_explanation
from opskit.facts.address import AddressProblem
from opskit.facts.agent import read_agent_paths
from opskit.facts.machine import read_program
from opskit.facts.model_memory import read_cache_sizes, read_prompt
from opskit.facts.node import ReadingStep
from opskit.facts.port_owner import read_ports_of
from opskit.llm.faults import FaultKind, classify
from opskit.providers.kinds import expected_kind
from opskit.records import replace
from opskit.result import Status
from opskit.schedule.job import VICTORIA
from opskit.system.host import is_loopback
from opskit.system.network import endpoint
from opskit.text import counted, listing

_OPEN = (NodeState.IDLE, NodeState.BUSY, NodeState.LOADING)
#: The probes end by themselves; this much later the runner ends them.
_SPARE_S = 10.0
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
#: How a connection ends that Docker accepted for a container in which nothing listens.
_CUT = frozenset({FaultKind.EMPTY_REPLY, FaultKind.RESET, FaultKind.TRUNCATED})
_START_IN_DOCKER = (
    "opskit runs in a container: start it with `--add-host host.docker.internal:host-gateway`, or set "
    "OLLAMA_API_URL and MLX_API_URL; on the host `ollama serve` starts Ollama"
)


def checks(target: ExaminationTarget) -> Iterator[Check]:
    config, deep = target.config, target.deep
    check = partial(assessing, tags=("nodes",))
    probe_s = limit_s(config) * (2 if deep else 1) + _SPARE_S
    for node in config.nodes:
        yield check("node", _node, (node, deep), node.name, timeout_s=probe_s)
    nodes = [f"node {node.name}" for node in config.nodes]
    yield check("model servers", _servers, target, "nodes", name="model servers", after=nodes)
    for agent in config.agents:
        agent_s = 2 * config.probe.http_s + _SPARE_S
        yield check("agent", _agent, agent, agent.name, timeout_s=agent_s, tags=("agents",))


async def _node(params: tuple[NodeConfig, bool], context: CheckContext) -> Observation:
    """Probe a node; `deep`, the second parameter, permits one long prompt to a loaded model."""
    survey, (node, deep) = context.survey, params
    probe = await survey.get(probe_node, node, ProbeOptions())
    if probe.state in GONE and (program := expected_kind(node.source).program):
        await survey.get(read_program, program)
    kind = probe.facts.kind
    if probe.facts.models == () and kind is not None and kind.program and is_loopback(node.url):
        await survey.get(read_ports_of, kind.program)
    if kind is not None and kind.settings_prefix:
        await survey.get(read_cache_sizes, node)
    if kind is not None and kind.context_per_request and deep and probe.is_well:
        await survey.get(read_prompt, node)
    return _observed(probe)


async def _servers(target: ExaminationTarget, context: CheckContext) -> Observation:
    """Where nobody asked for a node, and none is there, nothing is broken; but nothing answers either."""
    probes = context.survey.known(probe_node).values()
    if any(probe.state not in GONE or _is_expected(probe.config) for probe in probes) or not probes:
        raise NotHere("a model server is there, or is missed by itself")
    why = "; ".join(f"{probe.config.name}: {probe.detail}" for probe in probes)
    is_bare = not any(map(target.chosen, ("nodes", "agents", "stack")))
    return Observation(
        {},
        problem=why,
        undecided="no model server is there, and none is configured",
        state=(NodeState.NOT_CONFIGURED if is_bare else NodeState.REFUSED).shown,
        remedy=_START_IN_DOCKER if target.in_docker else FIRST_SERVER,
    )


async def _agent(agent: AgentConfig, context: CheckContext) -> Observation:
    probe, is_kept = await context.survey.get(probe_agent, agent), False
    if probe.is_well:
        await context.survey.get(read_agent_paths, agent)
    elif _is_kept_by_us(agent) and probe.state is NodeState.REFUSED:
        is_kept = (await context.survey.get(read_victoria_job)).installed
    return _observed(probe, is_kept=is_kept)


def _observed(probe: NodeProbe | AgentProbe, *, is_kept: bool = False) -> Observation:
    """What a probe comes to; whose server nobody asked for, and no job of opskit keeps, need not be there."""
    if probe.state in GONE and not (_is_expected(probe.config) or is_kept):
        raise NotHere(f"{probe.detail}; nobody asked for it")
    finding = probe.finding()
    return Observation(
        {"state": probe.state.value},
        probe.detail,
        problem="" if probe.is_well else probe.detail,
        undecided=probe.detail if probe.state in _OPEN else "",
        state=finding.state,
        code=finding.code,
        remedy=finding.remedy,
        evidence={"ladder": [stage.as_json() for stage in probe.stages]},
    )


def causes(evidence: Evidence) -> Iterator[Cause]:
    yield from _misplaced(evidence)
    for probe in evidence.nodes:
        yield from tuple(ollama_port_of(probe, evidence))[:1] or _of_probe(probe, evidence)
    yield from _two_servers(evidence)
    if _nobody_answers(evidence):
        is_outside = evidence.target.in_docker and not any(map(evidence.has_answered, evidence.config.nodes))
        yield Cause(
            id="node-down",
            title="no model server answers",
            evidence=tuple(f"{probe.config.name}: {probe.detail}" for probe in evidence.nodes),
            remedy=_START_IN_DOCKER if is_outside else FIRST_SERVER,
            claims=claims_of(*(probe.config.name for probe in evidence.nodes)) | {"model servers"},
            code="MODEL_001",
        )
    for agent in evidence.agents:
        yield from _of_probe(agent, evidence)
        if agent.state in (NodeState.OK, NodeState.SLOW) and agent.facts.address_problem is None:
            yield from of_answering(agent, evidence, _base(agent, evidence))


def _is_expected(member: Member) -> bool:
    return member.explicit or member.required


def _is_kept_by_us(member: Member) -> bool:
    """Tell whether a job of opskit may keep an agent running."""
    return member.name == VICTORIA.name and is_loopback(member.url)


def _of_probe(probe: NodeProbe | AgentProbe, evidence: Evidence) -> Iterator[Cause]:
    """Yield what is wrong with the address, the port, the process or the server, the first of these."""
    problem = probe.facts.address_problem
    if problem is not None and (isinstance(probe, AgentProbe) or probe.facts.error is not None):
        yield _wrong_address(probe, problem, evidence)
    elif probe.state is NodeState.FAILING and (words := _stranger(probe)):
        yield _port_taken(probe, words, evidence)
    elif (cause := _stopped_process(probe, evidence) or _condition(probe, evidence)) is not None:
        yield cause


def _stranger(probe: NodeProbe | AgentProbe) -> str:
    """Say what answers in the place of a node or an agent; empty where it may be the right server."""
    if isinstance(probe, AgentProbe):
        return f"it answers, but not as an agent: {probe.detail}" if probe.facts.is_stranger else ""
    facts = probe.facts
    fault = facts.fault if facts.failed in (ReadingStep.TCP, ReadingStep.HTTP) else None
    # A server that is ours and ill answers 5xx; a stranger answers 404 to everything we know.
    is_stranger = fault is not None and (
        fault.kind in _STRANGER or (fault.kind is FaultKind.SERVER_ERROR and fault.status == 404)
    )
    return f"it answers, but not as a model server: {fault.detail}" if fault and is_stranger else ""


def _misplaced(evidence: Evidence) -> Iterator[Cause]:
    """Servers of another kind than their nodes are configured as; swapped addresses are one cause."""
    problems = {
        probe.config.url: (probe, probe.facts.address_problem)
        for probe in evidence.nodes
        if probe.facts.address_problem is not None and probe.facts.error is None
    }
    swapped = [url for url, (_, problem) in problems.items() if problem.address in problems]
    for urls in (swapped, *([url] for url in problems if url not in swapped)):
        pairs = [problems[url] for url in urls]
        if not pairs:
            continue
        names = [probe.config.name for probe, _ in pairs]
        kinds = [expected_kind(probe.config.source) for probe, _ in pairs]
        title = f"the addresses of {listing(names, separator=' and ')} are swapped"
        is_deaf = any(kind.own_protocol for kind in kinds)
        yield Cause(
            id="wrong-server",
            target=names[0],
            title=title if len(pairs) > 1 else pairs[0][1].detail,
            evidence=(
                *(problem.detail for _, problem in pairs if len(pairs) > 1),
                *(f"{kind.label}'s own clients get nothing there" for kind in kinds if kind.own_protocol),
            ),
            remedy="; ".join(
                filter(None, (address_remedy(probe.config, problem) for probe, problem in pairs))
            ),
            status=Status.FAIL if is_deaf else Status.WARN,
            claims=claims_of(*names),
        )


def _wrong_address(probe: NodeProbe | AgentProbe, problem: AddressProblem, evidence: Evidence) -> Cause:
    group = "nodes" if isinstance(probe, NodeProbe) else "agents"
    origin = evidence.origins.get(f"{group}.{probe.config.name}.url")
    words = f"the address of {probe.config.name} is {probe.config.url}" + (f" ({origin})" if origin else "")
    return replace(_base(probe, evidence), id="address-wrong", title=problem.detail, evidence=(words,))


def _base(probe: NodeProbe | AgentProbe, evidence: Evidence) -> Cause:
    """What it is called when it merely answers with errors."""
    kind, name = "node" if isinstance(probe, NodeProbe) else "agent", probe.config.name
    known = system_explanation(probe.detail)
    return Cause(
        id=f"{kind}-failing",
        target=name,
        title=f"{name} answers with errors",
        evidence=(probe.detail,),
        remedy="; ".join(filter(None, ("" if known is None else known.remedy, probe.advice()))),
        claims=claims_of(name),
        because=of_member(evidence, name),
    )


def _condition(probe: NodeProbe | AgentProbe, evidence: Evidence) -> Cause | None:
    config, base, is_agent = probe.config, _base(probe, evidence), isinstance(probe, AgentProbe)
    job = evidence.victoria_job if _is_kept_by_us(config) else None
    is_kept = job is not None and job.installed
    name, models = config.name, () if isinstance(probe, AgentProbe) else probe.facts.models
    match probe.state:
        case NodeState.WEDGED if isinstance(probe, AgentProbe) and probe.facts.queue is not None:
            ending, title = "queue-stuck", f"the queue of {name} stands still: nothing works it off"
        case NodeState.WEDGED if isinstance(probe, AgentProbe):
            ending, title = "wedged", f"{name} accepts connections and never answers"
        case NodeState.WEDGED if (
            not isinstance(probe, AgentProbe) and probe.runner and probe.runner.scheduler
        ):
            title = f"the scheduler of {name} hangs: no process of a model gets the requests"
            return replace(base, id="scheduler-hangs", title=title)
        case NodeState.WEDGED:
            ending, title = "wedged", f"{name} is wedged: it accepts requests and gives no token"
        case NodeState.UNAUTHORISED:
            ending, title = "unauthorised", f"{name} wants a key"
        case NodeState.UNREACHABLE if _is_expected(config) and not is_agent:
            ending, title = "unreachable", f"{name} cannot be reached"
        case NodeState.REFUSED | NodeState.UNREACHABLE if _is_expected(config) or is_kept:
            ending, title = "down", f"{name} is down"
            reasons = ("localhost-in-container", "port-published-elsewhere", "oom-killed")
            base = replace(base, because=(*(key_of(reason, name) for reason in reasons), *base.because))
            if job is not None and is_kept:
                words = f"{job.scheduler} keeps it ({VICTORIA.unit}): {job.problem or 'the job is well'}"
                remedy = job.remedy or "`opskit schedule status victoria` shows where its log is"
                base = replace(base, evidence=(*base.evidence, words), remedy=remedy)
            elif is_agent or names_of_member(evidence, name):
                base = replace(base, remedy=_start_of(config, evidence))
        case NodeState.FAILING if isinstance(probe, NodeProbe) and probe.fault in _MODEL_FAULTS:
            title = f"{probe.model} on {name} cannot be used: {_MODEL_FAULTS[probe.fault]}"
            return replace(base, id="model-unusable", title=title)
        case NodeState.FAILING if is_agent or models is None or models:
            return base
        case _:
            return None
    return replace(base, id=base.id.replace("failing", ending), title=title)


def _start_of(member: Member, evidence: Evidence) -> str:
    """Return how an agent is started that is down: by the container that there is, not by one that may be."""
    address, names = f"or correct {address_setting(member)}", names_of_member(evidence, member.name)
    examined = next((examined for examined in evidence.containers if examined.name in names), None)
    if examined is None:
        return f"start {member.name} where it is installed; {address}"
    if examined.container.running:
        return f"`docker port {examined.name}` shows which ports it publishes; {address}"
    return f"`docker start {examined.name}`; {address}"


def _port_taken(probe: NodeProbe | AgentProbe, words: str, evidence: Evidence) -> Cause:
    member = probe.config
    what = member.name if isinstance(member, AgentConfig) else expected_kind(member.source).phrase
    host, port = endpoint(member.url)
    owners = evidence.owners(member)
    fault = classify(probe.facts.error) if probe.facts.error is not None else None
    if owners and owners[0].container is not None and fault is not None and fault.kind in _CUT:
        return _nothing_inside(probe, owners[0].container, evidence)
    owner_words = "something" if not owners else "this very process" if owners[0].is_ours else owners[0].words
    shows = f"`opskit verify --add port port={port}` shows it whole; " if owners else ""
    correct = f"correct the address of {member.name} (`opskit config show`)"
    return replace(
        _base(probe, evidence),
        id="port-taken",
        title=f"port {port} is held by {owner_words}, not by {what}",
        evidence=(words, f"`{member.name}` is expected at {host}:{port}"),
        remedy=f"{shows}move it to another port, or {correct}",
        claims=claims_of(member.name),
    )


def _nothing_inside(probe: NodeProbe | AgentProbe, name: str, evidence: Evidence) -> Cause:
    """Docker accepts what it publishes, and ends the connection where nothing listens in the container."""
    port, base = endpoint(probe.config.url)[1], _base(probe, evidence)
    examined = next((examined for examined in evidence.containers if examined.name == name), None)
    bindings = () if examined is None else examined.container.bindings
    inside = next((binding.inside for binding in bindings if binding.host_port == port), "the published port")
    return replace(
        base,
        id=base.id.replace("failing", "down"),
        title=f"nothing answers at {inside} in container {name}, which publishes port {port}",
        evidence=(
            probe.detail,
            f"nothing listens on {inside} in the container, or only on 127.0.0.1, where Docker does not come",
        ),
        remedy=f"let the server in {name} listen on 0.0.0.0 and {inside}, or correct `ports` in its Compose "
        f"file; `docker logs --tail 50 {name}` shows where it listens",
    )


def _stopped_process(probe: NodeProbe | AgentProbe, evidence: Evidence) -> Cause | None:
    """The cause of a silence that ends when the process is let go on."""
    member = probe.config
    runner = probe.runner.stopped if isinstance(probe, NodeProbe) and probe.runner is not None else None
    owners = ((owner.process, owner.words) for owner in evidence.owners(member))
    halted = [(process, words) for process, words in owners if process is not None and process.halt]
    if runner is not None:
        halted.append((runner, f"{runner.words}, which serves a model,"))
    # The queue of a stopped process may be full: then it accepts no connection.
    if probe.state not in (NodeState.WEDGED, NodeState.UNREACHABLE) or not halted:
        return None
    process, words = halted[0]
    let_go, undo = ("kill", "-CONT", str(process.pid)), f"`kill -STOP {process.pid}`"
    return Cause(
        id="process-stopped",
        target=member.name,
        title=f"{'the' if runner is None else 'a'} process of {member.name} {process.halt}",
        evidence=(f"{words} {process.halt}; its port is open all the same", probe.detail),
        remedy=process.release,
        claims=claims_of(member.name),
        because=of_member(evidence, member.name),
        fix=Fix(let_go, safe=True, target=member.name, undo=undo) if process.stopped else None,
    )


def _nobody_answers(evidence: Evidence) -> bool:
    """Tell whether no node at all is there, nobody asked for one in particular, and one is used here.

    Where no server is installed and no request was made, nobody misses one.
    """
    probes = evidence.nodes
    missing = all(probe.state in GONE and not _is_expected(probe.config) for probe in probes)
    is_used = bool(evidence.programs) or any(client.calls for client in evidence.requests)
    return bool(probes) and missing and is_used and len(probes) == len(evidence.config.nodes)


def _two_servers(evidence: Evidence) -> Iterator[Cause]:
    """Two programs on one port, at different addresses: which one answers depends on the name."""
    members = {
        endpoint(member.url)[1]: member
        for member in reversed(evidence.target.members)
        if is_loopback(member.url)
    }
    for port, member in members.items():
        owners = [owner for owner in evidence.owners(member) if owner.pid is not None]
        servers = {owner.container or owner.pid: owner for owner in owners}
        if min(len(servers), len({owner.address for owner in owners}),
               len({owner.words for owner in servers.values()})) < 2:  # fmt: skip
            continue
        yield Cause(
            id="two-servers",
            target=member.name,
            title=f"{counted(len(servers), 'server')} share port {port}: localhost may mean either",
            evidence=tuple(f"{owner.words} listens on {owner.address}" for owner in servers.values()),
            remedy="stop one of them, or give it another port; until then write the address in numbers "
            f"(http://127.0.0.1:{port})",
            claims=claims_of(member.name),
        )
