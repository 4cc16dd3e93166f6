"""A draft, a critique against the goal, and a revision that is kept only where it is no worse."""

from typing import Any

from opskit.agent.agreement import on_subject
from opskit.agent.loop import LoopResult
from opskit.agent.methods.caller import ModelCaller
from opskit.agent.methods.method import MethodGoal
from opskit.agent.prompt import prompt
from opskit.llm.answer import NoAnswer

_PROBLEMS = {"type": "array", "items": {"type": "string", "maxLength": 200}, "maxItems": 3}
_CRITIQUE: dict[str, Any] = {
    "type": "object",
    "properties": {"problems": _PROBLEMS},
    "required": ["problems"],
    "additionalProperties": False,
}


class ExtendedThinking:
    """Thinks twice, with the model's own thinking switched on where the server can."""

    def __init__(self, ask: ModelCaller) -> None:
        self._ask = ask

    async def solve(self, goal: MethodGoal) -> LoopResult:
        """Return the revision, or the draft where nothing better came of it. Raises NoAnswer for no draft."""
        ask, write = self._ask, self._ask.trajectory.write
        draft = goal.draft or await ask.text("answer", goal, think=True)
        write("draft", text=draft)
        try:
            found = await ask.object(prompt("critique"), goal.described(("Answer", draft)), _CRITIQUE)
            problems = found.get("problems")
            write("critique", problems=problems)
            if not isinstance(problems, list):
                return goal.ended(draft, ["the critique of the answer could not be read: the draft stands"])
            if not problems:
                return goal.ended(draft)
            listed = "; ".join(map(str, problems[:3]))
            parts = ("Answer", draft), ("Problems of this answer", listed)
            revision = await ask.text("revise", goal, *parts, think=True)
        except NoAnswer as refused:
            return goal.ended(draft, [f"the answer was not revised: {refused.message}"])
        write("revision", text=revision)
        result = goal.ended(revision)
        if result.ok and on_subject(revision, f"{goal.text}\n{draft}"):
            return result
        return goal.ended(draft, ["the revision was worse than the draft, which stands"])
