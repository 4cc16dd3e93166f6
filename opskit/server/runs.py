"""Works off the queued runs of a server, tells listeners how they go on, and drains at the end."""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

from opskit.agent.run_state import RunSuspended
from opskit.errors import OpskitError
from opskit.records import MutableRecord, field
from opskit.server.approvals import Approvals
from opskit.server.run_store import LEASE_S, Run, RunStatus

#: Events of a run that listeners who come later still see.
_KEPT_EVENTS = 200
#: How often leases are renewed, and lost runs looked for.
_LOST_S = LEASE_S / 3
_AWAY_S = 1.0
_LOOK_S = 0.5

#: Does the work of one run: gets what to report steps with, returns output and knowledge. Raises OpskitError,
#: RunSuspended where a person has to approve something first.
Work = Callable[[Run, Callable[[str, Mapping[str, Any]], None]], Awaitable[Mapping[str, Any]]]


class _Live(MutableRecord):
    """A run that is under way here, or that somebody listens to. `token` is there while it is worked on."""

    events: deque[tuple[str, Mapping[str, Any]]] = field(default_factory=lambda: deque(maxlen=_KEPT_EVENTS))
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    count: int = 0
    task: asyncio.Task[None] | None = None
    token: str = ""

    def tell(self, kind: str, content: Mapping[str, Any]) -> None:
        self.events.append((kind, content))
        self.count += 1
        self.changed.set()
        self.changed = asyncio.Event()

    async def next_change(self) -> None:
        """Wait until something happened, or for a moment: the run may be under way on another server."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LOOK_S):
                await self.changed.wait()


class Runs:
    """The workers of a server. `concurrency` runs are under way at once; the others wait in the store.

    `on_interrupted` gets what a server that died left.
    """

    def __init__(
        self,
        approvals: Approvals,
        work: Work,
        concurrency: int,
        on_interrupted: Callable[[Run], None] = lambda _: None,
    ) -> None:
        self.store = approvals.store
        self.approvals = approvals
        self._work = work
        self._concurrency = concurrency
        self._on_interrupted = on_interrupted
        self._wake = asyncio.Event()
        self._live: dict[str, _Live] = {}
        self._workers: list[asyncio.Task[None]] = []
        self._watcher: asyncio.Task[None] | None = None
        self.draining = self._closed = False
        self.started_at = time.time()

    async def start(self) -> None:
        """Settle what an earlier server left, and begin."""
        await self._settle(starting=True)
        self._workers = [
            asyncio.create_task(self._works(), name=f"run worker {number}")
            for number in range(self._concurrency)
        ]
        self._watcher = asyncio.create_task(self._watches(), name="leases")

    async def submit(self, request: Mapping[str, Any], correlation_id: str) -> str:
        """Queue a run; it is in the store when this returns. Raises OpskitError while the server drains."""
        if self.draining:
            raise OpskitError("COMM_001", "the server is shutting down", remedy="ask again in a moment")
        task_id = await self.store.ask(self.store.add, request, correlation_id)
        self._wake_workers()
        return task_id

    async def cancel(self, task_id: str) -> bool:
        """Cancel a run, and end the work on it here; False where it is not queued or running."""
        cancelled = await self.store.ask(self.store.cancel, task_id)
        live = self._live.get(task_id)
        if cancelled and live is not None:
            live.tell("status", {"status": RunStatus.CANCELLED.value})
            if live.task is not None:
                live.task.cancel()
            else:
                del self._live[task_id]
        return cancelled

    async def decide(self, approval_id: str, *, allow: bool, by: str) -> Run:
        """Let a run go on, or fail it. Raises OpskitError for an approval that is not open."""
        run = await self.store.ask(self.approvals.decide, approval_id, allow=allow, by=by)
        if (live := self._live.get(run.task_id)) is not None:
            live.tell("status", {"status": run.status.value})
        self._wake_workers()
        return run

    async def ended(self, task_id: str) -> Run:
        """Wait for the end of a run, or for the moment when only a person can let it go on.

        Raises OpskitError where the server ends before.
        """
        while True:
            run = await self.store.ask(self.store.get, task_id)
            if run is None:
                raise OpskitError("VAL_002", f"there is no run {task_id}")
            if run.status.is_end or run.status is RunStatus.NEEDS_APPROVAL:
                return run
            if self._closed:
                why = f"the server has ended, and run {task_id} is {run.status}"
                remedy = f"`GET /run/status/{task_id}` answers once the server runs again"
                raise OpskitError("COMM_001", why, remedy=remedy)
            await self._live.setdefault(task_id, _Live()).next_change()

    async def events(self, task_id: str, after: int = 0) -> AsyncIterator[tuple[str, Mapping[str, Any]]]:
        """Yield what happens in a run: `step`, `observation`, `note`, `needs_approval`, at last `end`.

        The first `after` events are left out, where that many are known: events before a restart are not. A
        server that ends has no `end` for a run that goes on after it.
        """
        live = self._live.get(task_id) or _Live()
        seen = after if after <= live.count else 0
        while True:
            run = await self.store.ask(self.store.get, task_id)
            ended = run is None or run.status.is_end
            # A run that has just ended is not held any more; its last events are.
            if not ended:
                live = self._live.setdefault(task_id, live)
            missed = live.count - seen
            for event in list(live.events)[-missed:] if missed else ():
                yield event
            seen = live.count
            if run is None or ended:
                yield "end", {} if run is None else run.as_json()
                return
            if self._closed:
                return
            await live.next_change()

    async def aclose(self, drain_s: float) -> None:
        """Take nothing more, and interrupt what has not ended within `drain_s`; what is queued stays."""
        self.draining = True
        for worker in self._workers:
            worker.cancel()
        await asyncio.gather(*self._workers, return_exceptions=True)
        if tasks := [live.task for live in self._live.values() if live.task is not None]:
            _, late = await asyncio.wait(tasks, timeout=drain_s)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        if self._watcher is not None:
            self._watcher.cancel()
            await asyncio.gather(self._watcher, return_exceptions=True)
        self._closed = True
        for live in self._live.values():
            live.changed.set()

    async def _works(self) -> None:
        while True:
            wake = self._wake
            claiming = asyncio.ensure_future(self.store.ask(self.store.claim))
            try:
                claimed = await asyncio.shield(claiming)
            except asyncio.CancelledError:
                with contextlib.suppress(OpskitError):
                    # What was taken in this moment is left to the draining.
                    if (taken := await claiming) is not None:
                        self._begin(*taken)
                raise
            except OpskitError:
                # The database is away: what is queued waits for it.
                await asyncio.sleep(_AWAY_S)
                continue
            if claimed is None:
                with contextlib.suppress(TimeoutError):
                    # Another server on the same database may have put a run back.
                    async with asyncio.timeout(_LOST_S):
                        await wake.wait()
                continue
            # A worker that is told to stop leaves the run to the draining.
            await asyncio.wait({self._begin(*claimed)})

    def _wake_workers(self) -> None:
        """Let every worker look at the queue again, also one that is looking at it right now."""
        self._wake.set()
        self._wake = asyncio.Event()

    def _begin(self, run: Run, token: str) -> "asyncio.Task[None]":
        live = self._live.setdefault(run.task_id, _Live())
        live.token = token
        live.task = asyncio.create_task(self._runs(run, token, live), name=f"run {run.task_id}")
        return live.task

    async def _runs(self, run: Run, token: str, live: _Live) -> None:
        live.tell("status", {"status": RunStatus.RUNNING.value})
        status, result, problem, stopped = RunStatus.COMPLETED, None, None, None
        try:
            result = await self._work(run, live.tell)
        except RunSuspended as error:
            status, problem, stopped = RunStatus.FAILED, error.as_json(), error
        except OpskitError as error:
            status, problem = RunStatus.FAILED, error.as_json()
        except asyncio.CancelledError:
            status = RunStatus.INTERRUPTED
            why = "the server was shut down while the run was under way"
            problem = {"error_code": "GEN_001", "error_message": why}
        except Exception as error:  # noqa: BLE001 - a run must not end the worker
            status = RunStatus.FAILED
            problem = OpskitError("BUG_001", f"{type(error).__name__}: {error}").as_json()
        finally:
            live.token, approval = "", None
            while True:
                try:
                    if stopped is not None:
                        approval = await self.approvals.request(run, token, stopped)
                    if approval is None:
                        await self.store.ask(self.store.end, token, status, result=result, error=problem)
                    break
                except OpskitError:
                    # The database is away: what came of the run waits for it, while the server does.
                    if self.draining:
                        break
                    await asyncio.sleep(_AWAY_S)
            if approval is not None:
                # Its listeners stay; the worker takes another run.
                live.task = None
                live.tell("needs_approval", approval)
            else:
                self._live.pop(run.task_id, None)
                live.tell("status", {"status": status.value})

    async def _settle(self, *, starting: bool) -> None:
        for run in await self.store.ask(self.store.recover, starting=starting):
            self._on_interrupted(run)

    async def _watches(self) -> None:
        """Renew the leases of the runs here, and settle the runs of other servers that died."""
        ahead_s = self.store.clock() - time.monotonic()
        while True:
            await asyncio.sleep(_LOST_S)
            with contextlib.suppress(OpskitError):
                for live in list(self._live.values()):
                    is_ours = not live.token or await self.store.ask(self.store.renew, live.token)
                    if not is_ours and live.token and live.task is not None:
                        live.task.cancel()
                before_s, ahead_s = ahead_s, self.store.clock() - time.monotonic()
                if abs(ahead_s - before_s) > _LOST_S:
                    # The clock was set, or the machine has slept: others have to renew theirs first.
                    continue
                await self._settle(starting=False)
                await self.store.ask(self.approvals.expire)
                self._wake_workers()
                for task_id in [name for name, live in self._live.items() if live.task is None]:
                    run = await self.store.ask(self.store.get, task_id)
                    if run is None or run.status.is_end:
                        # Another server on the same database has worked it off.
                        self._live.pop(task_id).tell("status", {})
