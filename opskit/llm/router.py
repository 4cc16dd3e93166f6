"""The router: asks models in order until one gives an answer that deserves the name.

When none does, it says so.
SPEC A3: a model that crashed is not used again in the session; at most three fallbacks, MLX first, then
Ollama. Every attempt is recorded, every line of the log carries the correlation id.
"""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Sequence

from opskit.config.schema import Budgets, CircuitConfig, RouterConfig
from opskit.llm.answer import Answer, Ask, Session
from opskit.llm.attempt import ActiveCall, CallContext
from opskit.llm.call_record import end_span, write_call, write_end
from opskit.llm.catalog import Catalog, NodeView
from opskit.llm.faults import FaultKind
from opskit.llm.fit import LOADED, Fit, fit, fitting_context, wanted_context
from opskit.llm.health import Health
from opskit.llm.loads import Loads
from opskit.llm.plan import Candidate, ModelRequest, Plan, PlanContext, SkipReason, plan
from opskit.llm.profile import ModelProfile, StepMode, step_mode
from opskit.llm.refusal import refusal
from opskit.llm.request_state import RequestState, WaitingModel
from opskit.llm.trials import Trials
from opskit.llm.waiting import WatchRequest
from opskit.providers.base import CallError, ModelInfo
from opskit.providers.kinds import expected_kind
from opskit.providers.node import Node
from opskit.records import replace
from opskit.system.host import is_loopback
from opskit.tags import Tag, TagLog
from opskit.trace.span import span

_MEMORY_TTL_S = 2.0


