"""The part of a model's text that a person reads: no reasoning, no control tokens, no empty markup.

A text that still grows can only gain visible characters: its end is hidden while it may yet turn into a tag.
"""

import json
import re
import unicodedata
from collections.abc import Iterable, Sequence

from opskit.text import lazy_pattern

#: A text with more characters than this is no empty JSON document and no restated question.
SHORT = 200

_REASONING = (
    r"(?:\w{1,20}[:_])?(?:think\w{0,9}|thoughts?|begin_of_thought|reason\w{0,9}|reflection|scratchpad|analysis"
    r"|monologue)"
)
_HIDDEN = lazy_pattern(
    rf"(?<![`\"'«“])(?:<\|?|\[|◁)({_REASONING}|START_THINKING)(?:\|?>|\]|▷)"
    r"|<\|channel\|?>\s{0,9}(?:analysis|commentary|thought)\b",
    re.IGNORECASE,
)
_CHANNEL_END = lazy_pattern(r"<\|channel\|>\s{0,9}final\b|<\|end\|>|<channel\|>")
#: A template may open the thoughts itself: then the text of the model only closes them, at the end of a line.
_CLOSED = lazy_pattern(
    rf"(?<![`\"'«“])(?:</|<\||\[/|◁/)({_REASONING}|END_THINKING)(?:\|?>|\]|▷)[ \t]{{0,9}}(?=\n|\Z)",
    re.IGNORECASE,
)
_ROLE = r"(?:assistant|user|system|model|human|bot|tool|developer|final)"
#: Control tokens are written in few ways: <|name|>, <name_of_token>, <s>, <eos>, <<SYS>>, [/INST], <0x0A>.
_CONTROL = lazy_pattern(
    r"(?:<[|｜][^\s<>|｜]{1,38}[|｜]>|<0x[0-9a-f]{2}>|<</?sys>>"
    r"|</?(?=[^<>\s]{1,38}>)(?:[a-z0-9]+(?:_[a-z0-9]+)+|s|eo[a-z]|bo[a-z]|pad|unk|sep|cls|mask|unused\d+|endoftext)>"
    r"|\[/?(?=[^\[\]\s]{1,38}\])(?:inst|pad|unk|sep|cls|g?mask|eo[a-z]|bo[a-z]|[a-z]+(?:_[a-z0-9]+)+)\])"
    rf"(?:\s{{0,9}}{_ROLE}\b)?",
    re.IGNORECASE,
)
#: Control tokens that begin or end a turn, which no answer needs at its beginning and its end.
_TURN = (
    r"(?:<[|｜][^\s<>|｜]{1,38}[|｜]>|</?s>|<(?:start|end)_of_(?:turn|text|utterance)>"
    r"|<(?:eos|bos|eot|eom|endoftext)>)"
)
_TOKEN = lazy_pattern(_TURN, re.IGNORECASE)
_BEGINNING = lazy_pattern(rf"\A(?:\s{{0,9}}{_TURN}(?:{_ROLE}\b)?)+", re.IGNORECASE)
_ENDING = lazy_pattern(rf"(?:{_TURN}\s{{0,9}})+\Z", re.IGNORECASE)
#: What follows the end of a turn when the model goes on as the person: its server did not stop it.
_OTHER_TURN = lazy_pattern(
    rf"\s{{0,9}}(?:{_TURN}\s{{0,9}})+?(?:(?:{_TURN}\s{{0,9}}|<[|｜])(?:user|human|system)\b|\[INST\])",
    re.IGNORECASE,
)
TAG = lazy_pattern(
    r"</?(?=[^<>\s]{1,38}\s{0,9}/?>)[a-z][\w:-]*\s*/?>|<!--.{0,2000}?-->"
    r"|&(?:nbsp|[et][nhm]\w{0,4}sp|zwn?j|shy|[lr]rm|#x?[0-9a-f]{1,6});",
    re.IGNORECASE | re.DOTALL,
)
_FENCE = lazy_pattern(r"^[ \t]{0,9}(?:`{3,9}|~{3,9})[ \t]{0,9}[\w+#.-]{0,38}[ \t]{0,9}$", re.MULTILINE)
#: The end of a text that may yet become a tag, a control token with its role, an entity or a fence.
_UNFINISHED = lazy_pattern(
    r"(?:(?:<+[^\s<>]{0,40}>+|\[[^\s\[\]]{0,40}\])\s{0,9}[a-z]{0,9}|(?:<+|\[|◁)[^\s<>\[\]]{0,40}\s{0,9}/?"
    r"|&[\w#]{0,8}|^[ \t]{0,9}(?:`{1,9}|~{1,9})[ \t]{0,9}[\w+#.-]{0,38}[ \t]{0,9})\Z",
    re.IGNORECASE | re.MULTILINE,
)
#: None of them is longer.
_LONGEST = 160
_SMILEY = lazy_pattern(r"[:;=8][-']?[)(\]\[DPpOo3*|/\\]|\^_?\^|<3|¯\\_")
#: Letters by category that show nothing.
_BLANK_LETTERS = frozenset("\u115f\u1160\u3164\uffa0\u2800\ufffd")
_UNSEEN = frozenset(("Cc", "Cf", "Cn", "Co", "Cs", "Mn", "Me", "Zs", "Zl", "Zp"))
_PUNCTUATION = frozenset(("Pc", "Pd", "Ps", "Pe", "Pi", "Pf", "Po", "Sk"))
#: Characters that only mark up a text although they are symbols.
_MARKUP = frozenset("$|~=<>■□▪▫●○◦─━│┃═║")

