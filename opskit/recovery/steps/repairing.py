"""From a trouble to a decision, and what is remembered of servers that were started."""

import asyncio

from opskit.recovery.context import RecoveryContext
from opskit.recovery.step import Repair
from opskit.recovery.steps import situation as situations
from opskit.recovery.steps.decision import Decision, NodeProblem, RepairCase, decide
from opskit.recovery.steps.situation import RepairContext
from opskit.recovery.steps.subject import RepairSubject, folder_of, remember
from opskit.system.process import SAME_START_S, Process, processes_like


class Repairing:
    """One server's repair within a run."""

    def __init__(
        self, ground: RecoveryContext, subject: RepairSubject, settle_s: float | None = None
    ) -> None:
        self._ground = ground
        self._subject = subject
        self._settle_s = settle_s
        self._planned_at: float | None = None
        self._starts = False

    async def situation(self) -> RepairContext:
        return await situations.situation(self._ground, self._subject)

    async def decide(self, trouble: NodeProblem) -> Decision:
        """The decision of this moment; what this very run started is given the time to start."""
        now = await self.situation()
        rules = self._ground.config.recovery
        if self._just_started(now):
            fresh_s = max(trouble.fresh_s, self._settle_s or rules.step_s)
            trouble = NodeProblem(
                trouble.state, trouble.detail, trouble.speaks, trouble.curable, trouble.remedy, fresh_s
            )
        folder = folder_of(self._ground.config)
        return decide(RepairCase(self._subject, trouble, now, rules, self._settle_s, folder))

    async def plan(self, trouble: NodeProblem) -> Repair | None:
        """The repair of this moment, which is about to be made."""
        repair = (await self.decide(trouble)).repair
        if repair is not None:
            self._planned_at = self._ground.clock()
            self._starts = any(command.detached for command in repair.commands)
        return repair

    async def note_start(self) -> None:
        """After a start was planned: keep which process it became, so that a later repair may end it."""
        if not self._starts:
            return
        found = await asyncio.to_thread(processes_like, self._subject.start, self._ground.environ.get("PATH"))
        fresh = [one for one in found if self._is_fresh(one)]
        if fresh:
            remember(self._ground, self._subject, fresh[-1].pid, fresh[-1].began)

    def _just_started(self, now: RepairContext) -> bool:
        process = now.holder.process if now.holder is not None else now.program
        return process is not None and self._is_fresh(process)

    def _is_fresh(self, process: Process) -> bool:
        return self._planned_at is not None and process.began > self._planned_at - SAME_START_S
