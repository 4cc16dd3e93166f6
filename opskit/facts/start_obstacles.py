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
from opskit.system.compose import is_modern
from opskit.system.compose_declaration import LOCAL_ADDRESSES, ComposeService, Project

#: Where Docker's virtual machine has the folders of this machine, and folders that only it has.
_SHARED, _OF_THE_VM = "/host_mnt", "/run/host-services/"
#: What Compose 2 writes on each network that it makes.
_NETWORK_LABEL = "com.docker.compose.network"
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
    survey: Survey, project: Project, *, made: Collection[str] = (), makers: Mapping[str, str] | None = None
) -> StartObstacle | None:
    """Read what keeps Compose from making any container of a project: it asks for all networks and volumes.

    What is in `made` is made before, `makers` are other projects of the stack by the networks that they make.
    Raises OpskitError DOCKER_*.
    """
    docker, services = await survey.docker(), [project.services[name] for name in project.wanted]
    networks = {str(network["Name"]): network for network in await docker.all_of("network")}
    wanted = dict.fromkeys(name for service in services for name in service.networks)
    own, missing = {*project.own_networks, *made}, [name for name in wanted if name not in networks]
    for name in (name for name in missing if name not in own):
        remedy = f"`docker network create {name}`"
        if (maker := (makers or {}).get(name)) is not None:
            # Made by anybody else it would lack the labels without which Compose 2 refuses it.
            remedy = f"start Compose project {maker} first, which makes it"
        return StartObstacle(f"there is no network {name}", remedy)
    for name in dict.fromkeys(name for service in services for name in service.volumes):
        if name not in project.own_volumes and await docker.found("volume", name) is None:
            remedy = f"restore volume {name}, or `docker volume create {name}` where it may be empty"
            return StartObstacle(f"there is no volume {name}", remedy)
    for name in (name for name in wanted if name in networks and name in project.own_networks):
        if is_modern(project.version) and not (networks[name].get("Labels") or {}).get(_NETWORK_LABEL):
            why = f"network {name} was not made by Compose, which refuses it"
            remedy = (
                f"`docker network rm {name}` where nothing is in it, or `external: true` in the Compose file"
            )
            return StartObstacle(why, remedy)
    return _subnet_clash({name: project.subnets.get(name, ()) for name in missing}, networks.values())


def _subnet_clash(
    subnets: Mapping[str, Sequence[str]], networks: Iterable[Mapping[str, Any]]
) -> StartObstacle | None:
    """Return which network cannot be made, because another one has a part of its addresses. Pure."""
    taken = {
        (network["Name"], str(pool.get("Subnet")))
        for network in networks
        for pool in (network.get("IPAM") or {}).get("Config") or ()
    }
    wanted = [(name, subnet) for name, pools in subnets.items() for subnet in pools]
    for (name, subnet), (other, pool) in itertools.product(wanted, sorted(taken)):
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
    survey: Survey,
    service: ComposeService,
    compose: str,
    *,
    is_made: bool,
    mounts: bool,
    volumes: Collection[str] = (),
) -> StartObstacle | None:
    """Read what keeps a service from its start: its image, and unless it `is_made` the rest.

    That are its ports, what it `mounts`, and the `volumes` that its earlier containers had.
    `compose` is how a person calls Compose for its project. Raises OpskitError DOCKER_*.
    """
    docker = await survey.docker()
    if service.images and not any(
        await asyncio.gather(*(docker.found("image", image) for image in service.images))
    ):
        build = f"`{compose} {'build' if service.built else 'pull'} {service.name}`"
        return StartObstacle(f"its image {service.images[0]} is not on this machine", build, of_new=True)
    if is_made:
        return None
    for name in volumes:
        if await docker.found("volume", name) is None:
            why = f"its volume {name} is gone: it would be made with an empty one"
            remedy = f"restore volume {name}, or `{compose} up -d {service.name}` where it may be empty"
            return StartObstacle(why, remedy)
    # A folder may be made at the first start; the file of a secret has something in it.
    paths = (*service.files, *(service.mounts if mounts else ()))
    return await read_start_obstacle(survey, service.name, paths, service.ports)


async def read_start_obstacle(
    survey: Survey, name: str, mounts: Sequence[str], ports: Sequence[int]
) -> StartObstacle | None:
    """Read what keeps something from its start that mounts and publishes this; None where Docker is remote.

    Where a folder or a file is gone that a container mounts, Docker makes an empty folder in its place: a
    new database would be made in it.
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
            why, process = f"port {port} is used by {owner.words}", owner.process
            end = f" (`kill {process.pid}`)" if process is not None else ""
            end = f" (`docker stop {owner.container}`)" if owner.container else end
            remedy = f"end what uses the port{end}, or give {name} another one in the Compose file"
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
