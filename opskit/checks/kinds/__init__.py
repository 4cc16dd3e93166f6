"""Every kind of check that exists, by its name."""

from opskit.checks.kinds import (
    agents,
    databases,
    docker,
    files,
    machine,
    models,
    network,
    processes,
)
from opskit.checks.spec import Kind

KINDS: dict[str, Kind] = {kind.name: kind for kind in (
    network.http, network.tcp, network.dns, network.port, processes.process, processes.command,
    files.file, files.env_file, files.config, machine.disk, machine.memory, machine.cpu, machine.gpu,
    docker.docker_daemon, docker.container,
    docker.compose, docker.docker_network, docker.volume, docker.image, files.log_pattern,
    models.node_ladder, models.model, models.probe, docker.stack_containers,
    agents.agent_api, agents.agent_chain, databases.database, databases.postgres_pool,
)}  # fmt: skip
