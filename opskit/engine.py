"""Answering a goal: the request of SPEC A and D seen from outside.

Through Victoria when she answers, else through the router in this process (method `simple`).
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, Literal, Protocol
from urllib.parse import urlsplit

from opskit.config.schema import Config
from opskit.errors import ApprovalNeeded, OpskitError, StateError
from opskit.llm.answer import Answer, Ask, Attempt, AttemptOutcome, NoAnswer, Session
from opskit.llm.category import categorise, goal_category
from opskit.llm.faults import Fault, FaultKind, classify
from opskit.llm.plan import ModelRequest
from opskit.llm.prompt_cut import PromptCut
from opskit.llm.remedies import fault_remedy
from opskit.llm.router import Router
from opskit.llm.verdict import judge
from opskit.providers.agent import AgentClient, AgentReply
from opskit.providers.base import CallCause, CallError, Message
from opskit.providers.kinds import expected_kind
from opskit.records import Record, field, replace
from opskit.result import SCHEMA_VERSION
from opskit.tags import Tag, TagLog, Value, correlated, correlation_id
from opskit.trace.keeper import TraceKeeper
from opskit.trace.span import Attribute, Span, SpanKind, SpanStatus, record, span


class RunResult(Record):
    """What `opskit run` shows. `node` is a model node, or the agent that answered.

    `prompt_cut` is there when the model read only part of the prompt, with what to type against it. `steps`
    are those of the agent in this process (tool, args, ok, seconds), `notes` what a person should know.
    `agreement` is the part of several answers that agree with this one. `remote` is what an agent elsewhere
    tells of its answer.
    """

    output: str
    method: str
    model: str
    node: str
    correlation_id: str
    seconds: float
    attempts: tuple[Attempt, ...]
    prompt_cut: PromptCut | None = None
    cut_remedy: str | None = None
    steps: tuple[Mapping[str, Any], ...] = ()
    notes: tuple[str, ...] = ()
    category: str = "general"
    cached: bool = False
    agreement: float | None = None
    delegated_to: str | None = None
    remote: Mapping[str, Any] = field(default_factory=dict)

    @property
    def metadata(self) -> dict[str, Any]:
        """Who answered and how (SPEC D6); of an answer from elsewhere as it is told there."""
        here = {
            "model": self.model,
            "source": self.node,
            "attempts": [attempt.as_json() for attempt in self.attempts],
            "delegated_to": self.delegated_to,
            "task_id": None,
            "cached": self.cached,
            "category": self.category,
            "agreement": self.agreement,
        }
        return here | {key: self.remote[key] for key in here.keys() & self.remote.keys() - {"attempts"}}

    def as_json(self) -> dict[str, Any]:
        cut = None if self.prompt_cut is None else {**self.prompt_cut.as_json(), "remedy": self.cut_remedy}
        return {
            "schema_version": SCHEMA_VERSION,
            "ok": True,
            "output": self.output,
            "method": self.method,
            "model": self.model,
            "node": self.node,
            "correlation_id": self.correlation_id,
            "seconds": round(self.seconds, 4),
            "prompt_cut": cut,
            "attempts": [attempt.as_json() for attempt in self.attempts],
            "steps": list(self.steps),
            "notes": list(self.notes),
            "metadata": self.metadata,
        }


class RunFailed(OpskitError):  # noqa: N818 - it reads as what it is
    """No answer. `document` holds what `run --json` shows besides the error."""

    def __init__(
        self,
        problem: OpskitError,
        *,
        attempts: Sequence[Attempt],
        correlation_id: str,
        seconds: float,
        partial: str = "",
    ) -> None:
        super().__init__(problem.code, problem.message, remedy=problem.remedy)
        self.attempts = tuple(attempts)
        self.document: dict[str, Any] = {
            "output": None,
            "method": None,
            "model": None,
            "node": None,
            "correlation_id": correlation_id,
            "seconds": round(seconds, 4),
            "attempts": [attempt.as_json() for attempt in attempts],
        }
        if partial:
            self.document["partial"] = partial
        self.document |= getattr(problem, "document", {})


class Goal(Record):
    """A goal and how it is to be run. `where`: auto (Victoria, else here), local, remote.

    `strict_context` refuses an answer to a prompt that was cut, which only the router here can tell. `method`
    is auto or one of `opskit.agent.method`. `history` are the lines of the conversation before it, else those
    of `session_id`; `traceparent` is the span of a caller elsewhere. `project` is whose memory is used, None
    for the main one; `use_cache` takes an answer that was given before. `session_id` and `patience_s` are for
    an agent too (`AgentClient.run`).
    """

    text: str
    where: str = "auto"
    model: str | None = None
    category: str | None = None
    strict_context: bool = False
    method: str = "auto"
    history: tuple[Message, ...] = ()
    traceparent: str | None = None
    session_id: str | None = None
    patience_s: float = 0.0
    project: str | None = None
    use_cache: bool = False


class Sessions(Protocol):
    """The lines of conversations, by the id of their session."""

    def session(self, session_id: str) -> list[tuple[str, str]]:
        """Return role and content of the lines, the oldest first. Raises StateError."""
        ...

    def remember(self, session_id: str, goal: str, answer: str) -> None:
        """Add a goal with its answer. Raises StateError."""
        ...


class Solver(Protocol):
    """Works on goals that one question to a model does not answer."""

    async def solve(
        self, goal: Goal, category: str, identifier: str, session: Session | None
    ) -> RunResult | None:
        """Return what came of it; None where one question is enough. Raises RunFailed."""
        ...

    async def keep(self, goal: Goal, result: RunResult) -> None:
        """Remember an answer that was given here."""
        ...


class _End:
    """The last line of a request, whatever ends it."""

    def __init__(self, log: TagLog) -> None:
        self._log = log
        self._began = time.monotonic()
        self._fields: dict[str, Value] = {"outcome": "failed", "code": "BUG_001"}

    def answered(self, result: RunResult) -> None:
        self._fields = {"outcome": "answered", "node": result.node, "model": result.model}

    def interrupted(self) -> None:
        """Whoever reads the answer goes away once it is there: then it was none."""
        if self._fields["outcome"] != "answered":
            self._fields = {"outcome": "interrupted"}

    def failed(self, error: OpskitError) -> None:
        self._fields = {"outcome": "failed", "code": error.code, "why": error.message}

    def write(self) -> None:
        self._log.write(Tag.REQUEST_END, **self._fields, seconds=round(time.monotonic() - self._began, 3))


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

    async def run(
        self, goal: Goal, session: Session | None = None, on_note: Callable[[str], None] = lambda _: None
    ) -> RunResult:
        """The answer to a goal. Raises RunFailed with every attempt."""
        async with contextlib.aclosing(self.stream(goal, session, on_note, pieces=False)) as items:
            async for item in items:
                if isinstance(item, RunResult):
                    return item
        raise AssertionError("a run ends with a result or raises")

    async def submit(self, goal: Goal, max_steps: int) -> Mapping[str, Any]:
        """Queue a goal at Victoria and return her receipt. Raises OpskitError."""
        victoria, options = self._victoria(), {"method": goal.method, "max_steps": max_steps}
        if goal.project is not None:
            options["project_context"] = goal.project
        with correlated() as identifier, reached(victoria):
            receipt = await victoria.submit(
                goal.text,
                session_id=goal.session_id or identifier,
                options=options,
                use_cache=goal.use_cache,
            )
        if not receipt.get("task_id"):
            raise OpskitError("COMM_001", f"Victoria at {victoria.config.url} gave no id for the run")
        return receipt

    async def follow(self, task_id: str, on_note: Callable[[str], None]) -> RunResult:
        """Wait for the end of a run at Victoria. Raises OpskitError: ApprovalNeeded for one that waits."""
        victoria, started = self._victoria(), time.monotonic()
        with reached(victoria):
            reply = await victoria.follow(task_id, lambda state: on_note(f"Victoria: {state}"))
        return _replied(reply, victoria, reply.correlation_id or "", started)

    def _victoria(self) -> AgentClient:
        if (victoria := self.agents.get("victoria")) is None:
            raise OpskitError(
                "COMM_001", "Victoria is not configured", remedy="set VICTORIA_URL (`opskit serve victoria`)"
            )
        return victoria

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
            end = _End(self.log)
            try:
                work = self._answered(goal, category, identifier, session, on_note, pieces=pieces)
                async with contextlib.aclosing(work) as items:
                    async for item in items:
                        if isinstance(item, RunResult):
                            end.answered(item)
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
                end.failed(error)
                raise
            except (asyncio.CancelledError, GeneratorExit, KeyboardInterrupt):
                end.interrupted()
                raise
            finally:
                end.write()

    @contextlib.contextmanager
    def _recorded(self, goal: Goal, category: str, identifier: str) -> Iterator[Span]:
        attributes = {"opskit.where": goal.where, "opskit.category": category}
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

    async def _answered(
        self,
        goal: Goal,
        category: str,
        identifier: str,
        session: Session | None,
        on_note: Callable[[str], None],
        *,
        pieces: bool,
    ) -> AsyncGenerator[str | RunResult, None]:
        started = time.monotonic()
        failed: list[Attempt] = []
        if goal.where != "local" and goal.model is None:
            outcome = await self._through_victoria(goal, identifier, on_note)
            if isinstance(outcome, RunResult):
                yield outcome
                return
            failed = outcome
        if self.sessions is not None and goal.session_id is not None and not goal.history:
            lines = self.sessions.session(goal.session_id)
            goal = replace(goal, history=tuple(Message(_role(role), text) for role, text in lines if text))
        here = self._here(goal, category, identifier, session, on_note, failed, started, pieces=pieces)
        async with contextlib.aclosing(here) as items:
            async for item in items:
                if isinstance(item, RunResult):
                    await self._keep(goal, item, on_note)
                yield item

    async def _keep(self, goal: Goal, result: RunResult, on_note: Callable[[str], None]) -> None:
        if self.solver is not None:
            await self.solver.keep(goal, result)
        if self.sessions is not None and goal.session_id is not None:
            try:
                self.sessions.remember(goal.session_id, goal.text, result.output)
            except StateError as error:
                on_note(f"the session does not remember this answer: {error.message}")

    async def _here(
        self,
        goal: Goal,
        category: str,
        identifier: str,
        session: Session | None,
        on_note: Callable[[str], None],
        failed: Sequence[Attempt],
        started: float,
        *,
        pieces: bool,
    ) -> AsyncGenerator[str | RunResult, None]:
        """Answer in this process; `failed` is what was tried elsewhere before."""
        kind = goal.category or goal_category(goal.text)
        if self.solver is not None:
            solution = await self.solver.solve(goal, category, identifier, session)
            if solution is not None:
                attempts = (*failed, *_as_fallbacks(solution.attempts, after=failed))
                seconds = time.monotonic() - started
                yield replace(solution, seconds=seconds, attempts=attempts, category=kind)
                return
        request = ModelRequest(model=goal.model or self.config.victoria_model, category=category)
        messages = (*goal.history, Message("user", goal.text))
        ask = Ask(messages, request=request, strict_context=goal.strict_context, on_wait=on_note)
        try:
            async with contextlib.aclosing(self._answers(ask, session, pieces=pieces)) as items:
                async for item in items:
                    if isinstance(item, str):
                        yield item
                        continue
                    yield RunResult(
                        item.text,
                        "simple",
                        item.model,
                        item.node,
                        identifier,
                        time.monotonic() - started,
                        (*failed, *_as_fallbacks(item.attempts, after=failed)),
                        item.prompt_cut,
                        self._cut_remedy(item),
                        category=kind,
                    )
        except NoAnswer as refused:
            raise RunFailed(
                refused,
                attempts=(*failed, *_as_fallbacks(refused.attempts, after=failed)),
                correlation_id=identifier,
                seconds=time.monotonic() - started,
                partial=refused.partial,
            ) from refused

    def _cut_remedy(self, answer: Answer) -> str | None:
        if answer.prompt_cut is None:
            return None
        server = expected_kind(self.config.node(answer.node).source)
        kind = FaultKind.CONTEXT_EXCEEDED
        return fault_remedy(kind, model=answer.model, node=answer.node, server=server, again="ask again")

    async def _answers(
        self, ask: Ask, session: Session | None, *, pieces: bool
    ) -> AsyncGenerator[str | Answer, None]:
        if not pieces:
            yield await self.router.chat(ask, session)
            return
        async with contextlib.aclosing(self.router.stream(ask, session)) as items:
            async for item in items:
                yield item

    async def _through_victoria(
        self, goal: Goal, identifier: str, on_note: Callable[[str], None]
    ) -> RunResult | list[Attempt]:
        """Victoria's result, or the attempts that failed (none when she is simply not there)."""
        must = goal.where == "remote"
        victoria = self.agents.get("victoria")
        if victoria is None:
            if must:
                problem = OpskitError(
                    "COMM_001", "Victoria is not configured", remedy="set VICTORIA_URL, or drop --remote"
                )
                raise RunFailed(problem, attempts=(), correlation_id=identifier, seconds=0.0)
            return []
        started = time.monotonic()
        warm = None if must else asyncio.create_task(self.router.catalog.snapshot())
        try:
            with span(f"find {victoria.name}", kind=SpanKind.CLIENT, attributes=_address(victoria)):
                await victoria.status()
        except CallError as error:
            if must:
                raise RunFailed(
                    OpskitError("COMM_001", f"Victoria at {victoria.config.url}: {error.text}"),
                    attempts=(),
                    correlation_id=identifier,
                    seconds=time.monotonic() - started,
                ) from error
            if warm is not None:
                await warm
            if victoria.config.explicit or error.cause is not CallCause.REFUSED:
                on_note(f"Victoria at {victoria.config.url} is not usable ({error.text}); answering here")
            return []
        try:
            name = f"invoke_agent {victoria.name}"
            with span(name, kind=SpanKind.CLIENT, attributes=_address(victoria)) as stage:
                attempt, reply = await self._ask_victoria(victoria, goal, identifier, on_note)
                if attempt.fault is not None:
                    stage.fail(attempt.fault, attempt.detail)
                elif reply is not None:
                    stage.set({"gen_ai.response.model": reply.model, "opskit.method": reply.method})
        except ApprovalNeeded as needed:
            seconds = time.monotonic() - started
            raise RunFailed(needed, attempts=(), correlation_id=identifier, seconds=seconds) from needed
        finally:
            if warm is not None:
                await asyncio.gather(warm, return_exceptions=True)
        if reply is not None:
            replied = _replied(reply, victoria, identifier, started, attempt)
            return replace(replied, category=goal.category or goal_category(goal.text))
        if must:
            raise RunFailed(
                _agent_problem(attempt),
                attempts=(attempt,),
                correlation_id=identifier,
                seconds=attempt.seconds,
            )
        on_note(f"Victoria failed ({attempt.fault}: {attempt.detail}); answering here")
        self.log.write(Tag.FALLBACK, from_node=victoria.name, to_node="local", why=attempt.fault)
        return [attempt]

    async def _ask_victoria(
        self, victoria: AgentClient, goal: Goal, identifier: str, on_note: Callable[[str], None]
    ) -> tuple[Attempt, AgentReply | None]:
        started = time.monotonic()
        # Her own model is known at the end; both lines name the same call.
        where = {"node": victoria.name, "model": "agent"}
        self.log.write(Tag.LLM_CALL, **where, fallback=False, url=victoria.config.url)
        try:
            reply = await victoria.run(
                goal.text,
                session_id=goal.session_id or identifier,
                deadline_s=self.config.budgets.total_s,
                on_state=lambda state: on_note(f"Victoria: {state}"),
                history=_pairs(goal.history),
                patience_s=goal.patience_s,
                method=goal.method,
                project=goal.project,
                use_cache=goal.use_cache,
            )
        except CallError as error:
            fault = classify(error)
            if fault.kind is FaultKind.FIRST_TOKEN_TIMEOUT:
                fault = Fault(FaultKind.TOTAL_TIMEOUT, fault.detail)
            self.log.write(Tag.LLM_ERROR, **where, fault=fault.kind.value, detail=fault.detail)
            return _attempt(victoria, AttemptOutcome.FAULT, fault.kind.value, fault.detail, started), None
        verdict = judge(reply.output, (goal.text,))
        if verdict is not None:
            detail = f"{len(reply.output)} characters, {verdict.value}"
            self.log.write(Tag.LLM_PARSE, **where, verdict=verdict.value)
            return _attempt(victoria, AttemptOutcome.REJECTED, verdict.value, detail, started), None
        self.log.write(
            Tag.LLM_RESPONSE,
            **where,
            seconds=round(time.monotonic() - started, 3),
            status=200,
            answered_by=reply.model,
            preview=self.log.preview(reply.output),
        )
        done = _attempt(victoria, AttemptOutcome.OK, None, reply.method, started, reply.model or "agent")
        return done, reply


