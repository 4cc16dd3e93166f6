"""Methods that think before they answer, and look at nothing: each gets a goal and gives an answer."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from itertools import cycle, islice
from typing import Any

from opskit.agent.agreement import alike, most_agreed, on_subject
from opskit.agent.methods.caller import MethodGoal, ModelCaller
from opskit.agent.prompt import prompt
from opskit.agent.run_state import Checkpoint, LoopResult, RunEnding
from opskit.agent.step import object_schema
from opskit.llm.answer import NoAnswer
from opskit.llm.wording import goal_category
from opskit.records import replace
from opskit.text import counted, listing

_MOST_PROBLEMS = 3
_SAMPLES = 3
_TEMPERATURE = 0.8
_SHOWN_CHARS = 80
#: Roles of experts, each with what it looks at, by the category of a goal.
_EXPERTS: Mapping[str, Mapping[str, str]] = {
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
    "": {
        "a specialist of the subject": "Give the facts that answer it.",
        "a sceptic": "Name what is uncertain, wrong or missing in the usual answer.",
        "a practitioner": "Say what follows in practice.",
    },
}
_BREADTH, _DEPTH = 3, 2
_SCORES = list(range(11))
_THOUGHT = object_schema(thought={"type": "string", "maxLength": 300})
_SCORE = object_schema(score={"enum": _SCORES})


async def extended_thinking(ask: ModelCaller, goal: MethodGoal) -> LoopResult:
    """Return a draft that was revised after a critique, or the draft where the revision is worse.

    The model's own thinking is switched on where the server can. Raises NoAnswer for no draft.
    """
    write = ask.trajectory.write
    draft = goal.draft or await ask.text("answer", goal, think=True)
    write("draft", text=draft)
    try:
        answer = goal.described(("Answer", draft))
        problems = await ask.texts(prompt("critique"), answer, "problems", most=_MOST_PROBLEMS)
        write("critique", problems=problems)
        if problems is None:
            return goal.ended(draft, ["the critique of the answer could not be read: the draft stands"])
        if not problems:
            return goal.ended(draft)
        parts = ("Answer", draft), ("Problems of this answer", "; ".join(problems))
        revision = await ask.text("revise", goal, *parts, think=True)
    except NoAnswer as refused:
        return goal.ended(draft, [f"the answer was not revised: {refused.message}"])
    write("revision", text=revision)
    result = goal.ended(revision)
    if result.ok and on_subject(revision, f"{goal.text}\n{draft}"):
        return result
    return goal.ended(draft, ["the revision was worse than the draft, which stands"])


async def consensus(ask: ModelCaller, goal: MethodGoal) -> LoopResult:
    """Return the one of several independent answers that most agree with; `agreement` is their part.

    Only loaded models are asked, the same one again where there is no other. Raises NoAnswer for no answer.
    """
    # What was answered before must not make the answers agree.
    goal = replace(goal, hint="")
    replies = [goal.draft] if goal.draft else await ask.together([partial(ask.text, "answer", goal)])
    replies += await ask.together(
        partial(ask.text, "answer", goal, temperature=_TEMPERATURE, seed=seed, **asked)
        for seed, asked in enumerate(await _others(ask), 1)
    )
    texts = [reply for reply in replies if isinstance(reply, str)]
    answers = [text for text in texts if goal.ended(text).ok]
    ask.trajectory.write("answers", texts=answers, asked=len(replies))
    if answers:
        return _judged(goal, answers, len(replies))
    if texts:
        return goal.ended(texts[0])
    raise next(reply for reply in replies if isinstance(reply, NoAnswer))


async def _others(ask: ModelCaller) -> list[dict[str, Any]]:
    """Return who gives the further answers, as changes to an `Ask`: first who has not answered yet."""
    last, residents = ask.last, await ask.residents()
    residents.sort(
        key=lambda model: last is not None and (model.node, model.model) == (last.node, last.model)
    )
    requests = [replace(ask.request, model=model.model, node=model.node) for model in residents]
    asked = [{"request": request, "max_fallbacks": 0} for request in requests]
    return list(islice(cycle(asked or [{}]), _SAMPLES - 1))


def _judged(goal: MethodGoal, answers: Sequence[str], asked: int) -> LoopResult:
    best, agreement = most_agreed(answers, goal.text)
    agreeing = round(agreement * len(answers))
    result, others = goal.ended(answers[best]), [text for text in answers if text != answers[best]]
    result.agreement = agreeing / asked
    if agreeing < asked:
        shown = listing([" ".join(text.split())[:_SHOWN_CHARS] for text in others], separator=" | ")
        note = f"not certain: {agreeing} of {counted(asked, 'answer')} agree"
        result.notes.append(note + (f"; others: {shown}" if shown else ""))
    if agreeing == 1:
        warning = "Not certain: no other answer agrees with this one:"
        if any("а" <= char <= "я" for char in goal.text.casefold()):
            warning = "Не точно: другие ответы с этим не согласны, или их нет:"
        result.answer = f"{warning}\n{answers[best]}"
    return result


async def swarm(ask: ModelCaller, goal: MethodGoal) -> LoopResult:
    """Ask experts by role and return one answer out of what they say, or the view that most agree with.

    They are asked at once as far as the node has slots. Raises NoAnswer where none of them answers.
    """
    experts = _EXPERTS.get(goal_category(goal.text), _EXPERTS[""])
    calls = [
        partial(ask.text, "expert", goal, ("Your role", f"{role}. {focus}"), length_is_fine=True, spare=1)
        for role, focus in experts.items()
    ]
    # The first one shows who answers; the others share that node's slots.
    replies = [*await ask.together(calls[:1]), *await ask.together(calls[1:])]
    named = [(role, text) for role, text in zip(experts, replies, strict=True) if isinstance(text, str)]
    if not named:
        raise next(reply for reply in replies if isinstance(reply, NoAnswer))
    views = {role: text for role, text in named if goal.ended(text).ok}
    ask.trajectory.write("experts", **views)
    if not views:
        return goal.ended(named[0][1])
    missing = len(replies) - len(views)
    notes = [f"{counted(missing, 'expert')} of {len(replies)} gave no usable answer"] if missing else []
    result = await synthesised(ask, goal, views, notes)
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


async def tree_of_thoughts(ask: ModelCaller, goal: MethodGoal) -> LoopResult:
    """Answer from the best path in a tree of thoughts, bounded in breadth and depth.

    Raises NoAnswer where no model answers.
    """
    path, score, notes = list[str](), -1, list[str]()
    try:
        for _ in range(_DEPTH):
            scored = []
            for thought in await _thoughts(ask, goal, path):
                longer = [*path, thought]
                scored.append((await _score(ask, goal, longer, notes), longer))
            best, longer = max(scored, key=lambda pair: pair[0], default=(-1, path))
            if best < score or longer == path:
                break
            path, score = longer, best
    except NoAnswer as refused:
        if ask.last is None:
            raise
        notes.append(f"the thinking was cut short: {refused.message}")
    return goal.ended(await ask.text("answer", goal, *_titled(path)), notes)


async def _thoughts(ask: ModelCaller, goal: MethodGoal, path: Sequence[str]) -> list[str]:
    """Return some new thoughts that go on from a path; what was thought before is none."""
    thoughts: list[str] = []
    for seed in range(_BREADTH):
        parts = [*_titled(path), *(("Already considered", thought) for thought in thoughts)]
        other = {"temperature": _TEMPERATURE, "seed": seed} if seed else {}
        written = await ask.object(prompt("thought"), goal.described(*parts), _THOUGHT, spare=1, **other)
        thought = str(written.get("thought") or "").strip()
        if thought and not any(alike(thought, known) for known in (goal.text, *path, *thoughts)):
            thoughts.append(thought)
    return thoughts


async def _score(ask: ModelCaller, goal: MethodGoal, path: Sequence[str], notes: list[str]) -> int:
    """Return how promising a path is; one that the model does not judge comes last."""
    judged = await ask.object(prompt("score"), goal.described(*_titled(path)), _SCORE, spare=1)
    score = next((score for score in _SCORES if score == judged.get("score")), None)
    if score is None and not notes:
        notes.append("some thoughts could not be judged")
    ask.trajectory.write("thought", path=path, score=score)
    return score or 0


def _titled(path: Sequence[str]) -> list[tuple[str, str]]:
    return [("Thought", thought) for thought in path]


_MOST = 4


async def hierarchical(
    ask: ModelCaller,
    goal: MethodGoal,
    react: Callable[..., Awaitable[LoopResult]],
    stopped: Checkpoint | None,
) -> LoopResult:
    """Return the synthesis of the sub-goals: goals about this machine by `react`, the others by a question.

    It goes on with the part that `stopped`. Raises NoAnswer where no model answers.
    """
    begun = stopped or Checkpoint(part=1)
    answers, steps, notes = dict(begun.answers), list(begun.earlier), list[str]()
    parts = begun.parts or await _divided(ask, goal)
    for number, text in enumerate(parts[begun.part - 1 :], begun.part):
        part = MethodGoal(text, hint=f"this is a part of: {goal.text[:300]}")
        try:
            if part.needs_evidence:
                result = await react(part, checkpoint=stopped if number == begun.part else None)
                steps += result.steps
            else:
                # A small model copies what stands beside its question: the part alone, and what is known.
                known = tuple(f"{earlier}: {answer}" for earlier, answer in answers.items())
                part = replace(part, hint="", results=known)
                result = part.ended(await ask.text("answer", part))
        except NoAnswer as refused:
            notes.append(f"part {number} has no answer: {refused.message}")
            continue
        if result.checkpoint is not None:
            result.checkpoint = replace(
                result.checkpoint,
                parts=parts,
                part=number,
                answers=answers,
                earlier=steps[: len(steps) - len(result.steps)],
            )
            return replace(result, steps=steps)
        if result.ok:
            answers[text] = result.answer
        else:
            notes.append(f"part {number} has no answer: {result.why}")
    if not answers or (goal.needs_evidence and not any(step.result.ok for step in steps)):
        notes.append("the goal was worked on as a whole: its parts had no answers")
        if goal.needs_evidence:
            result = await react(goal, checkpoint=None)
        else:
            result = goal.ended(await ask.text("answer", goal))
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
