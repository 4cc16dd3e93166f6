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
from dataclasses import replace

from opskit.config.schema import Budgets, CircuitConfig, RouterConfig
from opskit.llm.answer import Answer, Ask, Attempt, Outcome, Session
from opskit.llm.attempt import Asker, Trial
from opskit.llm.catalog import Catalog, NodeView
from opskit.llm.faults import Fault, FaultKind
from opskit.llm.fit import Fit, fit
from opskit.llm.health import Health
from opskit.llm.loads import Loads
from opskit.llm.plan import Candidate, Plan, Situation, Wish, plan, same_model
from opskit.llm.refusal import refusal
from opskit.llm.trials import Trials
from opskit.providers.base import ModelInfo
from opskit.providers.node import Node
from opskit.system.host import is_loopback
from opskit.tags import Tag, TagLog, Value

_MEMORY_TTL_S = 2.0


class Router:
    """One per engine. `memory` gives the free bytes of this machine; `clock` is monotonic seconds."""

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
    ) -> None:
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
        self._loads = Loads(budgets, self.catalog.saw_resident)
        self._asker = Asker(router, budgets, self._loads, clock)
        self._trials = Trials(self._nodes, self.health, budgets, clock)

    async def chat(self, ask: Ask, session: Session | None = None) -> Answer:
        """The whole answer. Raises NoAnswer."""
        async with contextlib.aclosing(self._route(ask, session or Session(), hold_back=None)) as route:
            async for item in route:
                if isinstance(item, Answer):
                    return item
        raise AssertionError("a route ends with an answer or raises")

    async def stream(self, ask: Ask, session: Session | None = None) -> AsyncGenerator[str | Answer, None]:
        """Pieces of text, at the end the Answer. Raises NoAnswer, also after pieces were passed on.

        A failure before the first piece is invisible: the next model answers. After it the stream ends with
        the exception, never cleanly.
        """
        route = self._route(ask, session or Session(), hold_back=self._config.holdback_chars)
        async with contextlib.aclosing(route) as items:
            async for item in items:
                yield item

    async def explain(self, wish: Wish, session: Session | None = None) -> Plan:
        """Who would be asked in which order, and why the others would not; asks nobody for an answer."""
        await self.catalog.snapshot(wait_for_all=True)
        return await self._plan(wish, session or Session())

    def fits(self, view: NodeView, model: ModelInfo) -> Fit:
        """Whether a model fits in the memory of its node, as far as can be told."""
        return fit(
            model.size_bytes,
            resident=view.is_resident(model),
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
        started = self._clock()
        deadline = started + self._budgets.total_s
        attempts: list[Attempt] = []
        tried: set[tuple[str, str]] = set()
        waitable: list[tuple[float, Candidate]] = []
        wish = ask.wish
        allowed = self._config.max_fallbacks if ask.max_fallbacks is None else ask.max_fallbacks
        while len(attempts) <= allowed and self._clock() < deadline:
            choice = await self._plan(wish, session)
            left = [c for c in choice.candidates if (c.node, c.model) not in tried and self._may(c, attempts)]
            if not left and not attempts and wish.model is not None and self._unknown(wish, choice):
                break
            candidate = left[0] if left else await self._patient(waitable, deadline)
            if candidate is None and not wish.fallback and ask.max_fallbacks is None:
                # The model that was asked for by name is known but resting: somebody else may answer.
                wish = replace(wish, model=None, fallback=True)
                continue
            if candidate is None:
                break
            trial = Trial(candidate, self._clock())
            has_alternative = any(c.resident for c in left[1:]) and wish.model is None
            async with contextlib.aclosing(
                self._attempt(
                    candidate,
                    ask,
                    trial,
                    deadline=deadline,
                    patience_s=self._budgets.load_patience_s if has_alternative else None,
                    hold_back=hold_back,
                    number=len(attempts),
                )
            ) as pieces:
                async for piece in pieces:
                    yield piece
            attempts.append(_record(trial, fallback=bool(attempts)))
            if trial.ok:
                yield Answer(
                    trial.text,
                    candidate.node,
                    candidate.model,
                    tuple(attempts),
                    self._clock() - started,
                    trial.usage,
                    trial.finish_reason,
                )
                return
            tried.add((candidate.node, candidate.model))
            self._learn(trial, session, tried, waitable)
            if trial.committed:
                break
            deadline += trial.load_s or 0.0
            if ask.max_fallbacks is None or wish.model is None:
                wish = replace(wish, model=None, fallback=True)
        raise refusal(
            await self._plan(ask.wish, session),
            ask.wish,
            attempts,
            seconds=self._clock() - started,
            partial=trial.text if attempts and trial.committed else "",
            nodes=[node.config for node in self._nodes.values()],
        )

    async def _attempt(
        self,
        candidate: Candidate,
        ask: Ask,
        trial: Trial,
        *,
        deadline: float,
        patience_s: float | None,
        hold_back: int | None,
        number: int,
    ) -> AsyncGenerator[str, None]:
        self._log.write(
            Tag.LLM_CALL,
            node=candidate.node,
            model=candidate.model,
            fallback=number > 0,
            attempt=number + 1,
            resident=candidate.resident,
            max_tokens=ask.max_tokens or self._config.max_tokens,
            temperature=ask.temperature,
            why=candidate.why,
        )
        self._in_flight[candidate.node] += 1
        try:
            async with contextlib.aclosing(
                self._asker.attempt(
                    self._nodes[candidate.node],
                    candidate,
                    ask,
                    trial,
                    deadline=deadline,
                    patience_s=patience_s,
                    hold_back=hold_back,
                )
            ) as pieces:
                async for piece in pieces:
                    yield piece
        finally:
            self._in_flight[candidate.node] -= 1
        if trial.ok:
            self.health.succeeded(candidate.node, candidate.model)
            self.catalog.saw_resident(candidate.node, candidate.model)
        self._tell(trial)

    def _learn(
        self,
        trial: Trial,
        session: Session,
        tried: set[tuple[str, str]],
        waitable: list[tuple[float, Candidate]],
    ) -> None:
        """Enter a failure into health, session and catalog."""
        candidate, fault = trial.candidate, trial.fault
        if fault is None:
            return
        self.health.failed(candidate.node, candidate.model, fault, self._clock())
        if fault.action.session:
            session.failed.add((candidate.node, candidate.model))
        if fault.action.wait:
            waitable.append((self._clock() + (fault.retry_after_s or 1.0), candidate))
            if fault.kind is FaultKind.RATE_LIMITED:
                tried.update((candidate.node, name) for name in self._names(candidate.node))
        if fault.kind is FaultKind.NOT_INSTALLED:
            self.catalog.forget(candidate.node)
        elif fault.is_crash or fault.kind is FaultKind.LOAD_TIMEOUT:
            self.catalog.residency_changed(candidate.node)

    async def _plan(self, wish: Wish, session: Session) -> Plan:
        """The order as things stand; when every circuit is open, resting models are the last resort."""
        snapshot = await self.catalog.snapshot()
        situation = Situation(
            snapshot, self.health, session.failed, self._in_flight, self._clock(), self.fits
        )
        choice = plan(wish, self._config, situation)
        if not choice.candidates and not snapshot.complete:
            situation = replace(situation, snapshot=await self.catalog.snapshot(wait_for_all=True))
            choice = plan(wish, self._config, situation)
        self._trials.start_due(situation)
        self._warn_of_mlx(situation)
        if not choice.candidates:
            rested = replace(situation, health=Health(self.health.config))
            choice = Plan(plan(wish, self._config, rested).candidates, choice.skipped)
        return choice

    def _may(self, candidate: Candidate, attempts: Sequence[Attempt]) -> bool:
        """USE_MLX_FALLBACK=false switches the MLX leg of fallback off (SPEC A6)."""
        return not attempts or self._config.use_mlx_fallback or candidate.source != "mlx"

    def _unknown(self, wish: Wish, choice: Plan) -> bool:
        """Nobody lists the model that was asked for, or it does not fit: do not guess another."""
        listed = [s for s in choice.skipped if s.model and wish.model and same_model(wish.model, s.model)]
        return not listed or all("does not fit" in s.why for s in listed)

    async def _patient(self, waitable: list[tuple[float, Candidate]], deadline: float) -> Candidate | None:
        """Wait for the first model that asked to be waited for, within the queue budget."""
        if not waitable:
            return None
        waitable.sort(key=lambda pair: pair[0])
        ready_at, candidate = waitable.pop(0)
        wait_s = max(0.0, ready_at - self._clock())
        if wait_s > self._budgets.queue_s or self._clock() + wait_s >= deadline:
            return None
        await asyncio.sleep(wait_s)
        return candidate

    def _names(self, node: str) -> list[str]:
        view = self.catalog.view(node)
        return [model.name for model in view.models] if view is not None else []

    def _free_memory(self) -> int | None:
        seen_at, value = self._memory_seen
        if self._clock() - seen_at > _MEMORY_TTL_S:
            value = self._memory()
            self._memory_seen = (self._clock(), value)
        return value

    def _warn_of_mlx(self, situation: Situation) -> None:
        """SPEC B10: MLX missing is told once in five minutes, not on every call."""
        missing = [v for v in situation.snapshot.nodes if v.source == "mlx" and v.fault is not None]
        if missing and situation.now - self._mlx_warned_at >= self._config.mlx_warning_every_s:
            self._mlx_warned_at = situation.now
            fault = missing[0].fault
            self._log.write(
                Tag.LLM_ERROR,
                node=missing[0].name,
                fault=fault.kind.value if fault else None,
                detail=f"MLX is not there: {fault.detail if fault else ''}",
            )

    def _tell(self, trial: Trial) -> None:
        """The log lines of a finished attempt (SPEC A1)."""
        candidate = trial.candidate
        where: dict[str, Value] = {
            "node": candidate.node,
            "model": candidate.model,
            "seconds": round(trial.seconds, 3),
        }
        if trial.ok:
            preview = self._log.preview(trial.text)
            self._log.write(
                Tag.LLM_RESPONSE,
                **where,
                status=200,
                first_token_s=None if trial.first_token_s is None else round(trial.first_token_s, 3),
                tokens=trial.usage.completion_tokens,
                preview=preview,
            )
            return
        if trial.verdict is not None:
            self._log.write(
                Tag.LLM_PARSE, **where, verdict=trial.verdict.value, preview=self._log.preview(trial.text)
            )
            reason = trial.verdict.value
        else:
            fault = trial.fault or Fault(FaultKind.SERVER_ERROR, "")
            tag = Tag.LLM_CRASH if fault.is_crash else Tag.LLM_ERROR
            self._log.write(tag, **where, fault=fault.kind.value, status=fault.status, detail=fault.detail)
            reason = fault.kind.value
        self._log.write(Tag.FALLBACK, from_node=candidate.node, from_model=candidate.model, why=reason)


def _record(trial: Trial, *, fallback: bool) -> Attempt:
    candidate = trial.candidate
    if trial.ok:
        outcome, fault, detail = Outcome.OK, None, candidate.why
    elif trial.verdict is not None:
        outcome, fault = Outcome.REJECTED, trial.verdict.value
        detail = f"{len(trial.text)} characters, {trial.verdict.value}"
    else:
        found = trial.fault or Fault(FaultKind.SERVER_ERROR, "")
        outcome, fault, detail = Outcome.FAULT, found.kind.value, found.detail
    return Attempt(
        candidate.node,
        candidate.model,
        outcome,
        fault,
        detail,
        trial.seconds,
        fallback,
        trial.first_token_s,
        trial.load_s,
    )
