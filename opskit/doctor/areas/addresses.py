"""Addresses that lead elsewhere than people think: 0.0.0.0, localhost, loopback, a scheme without a port."""

import asyncio
from collections.abc import Iterable, Iterator

from opskit.checks.probe_record import NodeProbe
from opskit.checks.spec import Check, CheckContext, NotHere, Observation, assessing
from opskit.config.origins import SERVER_VARIABLE
from opskit.config.url import port_by_scheme
from opskit.doctor.cause import Cause, claims_of, warning
from opskit.doctor.evidence import Evidence, ExaminedContainer
from opskit.doctor.target import ExaminationTarget
from opskit.facts.environment import HOST_NAMES, UrlParts, addresses_in, is_loopback_name
from opskit.facts.machine import read_addresses, read_host_port
from opskit.facts.port_owner import read_port
from opskit.providers.kinds import OLLAMA, expected_kind
from opskit.system.host import is_loopback
from opskit.system.network import endpoint
from opskit.text import counted

_BIND = ("0.0.0.0", "::")  # noqa: S104 - recognised, not bound
#: What the name of this machine leads to: another address of 127/8 is another place.
_LOCALHOST = ("localhost", "127.0.0.1", "::1")
_EXTRA_HOSTS = f'`extra_hosts: ["{HOST_NAMES[0]}:host-gateway"]`'
#: What a server binds to, and no client dials: variables, and options of a command.
_SERVER_SIDE = ("OLLAMA_HOST",)
_BINDS = ("LISTEN", "BIND", "_LISTEN_ADDRESS", "_LISTEN_ADDR", "_BIND_ADDRESS", "_BIND_ADDR")
_BIND_OPTIONS = ("--host", "--listen", "--bind", "-b", "--address", "--addr", "--listen-address")
_LISTEN = (
    "let it listen for Docker's bridge too, behind a firewall: `OLLAMA_HOST=0.0.0.0` where Ollama is "
    "started, `--host 0.0.0.0` for mlx_lm.server"
)
_PUBLISH = "publish the port for Docker's bridge too, behind a firewall: without 127.0.0.1 in `ports`"
_COMMAND = "the command"
#: OLLAMA_HOST=http://box means one of these to Ollama's server and to its clients (wire facts A1).
_PORTS_BY_SCHEME = (80, 443)
#: What the stack's containers call each other by (SPEC B7, D7).
_CLIENT_SIDE = ("OLLAMA_API_URL", "OLLAMA_BASE_URL", "MLX_API_URL", "VICTORIA_URL", "VERONICA_URL")


def checks(target: ExaminationTarget) -> Iterator[Check]:
    yield assessing("localhost", _localhost, "localhost", "localhost", name="localhost", tags=("network",))
    yield assessing("ports", _ports, target, "ports", name="ports", tags=("network",), imports=("psutil",))


async def _localhost(name: str, context: CheckContext) -> Observation:
    addresses = await context.survey.get(read_addresses, name)
    is_here = bool(addresses) and all(map(is_loopback_name, addresses))
    problem = "" if is_here else f"{name} leads to {', '.join(addresses) or 'nothing'}"
    return Observation({"addresses": addresses}, f"{name} is {', '.join(addresses)}", problem=problem)


async def _ports(target: ExaminationTarget, context: CheckContext) -> Observation:
    ports = sorted({endpoint(member.url)[1] for member in target.members if is_loopback(member.url)})
    if not ports:
        raise NotHere("no node or agent is on this machine")
    facts = await asyncio.gather(*(context.survey.get(read_port, "tcp", port) for port in ports))
    if target.in_docker:
        await asyncio.gather(*(context.survey.get(read_host_port, port) for port in ports))
    await asyncio.gather(*(context.survey.get(read_port, "tcp", port) for port in _PORTS_BY_SCHEME))
    held = sum(bool(port.owners) for port in facts)
    hidden = "" if all(port.complete for port in facts) else " (as far as this user may see)"
    return Observation({}, f"{held} of {counted(len(ports), 'port')} are held{hidden}", state="ok")


def causes(evidence: Evidence) -> Iterator[Cause]:
    if evidence.localhost is not None and evidence.failed("localhost"):
        yield Cause(
            id="localhost-unresolved",
            title="the name localhost does not lead to this machine alone",
            evidence=(f"it leads to {', '.join(evidence.localhost) or 'nothing'}",),
            remedy="put `127.0.0.1 localhost` and `::1 localhost` into /etc/hosts, and nothing else for that "
            "name",
            claims=frozenset({"localhost"}),
        )
    yield from _bind_addresses(evidence)
    for container in evidence.containers:
        yield from _localhost_inside(container, evidence)
        yield from _loopback_only(container, evidence)
        yield from _unknown_host(container, evidence)
        yield from _proxied(container, evidence)
    yield from _published_elsewhere(evidence)
    yield from _ollama_ports(evidence)
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
    return warning(
        id="bind-address",
        target=target,
        title=f"a bind address where clients need one to dial: {target}",
        evidence=(
            words,
            "0.0.0.0 and :: mean all addresses of a server; dialled, they lead somewhere else",
        ),
        remedy="write 127.0.0.1 on this machine, or host.docker.internal in a container",
    )


