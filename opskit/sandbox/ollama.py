"""A simulated Ollama server: its endpoints, and how it answers from the first check to the last byte."""

import asyncio
import json
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler

from opskit.records import Record, replace
from opskit.sandbox import ollama_wire as wire
from opskit.sandbox.faults import SHOWN_BY, FaultBoard, SandboxFault, refusals
from opskit.sandbox.faults import SandboxFaultKind as K
from opskit.sandbox.generation import (
    GENERATION,
    Ending,
    Reply,
    Script,
    count_tokens,
    default_reply,
    write_script,
)
from opskit.sandbox.ollama_memory import (
    LoadFailedError,
    Residency,
    Runner,
    RunnerOptions,
    SimModel,
    SlotLostError,
)
from opskit.sandbox.ollama_wire import Dialect, Native, OpenAiShaped, RefusalError, Spent
from opskit.sandbox.server import GARBAGE, SLOW_LOAD_S, SLOW_TOKEN_S, SimulatedWebServer

__all__ = ["SimModel", "SimulatedOllama"]

KEEP_ALIVE_S = 300.0
END_S = 0.05
"""How long the end of an answer follows its last token with the fault close-before-done."""
RETRY_AFTER_S = 1.0
_CRASHES = {K.CRASH: wire.CRASHED, K.CRASH_OLD: wire.CRASHED_OLD}


class ChatCall(Record):
    """A request to generate, whichever endpoint it came by.

    Without `messages` it is a bare load or unload. `keep_alive_s` None is the server's own. `truncate` lets
    a prompt be cut that is longer than the context.
    """

    dialect: Dialect
    messages: Sequence[Mapping[str, Any]]
    stream: bool
    limit: int | None
    options: Mapping[str, Any]
    keep_alive_s: float | None
    truncate: bool = True


