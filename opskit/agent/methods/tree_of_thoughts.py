"""Thoughts that branch, each with a score; the best path of them leads to the answer."""

from typing import Any

from opskit.agent.agreement import alike
from opskit.agent.loop import LoopResult
from opskit.agent.methods.caller import CallOptions
from opskit.agent.methods.method import MethodGoal, MethodRun
from opskit.agent.prompt import prompt
from opskit.llm.answer import NoAnswer

_BREADTH, _DEPTH = 3, 2
_TEMPERATURE = 0.8
_BEST_SCORE = 10
_THOUGHT: dict[str, Any] = {
    "type": "object",
    "properties": {"thought": {"type": "string", "maxLength": 300}},
    "required": ["thought"],
    "additionalProperties": False,
}
_SCORE: dict[str, Any] = {
    "type": "object",
    "properties": {"score": {"enum": list(range(_BEST_SCORE + 1))}},
    "required": ["score"],
    "additionalProperties": False,
}

Path = tuple[str, ...]


class TreeOfThoughts:
    """Looks for a way in a tree of bounded breadth and depth, and answers from the best path."""

    def __init__(self, run: MethodRun) -> None:
        self._run = run
        self._notes: list[str] = []

    async def solve(self, goal: MethodGoal) -> LoopResult:
        """Return the answer at the end of the best path. Raises NoAnswer where no model answers."""
        path, score = Path(), -1
        try:
            for _ in range(_DEPTH):
                scored = [
                    (await self._score(goal, other), other) for other in await self._branches(goal, path)
                ]
                best, longer = max(scored, key=lambda pair: pair[0], default=(-1, path))
                if best < score or longer == path:
                    break
                path, score = longer, best
        except NoAnswer as refused:
            if self._run.ask.last is None:
                raise
            self._notes.append(f"the thinking was cut short: {refused.message}")
        parts = [("Thought", thought) for thought in path]
        options = CallOptions(is_final=True)
        answer = await self._run.ask.text(
            prompt("answer"), goal.described(*parts), goal.text, goal.history, options
        )
        return goal.ended(answer, self._notes)

    async def _branches(self, goal: MethodGoal, path: Path) -> list[Path]:
        """Return the path with each of some new thoughts; what was thought before is none."""
        thoughts: list[str] = []
        for number in range(_BREADTH):
            parts = [("Thought", thought) for thought in path]
            parts += [("Already considered", thought) for thought in thoughts]
            options = CallOptions(temperature=_TEMPERATURE, seed=number + 1, spare=1)
            found = await self._run.ask.object(
                prompt("thought"),
                goal.described(*parts),
                _THOUGHT,
                options if number else CallOptions(spare=1),
            )
            thought = str(found.get("thought") or "").strip()
            known = (goal.text, *path, *thoughts)
            if thought and not any(alike(thought, other) for other in known):
                thoughts.append(thought)
        return [(*path, thought) for thought in thoughts]

    async def _score(self, goal: MethodGoal, path: Path) -> int:
        """Return how promising a path is; one that the model does not judge comes last."""
        parts = [("Thought", thought) for thought in path]
        found = await self._run.ask.object(
            prompt("score"), goal.described(*parts), _SCORE, CallOptions(spare=1)
        )
        value = found.get("score")
        readable = isinstance(value, int) and 0 <= value <= _BEST_SCORE
        score = value if readable and isinstance(value, int) else 0
        if not readable and not self._notes:
            self._notes.append("some thoughts could not be judged")
        self._run.trajectory.write("thought", path=path, score=score)
        return score
