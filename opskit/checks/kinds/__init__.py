"""Every kind of check that exists, by its name."""

from opskit.checks.kinds import agents, databases, docker, files, machine, models, network, processes
from opskit.checks.spec import Kind

_MODULES = (network, processes, files, machine, docker, models, agents, databases)
KINDS: dict[str, Kind] = {
    kind.name: kind for module in _MODULES for kind in vars(module).values() if isinstance(kind, Kind)
}
