"""A draft, a critique against the goal, and a revision that is kept only where it is no worse."""

from typing import Any

from opskit.agent.agreement import on_subject
from opskit.agent.loop import LoopResult
from opskit.agent.methods.caller import CallOptions
from opskit.agent.methods.method import MethodGoal, MethodRun
from opskit.agent.prompt import prompt
from opskit.llm.answer import NoAnswer

_THINKING = CallOptions(think=True, is_final=True)
_CRITIQUE: dict[str, Any] = {
    "type": "object",
    "properties": {
        "problems": {"type": "array", "items": {"type": "string", "maxLength": 200}, "maxItems": 3}
    },
    "required": ["problems"],
    "additionalProperties": False,
}


class ExtendedThinking:
    """Thinks twice, with the model's own thinking switched on where the server can."""

    def __init__(self, run: MethodRun) -> None:
        self._run = run

    async def solve(self, goal: MethodGoal) -> LoopResult:
        """Return the revision, or the draft where nothing better came of it. Raises NoAnswer for no draft."""
        ask, write = self._run.ask, self._run.trajectory.write
        draft = goal.draft or await self._text("answer", goal)
        write("draft", text=draft)
        notes = []
        try:
            found = await ask.object(prompt("critique"), goal.described(("Answer", draft)), _CRITIQUE)
            problems = found.get("problems")
            listed = [str(text) for text in problems[:3] if text] if isinstance(problems, list) else []
            write("critique", problems=listed)
            if not isinstance(problems, list):
                notes.append("the critique of the answer could not be read: the draft stands")
            if not listed:
                return goal.ended(draft, notes)
            parts = ("Answer", draft), ("Problems of this answer", "; ".join(listed))
            revision = await self._text("revise", goal, *parts)
        except NoAnswer as refused:
            notes.append(f"the answer was not revised: {refused.message}")
            return goal.ended(draft, notes)
        write("revision", text=revision)
        if goal.problem(revision) is None and on_subject(revision, f"{goal.text}\n{draft}"):
            return goal.ended(revision, notes)
        notes.append("the revision was worse than the draft, which stands")
        return goal.ended(draft, notes)

    async def _text(self, rules: str, goal: MethodGoal, *parts: tuple[str, str]) -> str:
        described = goal.described(*parts)
        return await self._run.ask.text(prompt(rules), described, goal.text, goal.history, _THINKING)
