"""Approvals: the commands that runs of the agent wait for a person to allow, and what was decided.

An approval belongs to one run, holds for one exact command, once, until it expires. Every request, decision
and use of it is in the audit of the agent.
"""

import asyncio
import shlex
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from msgspec import convert, to_builtins

from opskit.agent.run_state import Checkpoint, RunSuspended, approved_once, unattended
from opskit.agent.tools.tool import ExactCommand, NeedsApproval
from opskit.errors import OpskitError, UsageError
from opskit.records import asdict
from opskit.recovery.audit import Audit
from opskit.server.run_store import Run, RunStatus, RunStore

Approve = Callable[[NeedsApproval], Awaitable[bool | None]]


class Approvals:
    """The approvals of one store. They expire after `expires_s`."""

    def __init__(self, store: RunStore, audit: Audit, expires_s: float) -> None:
        self.store = store
        self._audit = audit
        self._expires_s = expires_s

    async def request(self, run: Run, token: str, stopped: RunSuspended) -> Mapping[str, Any] | None:
        """Let a run wait for an approval and return what it waits for; None where it has ended already."""
        command = await asyncio.to_thread(stopped.needed.command)
        number, now = 1 + int((run.approval or {}).get("number", 0)), time.time()
        approval = {
            "approval_id": f"{run.task_id}.{number}",
            "task_id": run.task_id,
            "number": number,
            **asdict(command),
            "rule": stopped.needed.rule,
            "why": stopped.needed.why,
            "goal": run.request["body"]["goal"],
            "correlation_id": run.correlation_id,
            "created": now,
            "expires": now + self._expires_s,
        }
        checkpoint = to_builtins(stopped.checkpoint)
        result = {"approval": approval, "checkpoint": checkpoint}
        waits = (token, approval["approval_id"], approval["expires"], result)
        if not await self.store.ask(self.store.suspend, *waits):
            return None
        self._write("approval_requested", approval)
        return approval

    def pending(self) -> list[dict[str, Any]]:
        """Return what waits for a person, with its age, the oldest first."""
        self.expire()
        now = time.time()
        approvals = [run.approval for run in self.store.waiting()]
        return [
            {**approval, "age_s": round(now - approval["created"], 1)} for approval in approvals if approval
        ]

    def decide(self, approval_id: str, *, allow: bool, by: str, token: str | None = None) -> Run:
        """Queue the run again, or fail it where `allow` is False; with a `token` it is running at once.

        The id of a run stands for its first approval. Raises OpskitError for an approval that is not open.
        """
        self.expire()
        task_id, _, number = approval_id.partition(".")
        approval_id = f"{task_id}.{number or 1}"
        run = self.store.get(task_id)
        if run is None:
            raise UsageError(f"there is no approval {approval_id}", remedy="`opskit approvals` lists them")
        approval = {**(run.approval or {}), "by": by, "decided": time.time()}
        if approval.get("approval_id") != approval_id:
            decided = False
        elif allow:
            status = RunStatus.QUEUED if token is None else RunStatus.RUNNING
            result = {**(run.result or {}), "approval": approval}
            decided = self.store.decide(task_id, approval_id, status, token=token, result=result)
        else:
            denied = OpskitError("APPROVAL_002", f"{by} denied `{shlex.join(approval['argv'])}`")
            error = denied.as_json()
            decided = self.store.decide(task_id, approval_id, RunStatus.FAILED, error=error)
        if not decided:
            run = self.store.get(task_id) or run
            waiting = run.as_json()["approval"]
            other = f", and waits for {waiting['approval_id']}" if waiting else ""
            why = f"approval {approval_id} is not open: its run is {run.status}{other}"
            raise OpskitError("APPROVAL_002", why)
        self._write("approval_decided", approval, decision="approved" if allow else "denied")
        return self.store.get(task_id) or run

    def use(self, run: Run) -> tuple[Checkpoint | None, Approve]:
        """Return where a claimed run goes on and what lets it; a run that begins has no checkpoint."""
        approval, saved = run.approval, (run.result or {}).get("checkpoint")
        if approval is None or saved is None:
            return None, unattended
        self._write("approval_used", approval)
        command = ExactCommand(
            tuple(approval["argv"]), approval["cwd"], approval["program"], approval["digest"]
        )
        return convert(saved, Checkpoint), approved_once(command)

    def expire(self) -> None:
        """Fail the runs that waited for too long."""
        error = OpskitError("APPROVAL_002", "nobody approved its command in time").as_json()
        for run in self.store.expire(error):
            self._write("approval_expired", run.approval or {"task_id": run.task_id})

    def close(self) -> None:
        self._audit.close()
        self.store.close()

    def _write(self, event: str, approval: Mapping[str, Any], **more: Any) -> None:
        self._audit.write(event=event, at=time.time(), **approval, **more)