class SimulatedOllama(SimulatedWebServer):
    """Ollama as far as a client can tell: lists, loads, queues, streams, and its ways to fail.

    `memory` tells what is resident and which loads were aborted. A restart begins with the models marked
    as resident.
    """

    memory: Residency

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
        """Nothing listens before `start`.

        `models` are installed, `num_parallel` requests are served at once by each, `token_s` is the pause
        between tokens, `keep_alive_s` how long an idle model stays (negative: for ever). Raises ValueError
        for a fault that Ollama cannot show.
        """
        super().__init__("ollama", SHOWN_BY["ollama"], faults, host, port)
        self.models = {model.name: model for model in models}
        self.version = version
        self.installed_at = datetime.now(UTC)
        self._reply = reply or default_reply
        self._num_parallel = num_parallel
        self._token_s = token_s
        self._keep_alive_s = keep_alive_s
        self._begin()

    def _add_routes(self, router: web.UrlDispatcher) -> None:
        router.add_get("/", self._alive)
        router.add_get("/api/version", self._version)
        router.add_get("/api/tags", self._tags)
        router.add_get("/api/ps", self._ps, allow_head=False)
        router.add_post("/api/show", self._show)
        router.add_post("/api/chat", self._native)
        router.add_post("/api/generate", self._native)
        router.add_get("/v1/models", self._openai_models, allow_head=False)
        router.add_get("/v1/models/{model:.+}", self._openai_model, allow_head=False)
        router.add_post("/v1/chat/completions", self._openai_chat)

    def _not_routed(self, problem: web.HTTPException) -> web.Response:
        answer = super()._not_routed(problem)
        texts = {404: "404 page not found", 405: "405 method not allowed"}
        answer.text = texts.get(problem.status, problem.text or "")
        return answer

    @web.middleware
    async def _front(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await super()._front(request, handler)
        except LoadFailedError as problem:
            refusal = RefusalError(str(problem), 500)
        except RefusalError as problem:
            refusal = problem
        body = wire.refusal_body(request.path, refusal)
        return web.json_response(body, status=refusal.status, headers=refusal.headers)

    def _screen(self, request: web.Request) -> web.Response | None:
        return None if wire.host_allowed(request.headers.get("Host", "")) else web.Response(status=403)

    async def _alive(self, request: web.Request) -> web.Response:  # noqa: ARG002
        return web.Response(text="Ollama is running")

    async def _version(self, request: web.Request) -> web.Response:  # noqa: ARG002
        return web.json_response({"version": self.version})

    async def _tags(self, request: web.Request) -> web.Response:  # noqa: ARG002
        if garbage := self._garbage_list():
            return garbage
        removed = {K.NOT_INSTALLED}
        listed = [model for model in self.models.values() if not self.faults.peek(model.name, removed)]
        entries = [wire.tag_entry(model, self.installed_at) for model in listed]
        return web.json_response({"models": entries})

    async def _ps(self, request: web.Request) -> web.Response:  # noqa: ARG002
        await self._hang_while(K.PS_BLOCKS)
        entries = [wire.ps_entry(runner, left_s) for runner, left_s in self.memory.listed()]
        return web.json_response({"models": entries})

    async def _show(self, request: web.Request) -> web.Response:
        body = wire.parse_body(await request.read())
        name = body.get("model") or body.get("name")
        if not isinstance(name, str):
            raise RefusalError("model is required")
        model = self.installed(name)
        if self.faults.peek(model.name, {K.NOT_INSTALLED}):
            raise _not_found(name)
        return web.json_response(wire.show_body(model, self.installed_at))

    async def _native(self, request: web.Request) -> web.StreamResponse:
        body = wire.parse_body(await request.read())
        chat = request.path == "/api/chat"
        if chat:
            messages = wire.list_of_objects(body, "messages")
        else:
            prompt = body.get("prompt") or ""
            messages = [{"role": "user", "content": prompt}] if prompt else []
        name = body.get("model") or ""
        if not isinstance(name, str) or (chat and not name):
            raise RefusalError("model is required")
        options = wire.parse_options(body)
        question = ChatCall(
            dialect=Native(name, chat=chat),
            messages=messages,
            stream=body.get("stream") is not False,
            limit=options.get("num_predict"),
            options=options,
            keep_alive_s=wire.parse_keep_alive(body.get("keep_alive")),
            truncate=body.get("truncate") is not False,
        )
        return await self._answer(request, question)

    async def _openai_chat(self, request: web.Request) -> web.StreamResponse:
        body = wire.parse_body(await request.read())
        messages = wire.list_of_objects(body, "messages")
        if not messages:
            raise RefusalError("[] is too short - 'messages'")
        name = body.get("model")
        if not isinstance(name, str) or not name:
            raise RefusalError("model is required")
        limit = body.get("max_tokens")
        usage = body.get("stream_options")
        question = ChatCall(
            dialect=OpenAiShaped(
                name, int(time.time()), isinstance(usage, dict) and bool(usage.get("include_usage"))
            ),
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
        return web.json_response(self._openai_entry(self.installed(request.match_info["model"]).name))

    def _openai_entry(self, name: str) -> dict[str, object]:
        created = int(self.installed_at.timestamp())
        return {"id": name, "object": "model", "created": created, "owned_by": "library"}

    def _garbage_list(self) -> web.Response | None:
        fault = self.faults.take(None, {K.GARBAGE_TAGS})
        if fault is None:
            return None
        return web.Response(text=fault.text_or('{"models": ['), content_type="application/json")

    def find(self, name: str | None) -> SimModel | None:
        """Return the installed model of this name; without a tag it is the `latest` one."""
        if not name:
            return None
        return self.models.get(name) or self.models.get(f"{name}:latest")

    def installed(self, name: str) -> SimModel:
        """Raise RefusalError where there is no such model."""
        if model := self.find(name):
            return model
        raise _not_found(name)

    async def _answer(self, request: web.Request, question: ChatCall) -> web.StreamResponse:
        """Answer one question, as well or as badly as the board says."""
        arrived = time.perf_counter_ns()
        model = self.installed(question.dialect.model)
        if "completion" not in model.capabilities:
            doing = "generate" if request.path == "/api/generate" else "chat"
            raise RefusalError(f'"{question.dialect.model}" does not support {doing}')
        if fault := self.faults.take(model.name, {K.RESET, K.GARBAGE, *refusals("ollama")}):
            return await self._turn_away(request, question, fault)
        bare = question.dialect if isinstance(question.dialect, Native) and not question.messages else None
        if bare and question.keep_alive_s == 0:
            self.memory.unload(model.name)
            return web.json_response(bare.acknowledgement("unload"))
        options = RunnerOptions.of(question.options, model)
        async with self.memory.hold(model, options, question.keep_alive_s) as runner:
            if bare:
                return web.json_response(bare.acknowledgement("load"))
            async with runner.slot():
                return await self._generate(request, question, runner, arrived)

    async def _turn_away(
        self, request: web.Request, question: ChatCall, fault: SandboxFault
    ) -> web.StreamResponse:
        """Show a fault that comes before any model is touched."""
        if fault.kind is K.RESET:
            await self._reset(request)
        if fault.kind is K.GARBAGE:
            kind = question.dialect.stream_type if question.stream else "application/json"
            return web.Response(text=fault.text_or(GARBAGE), content_type=kind)
        status, text = refusals("ollama")[fault.kind]
        refusal = RefusalError(fault.text_or(text.replace("{model}", question.dialect.model)), status)
        if status == 429:
            refusal.headers["Retry-After"] = fault.retry_after(RETRY_AFTER_S)
        raise refusal

    async def _generate(
        self, request: web.Request, question: ChatCall, runner: Runner, arrived: int
    ) -> web.StreamResponse:
        loaded = time.perf_counter_ns()
        name = runner.model.name
        if fault := self.faults.take(name, {K.SLOW_TOKEN}):
            await asyncio.sleep(fault.seconds_or(SLOW_TOKEN_S))
        if fault := self.faults.take(name, _CRASHES):
            runner.dead = True
            raise RefusalError(fault.text_or(_CRASHES[fault.kind]), 500)
        prompt, context = count_tokens(question.messages), runner.options.num_ctx
        if prompt >= context:
            if not question.truncate:
                raise RefusalError(json.dumps(wire.context_exceeded(prompt, context)))
            prompt = wire.tokens_left_by_a_cut(context)
        fault = self.faults.take(name, GENERATION)
        script = write_script(fault, question.messages, question.dialect.model, self._reply, question.limit)
        spent = Spent(arrived, loaded, time.perf_counter_ns(), prompt)
        if script.ending is Ending.ERROR:
            runner.dead = True
            if not question.stream or not script.sent:
                raise RefusalError(script.error, 500)
        play = self._stream if question.stream else self._whole
        return await play(request, question, script, spent)

    async def _stream(
        self, request: web.Request, question: ChatCall, script: Script, spent: Spent
    ) -> web.StreamResponse:
        answer = web.StreamResponse()
        answer.content_type = question.dialect.stream_type
        tokens = script.tokens[: script.sent]
        if tokens and self._token_s:
            await asyncio.sleep(self._token_s)
        await answer.prepare(request)
        for place, token in enumerate(tokens):
            if place and self._token_s:
                await asyncio.sleep(self._token_s)
            await answer.write(question.dialect.piece(token))
        if fault := self.faults.take(question.dialect.model, {K.CLOSE_BEFORE_DONE}):
            await self._await_client(fault.seconds_or(END_S))
        if script.ending is Ending.HANG:
            await self.hang()
        if script.ending is Ending.CUT:
            await self._cut(request)
        if script.ending is Ending.ERROR:
            await answer.write(question.dialect.failure(script.error))
        if script.ending is Ending.DONE:
            await answer.write(question.dialect.end(script.reason, _ended(spent, tokens)))
        await answer.write_eof()
        return answer

    async def _await_client(self, seconds: float) -> None:
        """Let the moment between the last token and the end pass; a client that leaves now blocks a slot."""
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError as gone:
            raise SlotLostError from gone

    async def _whole(
        self, request: web.Request, question: ChatCall, script: Script, spent: Spent
    ) -> web.StreamResponse:
        if script.ending is Ending.HANG:
            await self.hang()
        await asyncio.sleep(self._token_s * script.sent)
        is_finished = script.ending is not Ending.UNFINISHED
        text, reason = (script.text, script.reason) if is_finished else (script.sent_text, None)
        body = question.dialect.whole(text, reason, _ended(spent, script.tokens))
        answer = web.json_response(body)
        if script.ending is Ending.CUT:
            await self._cut_body(request, answer, script.sent / max(1, len(script.tokens) + 1))
        return answer

    def _begin(self) -> None:
        self.memory = Residency(
            self.models.values(),
            num_parallel=self._num_parallel,
            keep_alive_s=self._keep_alive_s,
            load_s=self._begin_load,
        )

    def _fault_set(self, model: str | None, fault: SandboxFault) -> None:
        if fault.kind in {K.SLOW_LOAD, K.OOM}:
            installed = self.find(model)
            self.memory.drop(installed.name if installed else model)

    def _begin_load(self, model: SimModel) -> float:
        if fault := self.faults.take(model.name, {K.OOM}):
            raise LoadFailedError(fault.text_or(wire.OUT_OF_MEMORY))
        if fault := self.faults.take(model.name, {K.SLOW_LOAD}):
            return fault.seconds_or(SLOW_LOAD_S)
        return model.load_s


def _ended(spent: Spent, tokens: Sequence[str]) -> Spent:
    return replace(spent, ended=time.perf_counter_ns(), tokens=len(tokens))


def _not_found(name: str) -> RefusalError:
    status, text = refusals("ollama")[K.NOT_INSTALLED]
    return RefusalError(text.replace("{model}", name), status)
