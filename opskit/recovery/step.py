"""What a step of recovery is: it looks, it plans a repair as commands, and it never runs one itself."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

#: A look may wait for a daemon; a hung one must not eat the run.
LOOK_S = 45.0


class Condition(StrEnum):
    """What a look found.

    `waiting` is on its way by itself (starting, loading, busy, slow): never repaired. `left` is somebody's
    doing and left alone. `absent` is not part of this stack. `unknown` could not be judged.
    """

    HEALTHY = "healthy"
    BROKEN = "broken"
    WAITING = "waiting"
    LEFT = "left"
    ABSENT = "absent"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class TargetObservation:
    """One target as it is now.

    `target` is the name under which repairs are counted and pauses hold, e.g. `ollama`,
    `compose:knowledge-os`, `container:victoria-agent`. `state` is one word (down, wedged, unhealthy, ...),
    `cause` the reason in plain words. `names` are others by which a person may pause it. `remedy` is what a
    person types where no repair is possible. `minor` is what nothing of the stack depends on: a warning.
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


@dataclass(frozen=True, slots=True)
class Command:
    """One program with its arguments, run without a shell. `cwd` is absolute."""

    argv: tuple[str, ...]
    timeout_s: float = 60.0
    cwd: str | None = None
    detached: bool = False
    """A server of its own that outlives opskit; its output goes to a log in the state folder."""

    @property
    def shown(self) -> str:
        """As a person would type it."""
        return shlex.join(self.argv)


@dataclass(frozen=True, slots=True)
class Repair:
    """What would mend a target: commands in order, the next only when the one before succeeded.

    `precondition` is what made it the right thing to do, `undo` how a person takes it back. `settle_s` is how
    long the target may take to be well again; None is the configuration's `step_s`. `mark` is the name under
    which the memory's `marks` keep when such a repair last began.
    """

    commands: tuple[Command, ...]
    precondition: str
    undo: str
    settle_s: float | None = None
    mark: str | None = None


class Step(Protocol):
    """One step. `requires` must have ended well, `after` only orders."""

    name: str
    title: str
    requires: tuple[str, ...]
    after: tuple[str, ...]
    #: Seconds that one look may take before its target counts as not judged.
    look_s: float

    async def look(self) -> Sequence[TargetObservation]:
        """Every target of this step; changes nothing. May hang: the healer keeps the deadline."""
        ...

    async def evidence(self, seen: TargetObservation) -> Mapping[str, Any]:
        """What would be gone after a repair: last log lines, memory, loaded models, process state."""
        ...

    async def plan(self, seen: TargetObservation) -> Repair | None:
        """How to mend a broken target; None when opskit must not (then `seen.remedy` says what to type).

        Called again before each attempt; changes nothing.
        """
        ...
