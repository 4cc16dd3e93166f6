"""A prompt that a server cut and answered as if nothing had happened: how it is recognised. Pure.

Servers that cut answer 200; what betrays them is how many tokens they read (wire facts A8). A small count may
also be that of a prompt which came out of a cache: older servers leave cached tokens out. So a count accuses
only where the prompt cannot fit into the context, or the count is the one that a cut leaves behind.
"""

import re
from collections.abc import Iterable
from typing import Any

from opskit.providers.base import Message, Usage
from opskit.records import Record

#: No tokenizer in use joins two words, so a prompt has at least so many tokens as words. Measured with
#: SmolLM2, tokens a word: English 1.9, Python 2.3, Russian 4.9, numbers of nine digits 9.9.
_WORD = re.compile(r"\w+(?:['’]\w+)*")
_SPACE = re.compile(r"\s+")
#: Characters a token, at most, in texts of words: measured were 3.3 in English, 4.0 in Python, 1.3 in
#: Russian, 1.0 in numbers; a larger vocabulary takes up to 4.5 in English and 4 in Russian.
_CHARS_PER_TOKEN = 5
#: The first tokens that Ollama keeps of a prompt that it cuts; the model's own first token is one more.
_KEPT = (4, 5)
#: A count that includes what was cached is clearly too low below this share of the words.
_SHARE = 0.75


class PromptCut(Record):
    """A prompt of at least `least_tokens` of which the server read `read_tokens`.

    `context_tokens` is the context that the model is loaded with; None where nobody tells it.
    """

    least_tokens: int
    read_tokens: int
    context_tokens: int | None

    @property
    def text(self) -> str:
        context = "" if self.context_tokens is None else f"; the model is loaded with {self.context_tokens}"
        return (
            f"the prompt was cut: it has at least {self.least_tokens} tokens, "
            f"the server read {self.read_tokens} of them{context}"
        )

    def as_json(self) -> dict[str, Any]:
        return {
            "least_tokens": self.least_tokens,
            "read_tokens": self.read_tokens,
            "context_tokens": self.context_tokens,
        }


def least_tokens(messages: Iterable[Message]) -> int:
    """Return how many tokens these messages have at the very least, whatever the model."""
    return sum(len(_WORD.findall(message.content)) for message in messages)


def is_suspicious(messages: Iterable[Message], usage: Usage) -> bool:
    """Tell whether the server counted fewer tokens than the prompt has: it was cut, or partly cached."""
    return usage.prompt_tokens is not None and usage.prompt_tokens < least_tokens(messages)


def prompt_cut(messages: Iterable[Message], usage: Usage, context_tokens: int | None) -> PromptCut | None:
    """Return what was cut; None where nothing was, or where a cache may explain the count."""
    messages = tuple(messages)
    read, least = usage.prompt_tokens, least_tokens(messages)
    if read is None or read >= least:
        return None
    clearly = usage.counts_cached and read < least * _SHARE
    if clearly or (context_tokens is not None and _does_not_fit(messages, least, read, context_tokens)):
        return PromptCut(least, read, context_tokens)
    return None


def _does_not_fit(messages: tuple[Message, ...], least: int, read: int, context_tokens: int) -> bool:
    """Tell whether a prompt is surely longer than the context, or probably and counted as if it were cut."""
    if least > context_tokens:
        return True
    return _with_long_tokens(messages) > context_tokens and read in _left_by_a_cut(context_tokens)


def _with_long_tokens(messages: tuple[Message, ...]) -> int:
    """Return how many tokens the messages have where each is as long as can be expected."""
    return sum(len(_SPACE.sub(" ", message.content)) for message in messages) // _CHARS_PER_TOKEN


def _left_by_a_cut(context_tokens: int) -> set[int]:
    """Return the counts that Ollama's way of cutting leaves: what it keeps, and half of the rest."""
    return {context_tokens - (context_tokens - kept) // 2 for kept in _KEPT}
