"""Experts by role, at once as far as the node has slots, and one answer out of what they say."""

from collections.abc import Mapping
from functools import partial

from opskit.agent.agreement import most_agreed
from opskit.agent.loop import LoopResult, RunEnding
from opskit.agent.methods.caller import ModelCaller
from opskit.agent.methods.method import MethodGoal
from opskit.llm.answer import NoAnswer
from opskit.text import counted

#: Roles, each with what it looks at, by the category of a goal.
Experts = Mapping[str, str]
_EXPERTS: Mapping[str, Experts] = {
    "coding": {
        "a programmer": "Say how to build it, with the code that matters.",
        "a reviewer of code": "Name the faults and edge cases that others overlook.",
        "a tester": "Say how to find out that it works.",
    },
    "planning": {
        "a planner": "Say which steps lead there, and in which order.",
        "a risk analyst": "Name what can go wrong, and what to do about it.",
        "an operations engineer": "Say what it takes in practice: tools, time, people.",
    },
}
_ANY: Experts = {
    "a specialist of the subject": "Give the facts that answer it.",
    "a sceptic": "Name what is uncertain, wrong or missing in the usual answer.",
    "a practitioner": "Say what follows in practice.",
}


class Swarm:
    """Asks the experts that suit a category. `experts` take the place of the built-in ones."""

    def __init__(self, ask: ModelCaller, category: str, experts: Experts | None = None) -> None:
        self._ask = ask
        self._experts = experts or _EXPERTS.get(category, _ANY)

    async def solve(self, goal: MethodGoal) -> LoopResult:
        """Return the synthesis, or the contribution that most agree with. Raises NoAnswer for none at all."""
        calls = [
            partial(
                self._ask.text,
                "expert",
                goal,
                ("Your role", f"{role}. {focus}"),
                length_is_fine=True,
                spare=1,
            )
            for role, focus in self._experts.items()
        ]
        # The first one shows who answers; the others share that node's slots.
        replies = [*await self._ask.together(calls[:1]), *await self._ask.together(calls[1:])]
        named = [
            (role, text) for role, text in zip(self._experts, replies, strict=True) if isinstance(text, str)
        ]
        if not named:
            raise next(reply for reply in replies if isinstance(reply, NoAnswer))
        views = {role: text for role, text in named if goal.ended(text).ok}
        self._ask.trajectory.write("experts", **views)
        if not views:
            return goal.ended(named[0][1])
        missing = len(replies) - len(views)
        notes = [f"{counted(missing, 'expert')} of {len(replies)} gave no usable answer"] if missing else []
        result = await synthesised(self._ask, goal, views, notes)
        if result.ok:
            return result
        texts = list(views.values())
        best, _ = most_agreed(texts, goal.text)
        return goal.ended(texts[best], [*notes, f"this is the view of one expert: {result.why}"])


async def synthesised(
    ask: ModelCaller, goal: MethodGoal, views: Mapping[str, str], notes: list[str]
) -> LoopResult:
    """Return one answer out of several parts, or why they could not be put together."""
    try:
        answer = await ask.text("synthesis", goal, *((f"From {name}", text) for name, text in views.items()))
    except NoAnswer as refused:
        return LoopResult(RunEnding.BAD_ANSWER, why=refused.message, notes=notes)
    return goal.ended(answer, notes)
