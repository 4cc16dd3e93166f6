"""The network area: the way out, names, Docker networks, and every port of the stack (SPEC C9, ops facts 12).

What only needs the internet is a warning: the stack is local, and nothing on loopback waits for it.
"""

import asyncio
from functools import partial
from urllib.parse import urlsplit

from opskit.checks.remedies import NO_DNS
from opskit.config.load import running_in_docker
from opskit.config.schema import AgentConfig, Config, NodeConfig, StackConfig
from opskit.diagnose.area import Section, SectionSource, TableSection, observe_kind
from opskit.diagnose.containers import networks
from opskit.facts.endpoint import connection_problem
from opskit.facts.internet import InternetFacts, InternetTargets, read_default_route, read_internet
from opskit.facts.survey import Survey
from opskit.result import Finding, Status
from opskit.system.network import TcpResult, authority, connects, endpoint

_NAME_S = 4.0
_REACH_S = 5.0
_DOCKER_S = 8.0
_DOCKER_HOST = "host.docker.internal"
#: The stack downloads its models from these.
TARGETS = InternetTargets(by_name=("registry.ollama.ai:443", "huggingface.co:443"), limit_s=_REACH_S)


def sources(targets: InternetTargets, *, with_docker: bool) -> list[SectionSource]:
    """Return the sections of the area; a resolver that is dead costs its own limit and nothing else."""
    part = partial(SectionSource, "network")
    sections = [
        part("internet", "internet", partial(internet, targets=targets), targets.limit_s + 2.0),
        part("names", "names", partial(names, targets=targets), _NAME_S + 3.0),
        part("ports", "ports of the stack", ports, _REACH_S + 2.0),
    ]
    if with_docker:
        sections.append(part("docker_networks", "docker networks", docker_networks, _DOCKER_S))
    return sections


async def internet(survey: Survey, targets: InternetTargets) -> Section:
    """Read whether hosts outside answer, by name and by address."""
    route, facts = await asyncio.gather(survey.get(read_default_route), survey.get(read_internet, targets))
    way = "there is none"
    if route is not None:
        way = f"through {route.gateway or 'the interface itself'} on {route.interface}"
    attempts = [
        ("by name" if attempt.by_name else "by address", attempt.target, attempt.result)
        for attempt in facts.attempts
    ]
    rows = [
        ("default route", "", "yes" if route else "no", "", way),
        *(_cells(*attempt) for attempt in attempts),
    ]
    data = {
        "default_route": None if route is None else {"interface": route.interface, "gateway": route.gateway},
        "targets": [_json(*attempt) for attempt in attempts],
    }
    finding = internet_finding(facts, routed=route is not None)
    columns = ("what", "target", "reached", "seconds", "")
    return Section(data, (TableSection("internet", columns, tuple(rows), (finding.detail,)),), (finding,))


def internet_finding(facts: InternetFacts, *, routed: bool) -> Finding:
    """Judge the attempts together: no way out, or names that do not resolve although there is one. Pure."""
    if facts.reached(by_name=True):
        return Finding("network", "internet", Status.PASS, "ok", "the internet is reached")
    problems = {attempt.result.problem for attempt in facts.attempts if attempt.by_name}
    status, state = Status.WARN, "partly"
    detail, remedy = "addresses answer, the registries of models do not", None
    if not facts.reached(by_name=False):
        why = "no target answers" if routed else "there is no default route"
        state, detail = "offline", f"{why}: models cannot be downloaded; what runs here does not need it"
        remedy = "check cable, Wi-Fi, VPN or proxy"
    elif problems <= {"name", "timeout"}:
        status, state = Status.FAIL, "no names"
        detail = "addresses answer, names do not resolve: DNS does not work"
        remedy = NO_DNS
    return Finding("network", "internet", status, state, detail, "COMM_002", remedy)


