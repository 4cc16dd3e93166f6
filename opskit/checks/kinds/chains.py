"""The kind that sends work through agents: a goal (SPEC D10), or code and its review (C9)."""

import ast
import asyncio
import re
import time
from collections.abc import Mapping
from typing import Any, Literal

from opskit.checks.kinds.agents import AgentAddress, address
from opskit.checks.kinds.http import Url
from opskit.checks.spec import CheckContext, Observation, kind
from opskit.config.fields import Flag, Text, parameters
from opskit.facts.endpoint import NO_JSON, Reply, fetch, json_request
from opskit.llm.verdict import judge
from opskit.providers.agent import RUN_ENDS
from opskit.providers.base import CallCause, CallError
from opskit.tags import new_correlation_id

_GOALS = {
    "goal": "Помоги с анализом данных",
    "code": "Write a Python function that returns the n-th Fibonacci number, typed and documented.",
}
_DEPARTMENTS = ("department_heads", "task_distribution")
_FENCE = re.compile(r"```(?:python|py)?\s*\n(.*?)```", re.DOTALL)
_GOOD = ("completed", "success")
_POLL_FIRST_S = 0.05
_POLL_LAST_S = 1.0


@parameters
class ChainParams:
    """`chain: goal` asks an agent and judges its answer; `chain: code` has code generated and reviewed."""

    chain: Literal["goal", "code"] = "goal"
    goal: Text | None = None
    agent: Literal["victoria", "veronica"] = "victoria"
    url: Url | None = None
    background: Flag = False
    generator: Url | None = None
    reviewer: Url | None = None

    @property
    def task(self) -> str:
        return self.goal or _GOALS[self.chain]


@kind(
    "work goes through the agents: a goal is answered, or generated code is really reviewed",
    {
        "held": "whether the whole chain did: an honest answer, or code that parses and was reviewed",
        "http_status": "status of /run, or of /generate",
        "status": "goal: success, completed, failed, ...",
        "output": "goal: the answer",
        "verdict": "goal: empty, echo, loop, or null for a good answer",
        "method": "goal: how the agent worked",
        "departments": "goal: whether it went through departments",
        "delegated_to": "goal: who did it",
        "task_id": "goal: of a task in the background",
        "states": "goal: states of the task, in order",
        "generated": "code: whether there is code",
        "code": "code: the code",
        "parses": "code: whether it is Python",
        "tests": "code: whether tests came with it",
        "review_status": "code: status of /review",
        "review": "code: what the reviewer said",
        "counted": "code: whether the reviewer's statistics moved, null when it has none",
        "reviewed": "code: whether it was really reviewed",
        "seconds": "how long it all took",
        "error": "refused, name, reset, ..., or null",
    },
    {"held": True},
    lambda p: str(p.agent if p.chain == "goal" else "generator and reviewer"),
    timeout_s=300.0,
    imports=("httpx", "opskit.providers.transport"),
)
async def agent_chain(params: ChainParams, context: CheckContext) -> Observation:
    try:
        return await (_goal if params.chain == "goal" else _code)(params, context)
    except CallError as error:
        values = {"held": False, "error": error.cause.value}
        settled = ("held",) if error.cause is CallCause.REFUSED else ()
        return Observation(
            values, problem=error.text, state=error.cause.value, code="COMM_001", settled=settled
        )


async def _send(context: CheckContext, agent: AgentAddress, path: str, body: Any = None) -> Reply:
    return await fetch(context.survey, json_request(f"{agent.url}{path}", key=agent.key, body=body))


def _section(reply: Reply) -> Mapping[str, Any]:
    body = reply.json
    return body if isinstance(body, Mapping) else {}


