"""The kind that asks every endpoint of an agent (SPEC C1, D2), each with its status and seconds."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from opskit.checks.kinds.http import Url
from opskit.checks.spec import CheckContext, Observation, Unjudged, kind
from opskit.checks.state import NodeState, judge_queue
from opskit.config.fields import Flag, Seconds, Texts, parameters
from opskit.facts.endpoint import NO_JSON, EndpointFacts, json_request, read_endpoint
from opskit.providers.agent import levels_of, queue_of
from opskit.records import Record, asdict

_TASK = "Write a Python function add(a, b) that returns the sum, with a docstring and type hints."
_CODE = 'def add(a: int, b: int) -> int:\n    """Return the sum."""\n    return a + b\n'
_GOAL = "Reply with the single word ready."


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


@parameters
class AgentParams:
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
    "each endpoint of an agent with status and seconds; with `ask: true` also those that make it work",
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
    imports=("httpx", "opskit.providers.transport"),
)
async def agent_api(params: AgentParams, context: CheckContext) -> Observation:
    where = address(params.agent, params.url, context)
    api = APIS[params.agent]
    requests = {
        f"GET {path}": json_request(f"{where.url}{path}", key=where.key, limit_s=params.each)
        for path in params.endpoints or api.looks
    }
    replies = await asyncio.gather(*(read_endpoint(context.survey, request) for request in requests.values()))
    rows = dict(zip(requests, map(_row, replies), strict=True))
    if all(row["error"] in ("refused", "name", "unreachable") for row in rows.values()):
        first = next(iter(rows.values()))
        values = {"error": first["error"], "endpoints": rows, "answered": [], "failed": list(rows)}
        problem = f"{params.agent} is not at {where.url}: {first['detail']}"
        refused = all(row["error"] == "refused" for row in rows.values())
        settled = ("answered", "failed") if refused else ()
        return Observation(values, problem=problem, state=first["error"], code="COMM_001", settled=settled)
    not_asked = []
    for path, body in api.asks.items():
        if params.ask:
            request = json_request(f"{where.url}{path}", key=where.key, body=body)
            rows[f"POST {path}"] = _row(await read_endpoint(context.survey, request))
        else:
            not_asked.append(f"POST {path}")
    return _summed(rows, not_asked)


def _row(endpoint: EndpointFacts) -> dict[str, Any]:
    """Describe one endpoint: it is ok with a status below 300 and JSON in its body. Pure."""
    row: dict[str, Any] = {"ok": False, "status": None, "error": None, "detail": ""}
    if endpoint.error is not None:
        row |= {"error": endpoint.error.cause.value, "detail": endpoint.error.text}
    if endpoint.reply is not None:
        content = endpoint.reply.json
        is_json = content is not NO_JSON
        row |= {"status": endpoint.reply.status, "ok": 200 <= endpoint.reply.status < 300 and is_json}
        if not is_json:
            row["detail"] = "the body is no JSON"
        else:
            row |= {name: told for name, told in _of_page(content).items() if told is not None}
    return {**row, "seconds": round(endpoint.seconds, 4)}


def _of_page(content: Any) -> dict[str, Any]:
    """Return what a status page tells of levels and queue; None for what it does not."""
    queue = queue_of(content)
    moves = None if queue is None else judge_queue(queue)[0] is not NodeState.WEDGED
    return {
        "levels": levels_of(content),
        "queue": None if queue is None else asdict(queue),
        "queue_moves": moves,
    }


def _summed(rows: Mapping[str, Mapping[str, Any]], not_asked: Sequence[str]) -> Observation:
    failed = [name for name, row in rows.items() if not row["ok"]]
    told = {name: value for row in rows.values() for name, value in row.items()}
    values = {
        "endpoints": rows,
        "answered": [name for name in rows if name not in failed],
        "failed": failed,
        "not_asked": not_asked,
        "slowest_s": max(row["seconds"] for row in rows.values()),
        "levels": told.get("levels"),
        "queue": told.get("queue"),
        "queue_moves": told.get("queue_moves", True),
    }
    detail = ", ".join(
        f"{name} {row['status'] or row['error']} in {row['seconds']:.2f} s" for name, row in rows.items()
    )
    return Observation(values, detail, state="failing" if failed else "ok", code="GEN_001")


KINDS = (agent_api,)
