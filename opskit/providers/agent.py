"""A client of the agents over HTTP (SPEC D1, D2): Victoria, Veronica, and anything shaped like them."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from opskit.config.schema import AgentConfig, Budgets, NodeConfig
from opskit.providers.base import CallCause, CallError, bad_payload
from opskit.providers.http import HttpClient
from opskit.providers.node import detect
from opskit.tags import correlation_id
from opskit.trace.span import current_span

#: The levels that Victoria tells on her status page (SPEC D1).
LEVELS = ("agent", "enhanced", "initiative")
#: Asks for an answer that is made now (RFC 9111): one that is remembered would hide that no model answers.
NO_CACHE = {"Cache-Control": "no-cache"}
_FAILED = ("failed", "error", "interrupted", "cancelled")
_ENDS = ("completed", "success", *_FAILED)
_PAGE_CHARS = 100_000
_POLL_FIRST_S = 0.05
_POLL_LAST_S = 1.0


@dataclass(frozen=True, slots=True)
class AgentReply:
    """A finished run. `knowledge` is the agent's own account: method, model, delegated_to, ..."""

    output: str
    knowledge: Mapping[str, Any] = field(default_factory=dict)

    @property
    def method(self) -> str:
        return str(self.knowledge.get("method") or "agent")

    @property
    def metadata(self) -> Mapping[str, Any]:
        metadata = self.knowledge.get("metadata")
        return metadata if isinstance(metadata, Mapping) else {}

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
        paths = body.get("paths") if isinstance(body, Mapping) else None
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
        remembers is none. Raises CallError: TIMEOUT after `deadline_s`, IN_BAND when the agent says that the
        run failed.
        """
        body: dict[str, Any] = {"goal": goal, "session_id": session_id, "async_mode": True}
        if history:
            body["chat_history"] = [{"user": user, "assistant": answer} for user, answer in history]
        if method != "auto":
            body["method"] = method
        if project is not None:
            body["project_context"] = project
        headers = _context_headers() | ({} if use_cache else NO_CACHE)
        try:
            async with asyncio.timeout(deadline_s):
                reply = await self._http.post_json("/run", body, timeout_s=None, headers=headers)
                task = reply.get("task_id") if isinstance(reply, Mapping) else None
                if task and "output" not in reply:
                    reply = await self._poll(reply, str(task), on_state, patience_s)
        except TimeoutError as exc:
            raise CallError(CallCause.TIMEOUT, f"the run did not end within {deadline_s:g} s") from exc
        return _reply(reply)

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
                body = None
            else:
                misses, heard_at = 0, time.monotonic()
            if isinstance(body, Mapping):
                if body.get("status") != state:
                    state = str(body.get("status"))
                    on_state(state)
                if state in _ENDS:
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


def levels_of(body: Any) -> dict[str, bool] | None:
    """Return which levels a status page says are on; None when it does not tell."""
    levels = body.get("victoria_levels") if isinstance(body, Mapping) else None
    return {level: bool(levels.get(level)) for level in LEVELS} if isinstance(levels, Mapping) else None


def _reply(body: Any) -> AgentReply:
    if not isinstance(body, Mapping):
        raise bad_payload("the agent's answer is not an object")
    knowledge = body.get("knowledge")
    status = str(body.get("status") or "success")
    output = body.get("output")
    if status in _FAILED:
        reason = body.get("error") or body.get("error_message") or output or f"it is {status}"
        raise CallError(CallCause.IN_BAND, f"the run failed: {reason}", phase="stream", status=200)
    if output is not None and not isinstance(output, str):
        raise bad_payload("the agent's output is not text")
    return AgentReply(output or "", knowledge if isinstance(knowledge, Mapping) else {})