def _dialled(container: ExaminedContainer) -> list[tuple[str, UrlParts]]:
    """The addresses that a container dials; what only a server can bind to is none of them."""
    urls = sorted(container.environment.urls.items())
    return [(name, url) for name, url in urls if name not in _SERVER_SIDE or url.host in HOST_NAMES]


def _addresses(examined: ExaminedContainer) -> Iterator[tuple[str, UrlParts]]:
    """Return all that a container may dial, by its variable or as part of its command.

    What a server binds to, and what it listens on itself, is none of it.
    """
    container = examined.container
    own = {port.host_port for port in container.bindings}
    own |= {int(port.inside.partition("/")[0]) for port in (*container.bindings, *container.ports)}
    groups = [
        (name, addresses)
        for name, addresses in sorted(examined.environment.addresses.items())
        if name not in _SERVER_SIDE and not name.endswith(_BINDS)
    ]
    groups.append((_COMMAND, addresses_in(" ".join(_without_binds(container.arguments)))))
    for name, addresses in groups:
        yield from ((name, address) for address in addresses if address.port not in own)


def _without_binds(arguments: Iterable[str]) -> Iterator[str]:
    """Return the words of a command without the values of options that say where it listens."""
    option = ""
    for word in " ".join(arguments).split():
        name, _, value = word.partition("=")
        option = name if value else option
        if not option.endswith(_BIND_OPTIONS):
            yield word
        option = word


def _localhost_inside(examined: ExaminedContainer, evidence: Evidence) -> Iterator[Cause]:
    """Inside a container localhost is the container, unless it shares the network of another or the host."""
    container = examined.container
    if container.network_mode == "host" or container.network_mode.startswith("container:"):
        return
    named: set[str] = set()
    for name, url in _addresses(examined):
        is_of_stack = name in _CLIENT_SIDE or url.port in evidence.target.ports
        if is_of_stack and is_loopback_name(url.host) and name not in named:
            named.add(name)
            right = UrlParts(url.scheme, HOST_NAMES[0], url.port).text
            held = f"{url.text} in its command" if name == _COMMAND else f"{name}={url.text}"
            yield Cause(
                id="localhost-in-container",
                target=f"{container.name} {name}",
                title=f"{name} of container {container.name} leads back into the container",
                evidence=(f"{held}, and there localhost is the container itself",),
                remedy=f"write {right} in its place in its Compose file (on Linux with "
                f"{_EXTRA_HOSTS}), then `docker compose up -d`",
            )


def _unknown_host(examined: ExaminedContainer, evidence: Evidence) -> Iterator[Cause]:
    """Docker on Linux gives a container no name for its host, unless `extra_hosts` does."""
    container, docker = examined.container, evidence.docker
    if docker is None or "linux" not in evidence.target.platform or docker.is_desktop:
        return
    if container.network_mode in ("host", "none") or container.network_mode.startswith("container:"):
        return
    given = {entry.partition(":")[0].partition("=")[0] for entry in container.extra_hosts}
    for name, url in _addresses(examined):
        if url.host in HOST_NAMES[:2] and url.host not in given and url.port in evidence.target.ports:
            yield Cause(
                id="host-name-unknown",
                target=container.name,
                title=f"container {container.name} does not know the name {url.host}",
                evidence=(
                    f"{name} leads to {url.text}",
                    "Docker on Linux gives that name only to containers with `extra_hosts`",
                ),
                remedy=f"give its service {_EXTRA_HOSTS.replace(HOST_NAMES[0], url.host)} in its Compose "
                "file, then `docker compose up -d`",
            )
            return


