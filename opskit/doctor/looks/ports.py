"""Who listens on the ports of nodes and agents, with what is harmless of their variables."""

from collections.abc import Mapping

from opskit.checks.spec import Check, CheckContext, NotHere, Observation
from opskit.doctor.looks.board import FactBoard, check
from opskit.facts.port_owner import read_port


def ports(board: FactBoard, wanted: Mapping[str, int]) -> Check:
    """`wanted` are ports of this machine by whose they should be."""

    async def look(scene: CheckContext) -> Observation:
        if not wanted:
            raise NotHere("no node or agent is on this machine")
        complete = True
        for port in sorted(set(wanted.values())):
            facts = await scene.around.get(read_port, "tcp", port, not_before=scene.not_before)
            board.holders[port] = facts.owners
            complete = complete and facts.complete
        busy = sum(bool(one) for one in board.holders.values())
        told = "" if complete else " (as far as this user may see)"
        return Observation({}, f"{busy} of {len(board.holders)} ports are held{told}", state="ok")

    return check("ports", look, area="network", target="ports", imports=("psutil",))
