"""What an examination looks at: the checks as a graph. Everything that can runs side by side."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from opskit.checks.node_probe import limit_s
from opskit.checks.spec import Check
from opskit.config.origins import Origin
from opskit.config.schema import Config
from opskit.doctor.evidence import chosen
from opskit.doctor.looks import (
    calls,
    compose,
    configuration,
    containers,
    docker,
    machine,
    nodes,
    ports,
    schedule,
)
from opskit.doctor.looks.board import FactBoard
from opskit.system.host import is_loopback
from opskit.system.network import endpoint


@dataclass(frozen=True, slots=True)
class ExaminationScope:
    """What is examined. `deep` permits one prompt to a loaded model of each Ollama node."""

    config: Config
    origins: Mapping[str, Origin]
    environ: Mapping[str, str]
    home: Path
    deep: bool = False


def checks(subject: ExaminationScope, board: FactBoard) -> list[Check]:
    """All checks; each leaves its facts on the board."""
    config = subject.config
    stack, watch = config.stack, config.watch
    projects = {name: located(config, files) for name, files in stack.compose.items()}
    found = [configuration.configuration()]
    found += [configuration.env_file(board, str(config.located(path))) for path in stack.env_files]
    found += [
        machine.memory(board, watch.memory_percent),
        machine.disk(board, "state", Path(config.state_dir), watch.disk_percent),
        machine.disk(board, "models", models_folder(subject), watch.disk_percent),
        machine.disk(board, "docker", Path(), watch.disk_percent, requires=("docker",)),
        machine.clocks(board, _addresses(config), watch.clock_skew_s),
        machine.localhost(board),
        ports.ports(board, local_ports(config)),
        docker.daemon(board, wanted=docker_wanted(subject)),
        containers.containers(board, projects),
        containers.health(board),
    ]
    if stack.docker_network is not None and chosen(subject.origins, "stack.docker_network"):
        found.append(docker.network(board, stack.docker_network))
    found += [compose.compose(board, name, files) for name, files in projects.items()]
    climbs = 2 if subject.deep else 1
    found += [
        nodes.node(board, one, limit_s=climbs * limit_s(config), ask=subject.deep) for one in config.nodes
    ]
    found += [nodes.agent(board, one, limit_s=config.probe.http_s * 2) for one in config.agents]
    found.append(calls.in_files(board, Path(config.state_dir), subject.home))
    found.append(calls.in_containers(board))
    found.append(schedule.schedule(board, Path(config.state_dir)))
    return found


def located(config: Config, files: tuple[str, ...]) -> tuple[Path, ...]:
    return tuple(config.located(path).absolute() for path in files)


def docker_wanted(subject: ExaminationScope) -> bool:
    """Whether a person told of Docker: in the configuration, or by the variables that say where it is."""
    stack, origins = subject.config.stack, subject.origins
    return (
        any(subject.environ.get(name) for name in ("DOCKER_HOST", "DOCKER_CONTEXT"))
        or bool(stack.compose)
        or (stack.docker_network is not None and chosen(origins, "stack.docker_network"))
        or any(
            names and chosen(origins, f"stack.containers.{one}") for one, names in stack.containers.items()
        )
    )


def models_folder(subject: ExaminationScope) -> Path:
    """Where Ollama keeps its models, as far as this shell knows."""
    told = subject.environ.get("OLLAMA_MODELS", "").strip()
    return Path(told) if told.startswith("/") else subject.home / ".ollama/models"


def local_ports(config: Config) -> dict[str, int]:
    """Ports of this machine by whose they should be."""
    return {name: endpoint(url)[1] for name, url in _addresses(config).items() if is_loopback(url)}


def _addresses(config: Config) -> dict[str, str]:
    nodes = {one.name: one.url for one in config.nodes}
    return nodes | {one.name: one.url for one in config.agents}
