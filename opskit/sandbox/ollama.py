"""A simulated Ollama server: its endpoints."""

import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime

from aiohttp import web

from opskit.sandbox.dialects import Native, OpenAiShaped
from opskit.sandbox.faults import FaultBoard, SandboxFaultKind
from opskit.sandbox.ollama_engine import ChatCall, OllamaEngine
from opskit.sandbox.ollama_wire import (
    BadRequestError,
    host_allowed,
    list_of_objects,
    not_found,
    parse_body,
    parse_keep_alive,
    parse_options,
    ps_entry,
    show_body,
    tag_entry,
)
from opskit.sandbox.replies import Reply, default_reply
from opskit.sandbox.residency import SimModel

__all__ = ["SimModel", "SimulatedOllama"]

KEEP_ALIVE_S = 300.0


class SimulatedOllama(OllamaEngine):
    """Ollama as far as a client can tell: lists, loads, queues, streams, and its ways to fail.

    `memory` tells what is resident and which loads were aborted. A restart begins with the models marked
    as resident.
    """

    def __init__(
        self,
        *,
        models: Sequence[SimModel],
        faults: FaultBoard | None = None,
        reply: Reply | None = None,
        num_parallel: int = 1,
        version: str = "0.33.0",
        token_s: float = 0.0,
        keep_alive_s: float = KEEP_ALIVE_S,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        """Describe the server; nothing listens before `start`.

        Args:
            models: everything installed.
            faults: shared from outside, or a board of its own.
            reply: what the models say.
            num_parallel: requests one model serves at once.
            version: for `/api/version`.
            token_s: pause between tokens.
            keep_alive_s: how long an idle model stays; negative is for ever.
            host: loopback address to bind.
            port: 0 for a free one.

        Raises:
            ValueError: the board holds a fault that Ollama cannot show.

        """
        super().__init__(
            models=models,
            faults=faults,
            reply=reply or default_reply,
            num_parallel=num_parallel,
            token_s=token_s,
            keep_alive_s=keep_alive_s,
            host=host,
            port=port,
        )
        self.version = version
        self.installed_at = datetime.now(UTC)

    def _add_routes(self, router: web.UrlDispatcher) -> None:
        router.add_get("/", self._alive)
        router.add_get("/api/version", self._version)
        router.add_get("/api/tags", self._tags)
        router.add_get("/api/ps", self._ps, allow_head=False)
        router.add_post("/api/show", self._guarded(self._show))
        router.add_post("/api/chat", self._guarded(self._native))
        router.add_post("/api/generate", self._guarded(self._native))
        router.add_get("/v1/models", self._openai_models, allow_head=False)
        router.add_get("/v1/models/{model:.+}", self._openai_model, allow_head=False)
        router.add_post("/v1/chat/completions", self._guarded(self._openai_chat))

    def _not_routed(self, problem: web.HTTPException) -> web.Response:
        answer = super()._not_routed(problem)
        texts = {404: "404 page not found", 405: "405 method not allowed"}
        answer.text = texts.get(problem.status, problem.text or "")
        return answer

    def _guarded(
        self, handler: Callable[[web.Request, bytes], Awaitable[web.StreamResponse]]
    ) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def guarded(request: web.Request) -> web.StreamResponse:
            try:
                return await handler(request, await request.read())
            except BadRequestError as problem:
                shaped = request.path.startswith("/v1/")
                dialect = OpenAiShaped("", 0, include_usage=False) if shaped else Native("", chat=True)
                return web.json_response(dialect.refusal(400, str(problem)), status=400)

        return guarded

    def _screen(self, request: web.Request) -> web.Response | None:
        return None if host_allowed(request.headers.get("Host", "")) else web.Response(status=403)

    async def _alive(self, request: web.Request) -> web.Response:  # noqa: ARG002
        return web.Response(text="Ollama is running")

    async def _version(self, request: web.Request) -> web.Response:  # noqa: ARG002
        return web.json_response({"version": self.version})

    async def _tags(self, request: web.Request) -> web.Response:  # noqa: ARG002
        if garbage := self._garbage_list():
            return garbage
        removed = {SandboxFaultKind.NOT_INSTALLED}
        listed = [model for model in self.models.values() if not self.faults.peek(model.name, removed)]
        entries = [tag_entry(model, self.installed_at) for model in listed]
        return web.json_response({"models": entries})

    async def _ps(self, request: web.Request) -> web.Response:  # noqa: ARG002
        await self._hang_while(SandboxFaultKind.PS_BLOCKS)
        entries = [ps_entry(runner, left_s) for runner, left_s in self.memory.listed()]
        return web.json_response({"models": entries})

    async def _show(self, request: web.Request, raw: bytes) -> web.Response:  # noqa: ARG002
        body = parse_body(raw)
        name = body.get("model") or body.get("name")
        if not isinstance(name, str):
            raise BadRequestError("model is required")
        model = self.find(name)
        if model is None or self.faults.peek(model.name, {SandboxFaultKind.NOT_INSTALLED}):
            return web.json_response({"error": not_found(name)}, status=404)
        return web.json_response(show_body(model, self.installed_at))

    async def _native(self, request: web.Request, raw: bytes) -> web.StreamResponse:
        body = parse_body(raw)
        chat = request.path == "/api/chat"
        if chat:
            messages = list_of_objects(body, "messages")
        else:
            prompt = body.get("prompt") or ""
            messages = [{"role": "user", "content": prompt}] if prompt else []
        name = body.get("model") or ""
        if not isinstance(name, str) or (chat and not name):
            raise BadRequestError("model is required")
        options = parse_options(body)
        question = ChatCall(
            dialect=Native(name, chat=chat),
            name=name,
            messages=messages,
            stream=body.get("stream") is not False,
            limit=options.get("num_predict"),
            options=options,
            keep_alive_s=parse_keep_alive(body.get("keep_alive")),
        )
        return await self._answer(request, question)

    async def _openai_chat(self, request: web.Request, raw: bytes) -> web.StreamResponse:
        body = parse_body(raw)
        messages = list_of_objects(body, "messages")
        if not messages:
            raise BadRequestError("[] is too short - 'messages'")
        name = body.get("model")
        if not isinstance(name, str) or not name:
            raise BadRequestError("model is required")
        limit = body.get("max_tokens")
        usage = body.get("stream_options")
        question = ChatCall(
            dialect=OpenAiShaped(
                name, int(time.time()), isinstance(usage, dict) and bool(usage.get("include_usage"))
            ),
            name=name,
            messages=messages,
            stream=body.get("stream") is True,
            limit=limit if isinstance(limit, int) else None,
            options={},
            keep_alive_s=None,
        )
        return await self._answer(request, question)

    async def _openai_models(self, request: web.Request) -> web.Response:  # noqa: ARG002
        if garbage := self._garbage_list():
            return garbage
        return web.json_response({"object": "list", "data": [self._openai_entry(m) for m in self.models]})

    async def _openai_model(self, request: web.Request) -> web.Response:
        name = request.match_info["model"]
        model = self.find(name)
        if model is None:
            refusal = OpenAiShaped(name, 0, include_usage=False).refusal(404, not_found(name))
            return web.json_response(refusal, status=404)
        return web.json_response(self._openai_entry(model.name))

    def _openai_entry(self, name: str) -> dict[str, object]:
        created = int(self.installed_at.timestamp())
        return {"id": name, "object": "model", "created": created, "owned_by": "library"}

    def _garbage_list(self) -> web.Response | None:
        fault = self.faults.take(None, {SandboxFaultKind.GARBAGE_TAGS})
        if fault is None:
            return None
        text = '{"models": [' if fault.text is None else fault.text
        return web.Response(text=text, content_type="application/json")
