"""Addresses that lead somewhere else than people think: 0.0.0.0, localhost in a container, loopback."""

import ipaddress
from collections.abc import Iterator

from opskit.checks.state import NodeState
from opskit.config.schema import AgentConfig, NodeConfig
from opskit.doctor.cause import Cause
from opskit.doctor.evidence import Evidence, ExaminedContainer
from opskit.facts.environment import UrlParts
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


def causes(evidence: Evidence) -> Iterator[Cause]:
    yield from _bind(evidence)
    yield from _localhost(evidence)
    yield from _loopback_only(evidence)


def _bind(evidence: Evidence) -> Iterator[Cause]:
    for note in evidence.notes:
        if "is a bind address" in note:
            key, _, said = note.partition(": ")
            yield _bound(key, f"{key}: {said}", str(evidence.origins.get(key, "")))
    for one in evidence.containers:
        for name, place in _dialled(one):
            if place.host in _BIND:
                told = f"container {one.name} has {name}={place.text}"
                yield _bound(f"{one.name} {name}", told, "")


def _bound(target: str, told: str, origin: str) -> Cause:
    where = f" ({origin})" if origin else ""
    return Cause(
        "bind-address",
        target,
        f"a bind address where clients need one to dial: {target}",
        (
            f"{told}{where}",
            "0.0.0.0 and :: mean all addresses of a server; dialled, they lead somewhere else",
        ),
        "write 127.0.0.1 on this machine, or host.docker.internal in a container",
        status=Status.WARN,
        code="CONFIG_003",
    )


def _dialled(one: ExaminedContainer) -> Iterator[tuple[str, UrlParts]]:
    """The addresses that a container dials; its own bind address, if it is a server, is none of them."""
    for name, place in sorted(one.environment.places.items()):
        if name not in _SERVER_SIDE:
            yield name, place


def _localhost(evidence: Evidence) -> Iterator[Cause]:
    """Inside a container localhost is the container, unless it shares the host's network."""
    ports = _ports(evidence)
    for one in evidence.containers:
        if one.network_mode == "host" or one.network_mode.startswith("container:"):
            continue
        for name, place in _dialled(one):
            ours = name in _CLIENT_SIDE or place.port in ports
            inside = place.port in one.ports
            if ours and not inside and _is_loopback(place.host):
                right = f"{place.scheme}://host.docker.internal:{place.port}"
                yield Cause(
                    "localhost-in-container",
                    f"{one.name} {name}",
                    f"{name} of container {one.name} leads back into the container",
                    (f"{name}={place.text}, and there localhost is the container itself",),
                    f"set {name}={right} in its Compose file (on Linux with "
                    '`extra_hosts: ["host.docker.internal:host-gateway"]`), then `docker compose up -d`',
                    because=(),
                    code="CONFIG_003",
                )
    if evidence.in_docker:
        yield from _ourselves(evidence)


def _ourselves(evidence: Evidence) -> Iterator[Cause]:
    """When opskit is in a container. Where any of its localhost addresses answers, localhost is right."""
    states = {one.config.name: one.state for one in evidence.nodes}
    states |= {one.config.name: one.state for one in evidence.agents}
    members: tuple[NodeConfig | AgentConfig, ...] = (*evidence.config.nodes, *evidence.config.agents)
    here = [one for one in members if is_loopback(one.url)]
    if any(states.get(one.name) is not NodeState.REFUSED for one in here):
        return
    for member in here:
        if member.explicit:
            port = endpoint(member.url)[1]
            yield Cause(
                "localhost-in-container",
                member.name,
                f"opskit runs in a container and looks for {member.name} at localhost",
                (f"{member.url}, where nothing listens: in a container localhost is the container itself",),
                f"set the address of {member.name} to http://host.docker.internal:{port}",
                frozenset({f"node {member.name}", f"agent {member.name}"}),
                code="CONFIG_003",
            )


def _loopback_only(evidence: Evidence) -> Iterator[Cause]:
    """On Linux a container comes from its bridge, where a server on loopback does not listen.

    Docker Desktop, OrbStack and Colima on a Mac forward to the host's loopback.
    """
    if evidence.platform != "linux" or evidence.docker.desktop or evidence.in_docker:
        return
    for one in evidence.containers:
        if one.network_mode in ("host", "none"):
            continue
        for name, place in _dialled(one):
            holders = evidence.holders.get(place.port or 0, ())
            if place.host not in _HOST_NAMES or not holders:
                continue
            if all(_is_loopback(holder.address) for holder in holders):
                who = holders[0].words
                yield Cause(
                    "loopback-only",
                    f"{one.name} {name}",
                    f"container {one.name} cannot reach port {place.port}: it is on loopback only",
                    (
                        f"{name}={place.text}",
                        f"{who} listens on {', '.join(sorted({holder.address for holder in holders}))}",
                    ),
                    "let it listen for Docker's bridge too, behind a firewall: `OLLAMA_HOST=0.0.0.0` where "
                    "Ollama is started, `--host 0.0.0.0` for mlx_lm.server",
                    code="COMM_002",
                )


def _ports(evidence: Evidence) -> frozenset[int]:
    urls = [one.url for one in evidence.config.nodes] + [one.url for one in evidence.config.agents]
    return frozenset(endpoint(url)[1] for url in urls)


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return False
