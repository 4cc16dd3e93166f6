"""Kinds that ask agents: their endpoints (SPEC C1, D2), a goal (D10), code and its review (C9)."""

import ast
import asyncio
import re
import time
from collections.abc import Mapping
from typing import Any, Literal

from opskit.checks.kinds.network import Url
from opskit.checks.spec import CheckContext, Observation, Unjudged, kind
from opskit.checks.state import NodeState, judge_queue
from opskit.config.fields import Flag, Seconds, Text, Texts
from opskit.config.values import Parameters
from opskit.facts.endpoint import (
    NO_JSON,
    EndpointFacts,
    EndpointRequest,
    Reply,
    fetch,
    json_request,
    read_endpoint,
)
from opskit.llm.verdict import judge
from opskit.providers.agent import RUN_ENDS, levels_of, queue_of
from opskit.providers.base import CallCause, CallError
from opskit.records import Record, asdict
from opskit.tags import new_correlation_id

_TASK = "Write a Python function add(a, b) that returns the sum, with a docstring and type hints."
_CODE = 'def add(a: int, b: int) -> int:\n    """Return the sum."""\n    return a + b\n'
_GOAL = "Reply with the single word ready."
_GOALS = {
    "goal": "Помоги с анализом данных",
    "code": "Write a Python function that returns the n-th Fibonacci number, typed and documented.",
}
_DEPARTMENTS = ("department_heads", "task_distribution")
_FENCE = re.compile(r"```(?:python|py)?\s*\n(.*?)```", re.DOTALL)
_GOOD = ("completed", "success")
_POLL_FIRST_S = 0.05
_POLL_LAST_S = 1.0


class Api(Record):
    """An agent's endpoints; `asks` are endpoints that make a model work, each with the body to send."""

    port: int
    looks: tuple[str, ...]
    asks: Mapping[str, Mapping[str, Any]]


APIS = {
    "victoria": Api(8010, ("/status", "/health"), {"/run": {"goal": _GOAL}, "/orchestrate": {"goal": _GOAL}}),
    "veronica": Api(8011, ("/health",), {"/run": {"goal": _GOAL}}),
    "generator": Api(9001, ("/health", "/stats"), {"/generate": {"task_description": _TASK}}),
    "reviewer": Api(9002, ("/health", "/stats"), {"/review": {"code": _CODE, "tests": ""}}),
    "starcoder": Api(8003, ("/health",), {"/chat": {"message": _GOAL}}),
}
AgentName = Literal["victoria", "veronica", "generator", "reviewer", "starcoder"]


class AgentParams(Parameters):
    """`ask` also asks endpoints that make a model work. `endpoints` are paths that replace the usual ones."""

    agent: AgentName
    url: Url | None = None
    ask: Flag = False
    endpoints: Texts = ()
    each: Seconds = 5.0

    def __post_init__(self) -> None:
        if any(not path.startswith("/") for path in self.endpoints):
            raise ValueError("endpoints are paths such as /health")


class AgentAddress(Record):
    """Where an agent is, and the key it wants."""

    url: str
    key: str | None = None

    def request(self, path: str, body: Any = None, limit_s: float | None = None) -> EndpointRequest:
        return json_request(f"{self.url}{path}", key=self.key, body=body, limit_s=limit_s)


def address(agent: str, url: str | None, context: CheckContext) -> AgentAddress:
    """The given address, else that of the configuration, else the agent's usual port on this machine.

    Raises Unjudged for an agent that the configuration switches off.
    """
    known = context.survey.config.agent_named(agent)
    # A key is for the configured address only.
    if known is not None and url in (None, known.url, f"{known.url}/"):
        return AgentAddress(known.url, known.api_key)
    if url is not None:
        return AgentAddress(url.rstrip("/"))
    if agent in ("victoria", "veronica"):
        raise Unjudged(f"{agent} is switched off in the configuration", remedy=f"set {agent.upper()}_URL")
    return AgentAddress(f"http://localhost:{APIS[agent].port}")