@contextlib.contextmanager
def reached(agent: AgentClient) -> Iterator[None]:
    """Translate a failed call of an agent's API, for commands about one run of it."""
    try:
        yield
    except CallError as error:
        codes = {404: "VAL_002", 409: "APPROVAL_002"}
        code = "GEN_001" if error.cause is CallCause.IN_BAND else codes.get(error.status or 0, "COMM_001")
        where = "" if error.cause is CallCause.IN_BAND else f"{agent.name} at {agent.config.url}: "
        remedy = f"set `agents.{agent.name}.api_key` to its token" if error.status in (401, 403) else None
        raise OpskitError(code, f"{where}{error.text}", remedy=remedy) from error


def _replied(
    reply: AgentReply, agent: AgentClient, identifier: str, started: float, *attempts: Attempt
) -> RunResult:
    seconds = time.monotonic() - started
    model = reply.model or "agent"
    answered = (reply.output, reply.method, model, agent.name, identifier)
    return RunResult(*answered, seconds, attempts, remote=reply.metadata)


def _address(agent: AgentClient) -> dict[str, Attribute]:
    address = urlsplit(agent.config.url)
    return {
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.agent.name": agent.name,
        "server.address": address.hostname,
        "server.port": address.port,
    }


def _role(role: str) -> Literal["user", "assistant"]:
    return "user" if role == "user" else "assistant"


