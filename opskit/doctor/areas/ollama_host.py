"""OLLAMA_HOST=http://box means port 80 to Ollama's server and to its clients (wire facts A1)."""

from collections.abc import Iterator

from opskit.checks.probe_record import NodeProbe
from opskit.config.origins import SERVER_VARIABLE
from opskit.config.url import port_by_scheme
from opskit.doctor.cause import Cause
from opskit.doctor.evidence import Evidence
from opskit.providers.kinds import OLLAMA, expected_kind
from opskit.system.host import is_loopback

#: Where such a server listens, and its clients look.
PORTS_BY_SCHEME = (80, 443)


def causes(evidence: Evidence) -> Iterator[Cause]:
    """Yield the causes in containers of Ollama, unless that port is the one that they publish."""
    for examined in evidence.containers:
        container = examined.container
        is_server = any(word in container.image.lower() for word in OLLAMA.known_by)
        inside = {port.inside.partition("/")[0] for port in container.bindings}
        if is_server and not inside & set(map(str, PORTS_BY_SCHEME)):
            text = examined.environment.settings.get(SERVER_VARIABLE, "")
            yield from _cause(container.name, text, f"container {container.name}")


def of_node(probe: NodeProbe, evidence: Evidence) -> Iterator[Cause]:
    """Yield the cause for a node that does not answer: in this shell, or in a server that listens there."""
    node = probe.config
    if probe.facts.kind is not None or expected_kind(node.source).address_variable != SERVER_VARIABLE:
        return
    origin = evidence.origins.get(f"nodes.{node.name}.url")
    if origin is not None and origin.detail == SERVER_VARIABLE:
        yield from _cause(node.name, evidence.target.environ[SERVER_VARIABLE], "this shell")
    for port in PORTS_BY_SCHEME if is_loopback(node.url) else ():
        for owner in evidence.ports.get(port, ()):
            settings = {} if owner.environment is None else owner.environment.settings
            yield from _cause(node.name, settings.get(SERVER_VARIABLE, ""), owner.words)


def _cause(target: str, text: str, holder: str) -> Iterator[Cause]:
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