@kind(
    "each endpoint of an agent with status and seconds; with `ask: true` also what makes it work",
    {
        "endpoints": "by name (GET /status): ok, status, seconds, error",
        "answered": "endpoints that are ok",
        "failed": "endpoints that are not",
        "not_asked": "endpoints that would make a model work",
        "slowest_s": "seconds of the slowest",
        "levels": "Victoria's levels: agent, enhanced, initiative",
        "queue": "runs of its server: queued, running, needs_approval, oldest_s, draining; or null",
        "queue_moves": "false while runs wait and none is under way; true where it tells no queue",
        "seconds": "of all together",
        "error": "refused, name, unreachable, or null",
    },
    {"failed": {"len": 0}},
    lambda p: str(p.agent),
    timeout_s=90.0,
)
async def agent_api(params: AgentParams, context: CheckContext) -> Observation:
    where = address(params.agent, params.url, context)
    paths = params.endpoints or APIS[params.agent].looks
    requests = {f"GET {path}": where.request(path, limit_s=params.each) for path in paths}
    replies = await asyncio.gather(*(read_endpoint(context.survey, request) for request in requests.values()))
    rows = dict(zip(requests, map(_row, replies), strict=True))
    if all(row["error"] in ("refused", "name", "unreachable") for row in rows.values()):
        first = next(iter(rows.values()))
        values = {"error": first["error"], "endpoints": rows, "answered": [], "failed": list(rows)}
        problem = f"{params.agent} is not at {where.url}: {first['detail']}"
        refused = all(row["error"] == "refused" for row in rows.values())
        settled = ("answered", "failed") if refused else ()
        return Observation(values, problem=problem, state=first["error"], code="COMM_001", settled=settled)
    asks = {f"POST {path}": where.request(path, body) for path, body in APIS[params.agent].asks.items()}
    if params.ask:
        rows |= {name: _row(await read_endpoint(context.survey, request)) for name, request in asks.items()}
    failed = [name for name, row in rows.items() if not row["ok"]]
    page = {name: value for row in rows.values() for name, value in row.items()}
    values = {
        "endpoints": rows,
        "answered": [name for name in rows if name not in failed],
        "failed": failed,
        "not_asked": [] if params.ask else list(asks),
        "slowest_s": max(row["seconds"] for row in rows.values()),
        "levels": page.get("levels"),
        "queue": page.get("queue"),
        "queue_moves": page.get("queue_moves", True),
    }
    detail = ", ".join(
        f"{name} {row['status'] or row['error']} in {row['seconds']:.2f} s" for name, row in rows.items()
    )
    return Observation(values, detail, state="failing" if failed else "ok", code="GEN_001")


def _row(endpoint: EndpointFacts) -> dict[str, Any]:
    """Describe one endpoint: it is ok with a status below 300 and JSON in its body. Pure."""
    row: dict[str, Any] = {"ok": False, "status": None, "error": None, "detail": ""}
    if endpoint.error is not None:
        row |= {"error": endpoint.error.cause.value, "detail": endpoint.error.text}
    if endpoint.reply is not None:
        page, status = endpoint.reply.json, endpoint.reply.status
        is_json = page is not NO_JSON
        row |= {"status": status, "ok": 200 <= status < 300 and is_json}
        if not is_json:
            row["detail"] = "the body is no JSON"
        if levels := levels_of(page):
            row["levels"] = levels
        if (queue := queue_of(page)) is not None:
            row |= {"queue": asdict(queue), "queue_moves": judge_queue(queue)[0] is not NodeState.WEDGED}
    return {**row, "seconds": round(endpoint.seconds, 4)}


class ChainParams(Parameters):
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


def _section(reply: Reply) -> Mapping[str, Any]:
    body = reply.json
    return body if isinstance(body, Mapping) else {}


async def _goal(params: ChainParams, context: CheckContext) -> Observation:
    began = time.monotonic()
    agent = address(params.agent, params.url, context)
    body = {"goal": params.task, "session_id": new_correlation_id(), "async_mode": params.background}
    reply = await fetch(agent.request("/run?async_mode=1" if params.background else "/run", body))
    result = _section(reply)
    states: list[str] = []
    task_id = result.get("task_id")
    if params.background and reply.status == 202 and task_id:
        result, states = await _polled(agent, result, str(task_id))
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
    agent: AgentAddress, accepted: Mapping[str, Any], task: str
) -> tuple[Mapping[str, Any], list[str]]:
    """Return the end of a task and its states; the only deadline is the check's."""
    path = accepted.get("status_url")
    # Only a path of this very agent is followed.
    own = isinstance(path, str) and path.startswith("/") and not path.startswith("//")
    pause, states, last = _POLL_FIRST_S, [str(accepted.get("status"))], accepted
    while states[-1] not in RUN_ENDS:
        await asyncio.sleep(pause)
        pause = min(_POLL_LAST_S, pause * 1.5)
        reply = await fetch(agent.request(str(path) if own else f"/run/status/{task}"))
        last = _section(reply)
        if reply.status >= 400 or "status" not in last:
            return {"status": "failed", "error": f"its status answered HTTP {reply.status}"}, states
        if last["status"] != states[-1]:
            states.append(str(last["status"]))
    return last, states


async def _code(params: ChainParams, context: CheckContext) -> Observation:
    generator = address("generator", params.generator, context)
    reviewer = address("reviewer", params.reviewer, context)
    generated = await fetch(generator.request("/generate", {"task_description": params.task}))
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
        before = await _stats(reviewer)
        review = await fetch(reviewer.request("/review", {"code": code, "tests": tests or ""}))
        counted = grown(before, await _stats(reviewer))
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


async def _stats(agent: AgentAddress) -> Mapping[str, Any]:
    try:
        return _section(await fetch(agent.request("/stats")))
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
