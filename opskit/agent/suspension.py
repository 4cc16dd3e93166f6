"""A run that waits for a person: what stopped it, and the one approval that lets it go on."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from opskit.agent.run_state import Checkpoint
from opskit.agent.tools.tool import ExactCommand, NeedsApproval
from opskit.engine.goal import RunFailed
from opskit.errors import OpskitError


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
