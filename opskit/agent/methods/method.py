"""What every method is: it works on a goal with the models of a run, to an answer or to why there is none."""

from dataclasses import dataclass
from typing import Protocol

from opskit.agent.loop import LoopResult
from opskit.agent.method import about_machine
from opskit.agent.methods.caller import ModelCaller
from opskit.agent.trajectory import Trajectory
from opskit.providers.base import Message


@dataclass(frozen=True, slots=True)
class MethodGoal:
    """A goal as a method gets it. `history` are the lines of the conversation before it."""

    text: str
    history: tuple[Message, ...] = ()

    @property
    def needs_evidence(self) -> bool:
        """Whether an answer without a look at this machine is none."""
        return about_machine(self.text)


@dataclass(frozen=True, slots=True)
class MethodRun:
    """What a method works with. `trajectory` keeps what it does, for people to read later."""

    ask: ModelCaller
    trajectory: Trajectory


class Method(Protocol):
    """One way to work on a goal."""

    async def solve(self, goal: MethodGoal) -> LoopResult:
        """Return what it came to, the reason where there is no honest answer. Raises NoAnswer."""
        ...
