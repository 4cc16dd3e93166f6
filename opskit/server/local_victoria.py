"""The agent of this process. The store of its runs is imported when one has to wait."""

from opskit.agent.suspension import RunSuspended
from opskit.agent.victoria import Victoria
from opskit.engine import Goal, RunResult
from opskit.llm.answer import Session


class LocalVictoria(Victoria):
    """The agent of this process; a run that stops for an approval is kept."""

    async def solve(
        self, goal: Goal, category: str, identifier: str, session: Session | None
    ) -> RunResult | None:
        try:
            return await super().solve(goal, category, identifier, session)
        except RunSuspended as stopped:
            from opskit.server.local_runs import LocalRuns

            body = {"goal": goal.text, "model": goal.model, "max_steps": self._limits.steps}
            with LocalRuns(self._app) as runs:
                run, token = runs.store.add_running({"body": body}, identifier)
                raise await runs.suspend(run, token, stopped) from None
