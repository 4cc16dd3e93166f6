"""Victoria elsewhere: goals are queued at her, or answered by her."""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any
from urllib.parse import urlsplit

from opskit.engine.goal import Goal, GoalRun, RunResult
from opskit.errors import ApprovalNeeded, OpskitError
from opskit.llm.answer import Attempt, AttemptOutcome
from opskit.llm.faults import Fault, FaultKind, classify
from opskit.llm.verdict import judge
from opskit.providers.agent import AgentClient, AgentReply
from opskit.providers.base import CallCause, CallError, Message
from opskit.tags import Tag, TagLog, correlated
from opskit.trace.span import Attribute, SpanKind, span

#: Her own model is known at the end.
_MODEL = "agent"


class RemoteAgent:
    """Answers goals by the API of an agent. An answer may take `total_s`."""

    def __init__(self, agent: AgentClient, log: TagLog, total_s: float) -> None:
        self._agent = agent
        self._log = log
        self._total_s = total_s

    async def submit(self, goal: Goal, max_steps: int) -> Mapping[str, Any]:
        """Queue a goal and return the receipt. Raises OpskitError."""
        options = {"method": goal.method, "max_steps": max_steps}
        if goal.project is not None:
            options["project_context"] = goal.project
        with correlated() as identifier, reached(self._agent):
            session = goal.session_id or identifier
            receipt = await self._agent.submit(
                goal.text, session_id=session, options=options, use_cache=goal.use_cache
            )
        if not receipt.get("task_id"):
            raise OpskitError("COMM_001", f"Victoria at {self._agent.config.url} gave no id for the run")
        return receipt

    async def follow(self, task_id: str, on_note: Callable[[str], None]) -> RunResult:
        """Wait for the end of a run. Raises OpskitError: ApprovalNeeded for one that waits."""
        started = time.monotonic()
        with reached(self._agent):
            reply = await self._agent.follow(task_id, lambda state: on_note(f"Victoria: {state}"))
        answered = (reply.output, reply.method, reply.model or _MODEL, self._agent.name)
        seconds = time.monotonic() - started
        return RunResult(*answered, reply.correlation_id or "", seconds, (), remote=reply.metadata)

    async def answer(self, run: GoalRun) -> RunResult | None:
        """Return the answer; None where she is not there, or failed, which `run.failed` tells then.

        Raises RunFailed where nobody else may answer, and where the run waits for a person.
        """
        agent, must = self._agent, run.goal.where == "remote"
        address = urlsplit(agent.config.url)
        attributes: dict[str, Attribute] = {
            "gen_ai.operation.name": "invoke_agent",
            "gen_ai.agent.name": agent.name,
            "server.address": address.hostname,
            "server.port": address.port,
        }
        try:
            with span(f"find {agent.name}", kind=SpanKind.CLIENT, attributes=attributes):
                await agent.status()
        except CallError as error:
            if must:
                raise run.failure(_unreached(agent, error)) from error
            if agent.config.explicit or error.cause is not CallCause.REFUSED:
                run.on_note(f"Victoria at {agent.config.url} is not usable ({error.text}); answering here")
            return None
        try:
            with span(f"invoke_agent {agent.name}", kind=SpanKind.CLIENT, attributes=attributes) as stage:
                attempt, reply = await self._asked(run)
                if attempt.fault is not None:
                    stage.fail(attempt.fault, attempt.detail)
                elif reply is not None:
                    stage.set({"gen_ai.response.model": reply.model, "opskit.method": reply.method})
        except ApprovalNeeded as needed:
            raise run.failure(needed) from needed
        if reply is not None:
            answered = (reply.output, reply.method, attempt.model, agent.name)
            return run.result(*answered, [attempt], remote=reply.metadata)
        if must:
            is_late = attempt.fault in (FaultKind.TOTAL_TIMEOUT, FaultKind.CONNECT_TIMEOUT)
            is_fault = attempt.outcome is AttemptOutcome.FAULT
            text = f"{attempt.node} gave no usable answer: {attempt.fault} ({attempt.detail})"
            code = "COMM_003" if is_late else "COMM_001" if is_fault else "GEN_001"
            raise run.failure(OpskitError(code, text), [attempt])
        run.on_note(f"Victoria failed ({attempt.fault}: {attempt.detail}); answering here")
        self._log.write(Tag.FALLBACK, from_node=agent.name, to_node="local", why=attempt.fault)
        run.failed.append(attempt)
        return None

    async def _asked(self, run: GoalRun) -> tuple[Attempt, AgentReply | None]:
        agent, goal, started = self._agent, run.goal, time.monotonic()

        def attempt(outcome: AttemptOutcome, fault: str | None, detail: str, model: str = _MODEL) -> Attempt:
            seconds = time.monotonic() - started
            return Attempt(agent.name, model, outcome, fault, detail, seconds, fallback=False)

        # All lines name the same call.
        where = {"node": agent.name, "model": _MODEL}
        self._log.write(Tag.LLM_CALL, **where, fallback=False, url=agent.config.url)
        try:
            reply = await agent.run(
                goal.text,
                session_id=goal.session_id or run.identifier,
                deadline_s=self._total_s,
                on_state=lambda state: run.on_note(f"Victoria: {state}"),
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
            self._log.write(Tag.LLM_ERROR, **where, fault=fault.kind.value, detail=fault.detail)
            return attempt(AttemptOutcome.FAULT, fault.kind.value, fault.detail), None
        verdict = judge(reply.output, (goal.text,))
        if verdict is not None:
            self._log.write(Tag.LLM_PARSE, **where, verdict=verdict.value)
            detail = f"{len(reply.output)} characters, {verdict.value}"
            return attempt(AttemptOutcome.REJECTED, verdict.value, detail), None
        done = attempt(AttemptOutcome.OK, None, reply.method, reply.model or _MODEL)
        self._log.write(
            Tag.LLM_RESPONSE,
            **where,
            seconds=round(done.seconds, 3),
            status=200,
            answered_by=reply.model,
            preview=self._log.preview(reply.output),
        )
        return done, reply


@contextlib.contextmanager
def reached(agent: AgentClient) -> Iterator[None]:
    """Translate a failed call of an agent's API, for commands about one run of it."""
    try:
        yield
    except CallError as error:
        raise _unreached(agent, error) from error


def _unreached(agent: AgentClient, error: CallError) -> OpskitError:
    if error.cause is CallCause.IN_BAND:
        return OpskitError("GEN_001", error.text)
    code = {404: "VAL_002", 409: "APPROVAL_002"}.get(error.status or 0, "COMM_001")
    remedies = dict.fromkeys((401, 403), f"set `agents.{agent.name}.api_key` to its token")
    remedies[404] = "`opskit run --async` prints the id of a run, which the agent that took it knows"
    text = f"{agent.name} at {agent.config.url}: {error.text}"
    return OpskitError(code, text, remedy=remedies.get(error.status or 0))


def _pairs(history: Sequence[Message]) -> list[tuple[str, str]]:
    """Return goals with their answers."""
    return [
        (line.content, answer.content)
        for line, answer in pairwise(history)
        if (line.role, answer.role) == ("user", "assistant")
    ]
