"""What of this machine makes the start of a container, or of a service without one, fail or do harm."""

import asyncio
import ipaddress
import itertools
import sys
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from opskit.facts.container import Container, StartObstacle
from opskit.facts.port_owner import read_port
from opskit.facts.survey import Survey
from opskit.system.compose_declaration import LOCAL_ADDRESSES, ComposeService, Project

#: Where Docker's virtual machine has the folders of this machine, and folders that only it has.
_SHARED, _OF_THE_VM = "/host_mnt", "/run/host-services/"
#: The folders of a Mac that its virtual machine has under the same paths, disks among them.
_OF_A_MAC = ("/Users/", "/Volumes/")


async def read_start_obstacles(survey: Survey, containers: Sequence[Container]) -> dict[str, StartObstacle]:
    """Read what keeps each of the containers from its start, or its restart, by id."""
    obstacles: dict[str, StartObstacle] = {}
    for container in containers:
        mounts = [mount.source for mount in container.mounts if mount.kind == "bind"]
        # What runs has its ports itself.
        ports = [
            port.host_port
            for port in (container.bindings if container.is_stopped else ())
            if port.host_port and port.inside.endswith("/tcp") and port.host_ip in LOCAL_ADDRESSES
        ]
        name = container.service or container.name
        if (obstacle := await read_start_obstacle(survey, name, mounts, ports)) is not None:
            obstacles[container.id] = obstacle
    return obstacles


async def read_project_obstacle(
    survey: Survey, project: Project, *, made: Collection[str] = ()
) -> StartObstacle | None:
    """Read what keeps Compose from making any container of a project: it asks for all networks and volumes.

    What is in `made` is made before. Raises OpskitError DOCKER_*.
    """
    docker, services = await survey.docker(), [project.services[name] for name in project.wanted]
    wanted = {("network", name): None for service in services for name in service.networks}
    wanted |= {("volume", name): None for service in services for name in service.volumes}
    own = {*project.own_networks, *project.own_volumes, *made}
    outside = [item for item in wanted if item[1] not in own]
    there = await asyncio.gather(*(docker.found(kind, name) for kind, name in outside))
    for (kind, name), item in zip(outside, there, strict=True):
        if item is None:
            create = f"`docker {kind} create {name}`"
            restore = f"restore volume {name}, or {create} where it may be empty"
            return StartObstacle(f"there is no {kind} {name}", create if kind == "network" else restore)
    subnets = {name: project.subnets.get(name, ()) for kind, name in wanted if kind == "network"}
    return _subnet_clash(subnets, await docker.all_of("network")) if any(subnets.values()) else None


def _subnet_clash(
    subnets: Mapping[str, Sequence[str]], networks: Sequence[Mapping[str, Any]]
) -> StartObstacle | None:
    """Return which network cannot be made, because another one has a part of its addresses. Pure."""
    taken = {
        (network["Name"], str(pool.get("Subnet")))
        for network in networks
        for pool in (network.get("IPAM") or {}).get("Config") or ()
    }
    absent = subnets.keys() - {network["Name"] for network in networks}
    wanted = [(name, subnet) for name in absent for subnet in subnets[name]]
    for (name, subnet), (other, pool) in itertools.product(sorted(wanted), sorted(taken)):
        if _overlap(subnet, pool):
            why = f"network {name} is to have {subnet}, and {other} has {pool}"
            remedy = f"`docker network rm {other}` where nothing needs it, or give {name} another subnet"
            return StartObstacle(why, f"{remedy} in the Compose file")
    return None


def _overlap(first: str, second: str) -> bool:
    try:
        pools = ipaddress.ip_network(first, strict=False), ipaddress.ip_network(second, strict=False)
    except ValueError:
        return False
    return pools[0].version == pools[1].version and pools[0].overlaps(pools[1])


async def read_service_obstacle(
    survey: Survey, service: ComposeService, compose: str, *, is_made: bool, mounts: bool
) -> StartObstacle | None:
    """Read what keeps a service from its start: its image, and unless it `is_made` its ports and `mounts`.

    `compose` is how a person calls Compose for its project. Raises OpskitError DOCKER_*.
    """
    docker = await survey.docker()
    if not any(await asyncio.gather(*(docker.found("image", image) for image in service.images))):
        build = f"`{compose} {'build' if service.built else 'pull'} {service.name}`"
        return StartObstacle(f"its image {service.images[0]} is not on this machine", build)
    if is_made:
        return None
    return await read_start_obstacle(survey, service.name, service.mounts if mounts else (), service.ports)


async def read_start_obstacle(
    survey: Survey, name: str, mounts: Sequence[str], ports: Sequence[int]
) -> StartObstacle | None:
    """Read what keeps something from its start that mounts and publishes this; None where Docker is remote.

    Where a folder or a file is gone that a container mounts, Docker makes an empty folder in its place: a
    database would begin anew in it.
    """
    absent = await asyncio.to_thread(absent_paths, mounts) if mounts else []
    if not (absent or ports) or await (await survey.docker()).began_s() is None:
        return None
    for path in absent:
        why = f"{path}, which it mounts, is not there: Docker would make an empty folder of that name"
        remedy = f"bring {path} back (is its disk mounted?), or make it by hand where it is to be empty"
        return StartObstacle(why, remedy)
    now_s = time.monotonic()
    for port in ports:
        read = await survey.get(read_port, "tcp", port, not_before=now_s)
        if (owner := read.loopback_owner) is not None:
            why = f"port {port} is used by {owner.words}"
            remedy = f"end what uses the port, or give {name} another one in the Compose file"
            return StartObstacle(why, remedy)
    return None


def absent_paths(paths: Iterable[str], platform: str = sys.platform) -> list[str]:
    """Return the paths at which there is nothing, as far as this user can see.

    What only the virtual machine of Docker Desktop or Colima has, such as its own socket, is not looked for.
    """
    absent = []
    for path in (path.removeprefix(_SHARED) for path in paths):
        if path.startswith(_OF_THE_VM) or (platform == "darwin" and not path.startswith(_OF_A_MAC)):
            continue
        try:
            Path(path).stat()
        except FileNotFoundError:
            absent.append(path)
        except OSError:
            continue
    return absent
