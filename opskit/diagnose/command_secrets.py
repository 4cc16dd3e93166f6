"""Secrets among the words of commands: shell lines, lists of JSON, YAML and Python, process lists. Pure.

Three rules need no program: an option whose name promises a secret hides the next word, `-u user:x` hides
what follows the user, and an option not known to be harmless hides what looks random. Weaker passwords behind
short options are known by their program, from `secrets.toml`. In doubt a word of a command is masked.
"""

import re
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from itertools import islice, pairwise
from typing import Any

from opskit.diagnose.secret_names import harmless, promises_secret, tables

Span = tuple[int, int]

_MARKS = "*+:,="
#: Stands around each word of a list that is read as a text.
_BORDER = "\x1f"
_QUOTE = rf"\\{{0,7}}[\"'{_BORDER}]"
_NEW_LINE = r"\\?\r?\n(?:[ \t]*+(?:#[ \t]*+)?-[ \t]++|[ \t]++)"
#: Between two words, without the quote that opens the second one.
_GAP = rf"(?:{_QUOTE})?(?:[ \t,]|{_NEW_LINE}|</string>\s*<string>)++"
_NEXT_OPTION = rf"(?:{_QUOTE})?(?:--[a-z][a-z-]*|-[A-Za-z])(?=[=\s,\"'\\{_BORDER}]|\Z)"
_NEXT_WORD = rf"{_GAP}(?!{_NEXT_OPTION})"
_BEGINS = r"(?:(?<![\w.-])|(?<=\\[nrt]))"
_OPTION = re.compile(
    rf"(?P<open>{_QUOTE})?{_BEGINS}(?P<name>--?[A-Za-z][\w.-]*+)(?:(?P<glued>=)|{_NEXT_WORD})"
)
_NAME = re.compile(rf"{_BEGINS}(?<![${{])(?P<name>[A-Za-z][\w./:@-]*+){_NEXT_WORD}")
_OPERAND = re.compile(rf"{_GAP}(?!(?:{_QUOTE})?[<>-])")
_OPENING = re.compile(_QUOTE)
#: Options of any program that take a user and a password, also behind other letters: `curl -sSu user:x`.
_LOGIN = re.compile(r"-[A-Za-z#0-9]{0,8}[uU]|--(?:proxy-)?(?:user|cert|auth)")
#: The rest of a command: up to a sign of the shell, or to a line that does not go on with it.
_COMMAND = re.compile(
    rf"(?:[^;|&`\n\r\"'\\${_BORDER}]++|(?P<quote>{_QUOTE})(?:(?!(?P=quote))[^\n]){{0,256}}+(?P=quote)|{_QUOTE}"
    rf"|\$(?!\()|{_NEW_LINE}(?!(?:-[ \t]+)?[\w.\"'-]+:\s)|\\(?![nr\n]))*"
)
_COMMAND_CHARS = 8192
_BARE = re.compile(
    rf"(?:[^\s\"'`;|&\\$<,{_BORDER}]|[;|&](?=\w)|,(?=\S)|<(?!/)|\$(?!\()|\\(?![nr\r\n\"'{_BORDER}]))*+"
)
_PORTS = re.compile(r"(?:[\d.]+:)?\d+(?:-\d+)?:\d+(?:-\d+)?(?:/\w+)?")
#: A word that names how, not what; a secret's file or variable; a Docker build secret.
_NO_SECRET = re.compile(
    r"(?:basic|bearer|digest|token|ldap|yes|no|on|off)\Z|(?:file|env|fd):|id=|@/|/run/secrets/"
)
_RANDOM = re.compile(r"(?=.*[A-Z])(?=.*[a-z])(?=.*\d)\w[\w+=!-]{7,}")
#: The key that holds the program, by the key that holds its arguments.
_PROGRAMS = {"Args": "Path", "Cmd": "Entrypoint", "command": "entrypoint", "args": "command"}


@cache
def _rules() -> dict[str, tuple[re.Pattern[str], Mapping[str, str]]]:
    """Return which options of each program hide a value, and how; `a>b` is a program of two words."""
    rules: dict[str, tuple[re.Pattern[str], Mapping[str, str]]] = {}
    for line in tables()["commands"]["table"].strip().splitlines():
        programs, _, words = line.partition("|")
        marks = {word.rstrip(_MARKS): word[-1] if word[-1] in _MARKS else "" for word in words.split()}
        names = "|".join(re.escape(name) for name in marks if name.startswith("-")) or "(?!)"
        options = re.compile(
            rf"(?P<open>{_QUOTE})?{_BEGINS}(?P<name>{names})"
            rf"(?:{_NEXT_WORD}|(?P<glued>=?)(?(open)(?!{_QUOTE}))(?!{_QUOTE}(?:[\s,)\]}}]|\Z))(?=\S))"
        )
        rules.update(dict.fromkeys(programs.split(), (options, marks)))
    return rules


