"""Every kind of check that exists, by its name."""

from opskit.checks.kinds import (
    agents,
    chains,
    containers,
    databases,
    docker,
    files,
    gpu,
    http,
    log_lines,
    machine,
    models,
    network,
    probes,
    processes,
)
from opskit.checks.spec import Kind

_MODULES = (
    http,
    network,
    processes,
    files,
    machine,
    gpu,
    containers,
    docker,
    log_lines,
    models,
    probes,
    agents,
    chains,
    databases,
)
KINDS: dict[str, Kind] = {kind.name: kind for module in _MODULES for kind in module.KINDS}
