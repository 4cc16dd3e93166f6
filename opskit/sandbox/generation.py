"""What a simulated model says, and how its answer ends. No I/O.

A healthy model is short, deterministic, right where a right answer is easy, and never an echo.
"""

import json
import re
import zlib
from collections.abc import Callable, Mapping, Sequence
from enum import Enum, auto
from typing import Any

from opskit.records import Record
from opskit.sandbox.faults import SandboxFault
from opskit.sandbox.faults import SandboxFaultKind as K
from opskit.text import counted

Reply = Callable[[list[dict[str, Any]], str], str]
"""(messages, model) -> the whole answer."""

LOOP_SENTENCE = "I will look at this again and then I will look at this again. "
LOOP_TOKENS = 256
"""Where a loop ends when the request sets no limit."""
AFTER_TOKENS = 3
"""Where a broken stream breaks when the fault does not say."""
INBAND_ERROR = "an error was encountered while running the model: unexpected EOF"
"""Recorded from Ollama: its runner died in the middle of an answer."""

_WORD_AT_END = r"\s*[\"'«“]?([\w-]+)[\"'»”]?\s*[.!]?\s*$"
_FLAGS = re.IGNORECASE | re.MULTILINE
_ONE_WORD = (
    re.compile(rf"\b(?:single|one|only the|just the) word\b:?{_WORD_AT_END}", _FLAGS),
    re.compile(rf"(?:одним словом|одно слово|только слово)\s*[:—-]?{_WORD_AT_END}", _FLAGS),
)
_SUM = re.compile(
    r"(-?\d+)\s*(times|multiplied by|plus|minus|умножить на|плюс|минус|[*x×+-])\s*(-?\d+)", re.IGNORECASE
)
_FACTS = {"capital of france": "Paris", "столица франции": "Париж"}
_ENGLISH = (
    "Done: I worked through a goal of {n}.",
    "Here is a short answer to a goal of {n}.",
    "I read {n} and there is nothing left to ask.",
    "A goal of {n} is clear, and this is what I found.",
)
_RUSSIAN = (
    "Готово: разобрана цель, в которой {n}.",
    "Вот краткий ответ на цель, в которой {n}.",
    "Прочитано {n}, вопросов не осталось.",
    "Цель понятна, в ней {n}, и вот что найдено.",
)


def default_reply(messages: list[dict[str, Any]], model: str) -> str:  # noqa: ARG001
    """Answer the last user message.

    One word asked for is that word, a sum is its value, a request for `restated` and `first_step` is that
    JSON object; the rest gets a sentence with the number of words, in Russian when the goal is Cyrillic.
    """
    goal = last_user_text(messages)
    if "first_step" in (whole := all_text(messages)) and "restated" in whole:
        plan = {"restated": _sentence(goal), "category": "simple", "first_step": "finish"}
        return json.dumps(plan, ensure_ascii=False)
    for pattern in _ONE_WORD:
        if match := pattern.search(goal):
            return match[1]
    if match := _SUM.search(goal):
        return str(_value(int(match[1]), match[2].lower(), int(match[3])))
    for question, answer in _FACTS.items():
        if question in goal.lower():
            return answer
    return _sentence(goal)


def last_user_text(messages: Sequence[Mapping[str, Any]]) -> str:
    """Return the text of the last user message, or of the last one when no user spoke."""
    if not messages:
        return ""
    users = [message for message in messages if message.get("role") == "user"]
    return text_of((users or messages)[-1].get("content"))


def all_text(messages: Sequence[Mapping[str, Any]]) -> str:
    return "\n".join(text_of(message.get("content")) for message in messages)


