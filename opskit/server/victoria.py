"""Victoria's HTTP API (SPEC D1, D2, D10): /run, /run/status, /run/events, /status, /health, /metrics."""

import asyncio
import hmac
import json
import math
import re
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Annotated, Any, Literal, Self

from fastapi import Depends, FastAPI, Header, Query, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator
from starlette.exceptions import HTTPException

from opskit import __version__
from opskit.agent.method import METHODS, enhanced
from opskit.agent.run_state import RunLimits, RunListener
from opskit.agent.victoria import Victoria
from opskit.app import App
from opskit.engine.engine import Engine
from opskit.engine.goal import Goal
from opskit.errors import StateError
from opskit.providers.base import Message
from opskit.records import asdict
from opskit.server.approvals import Approvals
from opskit.server.errors import OF_BODY, Guard, add_error_handlers, answers, status_of
from opskit.server.run_store import Run, RunStatus
from opskit.server.runs import Runs
from opskit.tags import Tag, correlated, new_correlation_id

HISTORY_PAIRS = 30
_ID = r"^[A-Za-z0-9._:-]{1,128}$"
#: PostgreSQL has no NUL in a text.
_NO_NUL = r"^[^\x00]*$"
_EVENTS = "text/event-stream"
_WHO = r"^[^\x00-\x1f\x7f]{1,128}$"
#: How old a status page may be: counting a hundred thousand runs takes 6 ms.
_STATUS_S = 0.5
#: How long a status page waits for the database.
_QUEUE_S = 1.0

Text = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=1_000_000, pattern=_NO_NUL)
]
Line = Annotated[str, StringConstraints(max_length=100_000, pattern=_NO_NUL)]


class ApprovalDecision(BaseModel):
    """What a person decided about the command of a run. `by` says who, for the audit."""

    model_config = ConfigDict(extra="forbid")
    decision: Literal["approve", "deny"]
    by: str = Field("somebody", pattern=_WHO)


class Pair(BaseModel):
    """An exchange of a chat; at least one of its lines is given."""

    model_config = ConfigDict(
        extra="ignore", json_schema_extra={"anyOf": [{"required": ["user"]}, {"required": ["assistant"]}]}
    )
    user: Line = ""
    assistant: Line = ""

    @property
    def lines(self) -> tuple[Message, Message]:
        return Message("user", self.user), Message("assistant", self.assistant)

    @model_validator(mode="after")
    def _holds_a_line(self) -> Self:
        if not self.model_fields_set:
            raise ValueError("an exchange needs `user`, `assistant` or both")
        return self


class RunRequest(BaseModel):
    """What a client sends to `POST /run`. `rerun` queues the run again when the server dies with it."""

    model_config = ConfigDict(extra="ignore")
    goal: Text
    project_context: str | None = Field(None, max_length=200)
    session_id: str | None = Field(None, pattern=_ID)
    chat_history: list[Pair] | None = Field(None, max_length=1000)
    async_mode: bool | None = False
    method: str = Field("auto", pattern=rf"^(auto|{'|'.join(METHODS)})$")
    model: str | None = Field(None, max_length=200)
    max_steps: int = Field(8, ge=1, le=50)
    rerun: bool = False