def _pairs(history: Sequence[Message]) -> list[tuple[str, str]]:
    """Return goals with their answers."""
    return [
        (line.content, answer.content)
        for line, answer in pairwise(history)
        if (line.role, answer.role) == ("user", "assistant")
    ]


def _attempt(
    agent: AgentClient,
    outcome: AttemptOutcome,
    fault: str | None,
    detail: str,
    started: float,
    model: str = "agent",
) -> Attempt:
    return Attempt(agent.name, model, outcome, fault, detail, time.monotonic() - started, fallback=False)


def _as_fallbacks(attempts: Sequence[Attempt], *, after: Sequence[Attempt]) -> list[Attempt]:
    """Once an agent has failed, everything that follows is a fallback."""
    if not after:
        return list(attempts)
    return [replace(attempt, fallback=True) for attempt in attempts]


def _agent_problem(attempt: Attempt) -> OpskitError:
    message = f"{attempt.node} gave no usable answer: {attempt.fault} ({attempt.detail})"
    timeouts = (FaultKind.TOTAL_TIMEOUT.value, FaultKind.CONNECT_TIMEOUT.value)
    if attempt.fault in timeouts:
        return OpskitError("COMM_003", message)
    return OpskitError("COMM_001" if attempt.outcome is AttemptOutcome.FAULT else "GEN_001", message)