def _proxied(examined: ExaminedContainer, evidence: Evidence) -> Iterator[Cause]:
    """Docker and people give containers a proxy, which cannot reach what is on this machine."""
    variables = {name.upper(): text for name, text in examined.container.variables.items() if text.strip()}
    proxy = next((name for name in ("HTTP_PROXY", "ALL_PROXY") if name in variables), None)
    bypassed = [host.strip().lstrip(".").lower() for host in variables.get("NO_PROXY", "").split(",")]
    if proxy is None or "*" in bypassed:
        return
    for name, url in _dialled(examined):
        is_direct = any(url.host == host or url.host.endswith(f".{host}") for host in bypassed if host)
        if url.host in HOST_NAMES and url.port in evidence.target.ports and not is_direct:
            yield warning(
                id="proxy-in-container",
                target=examined.name,
                title=f"container {examined.name} asks a proxy for {url.host}",
                evidence=(
                    f"{proxy} is set in it, and NO_PROXY does not name {url.host}",
                    f"{name} leads to {url.text}, which is on this machine",
                ),
                remedy=f"add {url.host} to NO_PROXY of its service (or take {proxy} out: it may come from "
                "`proxies` in ~/.docker/config.json), then `docker compose up -d`",
            )
            return


def _published_elsewhere(evidence: Evidence) -> Iterator[Cause]:
    """A port that is published on one address answers at no other."""
    for member in evidence.target.members:
        host, port = endpoint(member.url)
        if not evidence.refuses(member):
            continue
        for examined in evidence.containers:
            published = [binding for binding in examined.container.ports if binding.host_port == port]
            addresses = sorted({binding.host_ip for binding in published})
            here = _LOCALHOST if host in _LOCALHOST else (host,)
            if not addresses or {"", *here, *_BIND} & set(addresses) or not examined.container.running:
                continue
            yield Cause(
                id="port-published-elsewhere",
                target=member.name,
                title=f"port {port} of {member.name} is published on {', '.join(addresses)} only",
                evidence=(
                    f"{member.url} refuses connections",
                    f"container {examined.name} publishes it on {', '.join(addresses)}",
                ),
                remedy=f'publish it on all addresses (`ports: ["{port}:..."]`), or set the address of '
                f"{member.name} to http://{addresses[0]}:{port}",
                claims=claims_of(member.name),
            )


def _localhost_of_ours(evidence: Evidence) -> Iterator[Cause]:
    """When opskit is in a container and the server answers at the same port of the machine around it.

    A server that has answered at localhost was there, whatever files say of a container.
    """
    for member in evidence.target.members:
        port = endpoint(member.url)[1]
        is_refused = is_loopback(member.url) and evidence.refuses(member)
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
                claims=claims_of(member.name),
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
        if url.host in HOST_NAMES and owners and all(is_loopback_name(owner.address) for owner in owners):
            addresses = ", ".join(sorted({owner.address for owner in owners}))
            yield Cause(
                id="loopback-only",
                target=f"{examined.name} {name}",
                title=f"container {examined.name} cannot reach port {url.port}: it is on loopback only",
                evidence=(f"{name}={url.text}", f"{owners[0].words} listens on {addresses}"),
                remedy=_LISTEN if owners[0].container is None else _PUBLISH,
            )


def _ollama_ports(evidence: Evidence) -> Iterator[Cause]:
    """Yield the causes in containers of Ollama, unless that port is the one that they publish."""
    for examined in evidence.containers:
        container = examined.container
        is_server = any(word in container.image.lower() for word in OLLAMA.known_by)
        inside = {port.inside.partition("/")[0] for port in container.bindings}
        if is_server and not inside & set(map(str, _PORTS_BY_SCHEME)):
            text = examined.environment.settings.get(SERVER_VARIABLE, "")
            yield from _ollama_port(container.name, text, f"container {container.name}")


def ollama_port_of(probe: NodeProbe, evidence: Evidence) -> Iterator[Cause]:
    """Yield the cause for a node that does not answer: in this shell, or in a server that listens there."""
    node = probe.config
    if probe.facts.kind is not None or expected_kind(node.source).address_variable != SERVER_VARIABLE:
        return
    origin = evidence.origins.get(f"nodes.{node.name}.url")
    if origin is not None and origin.detail == SERVER_VARIABLE:
        yield from _ollama_port(node.name, evidence.target.environ[SERVER_VARIABLE], "this shell")
    for port in _PORTS_BY_SCHEME if is_loopback(node.url) else ():
        for owner in evidence.ports.get(port, ()):
            settings = {} if owner.environment is None else owner.environment.settings
            yield from _ollama_port(node.name, settings.get(SERVER_VARIABLE, ""), owner.words)


def _ollama_port(target: str, text: str, holder: str) -> Iterator[Cause]:
    port = port_by_scheme(text)
    if port is not None:
        number, right = port
        yield Cause(
            id="ollama-host-port",
            target=target,
            title=f"{SERVER_VARIABLE} of {holder} means port {number}, not {OLLAMA.default_port}",
            evidence=(f"{SERVER_VARIABLE}={text.strip()} has a scheme and no port",),
            remedy=f"set {SERVER_VARIABLE}={right} there, and restart what was started with it",
            claims=frozenset({f"node {target}"}),
        )
