"""A run of the agent as it stands: its limits, who follows it, its steps, and what it came to."""

import asyncio
from collections.abc import Awaitable, Callable
from enum import StrEnum
from typing import Any

from opskit.agent.step import AgentStep
from opskit.agent.tools.tool import ExactCommand, NeedsApproval, ToolResult
from opskit.engine.goal import RunFailed
from opskit.errors import OpskitError
from opskit.providers.base import Message
from opskit.records import MutableRecord, Record, field


class RunEnding(StrEnum):
    """Why a run ended. Only FINISHED and CONCLUDED have an answer."""

    FINISHED = "finished"
    CONCLUDED = "concluded"
    FORMAT = "format"
    NO_EVIDENCE = "no_evidence"
    UNGROUNDED = "ungrounded"
    BAD_ANSWER = "bad_answer"
    NEEDS_APPROVAL = "needs_approval"
    DENIED = "denied"
    TIME = "time"


class RunLimits(Record):
    """What a run may cost. `context_chars` bounds the dialogue that is sent with one step.

    `conclusion_s` is left for the last question when `wall_s` is over.
    """

    steps: int = 8
    wall_s: float = 300.0
    conclusion_s: float = 60.0
    step_tokens: int = 400
    observation_chars: int = 3000
    context_chars: int = 16_000


class Observed(Record):
    """A step with what came of it."""

    step: AgentStep
    result: ToolResult
    seconds: float

    def as_json(self) -> dict[str, Any]:
        """Return what a person reads of it."""
        outcome = {"ok": self.result.ok, "seconds": round(self.seconds, 3)}
        return {"tool": self.step.tool, "args": dict(self.step.args), **outcome}


async def unattended(_: NeedsApproval) -> bool | None:
    """Decide nothing: nobody is there to ask."""
    return None


class RunListener(Record):
    """Who follows a run. `on_step` gets each step before it is made, `on_observed` what it brought.

    `on_note` gets what a person should know. `approve` asks a person for a command that the policy does not
    allow by itself; False denies it, and with None the run waits for a decision; both end it here.
    """

    on_step: Callable[[AgentStep], None] = lambda _: None
    on_observed: Callable[[Observed], None] = lambda _: None
    on_note: Callable[[str], None] = lambda _: None
    approve: Callable[[NeedsApproval], Awaitable[bool | None]] = unattended


class Checkpoint(MutableRecord):
    """All that is needed to go on with a run, also in another process; `step` waits for a person.

    `asked` is the goal as it was given, `goal` as the model gets it. `nudged` are the mistakes that the model
    was told of, which it may make once. Where the goal is one of several `parts`, `part` is its number, and
    `answers` and `earlier` steps are those of the parts before.
    """

    asked: str = ""
    goal: str = ""
    history: tuple[Message, ...] = ()
    dialogue: list[Message] = field(default_factory=list)
    steps: list[Observed] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    nudged: set[str] = field(default_factory=set)
    room_chars: int = 0
    step: AgentStep | None = None
    parts: list[str] = field(default_factory=list)
    part: int = 0
    answers: dict[str, str] = field(default_factory=dict)
    earlier: list[Observed] = field(default_factory=list)


class LoopResult(MutableRecord):
    """What a run came to. `why` says in a sentence why there is no answer.

    A run that needs an approval has what is `needed`, and the `checkpoint` to go on from. `agreement` is the
    part of several independent answers that agree with this one.
    """

    ending: RunEnding
    answer: str = ""
    why: str = ""
    steps: list[Observed] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    needed: NeedsApproval | None = None
    checkpoint: Checkpoint | None = None
    agreement: float | None = None

    @property
    def ok(self) -> bool:
        return self.ending in (RunEnding.FINISHED, RunEnding.CONCLUDED)


class RunSuspended(RunFailed):
    """The run stopped before a command that a person has to allow; `checkpoint` goes on from there."""

    def __init__(self, why: str, needed: NeedsApproval, checkpoint: Checkpoint, **account: Any) -> None:
        super().__init__(OpskitError("APPROVAL_001", why), **account)
        self.needed = needed
        self.checkpoint = checkpoint


def approved_once(command: ExactCommand) -> Callable[[NeedsApproval], Awaitable[bool | None]]:
    """Allow the next command of a run if it is exactly this one, and leave every other to a person."""
    unused = [command]

    async def approve(needed: NeedsApproval) -> bool | None:
        if not unused:
            return None
        approved, now = unused.pop(), await asyncio.to_thread(needed.command)
        if now == approved:
            return True
        if now.argv == approved.argv:
            needed.why = f"{needed.why}; its folder or its program file is not the one that was approved"
        return None

    return approve
