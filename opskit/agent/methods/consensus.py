"""Several independent answers, of which the one that most agree with counts; disagreement is told."""

from collections.abc import Sequence
from functools import partial
from itertools import cycle, islice
from typing import Any

from opskit.agent.agreement import most_agreed
from opskit.agent.loop import LoopResult
from opskit.agent.methods.caller import ModelCaller
from opskit.agent.methods.method import MethodGoal
from opskit.llm.answer import NoAnswer
from opskit.llm.plan import Candidate
from opskit.records import replace
from opskit.text import counted, listing

_SAMPLES = 3
_TEMPERATURE = 0.8
_SHOWN_CHARS = 80


class Consensus:
    """Asks models that are loaded already, the same one again where there is no other."""

    def __init__(self, ask: ModelCaller) -> None:
        self._ask = ask

    async def solve(self, goal: MethodGoal) -> LoopResult:
        """Return the answer that most agree with; `agreement` tells how many. Raises NoAnswer for none."""
        # What was answered before must not make the answers agree.
        goal, ask = replace(goal, hint=""), self._ask
        replies = [goal.draft] if goal.draft else await ask.together([partial(ask.text, "answer", goal)])
        candidates = enumerate(await self._candidates(), 1)
        replies += await ask.together(
            partial(ask.text, "answer", goal, **self._sample(candidate, seed))
            for seed, candidate in candidates
        )
        texts = [reply for reply in replies if isinstance(reply, str)]
        answers = [text for text in texts if goal.ended(text).ok]
        ask.trajectory.write("answers", texts=answers, asked=len(replies))
        if answers:
            return _judged(goal, answers, len(replies))
        if texts:
            return goal.ended(texts[0])
        raise next(reply for reply in replies if isinstance(reply, NoAnswer))

    def _sample(self, candidate: Candidate | None, seed: int) -> dict[str, Any]:
        """Return what makes an answer independent; a model that is asked for it is the only one."""
        options: dict[str, Any] = {"temperature": _TEMPERATURE, "seed": seed}
        if candidate is None:
            return options
        request = replace(self._ask.request, model=candidate.model, node=candidate.node)
        return {**options, "request": request, "max_fallbacks": 0}

    async def _candidates(self) -> Sequence[Candidate | None]:
        """Return who gives the further answers: first the loaded models that have not answered yet."""
        last = self._ask.last
        residents = await self._ask.residents()
        asked = [c for c in residents if last and (c.node, c.model) == (last.node, last.model)]
        others = [candidate for candidate in residents if candidate not in asked]
        return list(islice(cycle([*others, *asked] or [None]), _SAMPLES - 1))


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
        result.answer = f"{_not_certain(goal.text)}\n{answers[best]}"
    return result


def _not_certain(goal: str) -> str:
    """Return the line before an answer that no other agrees with, in the language of the goal."""
    if any("а" <= char <= "я" for char in goal.casefold()):
        return "Не точно: другие ответы с этим не согласны, или их нет:"
    return "Not certain: no other answer agrees with this one:"
