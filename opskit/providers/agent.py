"""A client of the agents over HTTP (SPEC D1, D2): Victoria, Veronica, and anything shaped like them."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Self
from urllib.parse import quote

from opskit.config.schema import AgentConfig, Budgets, NodeConfig
from opskit.errors import ApprovalNeeded
from opskit.providers.base import CallCause, CallError, bad_payload
from opskit.providers.http import HttpClient
from opskit.providers.node import detect
from opskit.providers.values import count, mapping, mappings, text
from opskit.records import Record, field
from opskit.tags import correlation_id
from opskit.trace.span import current_span

#: The levels that Victoria tells on her status page (SPEC D1).
LEVELS = ("agent", "enhanced", "initiative")
#: Asks for an answer that is made now (RFC 9111): one that is remembered would hide that no model answers.
NO_CACHE = {"Cache-Control": "no-cache"}
_FAILED = ("failed", "error", "interrupted", "cancelled")
#: The statuses in which a run does not go on by itself.
RUN_ENDS = ("completed", "success", "needs_approval", *_FAILED)
#: A server that is restarted is waited for.
_RESTART_S = 60.0
#: How long an agent may take to cancel a run that nobody waits for any more.
_CANCEL_S = 2.0
_POLL_FIRST_S = 0.05
_POLL_LAST_S = 1.0


class AgentReply(Record):
    """A finished run. `knowledge` is the agent's own account: method, model, delegated_to, ..."""

    output: str
    knowledge: Mapping[str, Any] = field(default_factory=dict)
    correlation_id: str | None = None

    @property
    def method(self) -> str:
        return str(self.knowledge.get("method") or "agent")

    @property
    def metadata(self) -> Mapping[str, Any]:
        return mapping(self.knowledge.get("metadata"))

    @property
    def model(self) -> str | None:
        for source in (self.knowledge, self.metadata):
            if isinstance(source.get("model"), str):
                return str(source["model"])
        return None


class AgentClient:
    """One agent. Raises CallError like a provider, so its failures are classified in the same way."""

    def __init__(self, config: AgentConfig, budgets: Budgets) -> None:
        self.config = config
        self.name = config.name
        self._budgets = budgets
        self._http = HttpClient(
            config.url, api_key=config.api_key, connect_s=budgets.connect_s, metadata_s=budgets.metadata_s
        )

    async def status(self, *, timeout_s: float | None = None) -> Mapping[str, Any]:
        """`GET /status`; an agent that has none (404) is asked for `/health`, as model servers have one too.

        Raises CallError(PAYLOAD) for a page of something else.
        """
        try:
            body = await self._http.get_json("/status", timeout_s=timeout_s)
        except CallError as error:
            if error.status != 404:
                raise
            body = await self._http.get_json("/health", timeout_s=timeout_s)
            await self._refuse_model_server()
        if not isinstance(body, Mapping):
            raise CallError(CallCause.PAYLOAD, "its status page is not an object", status=200)
        return body

    async def paths(self, *, timeout_s: float | None = None) -> frozenset[str] | None:
        """Return the paths of its API as its own description has them; None where that is something else."""
        body = await self._http.get_json("/openapi.json", timeout_s=timeout_s)
        paths = mapping(body).get("paths")
        return frozenset(map(str, paths)) if isinstance(paths, Mapping) else None

    async def run(
        self,
        goal: str,
        *,
        session_id: str,
        deadline_s: float,
        on_state: Callable[[str], None] = lambda _state: None,
        history: Sequence[tuple[str, str]] = (),
        patience_s: float = 0.0,
        method: str = "auto",
        project: str | None = None,
        use_cache: bool = False,
    ) -> AgentReply:
        """Hand over a goal and wait for its end, asynchronously where the agent can (202 and polling).

        `history` are goals with their answers, the oldest first. An agent that does not tell how the run goes
        on is asked for `patience_s` more: it may be restarting. Without `use_cache` an answer that the agent
        remembers is none. A run that nobody waits for any more is cancelled there. Raises CallError: TIMEOUT
        after `deadline_s`, IN_BAND when the agent says that the run failed; ApprovalNeeded when a person has
        to decide.
        """
        options: dict[str, Any] = {} if method == "auto" else {"method": method}
        if project is not None:
            options["project_context"] = project
        try:
            async with asyncio.timeout(deadline_s):
                reply = await self.submit(
                    goal, session_id=session_id, history=history, options=options, use_cache=use_cache
                )
                if reply.get("task_id") and "output" not in reply:
                    try:
                        reply = await self._poll(reply, str(reply["task_id"]), on_state, patience_s)
                    except asyncio.CancelledError:
                        with contextlib.suppress(CallError):
                            path = f"/run/cancel/{quote(str(reply['task_id']), safe='')}"
                            await self._http.post_json(path, {}, timeout_s=_CANCEL_S)
                        raise
        except TimeoutError as exc:
            raise CallError(CallCause.TIMEOUT, f"the run did not end within {deadline_s:g} s") from exc
        return _reply(reply)

    async def submit(
        self,
        goal: str,
        *,
        session_id: str,
        history: Sequence[tuple[str, str]] = (),
        options: Mapping[str, Any] = MappingProxyType({}),
        use_cache: bool = False,
    ) -> Mapping[str, Any]:
        """Hand over a goal and return the receipt, with its `task_id`. Raises CallError."""
        body: dict[str, Any] = {"goal": goal, "session_id": session_id, "async_mode": True, **options}
        if history:
            body["chat_history"] = [{"user": user, "assistant": answer} for user, answer in history]
        headers = _context_headers() | ({} if use_cache else NO_CACHE)
        reply = await self._http.post_json("/run", body, timeout_s=None, headers=headers)
        if not isinstance(reply, Mapping):
            raise bad_payload("the agent's answer is not an object")
        return reply

    async def follow(self, task_id: str, on_state: Callable[[str], None]) -> AgentReply:
        """Wait for the end of a run, through a restart of the agent. Raises as `run` does."""
        return _reply(await self._poll({}, quote(task_id, safe=""), on_state, _RESTART_S))

    async def approvals(self) -> list[Mapping[str, Any]]:
        """Return what runs of the agent wait for a person to allow. Raises CallError."""
        return mappings(mapping(await self._http.get_json("/approvals")).get("approvals"))

    async def decide(self, approval_id: str, *, allow: bool, by: str) -> None:
        """Allow the command that a run waits for, or deny it. Raises CallError."""
        body = {"decision": "approve" if allow else "deny", "by": by}
        path = f"/run/approve/{quote(approval_id, safe='')}"
        await self._http.post_json(path, body, timeout_s=self._budgets.total_s)

    async def aclose(self) -> None:
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def _refuse_model_server(self) -> None:
        try:
            server = await detect(self._http, NodeConfig(self.name, self.config.url, "openai"))
        except CallError:
            return
        raise CallError(CallCause.PAYLOAD, f"{server.kind.phrase} answers there, not an agent", status=200)

    async def _poll(
        self, accepted: Mapping[str, Any], task: str, on_state: Callable[[str], None], patience_s: float
    ) -> Mapping[str, Any]:
        path = accepted.get("status_url")
        # Only a path of this very agent is followed: a status URL must not send us elsewhere.
        path = path if isinstance(path, str) and path.startswith("/") and not path.startswith("//") else None
        pause, state, misses, heard_at = _POLL_FIRST_S, "", 0, time.monotonic()
        while True:
            try:
                body = await self._http.get_json(path or f"/run/status/{task}")
            except CallError as error:
                # One lost poll is no lost run; a task that the agent no longer knows is.
                misses += 1
                patient = time.monotonic() - heard_at < patience_s
                if error.status == 404 or (misses >= 3 and not patient):
                    raise
                if misses == 1 and patience_s:
                    on_state(f"{error.text}; asking again for up to {patience_s:g} s")
                body, state = None, ""
            else:
                misses, heard_at = 0, time.monotonic()
            if isinstance(body, Mapping):
                if body.get("status") != state:
                    state = str(body.get("status"))
                    on_state(state)
                if state in RUN_ENDS:
                    return body
            await asyncio.sleep(pause)
            pause = min(_POLL_LAST_S, pause * 1.5)


