"""A plan of sub-goals, each worked on by itself, and one answer out of what they came to."""

from typing import Any

from opskit.agent.agreement import alike
from opskit.agent.loop import LoopResult, Observed, RunEnding
from opskit.agent.methods.caller import ModelCaller
from opskit.agent.methods.method import Method, MethodGoal
from opskit.agent.methods.simple import Simple
from opskit.agent.methods.swarm import synthesised
from opskit.agent.prompt import prompt
from opskit.llm.answer import NoAnswer
from opskit.records import replace

_MOST = 4
_LISTED = {"type": "array", "items": {"type": "string", "maxLength": 200}, "minItems": 2, "maxItems": _MOST}
_SUBGOALS: dict[str, Any] = {
    "type": "object",
    "properties": {"goals": _LISTED},
    "required": ["goals"],
    "additionalProperties": False,
}


class Hierarchical:
    """Sub-goals about this machine are worked on by `react`, the others by one question each."""

    def __init__(self, ask: ModelCaller, react: Method) -> None:
        self._ask = ask
        self._react = react
        self._steps: list[Observed] = []
        self._notes: list[str] = []

    async def solve(self, goal: MethodGoal) -> LoopResult:
        """Return the synthesis of the sub-goals. Raises NoAnswer where no model answers."""
        answers: dict[str, str] = {}
        for number, text in enumerate(await self._divided(goal), 1):
            try:
                result = await self._worked_on(text, goal, answers)
            except NoAnswer as refused:
                self._notes.append(f"part {number} has no answer: {refused.message}")
                continue
            if result.ending is RunEnding.NEEDS_APPROVAL:
                return replace(result, steps=self._steps)
            if result.ok:
                answers[text] = result.answer
            else:
                self._notes.append(f"part {number} has no answer: {result.why}")
        if not answers or (goal.needs_evidence and not any(step.result.ok for step in self._steps)):
            self._notes.append("the goal was worked on as a whole: its parts had no answers")
            result = await (self._react if goal.needs_evidence else Simple(self._ask)).solve(goal)
            return replace(result, steps=[*self._steps, *result.steps], notes=[*self._notes, *result.notes])
        goal = replace(goal, results=tuple(step.result.text for step in self._steps))
        result = await synthesised(self._ask, goal, answers, self._notes)
        if not result.ok:
            self._notes.append(f"the parts are not put together: {result.why}")
            result = goal.ended(
                "\n".join(f"{text}: {answer}" for text, answer in answers.items()), self._notes
            )
        return replace(result, steps=self._steps)

    async def _divided(self, goal: MethodGoal) -> list[str]:
        """Return the sub-goals of a goal; none where the model only repeats it."""
        found = await self._ask.object(prompt("subgoals"), goal.described(), _SUBGOALS, spare=2)
        listed = found.get("goals")
        texts: list[str] = []
        for text in map(str, listed[:_MOST] if isinstance(listed, list) else ()):
            if text.strip() and not any(alike(text, other) for other in (goal.text, *texts)):
                texts.append(text.strip())
        self._ask.trajectory.write("subgoals", texts=texts)
        return texts if len(texts) > 1 else []

    async def _worked_on(self, text: str, goal: MethodGoal, answers: dict[str, str]) -> LoopResult:
        part = MethodGoal(text, hint=f"this is a part of: {goal.text[:300]}")
        if part.needs_evidence:
            result = await self._react.solve(part)
            self._steps += result.steps
            return result
        # A small model copies what stands beside its question: the part alone, and what is known.
        known = tuple(f"{earlier}: {answer}" for earlier, answer in answers.items())
        return await Simple(self._ask).solve(replace(part, hint="", results=known))
