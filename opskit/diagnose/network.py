"""The network area: the way out, names, Docker networks, and every port of the stack (SPEC C9, ops facts 12).

What only needs the internet is a warning: the stack is local, and nothing on loopback waits for it.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from opskit.config.load import running_in_docker
from opskit.config.schema import AgentConfig, Config, NodeConfig, StackConfig
from opskit.diagnose.area import Area, Look, Part, TableSection, gathered, unseen
from opskit.diagnose.checked_values import CheckedValues, seen
from opskit.diagnose.containers import networks
from opskit.diagnose.docker_here import not_installed
from opskit.diagnose.quantities import seconds
from opskit.diagnose.route import default_route
from opskit.errors import OpskitError
from opskit.facts.survey import Survey
from opskit.result import Finding, Status
from opskit.system.network import TcpResult, connects, endpoint

_NAME_S = 4.0
_REACH_S = 5.0
_DOCKER_S = 8.0
_DOCKER_HOST = "host.docker.internal"
_WORDS = {
    "refused": "nothing listens there",
    "timeout": "no answer in time (host down, or a firewall)",
    "name": "its name does not resolve",
    "unreachable": "there is no route to it",
}


@dataclass(frozen=True, slots=True)
class Targets:
    """What stands for the internet: two by name, which the stack downloads from, and two by address."""

    named: tuple[str, ...] = ("registry.ollama.ai:443", "huggingface.co:443")
    by_address: tuple[str, ...] = ("1.1.1.1:443", "8.8.8.8:443")


@dataclass(frozen=True, slots=True)
class ConnectionAttempt:
    """One attempt to connect. `wanted` is False where nobody said that something is there."""

    name: str
    where: str
    result: TcpResult
    wanted: bool = True


async def area(around: Survey, targets: Targets) -> Area:
    """Everything at once; a resolver that is dead costs its own deadline and nothing else."""
    looks = [
        Look("internet", "internet", _internet(around, targets), _REACH_S + 2.0),
        Look("names", "names", _names(around, targets), _NAME_S + 3.0),
        Look("ports", "ports of the stack", _ports(around), _REACH_S + 2.0),
    ]
    if not await asyncio.to_thread(not_installed, around.environ):
        looks.append(Look("docker_networks", "docker networks", _docker_networks(around), _DOCKER_S))
    return await gathered("network", looks)


async def _internet(around: Survey, targets: Targets) -> Part:
    looked = asyncio.gather(
        *(_reach("by name", where) for where in targets.named),
        *(_reach("by address", where) for where in targets.by_address),
    )
    route, tried = await asyncio.gather(default_route(around.environ), looked)
    told = (
        f"through {route.gateway or 'the interface itself'} on {route.interface}"
        if route
        else "there is none"
    )
    rows = [("default route", "", "yes" if route else "no", "", told), *map(_cells, tried)]
    data = {
        "default_route": None if route is None else {"interface": route.interface, "gateway": route.gateway},
        "targets": [_json(one) for one in tried],
    }
    finding = internet_finding(tried, routed=route is not None)
    columns = ("what", "target", "reached", "seconds", "")
    return Part(data, (TableSection("internet", columns, tuple(rows), (finding.detail,)),), (finding,))


def internet_finding(tried: Sequence[ConnectionAttempt], *, routed: bool) -> Finding:
    """What the attempts mean together: no way out, or names that do not resolve although there is one."""
    by = {how: [one.result.problem for one in tried if one.name == how] for how in ("by name", "by address")}
    named, addressed = None in by["by name"], None in by["by address"]
    if named:
        return Finding("network", "internet", Status.PASS, "ok", "the internet is reached")
    if addressed and set(by["by name"]) <= {"name", "timeout"}:
        detail = "addresses answer, names do not resolve: DNS does not work"
        remedy = "check the DNS servers (`/etc/resolv.conf`; on a Mac `scutil --dns`)"
        return Finding("network", "internet", Status.FAIL, "no names", detail, "COMM_002", remedy)
    if addressed:
        detail = "addresses answer, the registries of models do not"
        return Finding("network", "internet", Status.WARN, "partly", detail, "COMM_002")
    why = "no target answers" if routed else "there is no default route"
    detail = f"{why}: models cannot be downloaded; what runs here does not need it"
    remedy = "check cable, Wi-Fi, VPN or proxy"
    return Finding("network", "internet", Status.WARN, "offline", detail, "COMM_002", remedy)


async def _names(around: Survey, targets: Targets) -> Part:
    """Names as programs of this machine resolve them, each under a deadline of its own."""
    public = {urlsplit(f"//{target}").hostname or target for target in targets.named}
    names = [*own_names(around.config, in_docker=running_in_docker()), *sorted(public)]
    looked = await asyncio.gather(*(seen("dns", around, timeout_s=_NAME_S, name=name) for name in names))
    rows, data, findings = [], [], []
    for name, one in zip(names, looked, strict=True):
        addresses = list(one.values["addresses"]) if one.values else []
        took = one.values["seconds"] if one.values else one.finding.seconds
        told = ", ".join(addresses) or _why(one)
        rows.append((name, "yes" if addresses else "no", seconds(took), told))
        data.append({"name": name, "addresses": addresses, "seconds": round(took, 4)})
        # What the internet lacks is told once, by the targets themselves.
        if not addresses and name not in public:
            # Inside a container it is the usual way to the host, which nobody need take.
            used = name != _DOCKER_HOST or any(_DOCKER_HOST in one.url for one in _members(around.config))
            status = Status.FAIL if used else Status.WARN
            remedy = f"correct the address that names {name}, or add it to /etc/hosts"
            findings.append(Finding("network", name, status, "unresolved", told, "COMM_002", remedy))
    columns = ("name", "resolves", "seconds", "to")
    return Part(data, (TableSection("names", columns, tuple(rows)),), tuple(findings))


def own_names(config: Config, *, in_docker: bool) -> list[str]:
    """`localhost`, what the configuration names, and `host.docker.internal` where it means something."""
    hosts = [urlsplit(one.url).hostname or "" for one in _members(config)]
    named = [host for host in hosts if host and not host.replace(".", "").isdigit() and ":" not in host]
    inside = [_DOCKER_HOST] if in_docker else []
    return list(dict.fromkeys(["localhost", *inside, *named]))


def _why(one: CheckedValues) -> str:
    return (
        f"no answer within {_NAME_S:g} s" if one.finding.status is Status.INCONCLUSIVE else one.finding.detail
    )


async def _ports(around: Survey) -> Part:
    members = _members(around.config)
    limit = min(_REACH_S, around.config.budgets.connect_s)
    results = await asyncio.gather(*(connects(one.url, timeout_s=limit) for one in members))
    reached = [
        ConnectionAttempt(one.name, _where(one.url), result, one.explicit or one.required)
        for one, result in zip(members, results, strict=True)
    ]
    rows = tuple(map(_cells, reached))
    none = () if rows else ("no node and no agent is configured",)
    findings = tuple(_port_finding(one) for one in reached)
    columns = ("whose", "port", "reached", "seconds", "")
    return Part(
        [_json(one) for one in reached], (TableSection("ports of the stack", columns, rows, none),), findings
    )


def _port_finding(one: ConnectionAttempt) -> Finding:
    problem = one.result.problem
    if problem is None:
        return Finding(
            "port",
            one.name,
            Status.PASS,
            "ok",
            f"{one.where} accepts connections",
            seconds=one.result.seconds,
        )
    status = Status.FAIL if one.wanted else Status.SKIP
    detail = f"{one.where}: {_WORDS[problem]}"
    code, remedy = ("COMM_002", f"start {one.name}, or correct its address") if one.wanted else (None, None)
    return Finding("port", one.name, status, problem, detail, code, remedy, one.result.seconds)


async def _docker_networks(around: Survey) -> Part:
    try:
        found = await networks(await around.docker())
    except OpskitError as error:
        return unseen(
            "network",
            "docker networks",
            OpskitError(error.code, f"Docker does not answer: {error.message}", remedy=error.remedy),
        )
    wanted = around.config.stack.docker_network
    if wanted is None or any(one["name"] == wanted for one in found.data):
        return found
    told = bool(around.config.stack.compose) or wanted != StackConfig().docker_network
    finding = Finding(
        "network",
        wanted,
        Status.FAIL if told else Status.SKIP,
        "missing",
        "there is no such Docker network" + ("" if told else "; it is only the usual name"),
        None,
        f"`docker network create {wanted}`" if told else None,
    )
    return Part(found.data, found.sections, (*found.findings, finding))


async def _reach(how: str, where: str) -> ConnectionAttempt:
    return ConnectionAttempt(how, where, await connects(f"tcp://{where}", timeout_s=_REACH_S))


def _members(config: Config) -> tuple[NodeConfig | AgentConfig, ...]:
    return (*config.nodes, *config.agents)


def _where(url: str) -> str:
    host, port = endpoint(url)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _cells(one: ConnectionAttempt) -> tuple[str, ...]:
    problem = one.result.problem
    return (
        one.name,
        one.where,
        "no" if problem else "yes",
        seconds(one.result.seconds),
        _WORDS[problem] if problem else "",
    )


def _json(one: ConnectionAttempt) -> dict[str, object]:
    return {
        "name": one.name,
        "target": one.where,
        "reached": one.result.problem is None,
        "problem": one.result.problem,
        "seconds": round(one.result.seconds, 4),
    }