def _context_headers() -> dict[str, str]:
    """Return the headers that make the run over there a part of the request here."""
    headers = {}
    if (identifier := correlation_id.get()) is not None:
        headers["X-Correlation-ID"] = identifier
    if (span := current_span()) is not None:
        headers["traceparent"] = span.traceparent
    return headers


class AgentQueue(Record):
    """The runs of an agent's server. `oldest_s` is how long the first in the queue has waited.

    What a server does not tell is None. `draining`: it takes no new runs, and ends.
    """

    queued: int
    running: int
    needs_approval: int | None = None
    oldest_s: float | None = None
    draining: bool = False


def queue_of(body: Any) -> AgentQueue | None:
    """Return what a status page tells of its queue; None when it does not tell."""
    queue = mapping(mapping(body).get("queue"))
    queued, running, waits = (count(queue.get(name)) for name in ("queued", "running", "needs_approval"))
    if queued is None or running is None:
        return None
    oldest_s = queue.get("oldest_queued_s")
    oldest_s = float(oldest_s) if isinstance(oldest_s, int | float) and oldest_s >= 0 else None
    return AgentQueue(queued, running, waits, oldest_s, body.get("status") == "draining")


def levels_of(body: Any) -> dict[str, bool] | None:
    """Return which levels a status page says are on; None when it does not tell."""
    levels = mapping(body).get("victoria_levels")
    return {level: bool(levels.get(level)) for level in LEVELS} if isinstance(levels, Mapping) else None


def _reply(body: Any) -> AgentReply:
    if not isinstance(body, Mapping):
        raise bad_payload("the agent's answer is not an object")
    status = str(body.get("status") or "success")
    output = body.get("output")
    if status == "needs_approval":
        raise ApprovalNeeded(body.get("approval") or {"task_id": body.get("task_id")})
    if status in _FAILED:
        reason = body.get("error") or body.get("error_message") or output or f"it is {status}"
        raise CallError(CallCause.IN_BAND, f"the run failed: {reason}", phase="stream", status=200)
    if output is not None and not isinstance(output, str):
        raise bad_payload("the agent's output is not text")
    return AgentReply(output or "", mapping(body.get("knowledge")), text(body.get("correlation_id")))
