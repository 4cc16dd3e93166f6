"""What a step of recovery is: it looks at its targets and says how each is repaired; it runs nothing."""

import shlex
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from opskit.config.schema import Config
from opskit.records import Record
from opskit.recovery.memory import Memory

if TYPE_CHECKING:
    from opskit.facts.survey import Survey
    from opskit.system.docker import Docker

#: A look may wait for a daemon; a hung one must not eat the run.
LOOK_S = 45.0


class Condition(StrEnum):
    """What a state means for a repair.

    `waiting` changes by itself (starting, loading, busy, slow), and is never repaired. `blocked` is down and
    is repaired by a later run, once what it needs is well. `left` is a person's doing and left
    alone. `absent` is not part of this stack. `unknown` could not be judged.
    """

    HEALTHY = "healthy"
    BROKEN = "broken"
    BLOCKED = "blocked"
    WAITING = "waiting"
    LEFT = "left"
    ABSENT = "absent"
    UNKNOWN = "unknown"


class Command(Record):
    """One program with its arguments, run without a shell. `cwd` is absolute.

    A `detached` one is a server that outlives opskit; its output goes to a log in the state folder.
    """

    argv: tuple[str, ...]
    timeout_s: float = 60.0
    cwd: str | None = None
    detached: bool = False

    @property
    def shown(self) -> str:
        """As a person would type it."""
        return shlex.join(self.argv)


#: Gathers what would be gone after a repair.
Collect = Callable[[], Awaitable[Mapping[str, Any]]]


@dataclass(frozen=True, slots=True)
class Repair:
    """What repairs a target: commands in order, the next only when the one before succeeded.

    `precondition` is what made it the right thing to do, `undo` how a person takes it back. `settle_s` is how
    long the target may take to be well again; None is the configuration's `step_s`. `mark` is the name under
    which the memory's `marks` keep when such a repair last began. `evidence` is gathered before the first
    command, from the reading that the repair was planned by.

    `counted` are the parts of the target that it repairs, each within its own budget; without them the target
    itself is counted. What becomes well has to stay so for `steady_s` before it counts as repaired.
    """

    commands: tuple[Command, ...]
    precondition: str
    undo: str
    settle_s: float | None = None
    mark: str | None = None
    evidence: Collect | None = field(default=None, compare=False)
    counted: tuple[str, ...] = ()
    steady_s: float = 0.0


@dataclass(frozen=True, slots=True)
class TargetFinding:
    """One target as it is now, and how it is repaired.

    `target` is the name under which repairs are counted and pauses hold, e.g. `ollama`,
    `compose:knowledge-os`, `container:victoria-agent`. `state` is one word (down, wedged, unhealthy, ...),
    `cause` the reason in plain words. `names` are others by which a person may pause it. `evidence` is for
    people and is never read. `remedy` is what a person types where no repair is possible. `minor` is what
    nothing of the stack depends on: a warning. `is_down` tells of what is left alone that nothing of it runs.

    `parts` are what has a budget of its own within it: the services of a Compose project. `relapsed` are
    the targets that ended by themselves within moments of their last start. `started_s` is when it was last
    started, in seconds since the epoch, where the machine itself remembers that.

    `repair` is what this reading allows, None when it is a person's to make. Where `read_again` is given, the
    target is read once more right before its repair, and that finding counts. It changes nothing.
    """

    target: str
    condition: Condition
    state: str = "ok"
    cause: str = ""
    names: tuple[str, ...] = ()
    evidence: Mapping[str, Any] = field(default_factory=dict)
    remedy: str | None = None
    code: str | None = None
    minor: bool = False
    repair: Repair | None = None
    read_again: "Callable[[], Awaitable[TargetFinding]] | None" = field(default=None, compare=False)
    is_down: bool = False
    parts: "tuple[TargetFinding, ...]" = ()
    started_s: float | None = None
    relapsed: frozenset[str] = frozenset()

    def worst_of(self, targets: Collection[str]) -> "TargetFinding":
        """Return the part among `targets` that is worst; itself when none of them is a part of it."""
        parts = [part for part in self.parts if part.target in targets]
        return min(parts, key=lambda part: WORST_FIRST.index(part.condition), default=self)


#: In this order a state decides what becomes of several parts.
WORST_FIRST = (
    Condition.BROKEN,
    Condition.UNKNOWN,
    Condition.BLOCKED,
    Condition.WAITING,
    Condition.LEFT,
    Condition.ABSENT,
    Condition.HEALTHY,
)


class Step(Record):
    """One step. `requires` must have ended well, `after` only orders.

    `look` gives every target and changes nothing. It may hang: after `look_s` it counts as not judged.
    """

    name: str
    look: Callable[[], Awaitable[Sequence[TargetFinding]]]
    requires: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    look_s: float = LOOK_S


class RecoveryContext(Record):
    """What the steps of one run stand on.

    `folder` is the state folder, `clock` gives seconds since the epoch, `platform` is `sys.platform`. Steps
    may keep marks and facts in `memory`; the executor saves it.
    """

    config: Config
    environ: Mapping[str, str]
    folder: Path
    survey: "Survey"
    docker: "Docker"
    memory: Memory
    clock: Callable[[], float]
    platform: str


async def recovery_context(
    survey: "Survey", config: Config, memory: Memory, clock: Callable[[], float], platform: str
) -> RecoveryContext:
    """Return a context over a survey; the rules are from `config`."""
    docker = await survey.docker()
    folder = survey.state_folder
    return RecoveryContext(config, survey.environ, folder, survey, docker, memory, clock, platform)