class VictoriaServer:
    """The work behind the API: each run is a goal for the engine of one App."""

    def __init__(self, app: App, approvals: Approvals, concurrency: int) -> None:
        self.app = app
        self.runs = Runs(approvals, self.work, concurrency, on_interrupted=self._write_interrupted)
        self._status: dict[str, Any] = {}
        self._status_at = -math.inf
        self._status_lock = asyncio.Lock()

    async def work(self, run: Run, report: Callable[[str, Mapping[str, Any]], None]) -> Mapping[str, Any]:
        """Answer the goal of a run. Raises OpskitError."""
        request = RunRequest.model_validate(run.request["body"])
        agent = self.app.config.agent
        pairs = (request.chat_history or [])[-HISTORY_PAIRS:]
        wanted = request.project_context or ""
        project = wanted if agent.allows(wanted) else agent.main_project

        checkpoint, approve = self.runs.approvals.use(run)

        def on_note(text: str) -> None:
            report("note", {"text": text})

        # Each run has an engine of its own: its steps are reported to its listeners.
        engine = Engine(self.app.config, self.app.log, {}, self.app.router, self.app.traces)
        listener = RunListener(
            lambda step: report("step", asdict(step)),
            lambda seen: report("observation", {"tool": seen.step.tool, "ok": seen.result.ok}),
            on_note,
            approve,
        )
        engine.solver = Victoria(self.app, RunLimits(steps=request.max_steps), listener, checkpoint)
        engine.sessions = self.runs.store
        goal = Goal(
            request.goal,
            "local",
            request.model,
            method=request.method,
            history=tuple(line for pair in pairs for line in pair.lines if line.content),
            traceparent=run.request.get("traceparent"),
            session_id=request.session_id,
            project=project,
            use_cache=not run.request.get("no_cache", False),
            task_id=run.task_id,
        )
        with correlated(run.correlation_id):
            result = await engine.run(goal, None, on_note)
        knowledge = {
            "method": result.method,
            "agent": "victoria",
            "project": project,
            "steps": list(result.steps),
            "notes": list(result.notes),
            "metadata": {
                **result.metadata,
                "task_id": run.task_id,
                "session_id": request.session_id,
                "seconds": round(result.seconds, 3),
            },
        }
        return {"output": result.output, "knowledge": knowledge}

    def _write_interrupted(self, run: Run) -> None:
        """Write the end of a run that its server could not write: it died."""
        with correlated(run.correlation_id):
            why = (run.error or {}).get("error_message")
            self.app.log.write(Tag.REQUEST_END, outcome="interrupted", why=why)

    async def status(self) -> dict[str, Any]:
        """Return the status page, which is at most `_STATUS_S` old."""
        async with self._status_lock:
            if time.monotonic() - self._status_at >= _STATUS_S:
                self._status = await self._read_status()
                self._status_at = time.monotonic()
        return self._status

    async def _read_status(self) -> dict[str, Any]:
        snapshot = await self.app.router.catalog.snapshot()
        store, queue, last_error = self.runs.store, None, None
        try:
            async with asyncio.timeout(_QUEUE_S):
                queue = await store.ask(store.queue)
                last_error = await store.ask(store.last_error)
        except (TimeoutError, StateError) as error:
            late = StateError(f"{store.database.name} gave no answer within {_QUEUE_S:g} s")
            problem = error if isinstance(error, StateError) else late
            last_error = {"at": time.time(), **problem.as_json()}
        return {
            "status": "draining" if self.runs.draining else "online",
            "agent": "victoria",
            "version": __version__,
            "victoria_levels": {"agent": True, "enhanced": enhanced(self.app.environ), "initiative": False},
            "nodes": {
                view.name: {
                    "ok": view.fault is None,
                    "fault": None if view.fault is None else view.fault.kind.value,
                    "models": [model.name for model in view.models],
                }
                for view in snapshot.nodes
            },
            "queue": queue,
            "last_error": last_error,
            "started": self.runs.started_at,
        }


