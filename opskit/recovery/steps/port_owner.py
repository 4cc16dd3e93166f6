"""Who holds the port of a server, and who keeps that process running. Only looks."""

import asyncio
import shutil
import time
from dataclasses import dataclass

from opskit.errors import OpskitError
from opskit.recovery.context import RecoveryContext
from opskit.recovery.steps.subject import RepairSubject
from opskit.system.network import connects
from opskit.system.process import Process, read_process
from opskit.system.program import NotStarted, run
from opskit.system.services import Service, service_of
from opskit.system.sockets import PROXIES, Owner, PortSocket, SocketTable, owner

_HERE = ("127.", "::1", "0.0.0.0", "::")  # noqa: S104 - addresses that are compared
_ASK_S = 5.0


@dataclass(frozen=True, slots=True)
class PortOwner:
    """What listens on a port. `process` and `service` None mean that this user may not see them."""

    port: int
    process: Process | None = None
    service: Service | None = None

    @property
    def container(self) -> str | None:
        return self.service.name if self.service is not None and self.service.kind == "container" else None

    @property
    def words(self) -> str:
        """For people."""
        if self.container is not None:
            return f"container {self.container}"
        if self.process is None:
            return "a process that this user may not see"
        kept = f" of {self.service.name}" if self.service is not None and self.service.name else ""
        return f"process {self.process.pid} ({self.process.name}){kept}"

    @property
    def known_by(self) -> tuple[str, ...]:
        """Words by which its server may be recognised."""
        kept = (self.service.name or "",) if self.service is not None else ()
        return (*kept, self.process.name, *self.process.command) if self.process is not None else kept


async def holder(ground: RecoveryContext, subject: RepairSubject) -> PortOwner | None:
    """None when nothing on this machine listens where the subject's address leads."""
    table = await asyncio.to_thread(SocketTable.read, time.monotonic())
    held = [one for one in table.at("tcp", subject.port) if _here(one)]
    if not held and table.complete:
        return None
    pid = min((one.pid for one in held if one.pid is not None), default=None)
    if pid is None:
        return await _hidden(ground, subject)
    found = await asyncio.to_thread(owner, pid)
    process = await asyncio.to_thread(read_process, pid)
    if found is None or process is None:
        return PortOwner(subject.port)
    return PortOwner(subject.port, process, await _kept(ground, subject, found, process))


def _here(one: PortSocket) -> bool:
    return one.address.startswith(_HERE)


async def _hidden(ground: RecoveryContext, subject: RepairSubject) -> PortOwner | None:
    """Without the rights to see whose socket it is: of a container's port Docker itself knows."""
    name = await _published(ground, subject.port, None)
    if name is not None:
        return PortOwner(subject.port, None, Service("container", name, "system"))
    answer = await connects(subject.url, timeout_s=ground.config.budgets.connect_s)
    return None if answer.problem == "refused" else PortOwner(subject.port)


async def _kept(ground: RecoveryContext, subject: RepairSubject, found: Owner, process: Process) -> Service:
    name = None
    if found.container is not None or found.name in PROXIES:
        name = await _published(ground, subject.port, found.container)
    service = service_of(found, platform=ground.platform, container=name)
    if service.kind != "systemd" or service.name is None:
        return service
    shown = await unit_properties(ground, service.name, "MainPID", user=service.domain == "user")
    # What a unit merely left behind in its group (a job, a shell) is not its server.
    if shown.get("MainPID", "0") in (str(process.pid), str(process.parent)):
        return service
    return Service("stray", None, service.domain, service.user)


async def _published(ground: RecoveryContext, port: int, container: str | None) -> str | None:
    try:
        return await ground.door.holder_of(port, container)
    except OpskitError:
        return None


async def unit_properties(ground: RecoveryContext, unit: str, *names: str, user: bool) -> dict[str, str]:
    """What `systemctl show` tells of a unit, times in UTC; nothing when there is no systemd to ask."""
    program = shutil.which("systemctl", path=ground.environ.get("PATH"))
    if program is None:
        return {}
    scope = ("--user",) if user else ()
    command = (program, *scope, "show", unit, *(f"--property={name}" for name in names))
    try:
        async with asyncio.timeout(_ASK_S):
            done = await run(command, env={**ground.environ, "TZ": "UTC", "LC_ALL": "C"})
    except (NotStarted, TimeoutError):
        return {}
    if done.exit:
        return {}
    return {name: value for line in done.out.splitlines() for name, _, value in [line.partition("=")]}
