"""A plan of sub-goals, each worked on by itself, and one answer out of what they came to."""

from opskit.agent.agreement import alike
from opskit.agent.methods.caller import Method, MethodGoal, ModelCaller
from opskit.agent.methods.thinking import simple, synthesised
from opskit.agent.prompt import prompt
from opskit.agent.run_state import LoopResult, Observed, RunEnding
from opskit.llm.answer import NoAnswer
from opskit.records import replace

_MOST = 4


async def hierarchical(ask: ModelCaller, goal: MethodGoal, react: Method) -> LoopResult:
    """Return the synthesis of the sub-goals: those about this machine by `react`, the others by a question.

    Raises NoAnswer where no model answers.
    """
    answers, steps, notes = dict[str, str](), list[Observed](), list[str]()
    for number, text in enumerate(await _divided(ask, goal), 1):
        part = MethodGoal(text, hint=f"this is a part of: {goal.text[:300]}")
        try:
            if part.needs_evidence:
                result = await react(part)
                steps += result.steps
            else:
                # A small model copies what stands beside its question: the part alone, and what is known.
                known = tuple(f"{earlier}: {answer}" for earlier, answer in answers.items())
                result = await simple(ask, replace(part, hint="", results=known))
        except NoAnswer as refused:
            notes.append(f"part {number} has no answer: {refused.message}")
            continue
        if result.ending is RunEnding.NEEDS_APPROVAL:
            return replace(result, steps=steps)
        if result.ok:
            answers[text] = result.answer
        else:
            notes.append(f"part {number} has no answer: {result.why}")
    if not answers or (goal.needs_evidence and not any(step.result.ok for step in steps)):
        notes.append("the goal was worked on as a whole: its parts had no answers")
        result = await (react(goal) if goal.needs_evidence else simple(ask, goal))
        return replace(result, steps=[*steps, *result.steps], notes=[*notes, *result.notes])
    goal = replace(goal, results=tuple(step.result.text for step in steps))
    result = await synthesised(ask, goal, answers, notes)
    if not result.ok:
        notes.append(f"the parts are not put together: {result.why}")
        result = goal.ended("\n".join(f"{text}: {answer}" for text, answer in answers.items()), notes)
    return replace(result, steps=steps)


async def _divided(ask: ModelCaller, goal: MethodGoal) -> list[str]:
    """Return the sub-goals of a goal; none where the model only repeats it."""
    listed = await ask.texts(prompt("subgoals"), goal.described(), "goals", least=2, most=_MOST, spare=2)
    texts: list[str] = []
    for text in listed or ():
        if text.strip() and not any(alike(text, other) for other in (goal.text, *texts)):
            texts.append(text.strip())
    ask.trajectory.write("subgoals", texts=texts)
    return texts if len(texts) > 1 else []
