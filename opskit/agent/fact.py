"""Questions for a fact, asked of a small model: it is believed only where it was sure of what it claims.

A model of a few hundred million parameters names the capital of Australia, and as fluently a wrong number of
continents. The probabilities of the words that carry the fact tell the one from the other. Measured on
SmolLM2-135M with 22 questions: every claim that was right and sure had 0.65 and more, every wrong one less.
"""

import math
import re
from collections.abc import Iterator

from opskit.app import App
from opskit.engine.goal import HERE, NO_MODEL, Goal, GoalRun, RunResult
from opskit.llm.answer import Answer, Ask, Attempt, AttemptOutcome, NoAnswer
from opskit.llm.plan import ModelRequest
from opskit.llm.wording import PATTERNS
from opskit.providers.base import Message, Token

#: Weights of about two billion parameters.
_SMALL_BYTES = 1024**3
#: How sure of the number or the name that is asked for, and of what else it claims.
_SURE, _HALF_SURE, _RATHER_SURE = 0.65, 0.5, 0.35
_MAX_WORDS, _TOKENS = 20, 200
_WORD = re.compile(r"[^\W_]+")
_SENTENCE_BEGINS = ("", ".", "!", "?", ":", "\n")


def asks_fact(goal: str) -> bool:
    """Tell whether a goal is a short question for a fact, a meaning or a result, or a command of a shell."""
    return len(goal.split()) <= _MAX_WORDS and PATTERNS.asks_fact.match(goal) is not None


def meaning(goal: str) -> str | None:
    """Return what the catalogue of `opskit explain` says of the error whose meaning a goal asks for."""
    from opskit.explain.catalogue import ExplanationKind
    from opskit.explain.search import explain

    matches = explain(goal) if PATTERNS.asks_meaning.search(goal) else ()
    # The states and verdicts of opskit are words of every day.
    if not matches or matches[0].entry.kind in (ExplanationKind.STATE, ExplanationKind.VERDICT):
        return None
    entry = matches[0].entry
    return f"{entry.key}: {entry.title}.\nCause: {entry.cause}\nRemedy: {entry.remedy}"


class FactSolver:
    """Answers a question for a fact by a small model that is sure of it."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def solve(self, run: GoalRun) -> RunResult | None:
        """Return the fact; None for other goals, for larger models, and where one question was asked for.

        A model that was not sure is asked once more, for one short sentence. Raises RunFailed where it is not
        sure then either.
        """
        goal = run.goal
        if goal.method != "auto" or not asks_fact(goal.text):
            return None
        if (explained := meaning(goal.text)) is not None:
            return run.result(explained, "simple", NO_MODEL, HERE)
        name = goal.model or self._app.config.victoria_model
        if not await only_small_models(self._app, name):
            return None
        try:
            answer, attempts = await self._sure_answer(run, ModelRequest(model=name, category=run.category))
        except NoAnswer as refused:
            raise run.failure(refused, refused.attempts) from refused
        answered = (answer.text, "simple", answer.model, answer.node)
        return run.result(*answered, attempts, prompt_cut=answer.prompt_cut)

    async def keep(self, goal: Goal, result: RunResult) -> None:
        """Remember nothing."""

    async def _sure_answer(self, run: GoalRun, request: ModelRequest) -> tuple[Answer, list[Attempt]]:
        """Ask, and once more. Raises NoAnswer with every attempt."""
        from opskit.agent.prompt import prompt

        goal = run.goal
        asked = (*goal.history, Message("user", goal.text))
        attempts: list[Attempt] = []
        answered = False
        for rules in ("", "fact"):
            messages = (Message("system", prompt(rules)), *asked) if rules else asked
            ask = Ask(messages, request, _TOKENS, strict_context=goal.strict_context, probabilities=True)
            try:
                answer = await self._app.router.chat(ask, run.session)
            except NoAnswer as refused:
                failed = any(attempt.outcome is not AttemptOutcome.REJECTED for attempt in refused.attempts)
                attempts += refused.attempts
                if failed or (rules and not answered):
                    refused.attempts = tuple(attempts)
                    raise
                continue
            attempts += answer.attempts
            answered = True
            if not answer.tokens or is_sure(answer.tokens, goal.text):
                return answer, attempts
        raise NoAnswer(
            "MODEL_004",
            f"{attempts[-1].model} is not sure of its answer, and it is too small to be believed then",
            attempts=attempts,
            remedy="ask a larger model: `opskit models list` shows which there are, --model NAME takes one; "
            "`--method simple` shows what this one says",
        )


async def only_small_models(app: App, name: str | None) -> bool:
    """Tell whether the models that would be asked are all small: the loaded ones, else all there are."""
    sizes = {True: list[int](), False: list[int]()}
    for view in (await app.router.catalog.snapshot()).nodes:
        for model in view.models:
            if name is None or model.is_called(name):
                sizes[view.is_resident(model) is True].append(model.size_bytes or 0)
    asked = sizes[True] or sizes[False]
    return bool(asked) and all(0 < size < _SMALL_BYTES for size in asked)


def is_sure(tokens: tuple[Token, ...], goal: str) -> bool:
    """Tell whether a model was sure of what it claims: of numbers and names that the goal does not have.

    Of all of its words it has to be half sure too: one that evades a question does so in many ways. Of what
    it has to compute it never is: a small model is as certain of a wrong result.
    """
    if PATTERNS.computes.search(goal):
        return False
    logs = [math.log(max(token.probability or 1.0, 1e-9)) for token in tokens]
    if math.exp(sum(logs) / len(logs)) < _HALF_SURE:
        return False
    new = list(_new_words(tokens, goal))
    numbers = [probability for probability, word, _ in new if word[0].isdigit()]
    names = [probability for probability, word, first in new if word[0].isupper() and not first]
    asked, others = (numbers, names) if PATTERNS.asks_number.search(goal) else ([*names, *numbers], [])
    asked = asked or [probability for probability, _, _ in new]  # "seven"
    return bool(asked) and min(asked) >= _SURE and min(others, default=1.0) >= _RATHER_SURE


def _new_words(tokens: tuple[Token, ...], goal: str) -> Iterator[tuple[float, str, bool]]:
    """Yield the words that the goal does not have with their probability; the last: it begins a sentence."""
    text = "".join(token.text for token in tokens)
    ends, at = list[tuple[int, float]](), 0
    for token in tokens:
        at += len(token.text)
        ends.append((at, 1.0 if token.probability is None else token.probability))
    known = {word.casefold() for word in _WORD.findall(goal)}
    for match in _WORD.finditer(text):
        word = match.group()
        if word.casefold() in known:
            continue
        begins = [0, *(end for end, _ in ends)]
        probability = min(
            value
            for begin, (end, value) in zip(begins, ends, strict=False)
            if begin < match.end() and end > match.start()
        )
        first = text[: match.start()].rstrip(" \t\"'«(")[-1:] in _SENTENCE_BEGINS
        yield probability, word, first
