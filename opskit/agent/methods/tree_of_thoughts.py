"""Thoughts that branch, each with a score; the best path of them leads to the answer."""

from typing import Any

from opskit.agent.agreement import alike
from opskit.agent.loop import LoopResult
from opskit.agent.methods.caller import ModelCaller
from opskit.agent.methods.method import MethodGoal
from opskit.agent.prompt import prompt
from opskit.llm.answer import NoAnswer

_BREADTH, _DEPTH = 3, 2
_TEMPERATURE = 0.8
_SCORES = list(range(11))
_THOUGHT: dict[str, Any] = {
    "type": "object",
    "properties": {"thought": {"type": "string", "maxLength": 300}},
    "required": ["thought"],
    "additionalProperties": False,
}
_SCORE = {**_THOUGHT, "properties": {"score": {"enum": _SCORES}}, "required": ["score"]}

Path = tuple[str, ...]


class TreeOfThoughts:
    """Looks for a way in a tree of bounded breadth and depth, and answers from the best path."""

    def __init__(self, ask: ModelCaller) -> None:
        self._ask = ask
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
            if self._ask.last is None:
                raise
            self._notes.append(f"the thinking was cut short: {refused.message}")
        return goal.ended(await self._ask.text("answer", goal, *_titled(path)), self._notes)

    async def _branches(self, goal: MethodGoal, path: Path) -> list[Path]:
        """Return the path with each of some new thoughts; what was thought before is none."""
        thoughts: list[str] = []
        for seed in range(_BREADTH):
            parts = [*_titled(path), *(("Already considered", thought) for thought in thoughts)]
            other = {"temperature": _TEMPERATURE, "seed": seed} if seed else {}
            rules, text = prompt("thought"), goal.described(*parts)
            found = await self._ask.object(rules, text, _THOUGHT, spare=1, **other)
            thought = str(found.get("thought") or "").strip()
            if thought and not any(alike(thought, known) for known in (goal.text, *path, *thoughts)):
                thoughts.append(thought)
        return [(*path, thought) for thought in thoughts]

    async def _score(self, goal: MethodGoal, path: Path) -> int:
        """Return how promising a path is; one that the model does not judge comes last."""
        found = await self._ask.object(prompt("score"), goal.described(*_titled(path)), _SCORE, spare=1)
        score = next((score for score in _SCORES if score == found.get("score")), None)
        if score is None and not self._notes:
            self._notes.append("some thoughts could not be judged")
        self._ask.trajectory.write("thought", path=path, score=score)
        return score or 0


def _titled(path: Path) -> list[tuple[str, str]]:
    return [("Thought", thought) for thought in path]