async def _goal(params: ChainParams, context: CheckContext) -> Observation:
    began = time.monotonic()
    agent = address(params.agent, params.url, context)
    body = {"goal": params.task, "session_id": new_correlation_id(), "async_mode": params.background}
    reply = await _send(context, agent, "/run?async_mode=1" if params.background else "/run", body)
    result = _section(reply)
    states: list[str] = []
    task_id = result.get("task_id")
    if params.background and reply.status == 202 and task_id:
        result, states = await _polled(context, agent, result, str(task_id))
    output, knowledge, status = result.get("output"), result.get("knowledge"), result.get("status")
    work = knowledge if isinstance(knowledge, Mapping) else {}
    verdict: str | None = "empty"
    if isinstance(output, str):
        judged = judge(output, (params.task,))
        verdict = judged.value if judged else None
    seconds = time.monotonic() - began
    held = reply.status < 300 and status in _GOOD and not verdict
    values = {
        "held": held,
        "http_status": reply.status,
        "status": status,
        "output": output,
        "verdict": verdict,
        "method": work.get("method"),
        "departments": work.get("method") in _DEPARTMENTS,
        "delegated_to": work.get("delegated_to"),
        "task_id": task_id,
        "states": states,
    }
    detail = f"HTTP {reply.status}, {status}, method {values['method']} in {seconds:.1f} s"
    if verdict:
        detail += f"; the answer is no answer: {verdict}"
    reason = result.get("error") or result.get("detail")
    if reason and status not in _GOOD:
        detail += f"; it says: {str(reason)[:200]}"
    return Observation(values, detail, state="ok" if held else "failing", code="GEN_001")


async def _polled(
    context: CheckContext, agent: AgentAddress, accepted: Mapping[str, Any], task: str
) -> tuple[Mapping[str, Any], list[str]]:
    """Return the end of a task and its states; the only deadline is the check's."""
    path = accepted.get("status_url")
    # Only a path of this very agent is followed.
    own = isinstance(path, str) and path.startswith("/") and not path.startswith("//")
    pause, states, last = _POLL_FIRST_S, [str(accepted.get("status"))], accepted
    while states[-1] not in RUN_ENDS:
        await asyncio.sleep(pause)
        pause = min(_POLL_LAST_S, pause * 1.5)
        reply = await _send(context, agent, str(path) if own else f"/run/status/{task}")
        last = _section(reply)
        if reply.status >= 400 or "status" not in last:
            return {"status": "failed", "error": f"its status answered HTTP {reply.status}"}, states
        if last["status"] != states[-1]:
            states.append(str(last["status"]))
    return last, states


async def _code(params: ChainParams, context: CheckContext) -> Observation:
    generator = address("generator", params.generator, context)
    reviewer = address("reviewer", params.reviewer, context)
    generated = await _send(context, generator, "/generate", {"task_description": params.task})
    body = _section(generated)
    code, tests = source(body.get("code")), body.get("tests")
    values: dict[str, Any] = {
        "http_status": generated.status,
        "generated": bool(code),
        "code": code,
        "parses": parses(code),
        "tests": bool(tests),
        "reviewed": False,
    }
    detail = f"the generator gave {len(code)} characters of code"
    if code:
        before = await _stats(context, reviewer)
        review = await _send(context, reviewer, "/review", {"code": code, "tests": tests or ""})
        counted = grown(before, await _stats(context, reviewer))
        content = review.json if review.status < 300 else NO_JSON
        values |= {
            "review_status": review.status,
            "review": review.text[:2000],
            "counted": counted,
            "reviewed": says_something(content, code) and counted is not False,
        }
        how = {True: "and counted it", False: "but its statistics did not move", None: "(it counts nothing)"}
        detail += f"; the reviewer answered {review.status} {how[counted]}"
    values["held"] = values["parses"] and values["reviewed"]
    return Observation(values, detail, state="ok" if values["held"] else "failing", code="REV_001")


async def _stats(context: CheckContext, agent: AgentAddress) -> Mapping[str, Any]:
    try:
        return _section(await _send(context, agent, "/stats"))
    except CallError:
        return {}


def source(code: object) -> str:
    """Return the code of an answer, without its fence."""
    if not isinstance(code, str):
        return ""
    match = _FENCE.search(code)
    return (match[1] if match else code).strip()


def parses(code: str) -> bool:
    """Whether the code is Python, and not empty."""
    try:
        return bool(ast.parse(code).body)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False


def grown(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool | None:
    """Whether a counter grew between two readings; None when there is no counter."""
    counters = [
        key
        for key, value in after.items()
        if isinstance(value, int) and not isinstance(value, bool) and isinstance(before.get(key), int)
    ]
    return any(after[key] > before[key] for key in counters) if counters else None


def says_something(review: object, code: str) -> bool:
    """Whether a review is more than nothing and more than the same code."""
    if isinstance(review, Mapping):
        texts = [
            value
            for key, value in review.items()
            if key not in ("code", "status") and value not in (None, "", [])
        ]
        return bool(texts) and any(value != code for value in texts)
    return isinstance(review, str) and bool(review.strip()) and review.strip() != code


KINDS = (agent_chain,)