def create_app(server: VictoriaServer, token: str | None, hosts: frozenset[str], drain_s: float) -> FastAPI:
    """Return the ASGI application. `hosts` are names to address it by; empty permits all."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await server.runs.start()
        try:
            yield
        finally:
            # After SIGTERM the server has drained already, while it still answered.
            await server.runs.aclose(drain_s)

    def permitted(request: Request, authorization: Annotated[str, Header()] = "") -> None:
        if token is None:
            return
        # The bytes of a header come as Latin-1.
        scheme, _, given = authorization.encode("latin-1").partition(b" ")
        if scheme.lower() != b"bearer" or not hmac.compare_digest(given.strip(), token.encode()):
            why = "needs the token of this server" if authorization else "needs a token"
            raise HTTPException(401, f"{request.url.path} {why}: Authorization: Bearer TOKEN")

    api = FastAPI(title="Victoria", version=__version__, lifespan=lifespan, description="Agent of opskit.")
    guarded = [Depends(permitted)]
    add_error_handlers(api)
    _add_runs(api, server, guarded)
    _add_pages(api, server, guarded)
    api.add_middleware(Guard, hosts=hosts, limit_bytes=server.app.config.limits.goal_bytes + 64 * 1024)
    return api


def _add_runs(api: FastAPI, server: VictoriaServer, guarded: list[Any]) -> None:
    runs = server.runs

    async def run(
        body: RunRequest,
        async_mode: Annotated[bool, Query()] = False,
        x_correlation_id: Annotated[str | None, Header(pattern=_ID)] = None,
        traceparent: Annotated[str | None, Header(max_length=200)] = None,
        cache_control: Annotated[str, Header(max_length=200)] = "",
    ) -> Any:
        """Run a goal: at once (200 with the answer), or later (202 with where to ask).

        `Cache-Control: no-cache` asks the models, also where the same goal was answered a short time ago.
        """
        correlation_id = x_correlation_id or new_correlation_id()
        no_cache = any(word in cache_control.lower() for word in ("no-cache", "no-store"))
        request = {"body": body.model_dump(), "traceparent": traceparent, "no_cache": no_cache}
        request["rerun"] = body.rerun
        task_id = await runs.submit(request, correlation_id)
        headers = {"X-Correlation-ID": correlation_id}
        status_url = {"status_url": f"/run/status/{task_id}"}
        if body.async_mode or async_mode:
            receipt = {"task_id": task_id, "status": RunStatus.QUEUED.value, **status_url}
            receipt |= {"events_url": f"/run/events/{task_id}", "correlation_id": correlation_id}
            return JSONResponse(receipt, 202, headers)
        done = await runs.ended(task_id)
        content = done.as_json()
        if done.status is RunStatus.NEEDS_APPROVAL:
            return JSONResponse(content | status_url, 202, headers)
        if done.status is RunStatus.COMPLETED:
            return JSONResponse(content | {"status": "success"}, headers=headers)
        problem = done.error or {"error_code": "GEN_001", "error_message": f"the run was {done.status.value}"}
        return JSONResponse({**content, **problem, "status": "error"}, status_of(problem), headers)

    for path in ("/run", "/orchestrate"):
        api.post(path, dependencies=guarded, responses=answers(202, *OF_BODY, 404, 500, 504))(run)

    @api.get("/run/status/{task_id}", dependencies=guarded, responses=answers(404))
    async def run_status(task_id: str) -> dict[str, Any]:
        """How a run stands."""
        return (await _known(task_id)).as_json()

    @api.get(
        "/run/events/{task_id}",
        dependencies=guarded,
        response_class=Response,
        responses=answers(204, 404, content=_EVENTS),
    )
    async def run_events(task_id: str, last_event_id: Annotated[str, Header(max_length=20)] = "") -> Response:
        """What happens in a run, as server-sent events, until its end.

        With `Last-Event-ID` it goes on behind that event; 204, which ends a client's reconnecting, behind the
        last one.
        """
        await _known(task_id)
        if last_event_id == "end":
            return Response(status_code=204)
        after = int(last_event_id) if last_event_id.isdecimal() else 0

        lines = _event_lines(runs, task_id, after)
        # A proxy such as nginx passes them on at once.
        headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
        return StreamingResponse(lines, headers=headers, media_type=_EVENTS)

    @api.post("/run/cancel/{task_id}", dependencies=guarded, responses=answers(404))
    async def cancel(task_id: str) -> dict[str, Any]:
        """End a run that is queued or running."""
        await _known(task_id)
        cancelled = await runs.cancel(task_id)
        return {"task_id": task_id, "cancelled": cancelled, "status": (await _known(task_id)).status}

    @api.get("/approvals", dependencies=guarded, responses=answers())
    async def approvals() -> dict[str, Any]:
        """The commands that runs wait for a person to allow, the oldest first."""
        return {"approvals": await runs.store.ask(runs.approvals.pending)}

    @api.post("/run/approve/{approval_id}", dependencies=guarded, responses=answers(*OF_BODY, 404, 409))
    async def approve(approval_id: str, body: ApprovalDecision, request: Request) -> dict[str, Any]:
        """Allow exactly the command that a run waits for, once, or deny it, which ends the run."""
        await _known(approval_id.partition(".")[0])
        address = request.client.host if request.client is not None else "unknown"
        by = f"{body.by} from {address}"
        run = await runs.decide(approval_id, allow=body.decision == "approve", by=by)
        return {"approval_id": approval_id, "task_id": run.task_id, "status": run.status, "by": by}

    async def _known(task_id: str) -> Run:
        run = await runs.store.ask(runs.store.get, task_id) if re.match(_ID, task_id) else None
        if run is None:
            raise HTTPException(404, f"there is no run {task_id[:128]}; `POST /run` answers with its id")
        return run


async def _event_lines(runs: Runs, task_id: str, after: int) -> AsyncIterator[str]:
    number = after
    async for kind, content in runs.events(task_id, after):
        number += 1
        data = json.dumps(content, ensure_ascii=False, default=str)
        yield f"id: {'end' if kind == 'end' else number}\nevent: {kind}\ndata: {data}\n\n"


def _add_pages(api: FastAPI, server: VictoriaServer, guarded: list[Any]) -> None:
    @api.get("/health", responses={403: answers()[403]})
    async def health() -> dict[str, str]:
        """Whether the server serves; says nothing of models."""
        return {"status": "ok", "agent": "victoria"}

    # As load balancers and monitors ask.
    api.head("/health", include_in_schema=False)(health)

    @api.get("/status", dependencies=guarded, responses=answers())
    async def status() -> dict[str, Any]:
        """Levels, nodes, models, the queue and the last error."""
        return await server.status()

    @api.get(
        "/metrics", dependencies=guarded, response_class=Response, responses=answers(content="text/plain")
    )
    async def metrics() -> PlainTextResponse:
        """Counts of runs in the text format of Prometheus."""
        counts = await server.runs.store.ask(server.runs.store.counts)
        lines = ["# HELP opskit_runs Runs in the store, by status.", "# TYPE opskit_runs gauge"]
        lines += [f'opskit_runs{{status="{status}"}} {count}' for status, count in sorted(counts.items())]
        name = "opskit_start_time_seconds"
        lines += [f"# HELP {name} When the server started.", f"# TYPE {name} gauge"]
        text = "\n".join((*lines, f"{name} {server.runs.started_at:.3f}\n"))
        return PlainTextResponse(text, media_type="text/plain; version=0.0.4")
