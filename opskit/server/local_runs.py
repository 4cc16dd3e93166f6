"""Runs of this process that need an approval, and the decisions that a person makes at a terminal.

A run of `opskit run` is kept in a file of the state folder and goes on in the process of `opskit approve`;
a run of Victoria is decided over her API.
"""

import getpass
import os
import socket
from collections.abc import Callable, Mapping
from contextlib import closing
from typing import Any
from uuid import uuid4

from opskit.agent.run_state import RunLimits, RunListener, RunSuspended
from opskit.agent.step import AgentStep
from opskit.agent.tools.toolbox import AUDIT_NAME
from opskit.agent.victoria import Victoria
from opskit.app import App
from opskit.engine.goal import Goal, GoalRun, RunFailed, RunResult
from opskit.engine.remote import reached
from opskit.errors import ApprovalNeeded, OpskitError, UsageError
from opskit.recovery.audit import Audit
from opskit.server.approvals import Approvals
from opskit.server.database import SqliteDatabase
from opskit.server.run_store import Run, RunStatus, RunStore
from opskit.tags import correlated


class LocalRuns:
    """The runs of `opskit run` that need an approval."""

    def __init__(self, app: App) -> None:
        self._app = app
        self.store = RunStore(SqliteDatabase(app.folder / "runs.db"), RunStore.LOCAL)
        audit = Audit(app.folder, app.config.log, AUDIT_NAME)
        self.approvals = Approvals(self.store, audit, app.config.agent.approval_s)

    def close(self) -> None:
        self.approvals.close()

    async def suspend(self, run: Run, token: str, stopped: RunSuspended) -> RunFailed:
        """Keep a run that stopped, and return what its command fails with."""
        approval = await self.approvals.request(run, token, stopped)
        return RunFailed(
            OpskitError("APPROVAL_002", "the run has ended")
            if approval is None
            else ApprovalNeeded(approval),
            attempts=stopped.attempts,
            correlation_id=stopped.document["correlation_id"],
            seconds=stopped.document["seconds"],
        )

    async def approve(self, approval_id: str, on_step: Callable[[AgentStep], None]) -> RunResult:
        """Approve a command and go on with its run. Raises OpskitError, RunFailed."""
        token = uuid4().hex
        run = self.approvals.decide(approval_id, allow=True, by=person(), token=token)
        body = run.request["body"]
        checkpoint, approve = self.approvals.use(run)
        limits = RunLimits(steps=body["max_steps"])
        listener = RunListener(on_step=on_step, approve=approve)
        self._app.engine.solver = Victoria(self._app, limits, listener, checkpoint)
        status, problem = RunStatus.INTERRUPTED, None
        try:
            with correlated(run.correlation_id):
                result = await self._app.engine.run(
                    Goal(body["goal"], "local", body["model"], method="react")
                )
            status = RunStatus.COMPLETED
        except RunSuspended as stopped:
            raise await self.suspend(run, token, stopped) from None
        except OpskitError as error:
            status, problem = RunStatus.FAILED, error.as_json()
            raise
        finally:
            # Nothing changes where it waits again.
            self.store.end(token, status, error=problem)
        return result


class LocalVictoria(Victoria):
    """The agent of this process; a run that stops for an approval is kept."""

    async def solve(self, run: GoalRun) -> RunResult | None:
        try:
            return await super().solve(run)
        except RunSuspended as stopped:
            goal = run.goal
            body = {"goal": goal.text, "model": goal.model, "max_steps": self._limits.steps}
            with closing(LocalRuns(self._app)) as runs:
                kept, token = runs.store.add_running({"body": body}, run.identifier)
                raise await runs.suspend(kept, token, stopped) from None


async def pending(app: App, on_note: Callable[[str], None]) -> list[Mapping[str, Any]]:
    """Return what waits for a person here and at Victoria, the oldest first. `on_note`: she is away."""
    with closing(LocalRuns(app)) as runs:
        approvals: list[Mapping[str, Any]] = [
            {**each, "agent": "opskit"} for each in runs.approvals.pending()
        ]
    if (victoria := app.agents.get("victoria")) is not None:
        try:
            with reached(victoria):
                approvals += [{**each, "agent": victoria.name} for each in await victoria.approvals()]
        except OpskitError as error:
            if victoria.config.explicit:
                on_note(f"what waits at Victoria is not known: {error.message}")
    return sorted(approvals, key=lambda approval: float(approval.get("created") or 0))


async def approve(
    app: App,
    approval_id: str,
    *,
    allow: bool,
    on_step: Callable[[AgentStep], None],
    on_note: Callable[[str], None],
) -> RunResult | None:
    """Approve a command and return what its run came to; None where it was denied.

    Raises OpskitError for an approval that is not open, RunFailed for a run that fails or waits again.
    """
    task_id = approval_id.partition(".")[0]
    with closing(LocalRuns(app)) as runs:
        run = runs.store.get(task_id)
        if run is not None and run.server == RunStore.LOCAL:
            if allow:
                return await runs.approve(approval_id, on_step)
            runs.approvals.decide(approval_id, allow=False, by=person())
            return None
    victoria = app.agents.get("victoria")
    if victoria is None:
        raise UsageError(f"there is no approval {approval_id}", remedy="`opskit approvals` lists them")
    with reached(victoria):
        await victoria.decide(approval_id, allow=allow, by=person())
    return await app.engine.victoria().follow(task_id, on_note) if allow else None


def person() -> str:
    """Return who decides here, for the audit."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = f"user {os.getuid()}"
    return f"{user}@{socket.gethostname()}"[:128]
