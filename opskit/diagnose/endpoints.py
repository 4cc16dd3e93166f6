"""Which pages a stack's servers have that cost nothing to ask: GETs, and no token (SPEC C1, C4, D2). Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from opskit.checks.kinds.agents import APIS
from opskit.config.schema import Config
from opskit.providers.kinds import ServerKind, expected_kind

_AGENT_PATHS = ("/status", "/health")


@dataclass(frozen=True, slots=True)
class EndpointServer:
    """A server and its pages.

    `wanted` is False where nobody said that it is there: its absence is no news. `costly` are the requests
    that would make a model work and are left alone.
    """

    name: str
    url: str
    paths: tuple[str, ...]
    costly: tuple[str, ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    wanted: bool = True


def servers(config: Config, kinds: Mapping[str, ServerKind]) -> list[EndpointServer]:
    """Nodes, agents, and the code agents at their usual ports, in this order.

    `kinds` is what each node turned out to be; one that did not tell is asked as what it is configured as.
    """
    found = [
        EndpointServer(
            node.name,
            node.url,
            kinds.get(node.name, expected_kind(node.source)).pages,
            headers=_bearer(node.api_key),
            wanted=node.explicit or node.required,
        )
        for node in config.nodes
    ]
    for agent in config.agents:
        api = APIS.get(agent.name)
        found.append(
            EndpointServer(
                agent.name,
                agent.url,
                api.looks if api else _AGENT_PATHS,
                tuple(f"POST {path}" for path in (api.asks if api else ("/run",))),
                _bearer(agent.api_key),
                agent.explicit or agent.required,
            )
        )
    known = {one.name for one in found} | {"victoria", "veronica"}
    for name, api in APIS.items():
        if name not in known:
            costly = tuple(f"POST {path}" for path in api.asks)
            found.append(
                EndpointServer(name, f"http://localhost:{api.port}", api.looks, costly, wanted=False)
            )
    return found


def _bearer(key: str | None) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"} if key else {}
