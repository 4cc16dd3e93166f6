"""Who listens on a port of this machine, and who keeps that process running."""

import asyncio
import ipaddress
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from opskit.errors import OpskitError
from opskit.facts.container_survey import read_container
from opskit.facts.environment import Environment, known
from opskit.facts.survey import Survey, read_sockets
from opskit.records import Record, replace
from opskit.system.network import connects
from opskit.system.process import Process, ancestry, folder_of, open_logs, read_process, variables_of
from opskit.system.services import Service, service_of
from opskit.system.sockets import PROXIES, Owner, PortSocket, owner
from opskit.system.systemctl import unit_properties

#: Addresses at which a connection to this machine's own loopback address arrives.
_LOOPBACK = ("127.", "::1", "0.0.0.0", "::")  # noqa: S104 - addresses that are compared
_CONNECT_S = 3.0
_DOCKER_S = 3.0
Protocol = Literal["tcp", "udp"]


class PortOwner(Record, kw_only=True):
    """One process that listens on a port, at one address.

    `process` None means that this user may not see it; `pid` and `address` may not be shown either. `unit` is
    the systemd unit or launchd label in which it runs, `service` who would restart it. `container` is a name,
    or the id where Docker does not tell the name. `environment` is the harmless part of its variables, None
    where they may not be read. `is_ours` means opskit itself, or a process that started it.
    `logs` are files that it writes, `folder` is where it was started, where its command
    names a file of it.
    """

    port: int
    address: str = ""
    pid: int | None = None
    process: Process | None = None
    unit: str | None = None
    container: str | None = None
    service: Service | None = None
    environment: Environment | None = None
    is_ours: bool = False
    logs: tuple[str, ...] = ()
    folder: Path | None = None

    @property
    def words(self) -> str:
        if self.container is not None:
            return f"container {self.container[:12] if len(self.container) == 64 else self.container}"
        if self.process is None:
            return "a process that this user may not see" if self.pid is None else f"process {self.pid}"
        service_words = f" of {self.service.name}" if self.service is not None and self.service.name else ""
        return f"process {self.process.pid} ({self.process.name}){service_words}"

    @property
    def is_hidden(self) -> bool:
        """Tell whether nothing is known of it but that it listens."""
        return self.pid is None and self.container is None

    @property
    def is_public(self) -> bool:
        """Tell whether other machines reach it."""
        try:
            return not ipaddress.ip_address(self.address.partition("%")[0]).is_loopback
        except ValueError:
            return False

    @property
    def known_by(self) -> tuple[str, ...]:
        """Words by which its server may be recognised."""
        service = (self.service.name or "",) if self.service is not None else ()
        return service if self.process is None else (*service, self.process.name, *self.process.command)


class PortFacts(Record, kw_only=True):
    """One port of this machine.

    `listening` None means that it is not known: `complete` False means that the sockets of other users are
    not shown to this one. `owners` are as many as there are sockets.
    """

    port: int
    owners: tuple[PortOwner, ...] = ()
    listening: bool | None = False
    complete: bool = True

    @property
    def owner(self) -> PortOwner | None:
        """The owner to speak of; None where none is shown."""
        return _first(self.owners)

    @property
    def loopback_owner(self) -> PortOwner | None:
        """Who answers at the loopback address; one of which nothing is known where it is hidden."""
        owner = _first(owner for owner in self.owners if owner.address.startswith(_LOOPBACK))
        if owner is not None or self.complete or self.listening is False:
            return owner
        hidden = PortOwner(port=self.port)
        return next((owner for owner in self.owners if not owner.address), hidden)


def _first(owners: Iterable[PortOwner]) -> PortOwner | None:
    return min(owners, key=lambda owner: (owner.pid is None, owner.pid or 0), default=None)


