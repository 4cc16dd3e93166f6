"""Victoria: understands a goal, plans where it has several parts, and works on it with tools."""

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from opskit.agent.evidence import CheckStack, evidence_tools, stack_report
from opskit.agent.fact import fact_from_small_model, only_small_models
from opskit.agent.loop import AgentLoop, LoopResult, Observed, RunEnding, RunLimits, never
from opskit.agent.method import about_machine, about_stack, method_of, wants_plan
from opskit.agent.prompt import prompt
from opskit.agent.step import AgentStep, StepError, read_object
from opskit.agent.tools.tool import NeedsApproval
from opskit.agent.tools.toolbox import Toolbox, toolbox
from opskit.agent.trajectory import Trajectory
from opskit.app import App
from opskit.engine import Goal, RunFailed, Solution
from opskit.errors import OpskitError
from opskit.llm.answer import Answer, Ask, Attempt, NoAnswer, Session
from opskit.llm.plan import ModelRequest
from opskit.providers.base import Message
from opskit.trace.span import span

_SHORT_TOKENS = 300
_UNDERSTOOD: dict[str, Any] = {
    "type": "object",
    "properties": {
        "restated": {"type": "string", "maxLength": 400},
        "category": {"enum": ["simple", "investigate", "multi_step"]},
        "first_step": {"type": "string", "maxLength": 200},
    },
    "required": ["restated", "category", "first_step"],
    "additionalProperties": False,
}
_PLAN: dict[str, Any] = {
    "type": "object",
    "properties": {
        "steps": {
            "type": "array",
            "items": {"type": "string", "maxLength": 200},
            "minItems": 1,
            "maxItems": 2,
        }
    },
    "required": ["steps"],
    "additionalProperties": False,
}


@dataclass(slots=True)
class _Asker:
    """Asks the router for every stage of one run, and keeps what was tried."""

    app: App
    request: ModelRequest
    session: Session
    strict_context: bool
    attempts: list[Attempt] = field(default_factory=list)
    last: Answer | None = None

    async def __call__(
        self, messages: Sequence[Message], *, schema: Mapping[str, Any], max_tokens: int
    ) -> Answer:
        ask = Ask(
            tuple(messages),
            self.request,
            max_tokens,
            temperature=0.0 if self.app.config.router.temperature is None else None,
            length_is_fine=True,
            strict_context=self.strict_context,
            schema=schema,
        )
        try:
            answer = await self.app.router.chat(ask, self.session)
        except NoAnswer as refused:
            self.attempts += refused.attempts
            raise
        self.attempts += answer.attempts
        self.last = answer
        # The model that knows the dialogue goes on with it: another would read all of it again.
        self.request = replace(self.request, model=self.request.model or answer.model)
        return answer