def spans(text: str) -> Iterator[Span]:
    """Yield the secrets of every command in a text, however its words are quoted and listed."""
    known_harmless = tables()["commands"]["harmless"].split()
    for option in _OPTION.finditer(text):
        name, (start, end) = option["name"], _value(text, option)
        if len(name) > 2 and promises_secret(name, alone=True):
            yield from _secret(text, start, end)
        elif _LOGIN.fullmatch(name):
            user, _, password = text[start:end].replace("%", ":", 1).partition(":")
            if password != user and not f"{user}{password}".isdigit() and not password.startswith("//"):
                yield from _secret(text, start, end, ":%")
        elif _looks_random(text[start:end]) and name.strip("-").split("-")[-1] not in known_harmless:
            yield start, end
    yield from _of_programs(text)


def _of_programs(text: str) -> Iterator[Span]:
    names = sorted((name for name in _rules() if name.partition(">")[0] in text), key=len, reverse=True)
    if not names:
        return
    program = "|".join(f"{_GAP}(?:{_QUOTE})?".join(map(re.escape, name.split(">"))) for name in names)
    ends: dict[re.Pattern[str], int] = {}
    for match in re.finditer(rf"{_BEGINS}(?P<name>{program})(?:\.exe)?(?![\w:=.-])", text):
        options, marks = _rules()[">".join(re.findall(r"\w[\w-]*", match["name"]))]
        at = match.end()
        if at < ends.get(options, 0):
            continue
        end = ends[options] = next(_COMMAND.finditer(text, at, at + _COMMAND_CHARS)).end()
        for option in options.finditer(text, at, end):
            mark = marks[option["name"]]
            # `-p x` is a password for one program and `-px` for another; `-p=x` is for both.
            if option["glued"] or mark != ("+" if option["glued"] is None else ""):
                yield from _secret(text, *_value(text, option), mark)
        for first in (int(mark[1:]) for mark in marks if mark.startswith("#")):
            for word in islice(_OPERAND.finditer(text, at, end), first - 1, first + 1):
                yield from _secret(text, *_value(text, word))
        for word in _NAME.finditer(text, at, end) if "" in marks else ():
            if promises_secret(word["name"], alone=True):
                yield from _secret(text, *_value(text, word))


def _value(text: str, before: re.Match[str]) -> Span:
    """Return the word behind an option or a gap, without its quotes."""
    at, groups = before.end(), before.groupdict()
    opening = groups.get("open") if groups.get("glued") is not None else None
    if opening is None and (quote := _OPENING.match(text, at)):
        opening, at = quote[0], quote.end()
    is_item = text[max(0, at - 64) : at].rpartition("\n")[2].strip(" \t#") == "-"
    if opening is None and not is_item:
        return at, next(_BARE.finditer(text, at)).end()
    # The quote is looked for nearby first: a line may be long, and hold many commands.
    line = text.find("\n", at, at + _COMMAND_CHARS)
    limit = line if line >= 0 else at + _COMMAND_CHARS
    if opening is not None:
        closing = closing_quote(text, opening, at, len(text) if opening.endswith(_BORDER) else limit)
        if closing >= 0:
            return at, closing
    line = text.find("\n", limit)
    return at, at + len(text[at : line if line >= 0 else len(text)].rstrip())


def _secret(text: str, start: int, end: int, marks: str = "") -> Iterator[Span]:
    """Yield what is secret of a value; before an empty password the user is."""
    if _NO_SECRET.match(text, start, end) or harmless(text[start:end]):
        return
    if marks.strip("*+"):
        sign = re.compile(f"[{marks}]").search(text, start, end)
        if sign is None:
            return
        start, end = (sign.end(), end) if text[sign.end() : end].strip("\"'") else (start, sign.start())
    if not _PORTS.fullmatch(text, start, end) and not harmless(text[start:end]):
        yield start, end


def _looks_random(value: str) -> bool:
    """Tell whether letters of both cases and digits change as often as in what a machine made up."""
    kinds = [char.isdigit() + 2 * char.isupper() for char in value] if _RANDOM.fullmatch(value) else []
    return sum(kind != following for kind, following in pairwise(kinds)) > 0.4 * len(kinds) > 0


def in_words(words: Sequence[str], before: Sequence[str] = ()) -> Iterator[tuple[int, int, int]]:
    """Yield the secrets of one command: the index of a word, and where in it the secret begins and ends.

    `before` are words of the same command that stand elsewhere, as the entrypoint of a container does.
    """
    text, starts, first = "", [], len(before)
    for word in (*before, *words):
        starts.append(len(text) + 1)
        text += f"{_BORDER}{word.replace(_BORDER, ' ')}{_BORDER} "
    for start, end in spans(text):
        index = bisect_right(starts, start) - 1
        if index >= first:
            place, begin = index - first, starts[index]
            yield place, start - begin, min(end - begin, len(words[place]))


def words_before(holder: Mapping[Any, Any], key: object) -> list[str]:
    """Return the program of arguments that stand apart from it: Docker's Path, a service's entrypoint."""
    value = holder.get(_PROGRAMS.get(str(key)))
    if isinstance(value, str):
        return value.split()
    return [word for word in value if isinstance(word, str)] if isinstance(value, list | tuple) else []


def closing_quote(text: str, opening: str, at: int, limit: int) -> int:
    """Return where the same quote stands again, unescaped; -1 when it does not before `limit`."""
    while (position := text.find(opening, at, limit)) >= 0:
        escapes = 0
        while position - escapes > at and text[position - escapes - 1] == "\\":
            escapes += 1
        if escapes % 2 == 0:
            return position
        at = position + 1
    return -1
