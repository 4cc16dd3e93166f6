"""Answers goals: through Victoria when she answers, else through the router in this process."""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping

from opskit.config.schema import Config
from opskit.engine.goal import Goal, GoalRun, RunResult, Sessions, Solver
from opskit.engine.remote import RemoteAgent
from opskit.errors import OpskitError, StateError
from opskit.llm.answer import Answer, Ask, NoAnswer, Session
from opskit.llm.faults import FaultKind, fault_remedy
from opskit.llm.plan import ModelRequest
from opskit.llm.router import Router
from opskit.llm.wording import categorise
from opskit.providers.agent import AgentClient
from opskit.providers.base import Message
from opskit.providers.kinds import expected_kind
from opskit.records import replace
from opskit.tags import Tag, TagLog, Value, correlated, correlation_id
from opskit.trace.keeper import TraceKeeper
from opskit.trace.span import Span, SpanStatus, record


class Engine:
    """Answers goals: through Victoria where she is, else by the models of this machine."""

    def __init__(
        self,
        config: Config,
        log: TagLog,
        agents: Mapping[str, AgentClient],
        router: Router,
        traces: TraceKeeper | None,
    ) -> None:
        self.config = config
        self.log = log
        self.agents = agents
        self.router = router
        self._traces = traces
        #: Without one every goal is one question to a model.
        self.solver: Solver | None = None
        #: Without them a session is known to agents elsewhere only.
        self.sessions: Sessions | None = None

    def victoria(self, remedy: str = "set VICTORIA_URL (`opskit serve victoria`)") -> RemoteAgent:
        """Return Victoria elsewhere. Raises OpskitError where she is not configured."""
        if (victoria := self.agents.get("victoria")) is None:
            raise OpskitError("COMM_001", "Victoria is not configured", remedy=remedy)
        return RemoteAgent(victoria, self.log, self.config.budgets.total_s)

    async def run(
        self, goal: Goal, session: Session | None = None, on_note: Callable[[str], None] = lambda _: None
    ) -> RunResult:
        """The answer to a goal. Raises RunFailed with every attempt."""
        async with contextlib.aclosing(self.stream(goal, session, on_note, pieces=False)) as items:
            async for item in items:
                if isinstance(item, RunResult):
                    return item
        raise AssertionError("a run ends with a result or raises")

    async def stream(
        self,
        goal: Goal,
        session: Session | None = None,
        on_note: Callable[[str], None] = lambda _: None,
        *,
        pieces: bool = True,
    ) -> AsyncGenerator[str | RunResult, None]:
        """Pieces of the answer where it is made here, at the end the result. Raises RunFailed.

        It goes on with the correlation id of its caller, where there is one.
        """
        category = goal.category or categorise(goal.text)
        with (
            correlated(correlation_id.get()) as identifier,
            self._recorded(goal, category, identifier) as root,
        ):
            self.log.write(
                Tag.REQUEST,
                method="RUN",
                goal=self.log.preview(goal.text),
                async_mode=False,
                task_type=category,
                where=goal.where,
            )
            run = GoalRun(goal, category, identifier, session, on_note)
            end: dict[str, Value] = {"outcome": "failed", "code": "BUG_001"}
            try:
                async with contextlib.aclosing(self._answered(run, pieces=pieces)) as items:
                    async for item in items:
                        if isinstance(item, RunResult):
                            end = {"outcome": "answered", "node": item.node, "model": item.model}
                            root.status = SpanStatus.OK
                            root.set(
                                {
                                    "gen_ai.response.model": item.model,
                                    "opskit.node": item.node,
                                    "opskit.method": item.method,
                                }
                            )
                        yield item
            except OpskitError as error:
                end = {"outcome": "failed", "code": error.code, "why": error.message}
                raise
            except (asyncio.CancelledError, GeneratorExit, KeyboardInterrupt):
                # Who reads an answer goes away once it is there: that interrupts nothing.
                if end["outcome"] != "answered":
                    end = {"outcome": "interrupted"}
                raise
            finally:
                seconds = round(time.monotonic() - run.started, 3)
                self.log.write(Tag.REQUEST_END, **end, seconds=seconds)

    @contextlib.contextmanager
    def _recorded(self, goal: Goal, category: str, identifier: str) -> Iterator[Span]:
        attributes = {"opskit.where": goal.where, "opskit.category": category, "opskit.task_id": goal.task_id}
        recording = None
        try:
            with record("opskit run", identifier, traceparent=goal.traceparent, attributes=attributes) as (
                recording,
                root,
            ):
                yield root
        finally:
            if recording is not None and self._traces is not None:
                self._traces.keep(recording, self.log.preview(goal.text))

    async def _answered(self, run: GoalRun, *, pieces: bool) -> AsyncGenerator[str | RunResult, None]:
        goal = run.goal
        if goal.where != "local" and goal.model is None:
            result = await self._through_victoria(run)
            if result is not None:
                yield result
                return
        if self.sessions is not None and goal.session_id is not None and not goal.history:
            lines = [
                Message("user" if role == "user" else "assistant", text)
                for role, text in await asyncio.to_thread(self.sessions.session, goal.session_id)
                if text
            ]
            run.goal = replace(goal, history=tuple(lines))
        async with contextlib.aclosing(self._here(run, pieces=pieces)) as items:
            async for item in items:
                if isinstance(item, RunResult):
                    await self._keep(run, item)
                yield item

    async def _through_victoria(self, run: GoalRun) -> RunResult | None:
        """Return Victoria's answer; None where the models here are to answer. Raises RunFailed."""
        if run.goal.where == "remote":
            try:
                victoria = self.victoria("set VICTORIA_URL, or drop --remote")
            except OpskitError as problem:
                raise run.failure(problem) from problem
            return await victoria.answer(run)
        if "victoria" not in self.agents:
            return None
        # The models here are looked at meanwhile: they may have to answer.
        looking = asyncio.create_task(self.router.catalog.snapshot())
        try:
            return await self.victoria().answer(run)
        finally:
            looking.cancel()
            await asyncio.gather(looking, return_exceptions=True)

    async def _keep(self, run: GoalRun, result: RunResult) -> None:
        goal = run.goal
        if self.solver is not None:
            await self.solver.keep(goal, result)
        if self.sessions is not None and goal.session_id is not None:
            try:
                await asyncio.to_thread(self.sessions.remember, goal.session_id, goal.text, result.output)
            except StateError as error:
                run.on_note(f"the session does not remember this answer: {error.message}")

    async def _here(self, run: GoalRun, *, pieces: bool) -> AsyncGenerator[str | RunResult, None]:
        """Answer in this process."""
        solution = None if self.solver is None else await self.solver.solve(run)
        if solution is not None:
            yield solution
            return
        goal = run.goal
        request = ModelRequest(model=goal.model or self.config.victoria_model, category=run.category)
        messages = (*goal.history, Message("user", goal.text))
        ask = Ask(messages, request=request, strict_context=goal.strict_context, on_wait=run.on_note)
        try:
            answers = self.router.stream(ask, run.session, pieces=pieces)
            async with contextlib.aclosing(answers) as items:
                async for item in items:
                    if isinstance(item, str):
                        yield item
                        continue
                    answered = (item.text, "simple", item.model, item.node)
                    cut, remedy = item.prompt_cut, self._cut_remedy(item)
                    yield run.result(*answered, item.attempts, prompt_cut=cut, cut_remedy=remedy)
        except NoAnswer as refused:
            raise run.failure(refused, refused.attempts, refused.partial) from refused

    def _cut_remedy(self, answer: Answer) -> str | None:
        if answer.prompt_cut is None:
            return None
        server = expected_kind(self.config.node(answer.node).source)
        kind = FaultKind.CONTEXT_EXCEEDED
        return fault_remedy(kind, model=answer.model, node=answer.node, server=server, again="ask again")