_NULLS = ("null", "none", "nil", "undefined", "object object")
_NOTES = (
    "empty", "blank", "silence", "no response", "no answer", "no output", "no content", "no text", "no reply",
    "empty response", "empty string", "end", "end of text", "end of response", "end of answer",
    "пусто", "нет ответа", "пустой ответ", "без ответа", "тишина", "конец",
)  # fmt: skip
_LABELS = (
    "assistant", "user", "system", "model", "human", "bot", "ai", "answer", "response", "reply", "output",
    "result", "question", "a", "q", "the answer", "your answer", "assistant response",
    "ответ", "вопрос", "ассистент", "пользователь", "модель", "результат", "бот",
)  # fmt: skip
_PHRASES = (*_NULLS, *_NOTES, *_LABELS)


def without_thinking(text: str, prompts: Iterable[str] = ()) -> str:
    """Return the text without its reasoning blocks; one left open swallows the rest, no answer followed it.

    A tag that a prompt names was asked for, and stays.
    """
    pieces: list[str] = []
    position = 0
    while hidden := _HIDDEN.search(text, position):
        pieces.append(text[position : hidden.start()])
        position = hidden.end()
        if hidden[1] and any(hidden[0].lower() in prompt.lower() for prompt in prompts):
            pieces.append(hidden[0])
            continue
        closed = (_closing(hidden[1]) if hidden[1] else _CHANNEL_END).search(text, position)
        if closed is None:
            return "".join(pieces)
        position = closed.end()
    return "".join((*pieces, text[position:]))


def after_unopened(text: str, prompts: Iterable[str], *, growing: bool = False) -> str:
    """Return what follows thoughts that the text closes without having opened them, else all of it.

    What is at the end of a growing text may yet go on in the same line, and then closes nothing.
    """
    closing = _CLOSED.search(text)
    if closing is None or (growing and closing.end() == len(text)):
        return text
    if not _has_content(unmarked(text[: closing.start()])) or _HIDDEN.search(text, 0, closing.start()):
        return text
    asked_for = any(closing[0].strip().lower() in prompt.lower() for prompt in prompts)
    return text if asked_for else text[closing.end() :]


def answer_text(text: str, prompts: Sequence[str]) -> str:
    """Return an answer without the thoughts and the control tokens that precede it.

    What only looks like thoughts, in the middle of an answer, stays.
    """
    said = without_thinking(text, prompts)
    if text.endswith(said) and not _speaks_of_tokens(prompts):
        said = _BEGINNING.sub("", said)
    elif not text.endswith(said):
        return text
    return text if said == text else said.strip()


def own_turn(text: str, prompts: Sequence[str], *, growing: bool = False) -> str:
    """Return a text up to where it goes on as a turn of somebody else; a whole one without its last tokens.

    There stands its first control token: a text about templates has others before.
    """
    if "<" not in text[-_LONGEST:] or _speaks_of_tokens(prompts):
        return text
    begins = _BEGINNING.match(text)
    first = _TOKEN.search(text, begins.end() if begins else 0)
    if first and text[: first.start()].strip() and _OTHER_TURN.match(text, first.start()):
        return text[: first.start()]
    is_struck_out = "<s>" in text.lstrip()[1:]
    return text if growing or is_struck_out else _ENDING.sub("", text)


