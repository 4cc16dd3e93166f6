"""What the steps of one run stand on: configuration, environment, the Docker door, memory, clock."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from opskit.config.schema import Config
from opskit.facts.survey import Survey
from opskit.recovery.memory import Memory
from opskit.system.docker import Docker


@dataclass(frozen=True, slots=True)
class RecoveryContext:
    """`folder` is the state folder, `clock` gives seconds since the epoch, `platform` is `sys.platform`.

    Steps may keep marks and facts in `memory`; the healer saves it.
    """

    config: Config
    environ: Mapping[str, str]
    folder: Path
    survey: Survey
    door: Docker
    memory: Memory
    clock: Callable[[], float]
    platform: str
