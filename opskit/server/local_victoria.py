"""The agent of this process. The store of its runs is imported when one has to wait."""

from opskit.agent.run_state import RunSuspended
from opskit.agent.victoria import Victoria
from opskit.engine.goal import GoalRun, RunResult


class LocalVictoria(Victoria):
    """The agent of this process; a run that stops for an approval is kept."""

    async def solve(self, run: GoalRun) -> RunResult | None:
        try:
            return await super().solve(run)
        except RunSuspended as stopped:
            from opskit.server.local_runs import LocalRuns

            goal = run.goal
            body = {"goal": goal.text, "model": goal.model, "max_steps": self._limits.steps}
            with LocalRuns(self._app) as runs:
                kept, token = runs.store.add_running({"body": body}, run.identifier)
                raise await runs.suspend(kept, token, stopped) from None
