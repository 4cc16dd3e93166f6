"""What of this machine makes the start of a container fail or do harm: its ports, and what it mounts."""

import asyncio
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from opskit.facts.container import Container, StartObstacle
from opskit.facts.port_owner import read_port
from opskit.facts.survey import Survey
from opskit.system.compose_declaration import LOCAL_ADDRESSES

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