async def names(survey: Survey, targets: InternetTargets) -> Section:
    """Resolve names as programs of this machine do, each under a deadline of its own."""
    public = sorted({urlsplit(f"//{target}").hostname or target for target in targets.by_name})
    wanted = [*own_names(survey.config, in_docker=running_in_docker()), *public]
    observed = await asyncio.gather(
        *(observe_kind("dns", survey, timeout_s=_NAME_S, name=name) for name in wanted)
    )
    rows, data, findings = [], [], []
    for name, (finding, values) in zip(wanted, observed, strict=True):
        addresses, took_s = (values["addresses"], values["seconds"]) if values else ([], finding.seconds)
        is_silent = finding.status is Status.INCONCLUSIVE
        why = f"no answer within {_NAME_S:g} s" if is_silent else finding.detail
        detail = ", ".join(addresses) or why
        rows.append((name, "yes" if addresses else "no", f"{took_s:.3f} s", detail))
        data.append({"name": name, "addresses": addresses, "seconds": round(took_s, 4)})
        # What the internet lacks is reported once, by the targets themselves.
        if not addresses and name not in public:
            # Inside a container it is the usual way to the host, which nobody need take.
            used = name != _DOCKER_HOST or any(
                _DOCKER_HOST in member.url for member in _members(survey.config)
            )
            status = Status.FAIL if used else Status.WARN
            remedy = f"correct the address that names {name}, or add it to /etc/hosts"
            findings.append(Finding("network", name, status, "unresolved", detail, "COMM_002", remedy))
    columns = ("name", "resolves", "seconds", "to")
    return Section(data, (TableSection("names", columns, tuple(rows)),), tuple(findings))


def own_names(config: Config, *, in_docker: bool) -> list[str]:
    """Return `localhost`, names of the configuration, `host.docker.internal` where it means something."""
    hosts = [urlsplit(_dialled(member)).hostname or "" for member in _members(config)]
    named = [host for host in hosts if host and not host.replace(".", "").isdigit() and ":" not in host]
    return list(dict.fromkeys(["localhost", *([_DOCKER_HOST] if in_docker else []), *named]))


def _dialled(member: NodeConfig | AgentConfig) -> str:
    return member.dialled if isinstance(member, NodeConfig) else member.url


async def ports(survey: Survey) -> Section:
    """Connect to every node and every agent."""
    members = _members(survey.config)
    limit_s = min(_REACH_S, survey.config.budgets.connect_s)
    results = await asyncio.gather(*(connects(_dialled(member), timeout_s=limit_s) for member in members))
    reached = [
        (member, authority(*endpoint(_dialled(member))), result)
        for member, result in zip(members, results, strict=True)
    ]
    rows = tuple(_cells(member.name, where, result) for member, where, result in reached)
    none = () if rows else ("no node and no agent is configured",)
    columns = ("whose", "port", "reached", "seconds", "")
    return Section(
        [_json(member.name, where, result) for member, where, result in reached],
        (TableSection("ports of the stack", columns, rows, none),),
        tuple(_port_finding(*attempt) for attempt in reached),
    )


def _port_finding(member: NodeConfig | AgentConfig, where: str, result: TcpResult) -> Finding:
    status, state, code, remedy = Status.PASS, result.problem or "ok", None, None
    detail = f"{where} accepts connections"
    if result.problem is not None:
        status, detail = Status.SKIP, connection_problem(_dialled(member), result)
        if member.explicit or member.required:
            status, code, remedy = Status.FAIL, "COMM_002", f"start {member.name}, or correct its address"
    return Finding("port", member.name, status, state, detail, code, remedy, result.seconds)


async def docker_networks(survey: Survey) -> Section:
    """Read the networks of Docker, and whether the one of the configuration is among them."""
    section, stack = await networks(survey), survey.config.stack
    wanted = stack.docker_network
    if wanted is None or any(network["name"] == wanted for network in section.data):
        return section
    chosen = bool(stack.compose) or wanted != StackConfig().docker_network
    detail = "there is no such Docker network" + ("" if chosen else "; it is only the usual name")
    remedy = f"`docker network create {wanted}`" if chosen else None
    status = Status.FAIL if chosen else Status.SKIP
    finding = Finding("network", wanted, status, "missing", detail, None, remedy)
    return Section(section.data, section.tables, (finding,))


def _members(config: Config) -> tuple[NodeConfig | AgentConfig, ...]:
    return (*config.nodes, *config.agents)


def _cells(name: str, where: str, result: TcpResult) -> tuple[str, ...]:
    problem = connection_problem(f"tcp://{where}", result) if result.problem else ""
    return (name, where, "no" if result.problem else "yes", f"{result.seconds:.3f} s", problem)


def _json(name: str, where: str, result: TcpResult) -> dict[str, object]:
    return {
        "name": name,
        "target": where,
        "reached": result.problem is None,
        "problem": result.problem,
        "seconds": round(result.seconds, 4),
    }