class Router:
    """One per engine. `memory` gives the free bytes of this machine; `clock` is monotonic seconds.

    `watch` begins to look at the server of a request that waits; without it only the clock tells.
    """

    def __init__(
        self,
        nodes: Sequence[Node],
        *,
        router: RouterConfig,
        budgets: Budgets,
        circuit: CircuitConfig,
        log: TagLog,
        memory: Callable[[], int | None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
        watch: WatchRequest | None = None,
        profile_of: Callable[[str, str], ModelProfile | None] = lambda _node, _model: None,
    ) -> None:
        self._profile_of = profile_of
        self._nodes = {node.name: node for node in nodes}
        self._local = {node.name: is_loopback(node.config.url) for node in nodes}
        self._config = router
        self._budgets = budgets
        self._log = log
        self._memory = memory
        self._clock = clock
        self._memory_seen: tuple[float, int | None] = (float("-inf"), None)
        self._in_flight: Counter[str] = Counter()
        self._mlx_warned_at = float("-inf")
        self.catalog = Catalog(nodes, ttl_s=router.catalog_ttl_s, clock=clock)
        self.health = Health(circuit)
        self._loads = Loads(budgets, self._loaded)
        self._watch = watch
        self._context = CallContext(budgets, self._loads, clock, watch)
        self._trials = Trials(self._nodes, self.health, budgets, clock, log, watch)

    async def chat(self, ask: Ask, session: Session | None = None) -> Answer:
        """The whole answer. Raises NoAnswer."""
        async with contextlib.aclosing(self.stream(ask, session, pieces=False)) as items:
            async for item in items:
                if isinstance(item, Answer):
                    return item
        raise AssertionError("a route ends with an answer or raises")

    async def stream(
        self, ask: Ask, session: Session | None = None, *, pieces: bool = True
    ) -> AsyncGenerator[str | Answer, None]:
        """Pieces of text, at the end the Answer. Raises NoAnswer, also after pieces were passed on.

        A failure before the first piece is invisible: the next model answers. After it the stream ends with
        the exception, never cleanly. Whether a prompt was cut is known at the end: with `strict_context` no
        piece comes before it. Without `pieces` the Answer comes alone.
        """
        hold_back = self._config.holdback_chars if pieces and not ask.strict_context else None
        route = self._route(ask, session or Session(), hold_back=hold_back)
        async with contextlib.aclosing(route) as items:
            async for item in items:
                yield item

    async def explain(self, request: ModelRequest, session: Session | None = None) -> Plan:
        """Who would be asked in which order, and why the others would not; asks nobody for an answer."""
        await self.catalog.snapshot(wait_for_all=True)
        return await self._plan(request, session or Session())

    def fits(self, view: NodeView, model: ModelInfo) -> Fit:
        """Whether a model fits in the memory of its node, as far as is known."""
        if view.is_resident(model):
            return LOADED
        return fit(
            model.size_bytes,
            resident=False,
            local=self._local[view.name],
            available_bytes=self._free_memory(),
            resident_bytes=[r.size_bytes or 0 for r in view.resident if r.name != model.name],
            factor=self._config.memory_factor,
            reserve_bytes=self._config.memory_reserve_bytes,
        )

    async def aclose(self) -> None:
        """End loads, scans and trials."""
        await self._trials.aclose()
        await self._loads.aclose()
        await self.catalog.aclose()

    async def _route(
        self, ask: Ask, session: Session, *, hold_back: int | None
    ) -> AsyncGenerator[str | Answer, None]:
        ask, started = ask.with_defaults(self._config), self._clock()
        ends = started + self._budgets.total_s, started + self._budgets.queue_s
        state = RequestState(ask, session, hold_back, started, *ends)
        allowed = self._config.max_fallbacks if ask.max_fallbacks is None else ask.max_fallbacks
        while self._clock() < state.deadline:
            may_fall_back = state.tries <= allowed
            with span("choose model"):
                candidates = await self._remaining(state) if may_fall_back else []
            candidate = await self._next(state, candidates, may_fall_back=may_fall_back)
            if candidate is None:
                if await self._wait_for_node(state):
                    continue
                break
            hurry = state.request.model is None and any(c.resident for c in candidates[1:])
            call = await self._prepared(state, candidate, hurry=hurry)
            async with contextlib.aclosing(self._made(state, call)) as pieces:
                async for piece in pieces:
                    yield piece
            if call.ok:
                yield state.answer(call, self._clock())
                return
            self._learn(state, call)
            if call.committed:
                break
            state.deadline += call.load_s or 0.0
            state.queue_until += call.load_s or 0.0
        raise refusal(
            await self._plan(ask.request, session),
            ask.request,
            state.attempts,
            seconds=self._clock() - state.started,
            partial=state.partial,
            nodes=[node.config for node in self._nodes.values()],
        )

    async def _remaining(self, state: RequestState) -> list[Candidate]:
        """Who may still be asked, best first.

        A model that was asked for by name and is known, but failed or rests, gives way to the others; one
        that nobody lists, or that does not fit, does not: no other is guessed. Resting models come last of
        all, when there is nobody else.
        """
        choice = await self._plan(state.request, state.session)
        candidates = self._open(choice, state)
        named = state.request.model is not None
        # A model that was tried was known, though it may have been removed since.
        known = bool(state.attempts) or not self._unknown(choice)
        if not candidates and named and state.ask.max_fallbacks is None and known:
            state.give_way()
            candidates = self._open(await self._plan(state.request, state.session), state)
        if not candidates:
            request = state.ask.request if named else state.request
            candidates = self._open(await self._plan(request, state.session, rested=True), state)
        return candidates

    def _loaded(self, node: str, model: str) -> None:
        """A load may have pushed another model out."""
        self.catalog.saw_resident(node, model)
        self.catalog.residency_changed(node)

    def _open(self, choice: Plan, state: RequestState) -> list[Candidate]:
        """USE_MLX_FALLBACK=false switches the MLX leg of fallback off (SPEC A6)."""
        first = not state.is_fallback
        return [
            c
            for c in choice.candidates
            if state.may_try(c) and (first or self._config.may_fall_back_to(c.source))
        ]

    async def _prepared(self, state: RequestState, candidate: Candidate, *, hurry: bool) -> ActiveCall:
        """Return a call of a model; in a `hurry` another is there that need not be loaded."""
        ask, started = state.ask, self._clock()
        if not (ask.strict_context and state.attempts):
            # Where a prompt that does not fit is to be an error, no second model is loaded to avoid it.
            candidate = await self._with_context(candidate, ask)
        if ask.mode is None and (ask.tools or ask.schema is not None):
            ask = replace(ask, mode=self._step_mode(candidate))

        def on_wait(why: str) -> None:
            self._log.write(Tag.LLM_WAIT, node=candidate.node, model=candidate.model, detail=why)
            ask.on_wait(f"{candidate.model} on {candidate.node} has not answered yet: {why}")

        return ActiveCall(
            context=self._context,
            node=self._nodes[candidate.node],
            candidate=candidate,
            ask=ask,
            deadline=state.deadline,
            hold_back=state.hold_back,
            patience_s=self._budgets.load_patience_s if hurry else None,
            on_wait=on_wait,
            started=started,
        )

    async def _made(self, state: RequestState, call: ActiveCall) -> AsyncGenerator[str, None]:
        """Make a call and yield its text; it is noted in health, log and state when it ends."""
        node, model = call.key
        last = state.attempts[-1] if state.attempts else None
        if last is not None and (last.node, last.model) != call.key:
            self._log.write(
                Tag.FALLBACK,
                from_node=last.node,
                from_model=last.model,
                to_node=node,
                to_model=model,
                why=last.fault,
            )
        leaf = write_call(self._log, call, len(state.attempts) + 1, fallback=state.is_fallback)
        self._in_flight[node] += 1
        try:
            async with contextlib.aclosing(call.run()) as pieces:
                async for piece in pieces:
                    yield piece
        finally:
            self._in_flight[node] -= 1
            end_span(leaf, call)
        if call.ok:
            self.health.succeeded(node, model)
            self.catalog.saw_resident(node, model)
        state.record(call)
        write_end(self._log, call)

    def _learn(self, state: RequestState, call: ActiveCall) -> None:
        """Note a failure in health, session, catalog and state."""
        (node, model), fault, now = call.key, call.fault, self._clock()
        state.avoid(call, now)
        if fault is None:
            self.health.rejected(node, model, str(call.verdict), now)
            return
        self.health.failed(node, model, fault, now)
        if fault.action.session:
            state.session.failed.add(call.key)
        if fault.kind is FaultKind.NOT_INSTALLED:
            self.catalog.forget(node)
        elif fault.is_crash or fault.kind is FaultKind.LOAD_TIMEOUT:
            self.catalog.residency_changed(node)

    async def _plan(self, request: ModelRequest, session: Session, *, rested: bool = False) -> Plan:
        """The order as things stand; `rested` leaves the circuits out of it."""
        snapshot = await self.catalog.snapshot()
        health = Health(self.health.config) if rested else self.health
        situation = PlanContext(snapshot, health, session.failed, self._in_flight, self._clock(), self.fits)
        choice = plan(request, self._config, situation)
        if not choice.candidates and (not snapshot.complete or any(v.fault for v in snapshot.nodes)):
            situation = replace(situation, snapshot=await self.catalog.snapshot(wait_for_all=True))
            choice = plan(request, self._config, situation)
        if not rested:
            self._trials.start_due(situation)
            self._warn_of_mlx(situation)
        return choice

    def _unknown(self, choice: Plan) -> bool:
        """Nobody lists the model that was asked for, or it does not fit: do not guess another."""
        if choice.candidates:
            return False
        listed = [s for s in choice.skipped if s.model and s.reason is not SkipReason.NOT_ASKED_FOR]
        return not listed or all(s.reason is SkipReason.TOO_LARGE for s in listed)

    async def _next(
        self, state: RequestState, candidates: Sequence[Candidate], *, may_fall_back: bool
    ) -> Candidate | None:
        """Return whom to ask next, once it may be asked; None where there is nobody.

        A model that is busy is waited for within the queue budget, unless another may answer at once: to load
        one for the sake of a queue makes the queue longer, and so does a question to the same server.
        """
        first = candidates[0] if candidates else None
        waiting = state.next_waiting(only_passing=not may_fall_back)
        if waiting is None or (first is not None and not self._holds_up(waiting, first)):
            return first
        if (wait_s := waiting.ready_at - self._clock()) > 0:
            candidate, fault = waiting.candidate, waiting.fault
            why = f"{fault.kind.value} ({fault.detail}); asked again in {wait_s:.0f} s"
            state.ask.on_wait(f"{candidate.model} on {candidate.node}: {why}")
            await asyncio.sleep(wait_s)
        state.ask_again(waiting)
        return waiting.candidate

    async def _wait_for_node(self, state: RequestState) -> bool:
        """Wait a moment for a node that tells nothing of itself, and works; False where there is none.

        A machine that is overloaded takes longer for a list of models than is usual.
        """
        if state.attempts or self._watch is None or self._clock() >= min(state.queue_until, state.deadline):
            return False
        for view in (await self.catalog.snapshot()).nodes:
            is_silent = view.fault is not None and view.fault.kind is FaultKind.FIRST_TOKEN_TIMEOUT
            if not is_silent or state.request.node not in (None, view.name):
                continue
            node = self._nodes[view.name]
            evidence = await self._watch(node, "")()
            if node.known is not None or (evidence is not None and evidence.state != "wedged"):
                if evidence is not None:
                    state.ask.on_wait(f"{view.name} has not told its models yet: {evidence.words}")
                await asyncio.sleep(1.0)
                return True
        return False

    def _holds_up(self, waiting: WaitingModel, other: Candidate) -> bool:
        """Whether a model that will be ready soon is waited for rather than another is asked."""
        if not waiting.fault.passes:
            return False
        view = self.catalog.view(other.node)
        loads = view is not None and view.likely_kind.loads_on_demand and not other.resident
        same_server = waiting.candidate.node == other.node and waiting.fault.action.overload
        return loads or same_server

    def _step_mode(self, candidate: Candidate) -> StepMode:
        """Return how a model is asked for a step; a profile that was never made costs nothing."""
        view, name = self.catalog.view(candidate.node), candidate.model
        kind = view.likely_kind if view else expected_kind(candidate.source)
        return step_mode(kind, view.model(name) if view else None, self._profile_of(candidate.node, name))

    async def _with_context(self, candidate: Candidate, ask: Ask) -> Candidate:
        """Choose the context of a model that must be loaded, where nobody configured one (wire facts A3)."""
        node, view = self._nodes[candidate.node], self.catalog.view(candidate.node)
        info = view.model(candidate.model) if view else None
        if candidate.resident or node.config.num_ctx is not None or info is None or view is None:
            return candidate
        wanted = wanted_context(ask.messages, ask.max_tokens, info.context_length)
        if wanted is None or not view.likely_kind.context_per_request:
            return candidate
        try:
            token_bytes = await (await node.provider()).cache_bytes_per_token(candidate.model)
        except CallError:
            token_bytes = None
        free = self._free_memory() if self._local[candidate.node] else None
        weights = (info.size_bytes or 0) * self._config.memory_factor + self._config.memory_reserve_bytes
        beside = None if free is None else int(free - weights)
        chosen = fitting_context(wanted, token_bytes=token_bytes, free_bytes=beside)
        return replace(candidate, num_ctx=chosen)

    def _free_memory(self) -> int | None:
        seen_at, value = self._memory_seen
        if self._clock() - seen_at > _MEMORY_TTL_S:
            value = self._memory()
            self._memory_seen = (self._clock(), value)
        return value

    def _warn_of_mlx(self, situation: PlanContext) -> None:
        """SPEC B10: MLX missing is reported once in five minutes, not on every call."""
        if situation.now - self._mlx_warned_at < self._config.mlx_warning_every_s:
            return
        for view in situation.snapshot.nodes:
            if self._nodes[view.name].config.is_mlx and (fault := view.fault) is not None:
                self._mlx_warned_at = situation.now
                detail = f"MLX is not there: {fault.detail}"
                self._log.write(Tag.LLM_ERROR, node=view.name, fault=fault.kind.value, detail=detail)
                return