class Victoria:
    """Works on goals that need more than one question to a model; the engine answers the others."""

    def __init__(
        self,
        app: App,
        *,
        limits: RunLimits | None = None,
        on_step: Callable[[AgentStep], None] = lambda _: None,
        on_observed: Callable[[Observed], None] = lambda _: None,
        on_note: Callable[[str], None] = lambda _: None,
        approve: Callable[[NeedsApproval], Awaitable[bool]] = never,
    ) -> None:
        self._app = app
        self._approve = approve
        self._limits = limits or RunLimits()
        self._on_step = on_step
        self._on_observed = on_observed
        self._on_note = on_note

    async def solve(
        self, goal: Goal, category: str, identifier: str, session: Session | None
    ) -> Solution | None:
        """Return what a run came to; None for a goal that one question answers.

        Raises RunFailed where there is no honest answer.
        """
        method = method_of(goal.text) if goal.method == "auto" else goal.method
        if method == "simple":
            began = time.monotonic()
            try:
                return await fact_from_small_model(self._app, goal, category, session)
            except NoAnswer as refused:
                raise RunFailed(
                    refused,
                    attempts=refused.attempts,
                    correlation_id=identifier,
                    seconds=time.monotonic() - began,
                ) from refused
        asker = _Asker(
            self._app,
            ModelRequest(model=goal.model or self._app.config.victoria_model, category=category),
            session or Session(),
            goal.strict_context,
        )
        began = time.monotonic()
        trajectory = Trajectory(Path(self._app.folder), identifier)
        trajectory.write("goal", text=goal.text, method=method)
        tools = toolbox(
            self._app.config,
            self._app.environ,
            Path(self._app.folder),
            self._on_note,
            evidence_tools(self._app),
        )
        try:
            result = await self._react(goal, asker, tools, trajectory)
        except NoAnswer as refused:
            trajectory.write("end", ending="no_answer", why=refused.message)
            if not about_stack(goal.text):
                raise RunFailed(
                    refused,
                    attempts=asker.attempts,
                    correlation_id=identifier,
                    seconds=time.monotonic() - began,
                ) from refused
            return await self._reported(refused.message, asker)
        except BaseException as error:
            trajectory.write("end", ending="interrupted", why=type(error).__name__)
            raise
        finally:
            trajectory.close()
            tools.close()
        if not result.ok and result.ending is not RunEnding.NEEDS_APPROVAL and about_stack(goal.text):
            return await self._reported(result.why or result.ending.value, asker, result.steps)
        if not result.ok:
            problem = _problem(result)
            raise RunFailed(
                problem, attempts=asker.attempts, correlation_id=identifier, seconds=time.monotonic() - began
            )
        return self._solution(result, asker)

    async def _react(self, wanted: Goal, asker: _Asker, tools: Toolbox, trajectory: Trajectory) -> LoopResult:
        """Understand, plan and execute; the first two only for goals of several parts."""
        goal, plan = wanted.text, list[str]()
        if wants_plan(goal):
            with span("understand"):
                understood = await self._object(asker, prompt("understand"), f"Goal: {goal}", _UNDERSTOOD)
            trajectory.write("understood", **understood)
            with span("plan"):
                names = ", ".join(tools.tools)
                restated = str(understood.get("restated") or goal)
                planned = await self._object(asker, prompt("plan", tools=names), restated, _PLAN)
            steps = planned.get("steps")
            plan = [str(step) for step in steps[:2]] if isinstance(steps, list) else []
            trajectory.write("plan", steps=plan)

        def on_step(step: AgentStep) -> None:
            trajectory.write("step", thought=step.thought, tool=step.tool, args=step.args)
            self._on_step(step)

        def on_observed(observed: Observed) -> None:
            trajectory.write(
                "observation",
                tool=observed.step.tool,
                ok=observed.result.ok,
                seconds=round(observed.seconds, 3),
                text=observed.result.text[:20_000],
            )
            self._on_observed(observed)

        loop = AgentLoop(
            asker,
            tools,
            self._limits,
            needs_evidence=about_machine(goal),
            word_for_word=await only_small_models(self._app, asker.request.model),
            approve=self._approve,
            on_step=on_step,
            on_observed=on_observed,
        )
        with span("execute"):
            result = await loop.run(goal, plan, wanted.history)
        trajectory.write(
            "end", ending=result.ending.value, answer=result.answer, why=result.why, notes=result.notes
        )
        return result

    async def _object(
        self, asker: _Asker, rules: str, text: str, schema: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        """Ask for one object; an empty one where the model gives none."""
        messages = (Message("system", rules), Message("user", text))
        answer = await asker(messages, schema=schema, max_tokens=_SHORT_TOKENS)
        try:
            return read_object(answer.text)
        except StepError:
            return {}

    async def _reported(self, why: str, asker: _Asker, steps: Sequence[Observed] = ()) -> Solution:
        """Answer a goal about the stack without a model, by what was found out; the answer says so."""
        shown = {step.step.tool: step.result.text for step in steps if step.result.ok}
        report = shown.pop(CheckStack.name, None) or await stack_report(self._app)
        parts = [f"No model gave an honest answer ({why}). This is what `opskit doctor` finds:", report]
        for name, text in shown.items():
            parts += [f"{name}:", text]
        text = "\n".join(parts)
        return Solution(text, "doctor", "none", "opskit", tuple(asker.attempts), ())

    def _solution(self, result: LoopResult, asker: _Asker) -> Solution:
        answered = asker.last
        steps = [
            {
                "tool": observed.step.tool,
                "args": dict(observed.step.args),
                "ok": observed.result.ok,
                "seconds": round(observed.seconds, 3),
            }
            for observed in result.steps
        ]
        notes = list(result.notes)
        if result.ending is RunEnding.CONCLUDED:
            notes.append("the answer is the best one from what was found out within the limits")
        return Solution(
            result.answer,
            "react",
            answered.model if answered else "none",
            answered.node if answered else "opskit",
            tuple(asker.attempts),
            tuple(steps),
            tuple(notes),
        )


def _problem(result: LoopResult) -> OpskitError:
    """Return why a run has no answer."""
    if result.ending is RunEnding.NEEDS_APPROVAL:
        return OpskitError(
            "GEN_001",
            result.why,
            remedy="run the command yourself, or allow it by `agent.policy.allow` in opskit.yaml",
        )
    return OpskitError("GEN_001", f"no honest answer: {result.why or result.ending.value}")
