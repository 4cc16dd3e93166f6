"""A goal as a method gets it, and who asks the models for every stage of one run, within its budget."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from opskit.agent.loop import answer_problem, head_and_tail
from opskit.agent.method import about_machine
from opskit.agent.prompt import prompt
from opskit.agent.run_state import LoopResult, RunEnding, RunLimits
from opskit.agent.step import StepError, object_schema, read_object
from opskit.agent.trajectory import Trajectory
from opskit.app import App
from opskit.llm.answer import Answer, Ask, Attempt, NoAnswer, Session
from opskit.llm.faults import FaultKind
from opskit.llm.plan import Candidate, ModelRequest
from opskit.providers.base import CallError, Message, ToolSpec
from opskit.records import Record, replace

#: A step takes up to three answers until its format is right; plan, nudges and conclusion come on top.
_CALLS_PER_STEP, _MORE_CALLS = 3, 8
#: The part of the time that steps may take: the answer comes out of what remains.
_STEPS_SHARE = 0.8
_CHARS_PER_TOKEN = 3


class BudgetSpentError(NoAnswer):
    """The run has reached one of its limits: no model is asked any more."""

    def __init__(self, limit: str) -> None:
        super().__init__(
            "GEN_001",
            f"the run reached its limit of {limit}",
            remedy="ask for less at once, or choose a method that costs less: `--method react`",
        )


class RunBudget:
    """The limits of one run and what remains of them. `clock` is monotonic seconds."""

    def __init__(self, limits: RunLimits, clock: Callable[[], float] = time.monotonic) -> None:
        self.limits = limits
        self._clock = clock
        self._deadline = clock() + limits.wall_s
        self._calls = self._most_calls = limits.steps * _CALLS_PER_STEP + _MORE_CALLS
        self._tokens = self._calls * limits.step_tokens
        self._steps = limits.steps

    def take(self, max_tokens: int, spare: int = 0) -> int:
        """Take one call and return how many tokens it may have. Raises BudgetSpentError.

        `spare` calls, with their tokens and the last part of the time, must remain for what comes after it.
        """
        end = self._deadline - (self.limits.wall_s * (1 - _STEPS_SHARE) if spare else 0.0)
        tokens = self._tokens - spare * self.limits.step_tokens
        for spent, limit in (
            (self._clock() >= end, f"{self.limits.wall_s:g} s"),
            (self._calls <= spare, f"{self._most_calls} model calls"),
            (tokens < 1, f"{self._most_calls * self.limits.step_tokens} tokens"),
        ):
            if spent:
                raise BudgetSpentError(limit)
        self._calls -= 1
        granted = min(max_tokens, tokens)
        self._tokens -= granted
        return granted

    def settle(self, granted: int, attempts: Sequence[Attempt], answer: Answer | None = None) -> None:
        """Give back the tokens that an answer did not need, and the time in which models were loaded."""
        self._deadline += sum(attempt.load_s or 0.0 for attempt in attempts)
        if answer is not None:
            used = answer.usage.completion_tokens or len(answer.text) // _CHARS_PER_TOKEN
            self._tokens += max(0, granted - used)

    def for_steps(self) -> RunLimits:
        """Return the limits of steps with tools. Raises BudgetSpentError where none is left."""
        if self._steps < 1:
            raise BudgetSpentError(f"{self.limits.steps} steps")
        wall_s = max(0.0, self._deadline - self._clock()) * _STEPS_SHARE
        return replace(self.limits, steps=self._steps, wall_s=wall_s)

    def took_steps(self, count: int) -> None:
        self._steps -= count


_ANSWER_TOKENS = 2048
_OBJECT_TOKENS = 300
#: A text that is shortened below this says nothing any more.
_LEAST_ROOM_CHARS = 1000


class MethodGoal(Record):
    """A goal as a method gets it. `history` are the lines of the conversation before it.

    `results` are what tools have shown for it, `draft` an answer that rests on them. `hint` may help to find
    the way, and is never evidence.
    """

    text: str
    history: tuple[Message, ...] = ()
    results: tuple[str, ...] = ()
    draft: str = ""
    hint: str = ""

    @property
    def needs_evidence(self) -> bool:
        """Whether an answer without a look at this machine is none."""
        return about_machine(self.text)

    def described(self, *parts: tuple[str, str]) -> str:
        """Return the goal with its results, its hint and further titled parts, for a prompt."""
        hints = [("Hint, which may be outdated", self.hint)] if self.hint else []
        results = [("Result of a tool", text) for text in self.results]
        return "\n\n".join(
            f"{title}: {text}" for title, text in (("Goal", self.text), *results, *hints, *parts)
        )

    def ended(self, answer: str, notes: list[str] | None = None) -> LoopResult:
        """Return the end with this answer, or with why it is none."""
        problem = answer_problem(answer, self.text, self.results if self.needs_evidence else None)
        ending, why, _ = problem or (RunEnding.FINISHED, "", "")
        return LoopResult(ending, "" if why else answer, why, notes=notes or [])


@dataclass(slots=True)
class ModelCaller:
    """The models of one run. `last` is the newest answer, which tells who works on the goal.

    Every method that asks takes changes to its `Ask`, and `spare`: how many calls must remain in the budget.
    """

    app: App
    request: ModelRequest
    session: Session
    strict_context: bool
    budget: RunBudget
    trajectory: Trajectory
    attempts: list[Attempt] = field(default_factory=list)
    last: Answer | None = None
    _named: str | None = field(init=False)

    def __post_init__(self) -> None:
        self._named = self.request.model

    async def __call__(
        self,
        messages: Sequence[Message],
        *,
        schema: Mapping[str, Any] | None,
        max_tokens: int,
        tools: Sequence[ToolSpec] = (),
        spare: int = 0,
        **changes: Any,
    ) -> Answer:
        """Ask once. Raises NoAnswer, BudgetSpentError among it."""
        granted = self.budget.take(max_tokens, spare)
        ask = Ask(
            tuple(messages),
            self.request,
            granted,
            temperature=0.0 if self.app.config.router.temperature is None else None,
            length_is_fine=True,
            strict_context=self.strict_context,
            schema=schema,
            tools=tuple(tools),
            tool_rules=prompt("act_native") if tools else "",
        )
        ask = replace(ask, **changes)
        try:
            answer = await self.app.router.chat(ask, self.session)
        except NoAnswer as refused:
            self.attempts += refused.attempts
            self.budget.settle(granted, refused.attempts)
            raise
        self.attempts += answer.attempts
        self.budget.settle(granted, answer.attempts, answer)
        if ask.request is self.request:
            self.last = answer
            # The model that knows the dialogue goes on with it: another would read all of it again.
            self.request = replace(self.request, model=self.request.model or answer.model)
        return answer

    async def text(self, rules: str, goal: MethodGoal, *parts: tuple[str, str], **options: Any) -> str:
        """Ask by the named rules for an answer in words, without what was thought aloud. Raises NoAnswer.

        One that was cut off is none. What stands in the parts may come back, the goal may not.
        """
        limit = self.app.config.router.max_tokens_for(self.request.category)
        options = {"max_tokens": limit if options.get("think") else min(limit, _ANSWER_TOKENS)} | options
        options = {"length_is_fine": False, "goal": goal.text, "schema": None} | options
        answer = await self._fitting(prompt(rules), goal.described(*parts), goal.history, **options)
        return answer.text.strip()

    async def object(
        self, rules: str, text: str, schema: Mapping[str, Any], **options: Any
    ) -> Mapping[str, Any]:
        """Ask for one object; an empty one where the model gives none. Raises NoAnswer."""
        limit = min(_OBJECT_TOKENS, self.budget.limits.step_tokens)
        answer = await self._fitting(rules, text, (), schema=schema, max_tokens=limit, **options)
        try:
            return read_object(answer.text)
        except StepError:
            return {}

    async def texts(
        self, rules: str, text: str, key: str, *, most: int, least: int = 0, **options: Any
    ) -> list[str] | None:
        """Ask for an object with one list of texts; None where the model gives none. Raises NoAnswer."""
        items = {"type": "string", "maxLength": 200}
        schema = {"type": "array", "items": items, "minItems": least, "maxItems": most}
        listed = (await self.object(rules, text, object_schema(**{key: schema}), **options)).get(key)
        return list(map(str, listed[:most])) if isinstance(listed, list) else None

    async def together(self, calls: Iterable[Callable[[], Awaitable[str]]]) -> list[str | NoAnswer]:
        """Make several calls, as many at once as the node has free slots; a failed one is its error."""
        free = asyncio.Semaphore(await self._free_slots())

        async def reply(call: Callable[[], Awaitable[str]]) -> str | NoAnswer:
            async with free:
                try:
                    return await call()
                except NoAnswer as refused:
                    return refused

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(reply(call)) for call in calls]
        return [task.result() for task in tasks]

    async def residents(self) -> list[Candidate]:
        """Return the models that can be asked without loading one, the best first, or the named one."""
        choice = await self.app.router.explain(replace(self.request, model=self._named), self.session)
        return [candidate for candidate in choice.candidates if candidate.resident]

    async def _fitting(self, rules: str, text: str, history: Sequence[Message], **options: Any) -> Answer:
        """Ask with as much of the text as the context of the model takes."""
        room = self.budget.limits.context_chars
        while True:
            messages = (Message("system", rules), *history, Message("user", head_and_tail(text, room)))
            try:
                return await self(messages, **options)
            except NoAnswer as refused:
                exceeded = any(a.fault == FaultKind.CONTEXT_EXCEEDED.value for a in refused.attempts)
                if not exceeded or room <= _LEAST_ROOM_CHARS:
                    raise
                room, history = min(room, len(text)) // 2, ()

    async def _free_slots(self) -> int:
        """Return how many requests the node that answered last takes at once just now; at least one."""
        node = next((node for node in self.app.nodes if self.last and node.name == self.last.node), None)
        if node is None:
            return 1
        try:
            provider = await node.provider()
            slots = await provider.slots()
        except CallError:
            return 1
        return provider.kind.slots if slots is None else max(1, sum(not slot.busy for slot in slots))
