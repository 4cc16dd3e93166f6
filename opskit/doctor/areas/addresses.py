"""Addresses that lead somewhere else than people think: 0.0.0.0, localhost, loopback."""

import asyncio
import ipaddress
from collections.abc import Iterator

from opskit.checks.spec import Check, CheckContext, NotHere, Observation, assessing, assessment
from opskit.checks.state import NodeState
from opskit.doctor.areas.ollama_host import PORTS_BY_SCHEME
from opskit.doctor.cause import Cause
from opskit.doctor.evidence import Evidence, ExaminedContainer
from opskit.doctor.target import ExaminationTarget
from opskit.facts.environment import UrlParts
from opskit.facts.machine import read_addresses, read_host_port
from opskit.facts.port_owner import read_port
from opskit.result import Status
from opskit.system.host import is_loopback
from opskit.system.network import endpoint

_BIND = ("0.0.0.0", "::")  # noqa: S104 - recognised, not bound
#: Names by which containers reach the machine that they run on.
_HOST_NAMES = ("host.docker.internal", "gateway.docker.internal", "host.containers.internal", "172.17.0.1")
#: What a server binds to, and no client dials.
_SERVER_SIDE = ("OLLAMA_HOST",)
#: What the stack's containers call each other by (SPEC B7, D7).
_CLIENT_SIDE = ("OLLAMA_API_URL", "OLLAMA_BASE_URL", "MLX_API_URL", "VICTORIA_URL", "VERONICA_URL")


def checks(target: ExaminationTarget) -> Iterator[Check]:
    yield assessing(_LOCALHOST, "localhost", name="localhost", tags=("network",))
    yield assessing(_PORTS, target, name="ports", tags=("network",))


async def _localhost(name: str, context: CheckContext) -> Observation:
    addresses = await context.survey.get(read_addresses, name)
    is_here = bool(addresses) and all(map(_is_loopback, addresses))
    problem = "" if is_here else f"{name} leads to {', '.join(addresses) or 'nothing'}"
    return Observation({"addresses": addresses}, f"{name} is {', '.join(addresses)}", problem=problem)


async def _ports(target: ExaminationTarget, context: CheckContext) -> Observation:
    ports = sorted({endpoint(member.url)[1] for member in target.members if is_loopback(member.url)})
    if not ports:
        raise NotHere("no node or agent is on this machine")
    facts = await asyncio.gather(*(context.survey.get(read_port, "tcp", port) for port in ports))
    if target.in_docker:
        await asyncio.gather(*(context.survey.get(read_host_port, port) for port in ports))
    await asyncio.gather(*(context.survey.get(read_port, "tcp", port) for port in PORTS_BY_SCHEME))
    held = sum(bool(port.owners) for port in facts)
    hidden = "" if all(port.complete for port in facts) else " (as far as this user may see)"
    return Observation({}, f"{held} of {len(ports)} ports are held{hidden}", state="ok")


_LOCALHOST = assessment("localhost", str, _localhost, str)
_PORTS = assessment("ports", ExaminationTarget, _ports, lambda _: "ports", imports=("psutil",))


def causes(evidence: Evidence) -> Iterator[Cause]:
    if evidence.localhost is not None and evidence.failed("localhost"):
        yield Cause(
            id="localhost-unresolved",
            title="the name localhost does not lead to this machine alone",
            evidence=(f"it leads to {', '.join(evidence.localhost) or 'nothing'}",),
            remedy="put `127.0.0.1 localhost` and `::1 localhost` into /etc/hosts, and nothing else for that "
            "name",
            claims=frozenset({"localhost"}),
            code="COMM_002",
        )
    yield from _bind_addresses(evidence)
    for container in evidence.containers:
        yield from _localhost_inside(container, evidence)
        yield from _loopback_only(container, evidence)
    if evidence.target.in_docker:
        yield from _localhost_of_ours(evidence)


def _bind_addresses(evidence: Evidence) -> Iterator[Cause]:
    for note in evidence.target.loaded.notes:
        if "is a bind address" in note:
            key, _, _ = note.partition(": ")
            yield _bind_address(key, f"{note} ({evidence.origins[key]})" if key in evidence.origins else note)
    for container in evidence.containers:
        for name, url in _dialled(container):
            if url.host in _BIND:
                words = f"container {container.name} has {name}={url.text}"
                yield _bind_address(f"{container.name} {name}", words)