async def read_port(survey: Survey, protocol: Protocol, port: int) -> PortFacts:
    """Read who listens on a port of this machine. Never raises for what is there."""
    table = await survey.get(read_sockets)
    sockets = dict.fromkeys(table.at(protocol, port))
    owners = await asyncio.gather(*(_owner(survey, socket) for socket in sockets))
    facts = PortFacts(port=port, owners=tuple(owners), listening=bool(owners), complete=table.complete)
    if table.complete or any(owner.address.startswith(_LOOPBACK) for owner in owners):
        return facts
    if protocol == "udp":
        return facts if owners else replace(facts, listening=None)
    # Docker knows the ports of its containers, and a connection tells that somebody listens.
    container, environment = await _published(survey, port, None)
    if container is not None:
        service = Service("container", container, "system")
        hidden = PortOwner(port=port, container=container, service=service, environment=environment)
        return replace(facts, owners=(*owners, hidden), listening=True)
    result = await connects(f"tcp://localhost:{port}", timeout_s=_CONNECT_S)
    answers = {None: True, "refused": bool(owners)}
    return replace(facts, listening=answers.get(result.problem, True if owners else None))


async def read_ports_of(survey: Survey, program: str) -> tuple[PortFacts, ...]:
    """Read every TCP port on which a program of this name listens, but for the processes that it starts."""
    table = await survey.get(read_sockets)
    pids = {socket.pid: port for (_, port), held in table.held.items() for socket in held if socket.pid}
    processes = [await asyncio.to_thread(read_process, pid) for pid in pids]
    named = [process for process in processes if process is not None and process.name == program]
    own = [process for process in named if "runner" not in process.command]
    return tuple([await survey.get(read_port, "tcp", pids[process.pid]) for process in own])


async def _owner(survey: Survey, socket: PortSocket) -> PortOwner:
    shown = PortOwner(port=socket.port, address=socket.address, pid=socket.pid)
    if socket.pid is None:
        container, environment = await _published(survey, socket.port, None)
        service = None if container is None else Service("container", container, "system")
        return replace(shown, container=container, service=service, environment=environment)
    process, variables, family, logs = await asyncio.gather(
        asyncio.to_thread(read_process, socket.pid),
        asyncio.to_thread(variables_of, socket.pid),
        asyncio.to_thread(ancestry),
        asyncio.to_thread(open_logs, socket.pid),
    )
    if process is None:
        return shown
    group = await asyncio.to_thread(owner, process)
    is_ours = socket.pid in family
    container, environment = None, None if variables is None or is_ours else known(variables)
    if group.container is not None or group.name in PROXIES:
        container, inside = await _published(survey, socket.port, group.container)
        container, environment = container or group.container, inside or environment
    return replace(
        shown,
        process=process,
        unit=group.unit,
        container=container,
        service=await _service(survey, group, process, container),
        environment=environment,
        is_ours=is_ours,
        logs=logs,
        folder=await asyncio.to_thread(_folder_named_by, process),
    )


def _folder_named_by(process: Process) -> Path | None:
    """Return the folder of a process whose command names a file by a path that begins there."""
    folder = folder_of(process.pid)
    words = [word for word in process.command if "/" in word and not word.startswith(("/", "-"))]
    return folder if folder is not None and any(_is_there(folder / word) for word in words) else None


def _is_there(path: Path) -> bool:
    """Tell whether a path leads somewhere; a word of a command may be a whole program, and no path at all."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


async def _service(survey: Survey, group: Owner, process: Process, container: str | None) -> Service:
    service = service_of(group, platform=sys.platform, container=container)
    if service.kind != "systemd" or service.name is None:
        return service
    properties = await unit_properties(survey.environ, service.name, "MainPID", user=service.domain == "user")
    # What a unit merely left behind in its group (a job, a shell) is not its server.
    if properties.get("MainPID", "0") in (str(process.pid), str(process.parent)):
        return service
    return Service("stray", None, service.domain, service.user)


async def _published(
    survey: Survey, port: int, identifier: str | None
) -> tuple[str | None, Environment | None]:
    """Return the container of that id, or the one that publishes a port, with its harmless variables."""
    try:
        async with asyncio.timeout(_DOCKER_S):
            docker = await survey.docker()
            name = await docker.holder_of(port, identifier)
            container = await read_container(docker, name) if name else None
    except (OpskitError, TimeoutError):
        return None, None
    return name, None if container is None else known(container.variables)
