"""One attempt: one model asked once, under separate budgets, its text held back until it may be shown."""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Callable

from opskit.config.schema import Budgets
from opskit.llm.answer import Ask
from opskit.llm.faults import Fault, FaultKind, classify
from opskit.llm.loads import Loads, load_budget_s
from opskit.llm.plan import Candidate
from opskit.llm.profile import StepMode
from opskit.llm.prompt_cut import PromptCut, is_suspicious, prompt_cut
from opskit.llm.verdict import Verdict, judge, may_be_shown, runs_away
from opskit.llm.wait_timer import WaitTimer
from opskit.llm.waiting import Waiting, WatchRequest
from opskit.providers.base import (
    DEFAULT_MODEL,
    CallError,
    ChatRequest,
    End,
    Event,
    Progress,
    Provider,
    Reasoning,
    Token,
    ToolCall,
    Usage,
)
from opskit.providers.node import Node
from opskit.records import MutableRecord, field, replace

#: A text is searched for a loop each time it has grown by so many characters.
_LOOP_STEP = 64
#: The part of the first-token budget after which the server is asked whether it is alive at all.
_ASK_AFTER = 0.8
#: No answer has more characters for each token that it was allowed.
_TOKEN_CHARS = 64
_ANY_TOKENS = 16_384
#: How often a request that waits asks how long it may wait.
_LIMIT_AGAIN_S = 0.5


class AttemptState(MutableRecord):
    """What one attempt has come to; filled while it runs."""

    candidate: Candidate
    started: float
    text: str = ""
    committed: bool = False
    fault: Fault | None = None
    verdict: Verdict | None = None
    served: str | None = None
    usage: Usage = field(default_factory=Usage)
    thought_chars: int = 0
    max_tokens: int | None = None
    prompt_cut: PromptCut | None = None
    finish_reason: str = ""
    first_sign_s: float | None = None
    first_token_s: float | None = None
    load_s: float | None = None
    ended: float = 0.0
    tool_calls: list[ToolCall] = field(default_factory=list)
    mode: StepMode | None = None
    tokens: list[Token] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return self.fault is None and self.verdict is None

    @property
    def seconds(self) -> float:
        return self.ended - self.started


class _Stopped(Exception):  # noqa: N818 - a signal, not an error
    def __init__(self, fault: Fault) -> None:
        self.fault = fault
        super().__init__(fault.detail)


