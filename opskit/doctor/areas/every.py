"""All areas together."""

from collections.abc import Callable, Iterable

from opskit.doctor.areas import (
    addresses,
    agents,
    configuration,
    containers,
    docker,
    machine,
    mlx,
    models,
    nodes,
    requests,
    settings,
)
from opskit.doctor.cause import Cause
from opskit.doctor.evidence import Evidence
from opskit.doctor.scheduled import causes as of_schedule

Find = Callable[[Evidence], Iterable[Cause]]
ALL: tuple[Find, ...] = (
    configuration.causes,
    machine.causes,
    docker.causes,
    containers.causes,
    addresses.causes,
    nodes.causes,
    models.causes,
    settings.causes,
    requests.causes,
    mlx.causes,
    agents.causes,
    lambda evidence: of_schedule(evidence.schedule),
)


def causes(evidence: Evidence) -> list[Cause]:
    """Everything that is certain, in no order yet."""
    return [cause for find in ALL for cause in find(evidence)]
