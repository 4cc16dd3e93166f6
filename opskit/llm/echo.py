"""Does an answer add anything to its prompt? (SPEC B11)

The words of the answer are accounted for one by one: copies of the prompt, and around them words that only
say who speaks or that something was asked. If a word is left over, the answer adds something. If none is, it
is an echo, unless the prompt is answered by its own words: a greeting, a choice, a text to be corrected.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import dropwhile

from opskit.llm.prompt import Prompt, fold, is_request, transforms, without_courtesy, words_of
from opskit.llm.visible import SHORT, TAG
from opskit.llm.wording import WORDS
from opskit.records import Record

#: A part of a word up to this length may be a word of its own.
_OWN_WORD = 3
#: No label and no report before a copy of the prompt is longer, in words.
_AROUND = 20
#: A report says within so many words that it is one.
_REPORT_HEAD = 4


class _Account(Record):
    """How the words of an answer were accounted for.

    Words before, between and after whole copies of the prompt, and how many begin a copy that breaks off at
    the end; `broken` when the last of them is itself a part of a word.
    """

    copies: int
    lead: tuple[str, ...]
    between: tuple[str, ...]
    after: tuple[str, ...]
    begun: int
    broken: bool


def is_echo(answer: str, prompt: str) -> bool:
    """Tell whether a visible answer adds nothing to the prompt."""
    asked = parsed(prompt)
    # The words of a prompt stand outside its markup: what is copied with it is compared without it.
    copied = set(TAG.findall(prompt)) if asked.has_tags else ()
    said = words_of(TAG.sub(lambda tag: " " if tag[0] in copied else tag[0], answer) if copied else answer)
    if not said or not asked.words:
        return bool(answer.strip()) and not said and not asked.words and answer.strip() == prompt.strip()
    if asked.wants_symbol and _symbols(answer) != _symbols(prompt):
        return False
    if _is_restated(answer, said, asked) or _is_shortened(said, asked):
        return True
    for start, words in _questions(asked):
        account = _accounted(said, words)
        if account is None:
            continue
        if account.copies:
            if _says_nothing_around(account, answer, asked) and not _answered_by_itself(
                account, answer, asked
            ):
                return True
        elif (not start or words == without_courtesy(asked.words)) and _is_broken_off(
            account, start, said[-1], asked
        ):
            return True
    return False


def may_become_echo(text: str, prompts: Sequence[str]) -> bool:
    """Tell whether a visible text that is still growing could end as an echo: such text must be held back."""
    said = words_of(text)
    if not said:
        return True
    for prompt in payloads_left_out(prompts):
        asked = parsed(prompt)
        if not asked.words:
            continue
        if prompt.startswith(text.strip()) or any(
            _may_account(said, words) for _, words in _questions(asked)
        ):
            return True
        if _may_be_restated(text, said, asked) or _may_be_shortened(said, asked):
            return True
    return False


def payloads_left_out(prompts: Sequence[str]) -> list[str]:
    """Return the prompts that are not only the material of a longer one.

    A system message that wants a text corrected or translated makes the user's text come back as it was.
    """
    return [
        prompt
        for prompt in prompts
        if not any(
            prompt != whole and whole.endswith(prompt) and transforms(whole.removesuffix(prompt))
            for whole in prompts
        )
    ]


@lru_cache(maxsize=8)
def parsed(prompt: str) -> Prompt:
    """Return the prompt with what is known of it: a stream asks again with each token."""
    return Prompt(prompt)


def _questions(asked: Prompt) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Yield what must not come back: the prompt, and what is left of it without courtesy or an introduction.

    Each with the number of words before it.
    """
    yield 0, asked.words
    core = without_courtesy(asked.words)
    if core and core != asked.words and (is_request(core) or "?" in asked.plain):
        yield next(at for at in range(len(asked.words)) if asked.words[at : at + len(core)] == core), core
    if not asked.takes_from_itself:
        requests = [clause for clause in asked.clauses if is_request(asked.words[clause.start : clause.end])]
        starts = [clause.start for clause in requests if clause.start]
        for start in {*starts[:1], *starts[-1:]}:
            yield start, asked.words[start:]


