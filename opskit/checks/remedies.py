"""What to type next, for each state of a node or an agent: exact commands, not advice."""

import sys

from opskit.checks.state import NodeState
from opskit.config.origins import URLS
from opskit.config.schema import AgentConfig, NodeConfig
from opskit.facts.address import AddressProblem
from opskit.providers.kinds import ServerKind, expected_kind
from opskit.system.host import is_loopback
from opskit.system.network import endpoint
from opskit.system.sockets import Listener

#: What to do where the resolver of this machine fails, as after sleep or with a VPN that has gone.
NO_DNS = (
    f"`{'scutil --dns' if sys.platform == 'darwin' else 'resolvectl status'}` shows which DNS servers are "
    "asked; connect the network or the VPN again"
)
#: What to type first on a machine without a model server.
FIRST_SERVER = (
    "`ollama serve` starts Ollama (https://ollama.com/download), `mlx_lm.server --model DIR --port 11435` "
    "an MLX server; `opskit probe --sandbox` shows opskit without any"
)


def node_remedy(
    node: NodeConfig,
    state: NodeState,
    *,
    process: Listener | None,
    kind: ServerKind | None = None,
) -> str | None:
    """None when nothing is to be done. `kind` is what the server turned out to be, where it is known."""
    kind = kind or expected_kind(node.source)
    match state:
        case NodeState.OK:
            return None
        case NodeState.SLOW:
            return f"`opskit models test --node {node.name}` measures it; `opskit models loaded` shows memory"
        case NodeState.IDLE:
            return "`opskit probe --load` loads the smallest model and asks it for a token"
        case NodeState.BUSY | NodeState.LOADING:
            return f"wait, then `opskit probe`; `opskit models loaded` shows what {node.name} holds"
        case NodeState.WEDGED:
            return _wake(node, process, kind)
        case NodeState.FAILING:
            return _inspect(node, kind)
        case NodeState.REFUSED:
            return f"start it: {kind.start_hint(node.url)}; or correct {address_setting(node)}"
        case NodeState.UNREACHABLE:
            return f"check {address_setting(node)}: `opskit config show` tells where the address comes from"
        case NodeState.UNAUTHORISED:
            return f"give its key: set `nodes.{node.name}.api_key: ${{NAME}}` and export NAME"
        case NodeState.NOT_CONFIGURED:
            return f"set {address_setting(node)}"


def stranger_remedy(member: NodeConfig | AgentConfig) -> str:
    """Return what to type where something answers that is no model server, or no agent."""
    port = endpoint(member.url)[1]
    shows = f"`opskit verify --add port port={port}` shows what listens there; "
    shows = shows if is_loopback(member.url) else ""
    return f"{shows}correct {address_setting(member)} (`opskit config show` tells where it comes from)"


def unload_remedy(kind: ServerKind, model: str, url: str) -> str | None:
    """Return what frees a model that is held up by its server; None where nothing does."""
    unload = kind.unload_hint(model, url)
    return f"{unload} frees it; if that hangs, restart the server: {kind.restart}" if unload else None


def agent_remedy(agent: AgentConfig, state: NodeState, *, restart: str = "", log: str = "") -> str | None:
    """None when nothing is to be done. `restart` and `log` are of the process that runs, if known."""
    container = f"{agent.name}-agent"
    log = log or ("its output, where it was started" if restart else f"`docker logs --tail 50 {container}`")
    match state:
        case NodeState.OK:
            return None
        case NodeState.REFUSED:
            start = f"start {agent.name} where it is installed (a container: `docker start {container}`)"
            return f"{start}; or correct {address_setting(agent)}"
        case NodeState.UNREACHABLE:
            return f"check {address_setting(agent)}: `opskit config show` tells where the address comes from"
        case NodeState.UNAUTHORISED:
            return f"give its key: set `agents.{agent.name}.api_key: ${{NAME}}` and export NAME"
        case NodeState.SLOW | NodeState.BUSY | NodeState.LOADING | NodeState.IDLE:
            return f"{log} shows what it works on"
        case NodeState.WEDGED | NodeState.FAILING:
            return f"{log}, then {restart or f'`docker restart {container}`'}"
        case NodeState.NOT_CONFIGURED:
            return f"set {address_setting(agent)}"


def _wake(node: NodeConfig, process: Listener | None, kind: ServerKind) -> str:
    if process is not None and process.stopped:
        return process.release
    if kind.unload:
        unload = kind.unload_hint("MODEL")
        return f"`opskit models loaded`, then {unload}; if that hangs, restart it: {kind.restart}"
    pid = f"`kill {process.pid}`, then " if process is not None else ""
    return f"restart it: {kind.restart or pid + kind.start_hint(node.url)}"


def _inspect(node: NodeConfig, kind: ServerKind) -> str:
    if kind.log:
        return f"{kind.log}; restart it: {kind.restart}"
    return f"look at the log of the server at {node.url}, then restart it: {kind.start_hint(node.url)}"


def address_remedy(member: NodeConfig | AgentConfig, problem: AddressProblem) -> str | None:
    """Return the line to write where an address leads past a node or an agent."""
    if problem.address is None:
        return problem.remedy
    return f"set {_setting(member)} to {problem.address}"


def address_setting(member: NodeConfig | AgentConfig) -> str:
    """Return where a person corrects the address of a node or an agent: a variable, or a key and its line."""
    line = f" ({member.address_from})" if ":" in member.address_from else ""
    return f"{_setting(member)}{line}"


def _setting(member: NodeConfig | AgentConfig) -> str:
    key = f"{'nodes' if isinstance(member, NodeConfig) else 'agents'}.{member.name}"
    if ":" in member.address_from:
        return f"`{key}.url`"
    return member.address_from or next(iter(URLS.get(key, ())), f"`{key}.url`")
