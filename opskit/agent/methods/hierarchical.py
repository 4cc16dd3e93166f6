"""A plan of sub-goals, each worked on by itself, and one answer out of what they came to."""

from dataclasses import replace
from typing import Any

from opskit.agent.agreement import alike
from opskit.agent.loop import LoopResult, Observed, RunEnding
from opskit.agent.methods.caller import CallOptions
from opskit.agent.methods.method import Method, MethodGoal, MethodRun
from opskit.agent.methods.simple import Simple
from opskit.agent.methods.swarm import synthesised
from opskit.agent.prompt import prompt
from opskit.llm.answer import NoAnswer

_MOST = 4
_SUBGOALS: dict[str, Any] = {
    "type": "object",
    "properties": {
        "goals": {
            "type": "array",
            "items": {"type": "string", "maxLength": 200},
            "minItems": 2,
            "maxItems": _MOST,
        }
    },
    "required": ["goals"],
    "additionalProperties": False,
}


class Hierarchical:
    """Sub-goals about this machine are worked on by `react`, the others by one question each."""

    def __init__(self, run: MethodRun, react: Method) -> None:
        self._run = run
        self._react = react
        self._steps: list[Observed] = []
        self._notes: list[str] = []

    async def solve(self, goal: MethodGoal) -> LoopResult:
        """Return the synthesis of the sub-goals. Raises NoAnswer where no model answers."""
        subgoals = await self._divided(goal)
        answers: dict[str, str] = {}
        for number, text in enumerate(subgoals, 1):
            part = MethodGoal(text, hint=f"this is a part of: {goal.text[:300]}")
            try:
                result = await self._worked_on(part, answers)
            except NoAnswer as refused:
                self._notes.append(f"part {number} has no answer: {refused.message}")
                continue
            if result.ending is RunEnding.NEEDS_APPROVAL:
                return replace(result, steps=self._steps)
            if result.ok:
                answers[text] = result.answer
            else:
                self._notes.append(f"part {number} has no answer: {result.why}")
        has_evidence = any(observed.result.ok for observed in self._steps)
        if not answers or (goal.needs_evidence and not has_evidence):
            # No part showed anything: the goal as a whole.
            return await self._whole(goal)
        goal = replace(goal, results=tuple(observed.result.text for observed in self._steps))
        result = await synthesised(self._run, goal, answers, self._notes)
        if not result.ok:
            self._notes.append(f"the parts are not put together: {result.why}")
            result = goal.ended(
                "\n".join(f"{text}: {answer}" for text, answer in answers.items()), self._notes
            )
        return replace(result, steps=self._steps)

    async def _divided(self, goal: MethodGoal) -> list[str]:
        """Return the sub-goals of a goal; none where the model only repeats it."""
        found = await self._run.ask.object(
            prompt("subgoals"), goal.described(), _SUBGOALS, CallOptions(spare=2)
        )
        listed = found.get("goals")
        texts: list[str] = []
        for text in [str(text).strip() for text in listed[:_MOST]] if isinstance(listed, list) else []:
            if text and not any(alike(text, other) for other in (goal.text, *texts)):
                texts.append(text)
        self._run.trajectory.write("subgoals", texts=texts)
        return texts if len(texts) > 1 else []

    async def _worked_on(self, part: MethodGoal, answers: dict[str, str]) -> LoopResult:
        if not part.needs_evidence:
            known = tuple(f"{text}: {answer}" for text, answer in answers.items())
            # A small model copies what stands beside its question: the part alone, and what is known.
            return await Simple(self._run).solve(replace(part, hint="", results=known))
        result = await self._react.solve(part)
        self._steps += result.steps
        return result

    async def _whole(self, goal: MethodGoal) -> LoopResult:
        method = self._react if goal.needs_evidence else Simple(self._run)
        result = await method.solve(goal)
        notes = ["the goal was worked on as a whole: its parts had no answers", *self._notes, *result.notes]
        return replace(result, steps=[*self._steps, *result.steps], notes=notes)