class AttemptRunner:
    """Makes attempts. Knows budgets, loads and which models are giving tokens; chooses nothing."""

    def __init__(
        self,
        budgets: Budgets,
        loads: Loads,
        clock: Callable[[], float] = time.monotonic,
        watch: WatchRequest | None = None,
    ) -> None:
        self._budgets = budgets
        self._loads = loads
        self._clock = clock
        self._watch = watch
        self._last_token: dict[tuple[str, str], float] = {}
        #: When an answer was left in its middle: the model may never answer again (wire facts A8).
        self._left: dict[tuple[str, str], float] = {}

    async def attempt(
        self,
        node: Node,
        candidate: Candidate,
        ask: Ask,
        state: AttemptState,
        *,
        deadline: float,
        patience_s: float | None,
        hold_back: int | None,
        on_wait: Callable[[str], None] = lambda _: None,
    ) -> AsyncGenerator[str, None]:
        """Yield text that may be shown; the outcome is left in `state`. `on_wait` gets why it takes long.

        `hold_back` None shows nothing before the whole text has been judged; otherwise text is passed on
        once it has that many characters and can no longer turn out to be empty or an echo. `deadline` is of
        the clock; the time of a load does not count against it.
        """
        state.max_tokens, state.mode = ask.max_tokens, ask.mode
        try:
            provider = await node.provider()
            # A resident model keeps the context it was loaded with: another would reload it (wire facts A3).
            num_ctx = candidate.num_ctx or node.config.num_ctx
            waited = await self._loaded(node, candidate, state, patience_s, num_ctx, on_wait)
            async with contextlib.aclosing(
                self._events(node, candidate, ask, deadline + waited, num_ctx, on_wait)
            ) as events:
                async for event in events:
                    if shown := self._noted(event, ask, state, hold_back):
                        yield shown
                    if state.verdict is not None:
                        return
                    if len(state.text) + state.thought_chars > _TOKEN_CHARS * (ask.max_tokens or _ANY_TOKENS):
                        # The server does not keep to the limit.
                        state.finish_reason = "length"
                        break
            state.verdict = self._judged(ask, state)
            await self._note_prompt_cut(provider, ask, state, num_ctx)
            if state.ok and not state.committed and hold_back is not None:
                state.committed = True
                yield state.text
        except CallError as error:
            state.fault = classify(error)
        except _Stopped as stop:
            state.fault = stop.fault
        finally:
            state.ended = self._clock()

    def _noted(self, event: Event, ask: Ask, state: AttemptState, hold_back: int | None) -> str:
        """Note what came, and return what of the text may be shown now."""
        if state.first_sign_s is None and isinstance(event, Token | Reasoning):
            state.first_sign_s = self._clock() - state.started
        if isinstance(event, Token):
            if state.first_token_s is None:
                state.first_token_s = self._clock() - state.started
            return self._take(event, ask, state, hold_back)
        if isinstance(event, Reasoning):
            state.thought_chars += len(event.text)
        elif isinstance(event, ToolCall):
            state.tool_calls.append(event)
        elif isinstance(event, End):
            state.usage, state.finish_reason = event.usage, event.reason
            if state.candidate.model == DEFAULT_MODEL:
                state.served = event.model
        return ""

    def _judged(self, ask: Ask, state: AttemptState) -> Verdict | None:
        if state.tool_calls or (ask.schema is not None and state.text.strip()):
            return None
        return judge(
            state.text,
            ask.prompts,
            finish_reason=state.finish_reason,
            length_is_fine=ask.length_is_fine,
            thought=state.thought_chars > 0,
        )

    async def _note_prompt_cut(
        self, provider: Provider, ask: Ask, state: AttemptState, num_ctx: int | None
    ) -> None:
        """Note what the server cut of the prompt; raise _Stopped where that is not allowed.

        The server is asked for its context only where its count is low.
        """
        if not is_suspicious(ask.messages, state.usage):
            return
        try:
            loaded = await provider.resident() or ()
        except CallError:
            loaded = ()
        name = state.candidate.model
        context = next((model.context_length for model in loaded if model.name == name), None)
        state.prompt_cut = prompt_cut(ask.messages, state.usage, context or num_ctx)
        if state.prompt_cut is not None and ask.strict_context:
            raise _Stopped(Fault(FaultKind.CONTEXT_EXCEEDED, state.prompt_cut.text))

    def _take(self, token: Token, ask: Ask, state: AttemptState, hold_back: int | None) -> str:
        piece, before = token.text, len(state.text)
        if token.probability is not None:
            state.tokens.append(token)
        state.text += piece
        grown = before // _LOOP_STEP != len(state.text) // _LOOP_STEP
        # A goal that itself asks for repetition is judged at the end.
        if grown and runs_away(state.text, ask.prompts):
            state.verdict = Verdict.LOOP
            return ""
        if hold_back is None:
            return ""
        if state.committed:
            return piece
        if not may_be_shown(state.text, ask.prompts, hold_back):
            return ""
        state.committed = True
        return state.text

    async def _loaded(
        self,
        node: Node,
        candidate: Candidate,
        state: AttemptState,
        patience_s: float | None,
        num_ctx: int | None,
        on_wait: Callable[[str], None],
    ) -> float:
        """Seconds spent until the model is resident; raises _Stopped with the load's fault."""
        provider = await node.provider()
        if candidate.resident or not provider.kind.loads_on_demand:
            return 0.0
        before = self._clock()
        waiting = self._waiting(node, candidate, on_wait)
        load = asyncio.create_task(
            self._loads.ensure(
                candidate.node,
                provider,
                candidate.model,
                size_bytes=candidate.size_bytes,
                patience_s=patience_s,
                num_ctx=num_ctx,
            )
        )
        try:
            while not load.done():
                await asyncio.wait({load}, timeout=_LIMIT_AGAIN_S)
                if not load.done() and waiting.is_held_up and (fault := waiting.fault()):
                    raise _Stopped(fault)
        finally:
            # The load itself goes on: it is the engine's.
            load.cancel()
            await asyncio.gather(load, return_exceptions=True)
            await waiting.aclose()
            state.load_s = self._clock() - before
        if (fault := load.result()) is not None:
            raise _Stopped(fault)
        return state.load_s

    def _waiting(self, node: Node, candidate: Candidate, on_wait: Callable[[str], None]) -> Waiting:
        look = None if self._watch is None else self._watch(node, candidate.model)
        return Waiting(look, self._budgets, candidate.size_bytes, self._clock, on_wait)

    async def _events(
        self,
        node: Node,
        candidate: Candidate,
        ask: Ask,
        deadline: float,
        num_ctx: int | None,
        on_wait: Callable[[str], None],
    ) -> AsyncGenerator[Event, None]:
        """The provider's events, each awaited under the budget of its phase."""
        key, provider = (candidate.node, candidate.model), await node.provider()
        request = ChatRequest(
            ask.dialogue,
            candidate.model,
            max_tokens=ask.max_tokens,
            temperature=ask.temperature,
            seed=ask.seed,
            num_ctx=num_ctx,
            may_cut=not ask.strict_context,
            schema=ask.schema if ask.mode is StepMode.SCHEMA else None,
            tools=ask.tools if ask.mode is StepMode.NATIVE else (),
            think=ask.think,
            probabilities=ask.probabilities,
        )
        budgets = self._budgets
        first_s = budgets.first_token_s + ask.size_chars / budgets.prefill_chars_per_s
        if not candidate.resident and not provider.kind.loads_on_demand:
            # The load happens inside the request, unseen.
            first_s += load_budget_s(budgets, candidate.size_bytes)
        with contextlib.closing(WaitTimer()) as watch:
            async with contextlib.aclosing(provider.stream(request)) as stream:
                waiting = self._waiting(node, candidate, on_wait)
                try:
                    event = await self._first(watch, stream, provider, key, first_s, deadline, waiting)
                finally:
                    await waiting.aclose()
                self._left.pop(key, None)
                speaking = False
                try:
                    while not isinstance(event, End):
                        yield event
                        self._last_token[key] = self._clock()
                        speaking = speaking or not isinstance(event, Progress)
                        wait_s = budgets.idle_s if speaking else first_s
                        event = await self._next(watch, stream, wait_s, deadline)
                except (GeneratorExit, asyncio.CancelledError, _Stopped) as why:
                    ended = isinstance(why, _Stopped) and why.fault.kind is FaultKind.TRUNCATED
                    if provider.kind.loads_on_demand and not ended:
                        self._left[key] = self._clock()
                    raise
                yield event

    async def _next(
        self, watch: WaitTimer, stream: AsyncGenerator[Event, None], wait_s: float, deadline: float
    ) -> Event:
        remaining_s = deadline - self._clock()
        try:
            return await watch.wait(anext(stream), min(wait_s, remaining_s))
        except TimeoutError as exc:
            if remaining_s <= wait_s:
                raise _Stopped(self._too_long()) from exc
            raise _Stopped(
                Fault(FaultKind.IDLE_TIMEOUT, f"no further token for {wait_s:g} s in the middle of an answer")
            ) from exc
        except StopAsyncIteration as exc:
            raise _Stopped(Fault(FaultKind.TRUNCATED, "the answer stopped without an end")) from exc

    async def _first(
        self,
        watch: WaitTimer,
        stream: AsyncGenerator[Event, None],
        provider: Provider,
        key: tuple[str, str],
        first_s: float,
        deadline: float,
        waiting: Waiting,
    ) -> Event:
        """The first event. Silence is judged by what else the server does.

        While the same model gives tokens to others, or shows that it works, the request is queued, not lost:
        it may wait up to the queue budget. Where nothing is shown, a server that answers its version but
        gives no token is wedged.
        """
        began = self._clock()
        ask_at = began + first_s * _ASK_AFTER
        alive: asyncio.Task[str] | None = None

        def until() -> float:
            limit = began + first_s
            last = self._last_token.get(key, float("-inf"))
            if last > self._clock() - first_s:
                limit = max(limit, min(began + self._budgets.queue_s, last + first_s))
            return min(waiting.limit(limit), deadline)

        def on_due() -> float | None:
            nonlocal alive
            limit, now = until(), self._clock()
            if alive is None and now >= ask_at:
                alive = asyncio.create_task(provider.version())
            due = limit if alive is not None else min(limit, ask_at)
            return min(due - now, _LIMIT_AGAIN_S) if now < limit else None

        try:
            return await watch.wait(
                anext(stream), min(ask_at - began, until() - began, _LIMIT_AGAIN_S), on_due
            )
        except TimeoutError as exc:
            now = self._clock()
            fault = None if now >= deadline else waiting.fault()
            fault = fault or self._silent(alive, now - began, timed_out=now >= deadline)
            raise _Stopped(self._with_history(fault, key, now)) from exc
        except StopAsyncIteration as exc:
            raise _Stopped(Fault(FaultKind.TRUNCATED, "the reply ended before it began")) from exc
        finally:
            if alive is not None:
                alive.cancel()
                await asyncio.gather(alive, return_exceptions=True)

    def _silent(self, alive: asyncio.Task[str] | None, seconds: float, *, timed_out: bool) -> Fault:
        if timed_out:
            return self._too_long()
        if alive is not None and alive.done() and not alive.cancelled():
            trouble = alive.exception()
            if trouble is None:
                return Fault(
                    FaultKind.WEDGED, f"no token in {seconds:.1f} s while the server answers its health page"
                )
            if isinstance(trouble, CallError) and trouble.status == 503:
                return Fault(FaultKind.WEDGED, "its generation thread is dead (health answers 503)", 503)
        return Fault(
            FaultKind.FIRST_TOKEN_TIMEOUT, f"no token in {seconds:.1f} s, and its health page is silent too"
        )

    def _with_history(self, fault: Fault, key: tuple[str, str], now: float) -> Fault:
        """The fault, with what of our own doing may be its cause."""
        left_at = self._left.get(key)
        if left_at is None or fault.kind is not FaultKind.WEDGED:
            return fault
        why = f"an answer of it was left unfinished {now - left_at:.0f} s ago, which can block Ollama"
        return replace(fault, detail=f"{fault.detail}; {why}: `ollama stop {key[1]}` frees it")

    def _too_long(self) -> Fault:
        return Fault(
            FaultKind.TOTAL_TIMEOUT, f"the request took more than {self._budgets.total_s:g} s in all"
        )
