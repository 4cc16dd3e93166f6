"""What a prompt asks for, as far as its wording tells, and what an answer may take from it.

Words are compared without case, marks and markup. English and Russian are read; in other languages a prompt
asks by its question mark.

Servers that cut a prompt answer 200; what betrays them is how many tokens they read (wire facts A8). A small
count may also be that of a prompt which came out of a cache: older servers leave cached tokens out. So a
count accuses only where the prompt cannot fit into the context, or the count is the one that a cut leaves
behind.
"""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from opskit.llm.visible import TAG, unmarked
from opskit.llm.wording import PATTERNS, WORDS, is_order, makes_new
from opskit.providers.base import Message, Usage
from opskit.records import Record
from opskit.text import lazy_pattern

_WORD = lazy_pattern(r"[^\W_]+")
_UNSEEN = frozenset(("Mn", "Me", "Cf", "Cs", "Co", "Cn"))
_FOLDED = str.maketrans("ё", "е", "'’ʼ‘`´")
_BREAK = lazy_pattern(r"[.!?…;:](?=[\s\"')»”*_\]]|$)|\n|\s[-–—]+\s|\"(?=\s)")
#: A prompt with more words than this is no greeting.
_GREETING_WORDS = 6


class Clause(Record):
    """A sentence or clause of a prompt, as a range of its words; `asks` for a question or an order."""

    start: int
    end: int
    asks: bool


@dataclass(frozen=True)
class Prompt:
    """One text that must not come back as an answer."""

    text: str

    @cached_property
    def plain(self) -> str:
        """The text folded, without markup."""
        return fold(unmarked(self.text))

    @cached_property
    def words(self) -> tuple[str, ...]:
        return tuple(_WORD.findall(self.plain))

    @cached_property
    def clauses(self) -> tuple[Clause, ...]:
        """Its clauses in order; together they hold all words."""
        clauses: list[Clause] = []
        start = count = 0
        for piece, mark in _pieces(self.plain):
            words = tuple(_WORD.findall(piece))
            count += len(words)
            if words:
                clauses.append(Clause(start, count, "?" in mark or is_request(words)))
            elif clauses and "?" in mark:
                clauses[-1] = Clause(clauses[-1].start, clauses[-1].end, asks=True)
            start = count
        return tuple(clauses)

    @cached_property
    def asks(self) -> bool:
        """Whether it asks or orders something; a greeting and an unfinished sentence do not."""
        return any(clause.asks for clause in self.clauses)

    @cached_property
    def is_order(self) -> bool:
        """Whether it wants something done, so that "Sure" alone is no answer."""
        words = without_courtesy(self.words)
        return bool(words) and is_order(words[0])

    @cached_property
    def is_salutation(self) -> bool:
        """Whether it is a greeting, thanks or a wish, which may come back."""
        if not 0 < len(self.words) <= _GREETING_WORDS:
            return False
        if len(self.words) == 1 and self.words[0] in WORDS.acknowledgements:
            return "?" not in self.plain
        if PATTERNS.wishes.match(self.plain):
            return len(self.clauses) == 1
        if "?" in self.plain or any(word in WORDS.question_words or is_order(word) for word in self.words):
            return False
        exclaims = self.plain.rstrip(" \"'»").endswith("!")
        if self.words[0] in WORDS.salutations:
            return exclaims or len(self.words) <= 2 or self._after(1).startswith(",")
        return exclaims and len(self.words) <= _GREETING_WORDS // 2

    @cached_property
    def is_state(self) -> bool:
        """Whether it is such as "Ready?" or "3 > 2?", which the same without the question mark affirms."""
        if not 0 < len(self.words) <= _GREETING_WORDS // 2 or "?" not in self.plain:
            return False
        if all(map(str.isdigit, self.words)):
            return True
        return self.words[-1] in WORDS.states and self.words[0] not in WORDS.auxiliaries

    @cached_property
    def returns_itself(self) -> bool:
        """Whether it wants itself back: "Repeat this sentence"."""
        return PATTERNS.returns_itself.match(self.plain) is not None

    @cached_property
    def takes_from_itself(self) -> bool:
        """Whether the answer may be a sentence of the prompt: said again, corrected, found, chosen."""
        return PATTERNS.takes_from_prompt.search(self.plain) is not None

    @cached_property
    def wants_symbol(self) -> bool:
        """Whether signs without a letter can be the answer."""
        return any(map(PATTERNS.symbol_named.search, (self.plain, fold(self.text))))

    @cached_property
    def has_tags(self) -> bool:
        """Whether it holds markup, so that the answer may be nothing but markup."""
        return bool(TAG.search(self.text))

    @cached_property
    def wants_value(self) -> bool:
        """Whether null, an empty list or an empty string can be the answer."""
        if PATTERNS.null_named.search(self.plain):
            return True
        question = "?" in self.plain or any(word in WORDS.question_words for word in self.words)
        return question and PATTERNS.null_possible.search(self.plain) is not None

    def transforms_after(self, index: int) -> bool:
        """Tell whether at the word `index` an order follows to work on the text before it."""
        core = " ".join(without_courtesy(self.words[index:]))
        starts = [clause.start for clause in self.clauses]
        return index in starts and PATTERNS.transforms.search(core) is not None

    def may_be_quoted(self, count: int) -> bool:
        """Tell whether the first `count` words may be the answer to a clause that follows theirs."""
        if PATTERNS.names_itself.search(self.plain):
            return True
        end = next(clause.end for clause in self.clauses if count <= clause.end)
        if any(clause.asks for clause in self.clauses if clause.start < end):
            return False
        if not self.takes_from_itself and not WORDS.first_person.isdisjoint(self.words[:count]):
            return False
        later = [clause for clause in self.clauses if clause.asks and clause.start >= end]
        return any(not makes_new(without_courtesy(self.words[clause.start : clause.end])) for clause in later)

    def is_alternative(self, count: int) -> bool:
        """Tell whether the first `count` words are one of the things to choose from."""
        head, tail = self.words[:count], self.words[count:]
        if not tail:
            return False
        if count == 1 and tail[0] in WORDS.choice:
            return True
        if any(word in WORDS.question_words for word in head):
            return False
        if is_order(head[0]) or head[0] in WORDS.auxiliaries:
            return False
        if tail[0] in WORDS.alternatives:
            return True
        return any(word in WORDS.which for word in tail) and self._after(count).startswith(
            (",", "/", "|", ")")
        )

    def begins_with_request(self) -> bool:
        """Tell whether its first word alone says nothing: it asks, orders, or only binds what follows."""
        return self.words[0] in WORDS.leads or is_order(self.words[0])

    def _after(self, count: int) -> str:
        """What stands between the word before `count` and the next one."""
        matches = list(_WORD.finditer(self.plain))
        return self.plain[matches[count - 1].end() : matches[count].start()].strip()


