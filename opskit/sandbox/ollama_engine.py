"""How a simulated Ollama answers one question, from the first check to the last byte."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from opskit.sandbox import refusals
from opskit.sandbox.dialects import Dialect, Native
from opskit.sandbox.faults import FaultBoard, SandboxFault, SandboxFaultKind
from opskit.sandbox.http_node import SimulatedServer
from opskit.sandbox.kinds import OLLAMA_FAULTS
from opskit.sandbox.ollama_wire import BUSY, CRASHED, CRASHED_OLD, OUT_OF_MEMORY, Spent, not_found
from opskit.sandbox.replies import Reply, count_tokens
from opskit.sandbox.residency import (
    LoadFailedError,
    Residency,
    Runner,
    RunnerOptions,
    SimModel,
    SlotLostError,
)
from opskit.sandbox.script import GENERATION, Ending, Script, write_script

SLOW_LOAD_S = 5.0
SLOW_TOKEN_S = 2.0
END_S = 0.05
"""How long the end of an answer follows its last token with the fault close-before-done."""
RETRY_AFTER_S = 1.0
GARBAGE = "<html><body>upstream</body>"

_BEFORE_LOAD = frozenset({
    SandboxFaultKind.RESET,
    SandboxFaultKind.UNAUTHORISED,
    SandboxFaultKind.RATE_LIMITED,
    SandboxFaultKind.FAST_503,
    SandboxFaultKind.NOT_INSTALLED,
    SandboxFaultKind.GARBAGE,
    *refusals.OLLAMA,
})  # fmt: skip
_CRASHES = {SandboxFaultKind.CRASH: CRASHED, SandboxFaultKind.CRASH_OLD: CRASHED_OLD}


@dataclass(frozen=True, slots=True)
class ChatCall:
    """A request to generate, whichever endpoint it came by."""

    dialect: Dialect
    name: str
    """The model as sent."""
    messages: Sequence[Mapping[str, Any]]
    """Empty for a bare load or unload."""
    stream: bool
    limit: int | None
    options: Mapping[str, Any]
    keep_alive_s: float | None
    """None: the server's own."""


@dataclass(frozen=True, slots=True)
class _Clock:
    """When the stages of one generation began, in `time.perf_counter_ns`."""

    arrived: int
    loaded: int
    prefilled: int

    def spent(self, question: ChatCall, tokens: int) -> Spent:
        now = time.perf_counter_ns()
        return Spent(
            total_ns=now - self.arrived,
            load_ns=self.loaded - self.arrived,
            prompt_tokens=count_tokens(question.messages),
            prompt_ns=self.prefilled - self.loaded,
            tokens=tokens,
            tokens_ns=now - self.prefilled if tokens else 0,
        )


