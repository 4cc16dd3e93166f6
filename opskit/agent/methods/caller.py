"""Asks the models for every stage of one run, within its budget, and keeps what was tried."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from opskit.agent.methods.budget import RunBudget
from opskit.agent.step import StepError, read_object
from opskit.app import App
from opskit.llm.answer import Answer, Ask, Attempt, NoAnswer, Session
from opskit.llm.plan import ModelRequest
from opskit.providers.base import Message


@dataclass(slots=True)
class ModelCaller:
    """The models of one run. `last` is the newest answer, which tells who works on the goal."""

    app: App
    request: ModelRequest
    session: Session
    strict_context: bool
    budget: RunBudget
    attempts: list[Attempt] = field(default_factory=list)
    last: Answer | None = None

    async def __call__(
        self, messages: Sequence[Message], *, schema: Mapping[str, Any] | None, max_tokens: int
    ) -> Answer:
        """Ask once. Raises NoAnswer, BudgetSpentError among it."""
        granted = self.budget.take(max_tokens)
        ask = Ask(
            tuple(messages),
            self.request,
            granted,
            temperature=0.0 if self.app.config.router.temperature is None else None,
            length_is_fine=True,
            strict_context=self.strict_context,
            schema=schema,
        )
        try:
            answer = await self.app.router.chat(ask, self.session)
        except NoAnswer as refused:
            self.attempts += refused.attempts
            self.budget.settle(granted, refused.attempts)
            raise
        self.attempts += answer.attempts
        self.budget.settle(granted, answer.attempts, answer)
        self.last = answer
        # The model that knows the dialogue goes on with it: another would read all of it again.
        self.request = replace(self.request, model=self.request.model or answer.model)
        return answer

    async def object(
        self, rules: str, text: str, schema: Mapping[str, Any], max_tokens: int
    ) -> Mapping[str, Any]:
        """Ask for one object; an empty one where the model gives none."""
        messages = (Message("system", rules), Message("user", text))
        answer = await self(messages, schema=schema, max_tokens=max_tokens)
        try:
            return read_object(answer.text)
        except StepError:
            return {}