def fold(text: str) -> str:
    """Return a text as it is compared. Each character is folded by itself, so beginnings stay beginnings."""
    if not text.isascii():
        text = "".join(
            unicodedata.normalize("NFKC", char) for char in text if unicodedata.category(char) not in _UNSEEN
        )
    return text.casefold().translate(_FOLDED)


def words_of(text: str) -> list[str]:
    return _WORD.findall(fold(text))


def is_request(words: Sequence[str]) -> bool:
    """Tell whether a clause asks or orders, by its first word or by the choice that it offers."""
    words = without_courtesy(words)
    if not words:
        return False
    first = words[0]
    leads = first in WORDS.question_words or first in WORDS.auxiliaries or first in WORDS.persons
    return leads or is_order(first) or "which" in words or "или" in words


def without_courtesy(words: Sequence[str]) -> tuple[str, ...]:
    """Return the words without "please", "can you" and the like at both ends."""
    start, end = 0, len(words)
    while start < end:
        if words[start] in WORDS.polite or (words[start] in WORDS.polite_orders and end - start > 1):
            start += 1
        elif "_".join(words[start : start + 2]) in WORDS.polite_pairs and end - start > 2:
            start += 2
        else:
            break
    while end > start + 1 and words[end - 1] in WORDS.polite:
        end -= 1
    return tuple(words[start:end])


def transforms(text: str) -> bool:
    """Tell whether an instruction makes texts out of texts, so that a text may come back as it was."""
    return PATTERNS.transforms.search(fold(text)) is not None


def _pieces(text: str) -> list[tuple[str, str]]:
    """Return the clauses of a text, each with the mark that ends it."""
    pieces, start = [], 0
    for match in _BREAK.finditer(text):
        pieces.append((text[start : match.start()], match[0]))
        start = match.end()
    return [*pieces, (text[start:], "")]


#: No tokenizer in use joins two words, so a prompt has at least so many tokens as words. Measured with
#: SmolLM2, tokens a word: English 1.9, Python 2.3, Russian 4.9, numbers of nine digits 9.9.
_SPOKEN_WORD = re.compile(r"\w+(?:['’]\w+)*")
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


def least_tokens(messages: Iterable[Message]) -> int:
    """Return how many tokens these messages have at the very least, whatever the model."""
    return sum(len(_SPOKEN_WORD.findall(message.content)) for message in messages)


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
    long_tokens = sum(len(_SPACE.sub(" ", message.content)) for message in messages) // _CHARS_PER_TOKEN
    left_by_a_cut = {context_tokens - (context_tokens - kept) // 2 for kept in _KEPT}
    return long_tokens > context_tokens and read in left_by_a_cut