def text_of(content: Any) -> str:
    """Return plain text of a message content: a string, or the text parts of a list."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        parts = (part.get("text") for part in content if isinstance(part, dict))
        return "".join(part for part in parts if isinstance(part, str))
    return ""


def tokenise(text: str) -> tuple[str, ...]:
    """Cut a text into what a stream sends one by one; joined they are the text again."""
    return tuple(re.findall(r"\s*\S{1,8}|\s+", text))


def count_tokens(messages: Sequence[Mapping[str, Any]]) -> int:
    """Count the prompt in the same tokens, but no two words as one, as a real tokenizer does."""
    return sum(max(1, len(re.findall(r"\w+", token))) for token in tokenise(all_text(messages)))


def _value(left: int, sign: str, right: int) -> int:
    if sign in {"plus", "плюс", "+"}:
        return left + right
    if sign in {"minus", "минус", "-"}:
        return left - right
    return left * right


def _sentence(goal: str) -> str:
    words = len(goal.split())
    russian = re.search(r"[а-яё]", goal, re.IGNORECASE) is not None
    shapes = _RUSSIAN if russian else _ENGLISH
    number = _russian_words(words) if russian else counted(words, "word")
    return shapes[zlib.crc32(goal.encode()) % len(shapes)].format(n=number)


def _russian_words(count: int) -> str:
    if count % 10 == 1 and count % 100 != 11:
        return f"{count} слово"
    if count % 10 in {2, 3, 4} and count % 100 not in {12, 13, 14}:
        return f"{count} слова"
    return f"{count} слов"


class Ending(Enum):
    """What follows the last token sent."""

    DONE = auto()  # the proper end with a reason
    CUT = auto()  # the connection is dropped
    ERROR = auto()  # the server says that it failed
    HANG = auto()  # nothing, on an open connection
    UNFINISHED = auto()  # the answer is closed properly and is not marked as finished


class Script(Record):
    """One generation, decided before its first byte.

    `tokens` are the whole answer, also the part that a broken stream never sends; `sent` is how many of them
    a stream sends before `ending`. `reason` is `stop` or `length`, for a proper end.
    """

    tokens: tuple[str, ...]
    sent: int
    reason: str
    ending: Ending
    error: str = ""

    @property
    def text(self) -> str:
        return "".join(self.tokens)

    @property
    def sent_text(self) -> str:
        return "".join(self.tokens[: self.sent])


_ENDINGS = {
    K.CUT: Ending.CUT,
    K.ERROR_INBAND: Ending.ERROR,
    K.HANG_MIDSTREAM: Ending.HANG,
    K.DONE_FALSE: Ending.UNFINISHED,
}
GENERATION = frozenset({*_ENDINGS, K.EMPTY, K.ECHO, K.LOOP, K.LENGTH})
"""Faults that are a way of generating: `write_script` plays them."""


def write_script(
    fault: SandboxFault | None,
    messages: Sequence[Mapping[str, Any]],
    model: str,
    reply: Reply,
    limit: int | None = None,
) -> Script:
    """Decide a generation. `fault` is one of `GENERATION`, or None for a good answer.

    `limit` is the token limit of the request; None or negative is no limit.
    """
    kind = fault.kind if fault else None
    after = fault.after_tokens if fault else None
    if limit is not None and limit < 0:
        limit = None
    if fault and kind is K.LOOP:
        most = min(n for n in (after, limit, LOOP_TOKENS if after is None else None) if n is not None)
        once = tokenise(fault.text or LOOP_SENTENCE)
        tokens = (once * (most // len(once) + 1))[:most]
        return Script(tokens, len(tokens), "length", Ending.DONE)
    if kind is K.EMPTY:
        return Script((), 0, "stop", Ending.DONE)
    if kind is K.ECHO:
        tokens = tokenise(last_user_text(messages))
    else:
        tokens = tokenise(reply([dict(message) for message in messages], model))
    if kind is K.LENGTH:
        shortened = max(1, len(tokens) // 2) if after is None else after
        limit = shortened if limit is None else min(shortened, limit)
    reason = "stop" if limit is None or len(tokens) < limit else "length"
    tokens = tokens[:limit]
    ending = _ENDINGS.get(kind, Ending.DONE) if kind else Ending.DONE
    if fault is None or ending is Ending.DONE:
        return Script(tokens, len(tokens), reason, ending)
    default = len(tokens) if ending is Ending.UNFINISHED else AFTER_TOKENS
    sent = min(default if after is None else after, len(tokens))
    error = fault.text_or(INBAND_ERROR) if ending is Ending.ERROR else ""
    return Script(tokens, sent, reason, ending, error)
