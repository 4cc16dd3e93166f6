"""One model asked once, under separate budgets, its text held back until it may be shown."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable

from opskit.config.schema import Budgets
from opskit.llm.answer import Ask
from opskit.llm.faults import Fault, FaultKind, classify
from opskit.llm.loads import Loads, load_budget_s
from opskit.llm.plan import Candidate
from opskit.llm.profile import StepMode
from opskit.llm.prompt import PromptCut, is_suspicious, prompt_cut
from opskit.llm.verdict import Verdict, judge, may_be_shown, runs_away
from opskit.llm.visible import after_unopened, answer_text, own_turn, shown_length, without_thinking
from opskit.llm.waiting import Waiting, WaitTimer, WatchRequest
from opskit.providers.base import (
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


class CallContext(MutableRecord):
    """What the calls of one engine share. `watch` begins to look at a server while a request waits for it.

    `last_token` is when a model gave a token to anybody, `left` when an answer of it was left in its middle:
    it may never answer again (wire facts A8). Times are of `clock`.
    """

    budgets: Budgets
    loads: Loads
    clock: Callable[[], float]
    watch: WatchRequest | None
    last_token: dict[tuple[str, str], float] = field(default_factory=dict)
    left: dict[tuple[str, str], float] = field(default_factory=dict)


class ActiveCall(MutableRecord):
    """One call of a model, and what it has come to so far; it chooses nothing.

    `hold_back` None shows nothing before the whole text has been judged; otherwise text is passed on once it
    has that many characters and can no longer turn out to be empty or an echo; `shown` counts the characters
    that were. `turn_over`: the model went on as somebody else, which is not read. `deadline` is of the clock;
    the time of a load does not count against it. `patience_s` is how long a load is waited for. `on_wait`
    gets why it takes long. `served` is the model that answered for the default one.
    """

    context: CallContext
    node: Node
    candidate: Candidate
    ask: Ask
    deadline: float
    hold_back: int | None
    patience_s: float | None
    on_wait: Callable[[str], None]
    started: float
    ended: float = 0.0
    text: str = ""
    committed: bool = False
    shown: int = 0
    turn_over: bool = False
    fault: Fault | None = None
    verdict: Verdict | None = None
    served: str | None = None
    usage: Usage = field(default_factory=Usage)
    thought_chars: int = 0
    prompt_cut: PromptCut | None = None
    finish_reason: str = ""
    first_sign_s: float | None = None
    first_token_s: float | None = None
    load_s: float | None = None
    tool_calls: list[ToolCall] = field(default_factory=list)
    tokens: list[Token] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return self.fault is None and self.verdict is None

    @property
    def seconds(self) -> float:
        return self.ended - self.started

    @property
    def model(self) -> str:
        return self.served or self.candidate.model

    @property
    def key(self) -> tuple[str, str]:
        return self.candidate.node, self.candidate.model

    @property
    def num_ctx(self) -> int | None:
        # A resident model keeps the context it was loaded with: another would reload it (wire facts A3).
        return self.candidate.num_ctx or self.node.config.num_ctx

    async def run(self) -> AsyncGenerator[str, None]:
        """Yield text that may be shown, and note the outcome."""
        limit_chars = _TOKEN_CHARS * (self.ask.max_tokens or _ANY_TOKENS)
        try:
            provider = await self.node.provider()
            self.deadline += await self._loaded(provider)
            async with contextlib.aclosing(self._events(provider)) as events:
                async for event in events:
                    if shown := self._noted(event):
                        yield shown
                    if self.verdict is not None:
                        return
                    if self.turn_over:
                        break
                    if len(self.text) + self.thought_chars > limit_chars:
                        # The server does not keep to the limit.
                        self.finish_reason = "length"
                        break
            self.text = own_turn(self.text, self.ask.prompts)
            if not self.committed:
                self._drop_unopened()
            self.verdict = self._judged()
            if self.ok and not self.committed:
                self._drop_thoughts()
            await self._note_prompt_cut(provider)
            if self.ok and self.hold_back is not None and (rest := self.text[self.shown :]):
                self.committed = True
                yield rest
        except CallError as error:
            self.fault = classify(error)
        except _Stopped as stop:
            self.fault = stop.fault
        finally:
            self.ended = self.context.clock()

    def _noted(self, event: Event) -> str:
        """Note what came, and return what of the text may be shown now."""
        if self.first_sign_s is None and isinstance(event, Token | Reasoning):
            self.first_sign_s = self.context.clock() - self.started
        if isinstance(event, Token):
            if self.first_token_s is None:
                self.first_token_s = self.context.clock() - self.started
            return self._take(event)
        if isinstance(event, Reasoning):
            self.thought_chars += len(event.text)
        elif isinstance(event, ToolCall):
            self.tool_calls.append(event)
        elif isinstance(event, End):
            self.usage, self.finish_reason = event.usage, event.reason
            if event.model != self.candidate.model:
                self.served = event.model
        return ""

    def _take(self, token: Token) -> str:
        piece, before = token.text, len(self.text)
        if token.probability is not None:
            self.tokens.append(token)
        self.text += piece
        grown = before // _LOOP_STEP != len(self.text) // _LOOP_STEP
        # A goal that itself asks for repetition is judged at the end.
        if grown and runs_away(self.text, self.ask.prompts):
            self.verdict = Verdict.LOOP
            return ""
        if (turn := own_turn(self.text, self.ask.prompts, growing=True)) != self.text:
            self.text, self.turn_over, self.finish_reason = turn, True, "stop"
        if self.hold_back is None:
            return ""
        if not self.committed:
            self._drop_unopened(growing=True)
            if not may_be_shown(self.text, self.ask.prompts, self.hold_back):
                return ""
            self.committed = True
            self._drop_thoughts()
        before, self.shown = self.shown, max(self.shown, shown_length(self.text, self.ask.prompts))
        return self.text[before : self.shown]

    def _drop_unopened(self, *, growing: bool = False) -> None:
        """Drop thoughts that a template opened; once some of the text is shown, all of it is the answer."""
        length = len(self.text)
        self.text = after_unopened(self.text, self.ask.prompts, growing=growing)
        self.thought_chars += length - len(self.text)

    def _drop_thoughts(self) -> None:
        self.thought_chars += len(self.text) - len(without_thinking(self.text, self.ask.prompts))
        self.text = answer_text(self.text, self.ask.prompts)

    def _judged(self) -> Verdict | None:
        if (self.tool_calls and self.ask.tools) or (self.ask.schema is not None and self.text.strip()):
            return None
        return judge(
            self.text,
            self.ask.prompts,
            finish_reason=self.finish_reason,
            length_is_fine=self.ask.length_is_fine,
            thought=self.thought_chars > 0,
        )

    async def _note_prompt_cut(self, provider: Provider) -> None:
        """Note what the server cut of the prompt; raise _Stopped where that is not allowed.

        The server is asked for its context only where its count is low.
        """
        messages = self.ask.messages
        if not is_suspicious(messages, self.usage):
            return
        try:
            loaded = await provider.resident() or ()
        except CallError:
            loaded = ()
        name = self.candidate.model
        context = next((model.context_length for model in loaded if model.name == name), None)
        self.prompt_cut = prompt_cut(messages, self.usage, context or self.num_ctx)
        if self.prompt_cut is not None and self.ask.strict_context:
            raise _Stopped(FaultKind.CONTEXT_EXCEEDED, self.prompt_cut.text)

    async def _loaded(self, provider: Provider) -> float:
        """Seconds spent until the model is resident; raises _Stopped with the load's fault."""
        candidate, clock = self.candidate, self.context.clock
        if candidate.resident or not provider.kind.loads_on_demand:
            return 0.0
        before = clock()
        waiting = self._waiting()
        load = asyncio.create_task(
            self.context.loads.ensure(
                candidate.node,
                provider,
                candidate.model,
                size_bytes=candidate.size_bytes,
                patience_s=self.patience_s,
                num_ctx=self.num_ctx,
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
            self.load_s = clock() - before
        if (fault := load.result()) is not None:
            raise _Stopped(fault)
        return self.load_s

    def _waiting(self) -> Waiting:
        context, candidate = self.context, self.candidate
        look = None if context.watch is None else context.watch(self.node, candidate.model)
        return Waiting(look, context.budgets, candidate.size_bytes, context.clock, self.on_wait)

    async def _events(self, provider: Provider) -> AsyncGenerator[Event, None]:
        """The provider's events, each awaited under the budget of its phase."""
        ask, budgets, clock = self.ask, self.context.budgets, self.context.clock
        request = ChatRequest(
            ask.dialogue,
            self.candidate.model,
            max_tokens=ask.max_tokens,
            temperature=ask.temperature,
            seed=ask.seed,
            num_ctx=self.num_ctx,
            may_cut=not ask.strict_context,
            schema=ask.schema if ask.mode is StepMode.SCHEMA else None,
            tools=ask.tools if ask.mode is StepMode.NATIVE else (),
            think=ask.think,
            probabilities=ask.probabilities,
        )
        first_s = budgets.first_token_s + ask.size_chars / budgets.prefill_chars_per_s
        if not self.candidate.resident and not provider.kind.loads_on_demand:
            # The load happens inside the request, unseen.
            first_s += load_budget_s(budgets, self.candidate.size_bytes)
        with contextlib.closing(WaitTimer()) as timer:
            async with contextlib.aclosing(provider.stream(request)) as stream:
                event = await self._first(timer, stream, provider, first_s)
                key, last_token, wait_s = self.key, self.context.last_token, first_s
                self.context.left.pop(key, None)
                try:
                    while not isinstance(event, End):
                        yield event
                        now = last_token[key] = clock()
                        if not isinstance(event, Progress):
                            wait_s = budgets.idle_s
                        event = await timer.wait(anext(stream), min(wait_s, self.deadline - now))
                except StopAsyncIteration as exc:
                    raise _Stopped(FaultKind.TRUNCATED, "the answer stopped without an end") from exc
                except (GeneratorExit, asyncio.CancelledError, TimeoutError) as why:
                    if provider.kind.loads_on_demand:
                        self.context.left[key] = clock()
                    if not isinstance(why, TimeoutError):
                        raise
                    if clock() >= self.deadline:
                        raise _Stopped(self._too_long()) from why
                    silence = f"no further token for {wait_s:g} s in the middle of an answer"
                    raise _Stopped(FaultKind.IDLE_TIMEOUT, silence) from why
                yield event

    async def _first(
        self, timer: WaitTimer, stream: AsyncGenerator[Event, None], provider: Provider, first_s: float
    ) -> Event:
        """The first event. Silence is judged by what else the server does.

        While the same model gives tokens to others, or shows that it works, the request is queued, not lost:
        it may wait up to the queue budget. Where nothing is shown, a server that answers its version but
        gives no token is wedged.
        """
        waiting, clock = self._waiting(), self.context.clock
        began = clock()
        ask_at = began + first_s * _ASK_AFTER
        alive: asyncio.Task[str] | None = None

        def until() -> float:
            limit = began + first_s
            last = self.context.last_token.get(self.key, float("-inf"))
            if last > clock() - first_s:
                limit = max(limit, min(began + self.context.budgets.queue_s, last + first_s))
            return min(waiting.limit(limit), self.deadline)

        def on_due() -> float | None:
            nonlocal alive
            limit, now = until(), clock()
            if alive is None and now >= ask_at:
                alive = asyncio.create_task(provider.version())
            due = limit if alive is not None else min(limit, ask_at)
            return min(due - now, _LIMIT_AGAIN_S) if now < limit else None

        try:
            wait_s = min(ask_at - began, until() - began, _LIMIT_AGAIN_S)
            return await timer.wait(anext(stream), wait_s, on_due)
        except TimeoutError as exc:
            now = clock()
            if now >= self.deadline:
                raise _Stopped(self._too_long()) from exc
            fault = waiting.fault() or _silent(alive, now - began)
            raise _Stopped(self._with_history(fault, now)) from exc
        except StopAsyncIteration as exc:
            raise _Stopped(FaultKind.TRUNCATED, "the reply ended before it began") from exc
        finally:
            if alive is not None:
                alive.cancel()
                await asyncio.gather(alive, return_exceptions=True)
            await waiting.aclose()

    def _with_history(self, fault: Fault, now: float) -> Fault:
        """The fault, with what of our own doing may be its cause."""
        left_at = self.context.left.get(self.key)
        if left_at is None or fault.kind is not FaultKind.WEDGED:
            return fault
        why = f"an answer of it was left unfinished {now - left_at:.0f} s ago, which can block Ollama"
        return replace(fault, detail=f"{fault.detail}; {why}: `ollama stop {self.candidate.model}` frees it")

    def _too_long(self) -> Fault:
        why = f"the request took more than {self.context.budgets.total_s:g} s in all"
        return Fault(FaultKind.TOTAL_TIMEOUT, why)


class _Stopped(Exception):  # noqa: N818 - a signal, not an error
    def __init__(self, fault: Fault | FaultKind, why: str = "") -> None:
        self.fault = fault if isinstance(fault, Fault) else Fault(fault, why)
        super().__init__(self.fault.detail)


def _silent(alive: asyncio.Task[str] | None, seconds: float) -> Fault:
    """Return the fault of a server that gives no token; `alive` is the question for its version."""
    silence = f"no token in {seconds:.1f} s"
    if alive is not None and alive.done() and not alive.cancelled():
        trouble = alive.exception()
        if trouble is None:
            return Fault(FaultKind.WEDGED, f"{silence} while the server answers its health page")
        if isinstance(trouble, CallError) and trouble.status == 503:
            return Fault(FaultKind.WEDGED, "its generation thread is dead (health answers 503)", 503)
    return Fault(FaultKind.FIRST_TOKEN_TIMEOUT, f"{silence}, and its health page is silent too")
