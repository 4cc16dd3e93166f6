"""The system area: the machine, who holds which port, and the files of the stack (SPEC C2)."""

from opskit.diagnose import machine
from opskit.diagnose.area import Area, Look, Part, gathered, looked
from opskit.diagnose.ports import ports
from opskit.diagnose.stack_files import compose_files, environment_files
from opskit.facts.survey import Survey

_SHORT_S = 8.0
_PROGRAMS_S = 15.0
_COMPOSE_S = 20.0


async def load(around: Survey) -> Part:
    """Memory and processor, to be looked at before anything else: looking is work too."""
    return await looked("system", Look("load", "load", machine.load(around), _SHORT_S))


async def area(around: Survey, load: Part) -> Area:
    """Everything but `load`, which was seen before."""
    return await gathered(
        "system",
        [
            Look("machine", "machine", machine.host(around), _SHORT_S),
            Look("load", "load", _known(load), _SHORT_S),
            Look("disks", "disks", machine.disks(around), _PROGRAMS_S),
            Look("gpus", "gpu", machine.graphics(around), _PROGRAMS_S),
            Look("versions", "versions", machine.versions(around), _PROGRAMS_S),
            Look("ports", "ports", ports(around), _PROGRAMS_S),
            Look("env_files", ".env", environment_files(around), _SHORT_S),
            Look("compose_files", "compose files", compose_files(around, _COMPOSE_S - 1), _COMPOSE_S),
        ],
    )


async def _known(part: Part) -> Part:
    return part