class OllamaEngine(SimulatedServer):
    """Models, memory and generation; the endpoints are in `SimulatedOllama`."""

    def __init__(
        self,
        *,
        models: Sequence[SimModel],
        faults: FaultBoard | None,
        reply: Reply,
        num_parallel: int,
        token_s: float,
        keep_alive_s: float,
        host: str,
        port: int,
    ) -> None:
        super().__init__("ollama", shows=OLLAMA_FAULTS, faults=faults, host=host, port=port)
        self.models = {model.name: model for model in models}
        self._reply = reply
        self._num_parallel = num_parallel
        self._token_s = token_s
        self._keep_alive_s = keep_alive_s
        self.memory = self._cold_memory()

    async def start(self) -> None:
        """Listen, with only the models marked as resident in memory."""
        if not self.running:
            self.memory = self._cold_memory()
        await super().start()

    def find(self, name: str | None) -> SimModel | None:
        """Return the installed model of this name; without a tag it is the `latest` one."""
        if not name:
            return None
        return self.models.get(name) or self.models.get(f"{name}:latest")

    async def _answer(self, request: web.Request, question: ChatCall) -> web.StreamResponse:
        """Answer one question, as well or as badly as the board says."""
        arrived = time.perf_counter_ns()
        model = self.find(question.name)
        if model is None:
            return _refusal(question, 404, not_found(question.name))
        if "completion" not in model.capabilities:
            doing = "generate" if request.path == "/api/generate" else "chat"
            return _refusal(question, 400, f'"{question.name}" does not support {doing}')
        if fault := self.faults.take(model.name, _BEFORE_LOAD):
            return await self._turn_away(request, question, fault)
        try:
            return await self._serve(request, question, model, arrived)
        except LoadFailedError as problem:
            return _refusal(question, 500, str(problem))

    async def _serve(
        self, request: web.Request, question: ChatCall, model: SimModel, arrived: int
    ) -> web.StreamResponse:
        bare = isinstance(question.dialect, Native) and not question.messages
        if bare and question.keep_alive_s == 0:
            self.memory.unload(model.name)
            return _acknowledge(question, "unload")
        options = RunnerOptions.of(question.options, model)
        async with self.memory.hold(model, options, question.keep_alive_s) as runner:
            if bare:
                return _acknowledge(question, "load")
            async with runner.slot():
                return await self._generate(request, question, runner, arrived)

    async def _turn_away(
        self, request: web.Request, question: ChatCall, fault: SandboxFault
    ) -> web.StreamResponse:
        """Show a fault that comes before any model is touched."""
        if fault.kind is SandboxFaultKind.RESET:
            await self._reset(request)
        if fault.kind is SandboxFaultKind.GARBAGE:
            kind = question.dialect.stream_type if question.stream else "application/json"
            return web.Response(text=GARBAGE if fault.text is None else fault.text, content_type=kind)
        status, text = {
            SandboxFaultKind.UNAUTHORISED: (401, "unauthorized"),
            SandboxFaultKind.RATE_LIMITED: (429, "rate limit exceeded"),
            SandboxFaultKind.FAST_503: (503, BUSY),
            SandboxFaultKind.NOT_INSTALLED: (404, not_found(question.name)),
            **refusals.OLLAMA,
        }[fault.kind]
        text = text.replace("{model}", question.name) if fault.text is None else fault.text
        answer = _refusal(question, status, text)
        if status == 429:
            wait_s = RETRY_AFTER_S if fault.retry_after_s is None else fault.retry_after_s
            answer.headers["Retry-After"] = f"{wait_s:g}"
        return answer

    async def _generate(
        self, request: web.Request, question: ChatCall, runner: Runner, arrived: int
    ) -> web.StreamResponse:
        loaded = time.perf_counter_ns()
        name = runner.model.name
        if fault := self.faults.take(name, {SandboxFaultKind.SLOW_TOKEN}):
            await asyncio.sleep(SLOW_TOKEN_S if fault.seconds is None else fault.seconds)
        if fault := self.faults.take(name, _CRASHES):
            runner.dead = True
            return _refusal(question, 500, _CRASHES[fault.kind] if fault.text is None else fault.text)
        fault = self.faults.take(name, GENERATION)
        script = write_script(fault, question.messages, question.name, self._reply, question.limit)
        clock = _Clock(arrived, loaded, time.perf_counter_ns())
        if script.ending is Ending.ERROR:
            runner.dead = True
            if not question.stream or not script.sent:
                return _refusal(question, 500, script.error)
        play = self._stream if question.stream else self._whole
        return await play(request, question, script, clock)

    async def _stream(
        self, request: web.Request, question: ChatCall, script: Script, clock: _Clock
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
        if fault := self.faults.take(question.name, {SandboxFaultKind.CLOSE_BEFORE_DONE}):
            await self._await_client(END_S if fault.seconds is None else fault.seconds)
        if script.ending is Ending.HANG:
            await self._hang()
        if script.ending is Ending.CUT:
            await self._cut(request)
        if script.ending is Ending.ERROR:
            await answer.write(question.dialect.failure(script.error))
        if script.ending is Ending.DONE:
            await answer.write(question.dialect.end(script.reason, clock.spent(question, len(tokens))))
        await answer.write_eof()
        return answer

    async def _await_client(self, seconds: float) -> None:
        """Let the moment between the last token and the end pass; a client that leaves now blocks a slot."""
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError as gone:
            raise SlotLostError from gone

    async def _whole(
        self, request: web.Request, question: ChatCall, script: Script, clock: _Clock
    ) -> web.StreamResponse:
        if script.ending is Ending.HANG:
            await self._hang()
        await asyncio.sleep(self._token_s * script.sent)
        finished = script.ending is not Ending.UNFINISHED
        reason = script.reason if finished else None
        text = script.sent_text if not finished else script.text
        body = question.dialect.whole(text, reason, clock.spent(question, len(script.tokens)))
        answer = web.json_response(body)
        if script.ending is Ending.CUT:
            await self._cut_body(request, answer, script.sent / max(1, len(script.tokens) + 1))
        return answer

    def _fault_hung(self, model: str | None, fault: SandboxFault) -> None:
        if fault.kind is SandboxFaultKind.REFUSE:
            self.memory = self._cold_memory()
        if fault.kind in {SandboxFaultKind.SLOW_LOAD, SandboxFaultKind.OOM}:
            found = self.find(model)
            self.memory.drop(found.name if found else model)

    def _cold_memory(self) -> Residency:
        return Residency(
            self.models.values(),
            num_parallel=self._num_parallel,
            keep_alive_s=self._keep_alive_s,
            load_s=self._begin_load,
        )

    def _begin_load(self, model: SimModel) -> float:
        if fault := self.faults.take(model.name, {SandboxFaultKind.OOM}):
            raise LoadFailedError(OUT_OF_MEMORY if fault.text is None else fault.text)
        if fault := self.faults.take(model.name, {SandboxFaultKind.SLOW_LOAD}):
            return SLOW_LOAD_S if fault.seconds is None else fault.seconds
        return model.load_s


def _refusal(question: ChatCall, status: int, text: str) -> web.Response:
    return web.json_response(question.dialect.refusal(status, text), status=status)


def _acknowledge(question: ChatCall, reason: str) -> web.Response:
    dialect = question.dialect
    assert isinstance(dialect, Native)  # noqa: S101
    return web.json_response(dialect.acknowledgement(reason))
