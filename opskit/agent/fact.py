"""Questions for a fact, asked of a small model: it is believed only where it was sure of what it claims.

A model of a few hundred million parameters names the capital of Australia, and as fluently a wrong number of
continents. The probabilities of the words that carry the fact tell the one from the other. Measured on
SmolLM2-135M with 22 questions: every claim that was right and sure had 0.65 and more, every wrong one less.
"""

import math
import re
from collections.abc import Iterator

from opskit.agent.prompt import prompt
from opskit.app import App
from opskit.engine import Goal, Solution
from opskit.llm.answer import Ask, Attempt, AttemptOutcome, NoAnswer, Session
from opskit.llm.plan import ModelRequest
from opskit.providers.base import Message, Token

#: Weights of about two billion parameters.
_SMALL_BYTES = 1024**3
#: How sure of the number or the name that is asked for, and of what else it claims.
_SURE, _HALF_SURE, _RATHER_SURE = 0.65, 0.5, 0.35
_MAX_WORDS, _TOKENS = 20, 200
_ASKS_FACT = re.compile(
    r"\W*(?:who|when|where|which|whose|how (?:many|much|old|far|tall|long|high|big)|in (?:which|what)|"
    r"what(?:'s| is| are| was| were| year| day| colou?r| number)|"
    r"(?:в |на |с )?(?:сколько|кто|когда|где|как(?:ой|ая|ое|ие|ую|ом)|чему)|столица)\b",
    re.IGNORECASE,
)
_ASKS_NUMBER = re.compile(
    r"\b(?:how|when|year|number|temperature|port|сколько|когда|год[уа]?|чему)\b", re.IGNORECASE
)
_WORD = re.compile(r"[^\W_]+")
_SENTENCE_BEGINS = ("", ".", "!", "?", ":", "\n")


async def fact_from_small_model(
    app: App, goal: Goal, category: str, session: Session | None
) -> Solution | None:
    """Return the fact of a small model that was sure of it; None for other goals and for larger models.

    A model that was not sure is asked once more, for one short sentence. Raises NoAnswer where it is not
    sure then either.
    """
    if not _ASKS_FACT.match(goal.text) or len(goal.text.split()) > _MAX_WORDS:
        return None
    request = ModelRequest(model=goal.model or app.config.victoria_model, category=category)
    if not await only_small_models(app, request.model):
        return None
    asked = (*goal.history, Message("user", goal.text))
    attempts: list[Attempt] = []
    for messages in (asked, (Message("system", prompt("fact")), *asked)):
        ask = Ask(messages, request, _TOKENS, strict_context=goal.strict_context, probabilities=True)
        try:
            answer = await app.router.chat(ask, session)
        except NoAnswer as refused:
            attempts += refused.attempts
            if any(attempt.outcome is not AttemptOutcome.REJECTED for attempt in refused.attempts):
                raise
            continue
        attempts += answer.attempts
        if not answer.tokens or is_sure(answer.tokens, goal.text):
            return Solution(answer.text, "simple", answer.model, answer.node, tuple(attempts), ())
    raise NoAnswer(
        "MODEL_004",
        f"{attempts[-1].model} is not sure of its answer, and it is too small to be believed then",
        attempts=attempts,
        remedy="ask a larger model: `opskit models list` shows which there are, --model NAME takes one",
    )


async def only_small_models(app: App, name: str | None) -> bool:
    """Tell whether the models that would be asked are all small: those loaded, else all there are."""
    sizes = {True: list[int](), False: list[int]()}
    for view in (await app.router.catalog.snapshot()).nodes:
        for model in view.models:
            if name is None or model.is_called(name):
                sizes[view.is_resident(model) is True].append(model.size_bytes or 0)
    asked = sizes[True] or sizes[False]
    return bool(asked) and all(0 < size < _SMALL_BYTES for size in asked)


def is_sure(tokens: tuple[Token, ...], goal: str) -> bool:
    """Tell whether a model was sure of what it claims: of numbers and names that the goal does not have.

    Of all of its words it has to be half sure too: one that evades a question does so in many ways.
    """
    logs = [math.log(max(token.probability or 1.0, 1e-9)) for token in tokens]
    if math.exp(sum(logs) / len(logs)) < _HALF_SURE:
        return False
    new = list(_new_words(tokens, goal))
    numbers = [probability for probability, word, _ in new if word[0].isdigit()]
    names = [probability for probability, word, first in new if word[0].isupper() and not first]
    asked, others = (numbers, names) if _ASKS_NUMBER.search(goal) else ([*names, *numbers], [])
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
