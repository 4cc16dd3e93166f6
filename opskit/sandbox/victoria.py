"""A simulated agent server, Victoria or Veronica."""

import asyncio
import json
import re
import time
import uuid
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from opskit.sandbox.faults import SHOWN_BY, FaultBoard, SandboxFault
from opskit.sandbox.faults import SandboxFaultKind as K
from opskit.sandbox.generation import Reply, default_reply
from opskit.sandbox.server import GARBAGE, SLOW_TOKEN_S, SimulatedWebServer, json_object

LEVELS = {"agent": True, "enhanced": True, "initiative": True}
CRASHED = "Internal Server Error"
AFTER_TENTHS = 3
"""Where `cut` cuts: an agent streams nothing, so `after` counts tenths of the body."""

_TEAMWORK = re.compile(r"анализ|проанализ|analy[sz]|report|отч[её]т", re.IGNORECASE)
_ANSWERING = frozenset({K.RESET, K.UNAUTHORISED, K.GARBAGE, K.CUT})
_WORKING = frozenset({K.CRASH, K.EMPTY, K.ECHO})


class TaskFailedError(Exception):
    """The agent's work broke down; the text is its error."""


class SimulatedAgent(SimulatedWebServer):
    """An agent as far as a client can tell: health, levels, a goal answered at once or as a task."""

    def __init__(
        self,
        name: str = "victoria",
        *,
        faults: FaultBoard | None = None,
        reply: Reply | None = None,
        levels: Mapping[str, bool] | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        """Nothing listens before `start`.

        `name` is `victoria` or `veronica`, `reply` what it answers to a goal, `levels` the `victoria_levels`
        of `/status`. Raises ValueError for a fault that an agent cannot show.
        """
        super().__init__(name, SHOWN_BY[name], faults, host, port)
        self.levels = dict(LEVELS if levels is None else levels)
        self.tasks: dict[str, dict[str, Any]] = {}
        """What `/run/status/{task_id}` tells of each task."""
        self._reply = reply or default_reply

    def _add_routes(self, router: web.UrlDispatcher) -> None:
        router.add_get("/health", self._health)
        router.add_get("/status", self._status)
        router.add_post("/run", self._run)
        router.add_get("/run/status/{task_id}", self._task_status)

    def _begin(self) -> None:
        self.tasks.clear()

    def _not_routed(self, problem: web.HTTPException) -> web.Response:
        answer = super()._not_routed(problem)
        answer.text = json.dumps({"detail": problem.reason})
        answer.content_type = "application/json"
        return answer

    async def _health(self, request: web.Request) -> web.Response:  # noqa: ARG002
        return web.json_response({"status": "ok", "agent": self.name})

    async def _status(self, request: web.Request) -> web.Response:  # noqa: ARG002
        return web.json_response({"status": "online", "agent": self.name, "victoria_levels": self.levels})

    async def _run(self, request: web.Request) -> web.StreamResponse:
        body = json_object(await request.read())
        goal = (body or {}).get("goal")
        if body is None or not isinstance(goal, str) or not goal.strip():
            missing = {"type": "missing", "loc": ["body", "goal"], "msg": "Field required"}
            return web.json_response({"detail": [missing]}, status=422)
        fault = self.faults.take(None, _ANSWERING)
        if fault and fault.kind is K.RESET:
            await self._reset(request)
        if fault and fault.kind is K.UNAUTHORISED:
            return _unauthorised(fault)
        if fault and fault.kind is K.GARBAGE:
            return web.Response(text=fault.text_or(GARBAGE), content_type="application/json")
        if _asks_async(request, body):
            answer = self._queue(goal, body)
        else:
            try:
                answer = web.json_response({"status": "success"} | await self._work(goal, body))
            except TaskFailedError as problem:
                return web.json_response({"detail": str(problem)}, status=500)
        if fault:
            tenths = AFTER_TENTHS if fault.after_tokens is None else fault.after_tokens
            await self._cut_body(request, answer, min(tenths, 9) / 10)
        return answer

    async def _task_status(self, request: web.Request) -> web.Response:
        if fault := self.faults.peek(None, {K.UNAUTHORISED}):
            return _unauthorised(fault)
        task = self.tasks.get(request.match_info["task_id"])
        if task is None:
            return web.json_response({"detail": "Task not found"}, status=404)
        return web.json_response(task)

    def _queue(self, goal: str, body: Mapping[str, Any]) -> web.Response:
        task_id = str(uuid.uuid4())
        task: dict[str, Any] = {
            "task_id": task_id,
            "status": "queued",
            "output": None,
            "knowledge": None,
            "error": None,
        }
        self.tasks[task_id] = task
        self._spawn(asyncio.get_running_loop().create_task(self._work_off(task, goal, body)))
        receipt = {"task_id": task_id, "status": "queued", "status_url": f"/run/status/{task_id}"}
        return web.json_response(receipt, status=202)

    async def _work_off(self, task: dict[str, Any], goal: str, body: Mapping[str, Any]) -> None:
        task["status"] = "running"
        try:
            done = await self._work(goal, body)
        except TaskFailedError as problem:
            task |= {"status": "failed", "error": str(problem)}
        else:
            task |= {"status": "completed"} | done

    async def _work(self, goal: str, body: Mapping[str, Any]) -> dict[str, Any]:
        began = time.monotonic()
        if fault := self.faults.take(None, {K.SLOW_TOKEN}):
            await asyncio.sleep(fault.seconds_or(SLOW_TOKEN_S))
        fault = self.faults.take(None, _WORKING)
        kind = fault.kind if fault else None
        if fault and kind is K.CRASH:
            raise TaskFailedError(fault.text_or(CRASHED))
        output = {K.EMPTY: "", K.ECHO: goal}.get(kind) if kind else None
        if output is None:
            output = self._reply([{"role": "user", "content": goal}], "agent")
        knowledge = {
            "method": "department_heads" if _TEAMWORK.search(goal) else "simple",
            "agent": self.name,
            "metadata": {
                "model": "simulated",
                "source": "sandbox",
                "project_context": body.get("project_context"),
                "session_id": body.get("session_id"),
                "seconds": round(time.monotonic() - began, 3),
            },
        }
        return {"output": output, "knowledge": knowledge}


def _asks_async(request: web.Request, body: Mapping[str, Any]) -> bool:
    parameter = request.query.get("async_mode", "").lower()
    return body.get("async_mode") in {True, "1", "true"} or parameter in {"1", "true", "yes", "on"}


def _unauthorised(fault: SandboxFault) -> web.Response:
    return web.json_response({"detail": fault.text or "Not authenticated"}, status=401)
