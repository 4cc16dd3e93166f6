"""ReAct: understand, plan and execute in steps with tools; the first two only for goals of several parts."""

from collections.abc import Awaitable, Callable
from typing import Any

from opskit.agent.fact import only_small_models
from opskit.agent.loop import AgentLoop, Checkpoint, LoopResult, Observed
from opskit.agent.methods.caller import ModelCaller
from opskit.agent.methods.method import MethodGoal
from opskit.agent.prompt import prompt
from opskit.agent.step import AgentStep
from opskit.agent.tools.tool import NeedsApproval
from opskit.agent.tools.toolbox import Toolbox
from opskit.llm.category import has_parts
from opskit.trace.span import span

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


class ReAct:
    """Works in steps with tools. `approve`, `on_step` and `on_observed` are those of the loop.

    With a `checkpoint` it goes on from there, and plans nothing.
    """

    def __init__(
        self,
        ask: ModelCaller,
        tools: Toolbox,
        *,
        approve: Callable[[NeedsApproval], Awaitable[bool | None]],
        on_step: Callable[[AgentStep], None],
        on_observed: Callable[[Observed], None],
        checkpoint: Checkpoint | None = None,
    ) -> None:
        self._ask = ask
        self._tools = tools
        self._approve = approve
        self._on_step = on_step
        self._on_observed = on_observed
        self._checkpoint = checkpoint

    async def solve(self, goal: MethodGoal) -> LoopResult:
        """Work in steps until an end or a limit. Raises NoAnswer."""
        budget = self._ask.budget
        plan = [goal.hint] if goal.hint else []
        if self._checkpoint is None and has_parts(goal.text):
            plan += await self._plan(goal.text)
        loop = AgentLoop(
            self._ask,
            self._tools,
            budget.for_steps(),
            needs_evidence=goal.needs_evidence,
            word_for_word=await only_small_models(self._ask.app, self._ask.request.model),
            approve=self._approve,
            on_step=self._stepped,
            on_observed=self._observed,
        )
        with span("execute"):
            if self._checkpoint is None:
                result = await loop.run(goal.text, plan, goal.history)
            else:
                result = await loop.resume(self._checkpoint)
        budget.took_steps(len(result.steps))
        return result

    async def _plan(self, goal: str) -> list[str]:
        ask, write = self._ask, self._ask.trajectory.write
        with span("understand"):
            understood = await ask.object(prompt("understand"), f"Goal: {goal}", _UNDERSTOOD)
        write("understood", **understood)
        with span("plan"):
            rules = prompt("plan", tools=", ".join(self._tools.tools))
            planned = await ask.object(rules, str(understood.get("restated") or goal), _PLAN)
        steps = planned.get("steps")
        plan = [str(step) for step in steps[:2]] if isinstance(steps, list) else []
        write("plan", steps=plan)
        return plan

    def _stepped(self, step: AgentStep) -> None:
        self._ask.trajectory.write("step", thought=step.thought, tool=step.tool, args=step.args)
        self._on_step(step)

    def _observed(self, observed: Observed) -> None:
        self._ask.trajectory.write(
            "observation",
            tool=observed.step.tool,
            ok=observed.result.ok,
            seconds=round(observed.seconds, 3),
            text=observed.result.text[:20_000],
        )
        self._on_observed(observed)