def _accounted(said: Sequence[str], words: Sequence[str]) -> _Account | None:
    """Account for all words of an answer, or return None when one is left over."""
    size, index, copies = len(words), 0, 0
    parts: list[list[str]] = [[]]
    while index < len(said):
        if said[index] == words[0] and tuple(said[index : index + size]) == tuple(words):
            index, copies = index + size, copies + 1
            parts.append([])
        elif words[0].startswith(said[index]) and _fits(tail := said[index:], words):
            broken = tail[-1] != words[len(tail) - 1]
            return _Account(copies, tuple(parts[0]), _joined(parts[1:]), (), len(tail), broken)
        elif said[index] in WORDS.nothing or _is_marker(said[index]):
            parts[-1].append(said[index])
            index += 1
            if len(parts[-1]) > _AROUND:
                return None
        else:
            return None
    if not copies:
        return None
    return _Account(copies, tuple(parts[0]), _joined(parts[1:-1]), tuple(parts[-1]), 0, broken=False)


def _joined(parts: Sequence[Sequence[str]]) -> tuple[str, ...]:
    return tuple(word for part in parts for word in part)


def _fits(tail: Sequence[str], words: Sequence[str]) -> bool:
    """Tell whether the rest of an answer is a beginning of the words; its last word may be cut."""
    count = len(tail)
    return (
        count <= len(words)
        and list(tail[:-1]) == list(words[: count - 1])
        and words[count - 1].startswith(tail[-1])
    )


def _is_marker(word: str) -> bool:
    """Tell whether a word may number the items of a list."""
    return len(word) <= 2 and word.isdigit()


def _says_nothing_around(account: _Account, answer: str, asked: Prompt) -> bool:
    """Tell whether all that stands beside whole copies of the prompt adds nothing."""
    if account.begun and account.copies == 1 and (account.begun == 1 or not asked.asks):
        return False
    framing = (account.lead, account.between)
    return all(_is_introduction(words, asked) for words in framing) and _is_appendix(
        account.after, answer, asked
    )


def _is_introduction(words: Sequence[str], asked: Prompt) -> bool:
    """Tell whether words before a copy only say who speaks, that it was asked, or yes to an order."""
    if all(_is_marker(word) or word in WORDS.letters for word in words):
        return not words or not all(map(str.isdigit, asked.words))
    if any(word in WORDS.core for word in words):
        return True
    if asked.words[0] in WORDS.question_words:
        return all(word in WORDS.ready for word in words)
    return asked.is_order and all(word in WORDS.consent for word in words)


def _is_appendix(words: Sequence[str], answer: str, asked: Prompt) -> bool:
    """Tell whether words after the last copy are no answer: a label, consent to an order, a report."""
    if not words:
        return True
    if all(word in WORDS.speakers or word in WORDS.letters for word in words):
        return answer.rstrip(" \n*_`\"'>").endswith(":")
    if any(word in WORDS.core for word in words):
        return asked.asks and any(word in ("you", "your", "вы", "ты", "ваш", "твой") for word in words)
    return asked.is_order and all(word in WORDS.consent for word in words)


def _answered_by_itself(account: _Account, answer: str, asked: Prompt) -> bool:
    """Tell whether the whole prompt is its own right answer."""
    if account.copies > 2:
        return False
    if asked.is_salutation or asked.returns_itself:
        return True
    return asked.is_state and "?" in asked.plain and "?" not in answer


def _is_broken_off(account: _Account, start: int, last: str, asked: Prompt) -> bool:
    """Tell whether a beginning of the prompt, the whole answer, is no answer to it (SPEC B11, rule 2).

    `last` is the last word of the answer, `start` the number of words before what it begins.
    """
    if account.lead and (account.begun < 2 or not _is_introduction(account.lead, asked)):
        return False
    count = start + account.begun
    if account.broken and account.begun == 1:
        # "No" is not the beginning of "Now", and 4 not that of 40.
        whole = len(asked.clauses) == 1 or asked.clauses[0].asks
        return whole and len(last) > _OWN_WORD and not last.isdigit()
    if account.broken:
        return not last.isdigit()
    if asked.is_alternative(count) or asked.may_be_quoted(count):
        return False
    if account.begun == 1:
        return len(last) > 1 and asked.clauses[0].end > 1 and asked.begins_with_request()
    return not (asked.is_salutation or asked.transforms_after(count))


def _is_restated(answer: str, said: Sequence[str], asked: Prompt) -> bool:
    """Tell whether a short answer only reports in its own order of words what was asked."""
    said = _without_consent(said)
    if len(answer) >= SHORT or not _is_report(said, asked):
        return False
    known = _Known(asked)
    return all(map(known.holds, said)) and any(map(known.repeats, said))


