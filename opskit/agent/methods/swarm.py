"""Experts by role, at once as far as the node has slots, and one answer out of what they say."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from opskit.agent.agreement import most_agreed
from opskit.agent.loop import LoopResult, RunEnding
from opskit.agent.methods.caller import CallOptions
from opskit.agent.methods.method import MethodGoal, MethodRun
from opskit.agent.prompt import prompt
from opskit.llm.answer import NoAnswer
from opskit.text import counted


@dataclass(frozen=True, slots=True)
class Expert:
    """Who looks at a goal, and at what of it."""

    role: str
    focus: str


_EXPERTS: Mapping[str, tuple[Expert, ...]] = {
    "coding": (
        Expert("a programmer", "Say how to build it, with the code that matters."),
        Expert("a reviewer of code", "Name the faults and edge cases that others overlook."),
        Expert("a tester", "Say how to find out that it works."),
    ),
    "planning": (
        Expert("a planner", "Say which steps lead there, and in which order."),
        Expert("a risk analyst", "Name what can go wrong, and what to do about it."),
        Expert("an operations engineer", "Say what it takes in practice: tools, time, people."),
    ),
}
_ANY = (
    Expert("a specialist of the subject", "Give the facts that answer it."),
    Expert("a sceptic", "Name what is uncertain, wrong or missing in the usual answer."),
    Expert("a practitioner", "Say what follows in practice."),
)


class Swarm:
    """Asks the experts that suit a category. `experts` takes the place of the built-in ones."""

    def __init__(self, run: MethodRun, category: str, experts: Sequence[Expert] = ()) -> None:
        self._run = run
        self._experts = experts or _EXPERTS.get(category, _ANY)

    async def solve(self, goal: MethodGoal) -> LoopResult:
        """Return the synthesis, or the contribution that most agree with. Raises NoAnswer for none at all."""
        contributions = {}
        calls = [partial(self._asked, goal, expert) for expert in self._experts]
        # The first one shows who answers; the others share that node's slots.
        replies = await self._run.ask.together(calls[:1])
        replies += await self._run.ask.together(calls[1:])
        for expert, reply in zip(self._experts, replies, strict=True):
            if isinstance(reply, str) and goal.problem(reply) is None:
                contributions[expert.role] = reply
                self._run.trajectory.write("expert", role=expert.role, text=reply)
        if not contributions:
            refusals = [reply for reply in replies if isinstance(reply, NoAnswer)]
            if len(refusals) == len(replies):
                raise refusals[0]
            return goal.ended(next(reply for reply in replies if isinstance(reply, str)))
        missing = len(replies) - len(contributions)
        notes = [f"{counted(missing, 'expert')} of {len(replies)} gave no usable answer"] if missing else []
        result = await synthesised(self._run, goal, contributions, notes)
        if result.ok:
            return result
        texts = list(contributions.values())
        best, _ = most_agreed(texts, goal.text)
        return goal.ended(texts[best], [*notes, f"this is the view of one expert: {result.why}"])

    async def _asked(self, goal: MethodGoal, expert: Expert) -> str:
        rules = prompt("expert", role=expert.role, focus=expert.focus)
        return await self._run.ask.text(
            rules, goal.described(), goal.text, goal.history, CallOptions(spare=1)
        )


async def synthesised(
    run: MethodRun, goal: MethodGoal, contributions: Mapping[str, str], notes: list[str]
) -> LoopResult:
    """Return one answer out of several parts, or why they could not be put together."""
    parts = [(f"From {name}", text) for name, text in contributions.items()]
    try:
        answer = await run.ask.text(
            prompt("synthesis"), goal.described(*parts), goal.text, goal.history, CallOptions(is_final=True)
        )
    except NoAnswer as refused:
        return LoopResult(RunEnding.BAD_ANSWER, why=refused.message, notes=notes)
    return goal.ended(answer, notes)