def _bind_address(target: str, words: str) -> Cause:
    return Cause(
        id="bind-address",
        target=target,
        title=f"a bind address where clients need one to dial: {target}",
        evidence=(
            words,
            "0.0.0.0 and :: mean all addresses of a server; dialled, they lead somewhere else",
        ),
        remedy="write 127.0.0.1 on this machine, or host.docker.internal in a container",
        status=Status.WARN,
        code="CONFIG_003",
    )


def _dialled(container: ExaminedContainer) -> list[tuple[str, UrlParts]]:
    """The addresses that a container dials; its own bind address, if it is a server, is none of them."""
    urls = sorted(container.environment.urls.items())
    return [(name, url) for name, url in urls if name not in _SERVER_SIDE]


def _localhost_inside(examined: ExaminedContainer, evidence: Evidence) -> Iterator[Cause]:
    """Inside a container localhost is the container, unless it shares the network of another or the host."""
    container = examined.container
    if container.network_mode == "host" or container.network_mode.startswith("container:"):
        return
    published = {port.host_port for port in container.bindings}
    for name, url in _dialled(examined):
        is_of_stack = name in _CLIENT_SIDE or url.port in evidence.target.ports
        if is_of_stack and url.port not in published and _is_loopback(url.host):
            right = f"{url.scheme}://host.docker.internal:{url.port}"
            yield Cause(
                id="localhost-in-container",
                target=f"{container.name} {name}",
                title=f"{name} of container {container.name} leads back into the container",
                evidence=(f"{name}={url.text}, and there localhost is the container itself",),
                remedy=f"set {name}={right} in its Compose file (on Linux with "
                '`extra_hosts: ["host.docker.internal:host-gateway"]`), then `docker compose up -d`',
                code="CONFIG_003",
            )


def _localhost_of_ours(evidence: Evidence) -> Iterator[Cause]:
    """When opskit is in a container and the server answers at the same port of the machine around it.

    A server that has answered at localhost was there, whatever files say of a container.
    """
    states = {probe.config.name: probe.state for probe in evidence.nodes}
    states |= {probe.config.name: probe.state for probe in evidence.agents}
    for member in evidence.target.members:
        port = endpoint(member.url)[1]
        is_refused = is_loopback(member.url) and states.get(member.name) is NodeState.REFUSED
        is_elsewhere = port in evidence.host_ports and not evidence.has_answered(member)
        if member.explicit and is_refused and is_elsewhere:
            right = f"http://host.docker.internal:{port}"
            yield Cause(
                id="localhost-in-container",
                target=member.name,
                title=f"opskit runs in a container and looks for {member.name} at localhost",
                evidence=(
                    f"{member.url}, where nothing listens: in a container localhost is the container itself",
                    f"{right} accepts connections",
                ),
                remedy=f"set the address of {member.name} to {right}",
                claims=frozenset({f"node {member.name}", f"agent {member.name}"}),
                code="CONFIG_003",
            )


def _loopback_only(examined: ExaminedContainer, evidence: Evidence) -> Iterator[Cause]:
    """On Linux a container comes from its bridge, where a server on loopback does not listen.

    Docker Desktop, OrbStack and Colima on a Mac forward to the host's loopback.
    """
    target, is_desktop = evidence.target, evidence.docker is not None and evidence.docker.is_desktop
    if target.platform != "linux" or is_desktop or target.in_docker:
        return
    if examined.container.network_mode in ("host", "none"):
        return
    for name, url in _dialled(examined):
        owners = evidence.ports.get(url.port or 0, ())
        if url.host in _HOST_NAMES and owners and all(_is_loopback(owner.address) for owner in owners):
            addresses = ", ".join(sorted({owner.address for owner in owners}))
            yield Cause(
                id="loopback-only",
                target=f"{examined.name} {name}",
                title=f"container {examined.name} cannot reach port {url.port}: it is on loopback only",
                evidence=(f"{name}={url.text}", f"{owners[0].words} listens on {addresses}"),
                remedy="let it listen for Docker's bridge too, behind a firewall: `OLLAMA_HOST=0.0.0.0` "
                "where Ollama is started, `--host 0.0.0.0` for mlx_lm.server",
                code="COMM_002",
            )


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return False