def _may_be_restated(text: str, said: Sequence[str], asked: Prompt) -> bool:
    """Tell whether an answer that still grows could end as a report of what was asked."""
    said = [*_without_consent(said[:-1]), said[-1]]
    if len(text.strip()) >= SHORT or not any(
        word.startswith(said[0]) for word in WORDS.addressing | WORDS.consent
    ):
        return False
    if len(said) > _REPORT_HEAD and not _is_report(said, asked):
        return False
    known = _Known(asked)
    return all(map(known.holds, said[:-1])) and known.may_hold(said[-1])


def _is_shortened(said: Sequence[str], asked: Prompt) -> bool:
    """Tell whether an answer is the request itself with words left out: it still asks, and adds no word."""
    if len(said) < _OWN_WORD or not asked.words or not _may_be_shortened(said, asked):
        return False
    if any(asked.transforms_after(clause.start) for clause in asked.clauses[1:]):
        return False
    return (
        _remaining(said, asked.words) is not None
        and f" {' '.join(said)} " not in f" {' '.join(asked.words)} "
    )


def _may_be_shortened(said: Sequence[str], asked: Prompt) -> bool:
    """Tell whether an answer that still grows could end as the request with words left out."""
    if not asked.clauses[0].asks or asked.may_be_quoted(1) or not WORDS.choice.isdisjoint(asked.words):
        return False
    if not asked.words[0].startswith(said[0]) or (len(said) > 1 and asked.words[0] != said[0]):
        return False
    remaining = _remaining(said[:-1], asked.words)
    return remaining is not None and any(word.startswith(said[-1]) for word in remaining)


def _remaining(said: Sequence[str], words: Sequence[str]) -> Sequence[str] | None:
    """Return what follows in the prompt when its words were said in order, some left out; None when not."""
    following = iter(words)
    return list(following) if all(word in following for word in said) else None


def _without_consent(said: Sequence[str]) -> list[str]:
    return list(dropwhile(WORDS.consent.__contains__, said))


def _is_report(said: Sequence[str], asked: Prompt) -> bool:
    """Tell whether an answer begins like "You asked", to a prompt without a choice that has no such words."""
    if not said or not asked.asks or said[0] not in WORDS.addressing:
        return False
    if any(word in WORDS.core or word in WORDS.choice or word in WORDS.first_person for word in asked.words):
        return False
    return any(word in WORDS.reporting for word in said[:_REPORT_HEAD])


class _Known:
    """The words that add nothing in a report of a prompt: its own, in any ending, and the words between."""

    def __init__(self, asked: Prompt) -> None:
        self._words = (WORDS.core | WORDS.binding | WORDS.links | WORDS.letters) - WORDS.consent
        self._own = frozenset(word for word in asked.words if word not in self._words)
        self._stems = frozenset(word[: max(4, len(word) - 2)] for word in self._own if len(word) >= 4)

    def holds(self, word: str) -> bool:
        return word in self._words or self.repeats(word)

    def repeats(self, word: str) -> bool:
        return word in self._own or any(word[:size] in self._stems for size in range(4, len(word) + 1))

    def may_hold(self, word: str) -> bool:
        return self.holds(word) or any(
            known.startswith(word) for known in (*self._words, *self._own, *self._stems, *WORDS.consent)
        )


def _may_account(said: Sequence[str], words: Sequence[str]) -> bool:
    """Tell whether some way of going on would be accounted for.

    All states of copying are followed at once: a bit for each number of words copied so far.
    """
    places = dict.fromkeys(said, 0)
    for index, word in enumerate(words):
        if word in places:
            places[word] |= 1 << index
    end, state = 1 << len(words), 1
    for word in said[:-1]:
        between = state & 1 and (word in WORDS.nothing or _is_marker(word))
        state = (state & places[word]) << 1
        if state & end:
            state = state & ~end | 1
        if between:
            state |= 1
        if not state:
            return False
    last = said[-1]
    if state & 1 and (_is_marker(last) or any(word.startswith(last) for word in WORDS.nothing)):
        return True
    return any(state >> index & 1 for index, word in enumerate(words) if word.startswith(last))


def _symbols(text: str) -> str:
    """Return the signs of a text that are neither letters nor plain punctuation."""
    return "".join(
        char for char in fold(text) if not (char.isalnum() or char.isspace() or char in '.,:;!?…"«»“”()*_#>-')
    )