def shown_length(text: str, prompts: Sequence[str]) -> int:
    """Return how much of a growing answer can be shown: an end that may be a control token waits."""
    is_plain = "<" not in text[-_LONGEST:] or _speaks_of_tokens(prompts)
    return len(text) if is_plain else len(_finished(text))


def _speaks_of_tokens(prompts: Iterable[str]) -> bool:
    return any("<|" in prompt or "<s>" in prompt or "_of_turn>" in prompt for prompt in prompts)


def _closing(name: str) -> re.Pattern[str]:
    names = {re.escape(name), re.escape(name.lower().replace("start", "end").replace("begin", "end"))}
    return re.compile(rf"(?:</|<\||\[/|◁/)(?:{'|'.join(names)})(?:\|?>|\]|▷)", re.IGNORECASE)


def visible(text: str, prompts: Iterable[str] = (), *, growing: bool = False) -> str:
    """Return what a person reads of a text. `growing` hides an end that may yet become a tag."""
    text = without_thinking(text, prompts)
    if growing:
        text = _finished(text)
    return unmarked(text)


def _finished(text: str) -> str:
    """Return a growing text without an end that may yet become markup."""
    while True:
        start = text.rfind("<!--")
        if start < 0 or "-->" in text[start + len("<!--") :]:
            end = _UNFINISHED.search(text, max(0, len(text) - _LONGEST))
            if end is None or not end[0]:
                return text
            start = end.start()
        text = text[:start]


def unmarked(text: str, *, keep_tags: bool = False) -> str:
    """Return a text without control tokens, tags that hold nothing, comments and the lines of code fences."""
    text = _CONTROL.sub(" ", text)
    return _FENCE.sub("", text if keep_tags else TAG.sub(" ", text)).strip()


def is_blank(text: str, *, value_wanted: bool, symbol_wanted: bool) -> bool:
    """Tell whether a visible text says nothing: unseen characters, bare punctuation, null, a lone label."""
    if not symbol_wanted and not _has_content(text):
        bare = "".join(char for char in text if unicodedata.category(char) not in _UNSEEN)
        return not (_SMILEY.search(bare) or (value_wanted and any(map(bare.__contains__, "[]{}()\"'"))))
    if not any(unicodedata.category(char) not in _UNSEEN for char in text):
        return True
    phrase = _phrase(text)
    if phrase in _NULLS and not value_wanted:
        return True
    if phrase in _NOTES and text.strip(" *_`\"'.\n")[:1] in tuple("([<{"):
        return True
    if phrase in _LABELS and text.rstrip(" *_`\"'\n").endswith(":"):
        return True
    return not value_wanted and len(text) < SHORT and text[:1] in ("{", "[") and _is_hollow(text)


def may_become_blank(text: str, *, value_wanted: bool, symbol_wanted: bool) -> bool:
    """Tell whether a visible text that still grows could end as one that says nothing."""
    if is_blank(text, value_wanted=value_wanted, symbol_wanted=symbol_wanted) or not _has_content(text):
        return True
    if len(text) < SHORT and text[:1] in ("{", "[") and not value_wanted:
        return True
    phrase = _phrase(text)
    return any(known.startswith(phrase) for known in _PHRASES)


def _has_content(text: str) -> bool:
    return any(
        (category := unicodedata.category(char)) not in _UNSEEN
        and category not in _PUNCTUATION
        and char not in _MARKUP
        and char not in _BLANK_LETTERS
        for char in text
    )


def _phrase(text: str) -> str:
    """Return the words of a short text, in lower case and without marks around them."""
    return " ".join(re.findall(r"[^\W_]+", text[:SHORT].casefold())) if len(text) < SHORT else "\0"


def _is_hollow(text: str) -> bool:
    """Tell whether a text is JSON without one value in it."""
    try:
        return not _values(json.loads(text))
    except (ValueError, RecursionError):
        return False


def _values(data: object) -> bool:
    if isinstance(data, dict):
        return any(map(_values, data.values()))
    if isinstance(data, list):
        return any(map(_values, data))
    return data is not None and (not isinstance(data, str) or _has_content(data))
