"""Who listens on the ports of nodes and agents, with what is harmless of their variables."""

import asyncio
from collections.abc import Mapping

from opskit.checks.spec import Check, CheckContext, NotHere, Observation
from opskit.doctor.environment import Environment, known
from opskit.doctor.evidence import PortHolder
from opskit.doctor.looks.board import FactBoard, check
from opskit.errors import OpskitError
from opskit.facts.container_survey import read_container
from opskit.facts.survey import read_sockets
from opskit.system.sockets import PROXIES, PortSocket, owner

_DOCKER_S = 3.0


def ports(board: FactBoard, wanted: Mapping[str, int]) -> Check:
    """`wanted` are ports of this machine by whose they should be."""

    async def look(scene: CheckContext) -> Observation:
        if not wanted:
            raise NotHere("no node or agent is on this machine")
        table = await scene.around.get(read_sockets, not_before=scene.not_before)
        for port in sorted(set(wanted.values())):
            held = dict.fromkeys(table.at("tcp", port))
            board.holders[port] = tuple(await asyncio.gather(*(_holder(one, scene) for one in held)))
        busy = sum(bool(one) for one in board.holders.values())
        told = "" if table.complete else " (as far as this user may see)"
        return Observation({}, f"{busy} of {len(board.holders)} ports are held{told}", state="ok")

    return check("ports", look, area="network", target="ports", imports=("psutil",))


async def _holder(held: PortSocket, scene: CheckContext) -> PortHolder:
    if held.pid is None:
        return PortHolder(held.address, None, "a process that is not told")
    from opskit.system.process import ancestry, read_process, variables_of

    who, process, variables, family = await asyncio.gather(
        asyncio.to_thread(owner, held.pid),
        asyncio.to_thread(read_process, held.pid),
        asyncio.to_thread(variables_of, held.pid),
        asyncio.to_thread(ancestry),
    )
    if who is None:
        return PortHolder(held.address, held.pid, f"process {held.pid}")
    container, environment = None, None
    if who.container is not None or who.name in PROXIES:
        container, environment = await _container(held.port, who.container, scene)
    ours = held.pid in family
    if environment is None and variables is not None and not ours:
        environment = known(variables)
    words = f"process {held.pid} ({who.name})" + (f" of {who.unit}" if who.unit else "")
    return PortHolder(
        held.address,
        held.pid,
        f"container {container}" if container else words,
        who.name,
        who.unit,
        container,
        stopped=process is not None and (process.stopped or process.traced),
        ours=ours,
        environment=environment,
    )


async def _container(
    port: int, identifier: str | None, scene: CheckContext
) -> tuple[str | None, Environment | None]:
    """The container behind a port, with its variables; its bare id when Docker does not answer."""
    try:
        door = await scene.around.docker()
        async with asyncio.timeout(_DOCKER_S):
            name = await door.holder_of(port, identifier)
            container = await read_container(door, name) if name else None
    except (OpskitError, TimeoutError):
        return identifier and identifier[:12], None
    return name, None if container is None else known(container.variables)
