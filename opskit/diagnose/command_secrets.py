"""Secrets among the words of commands: by the name of a long option, by program for all others. Pure.

`-p` is a password for `mongosh` and a port for `docker`: a short option means something only behind a program
that is known. Words are read in any text: shell lines, lists of JSON, YAML, Python and Go. A quoted string
with spaces is a word of its command, and may be a command itself (`sh -c "..."`).
"""

import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any

from opskit.diagnose.secret_names import harmless, promises_secret, tables
from opskit.records import Record

Span = tuple[int, int]

_MARKS = "*+:%,="
#: What the name of a thing follows, which may be that of a program: `docker run --name mongo -p 1:1`.
_NAMING = frozenset(
    {"--name", "-h", "--host", "--hostname", "--network", "--net", "--link", "--volumes-from"}
)
#: One-letter options without a value, which may stand together before one that has it: `curl -sSu user:pw`.
_TOGETHER = re.compile(r"-[sSkfLvinIgGxZqtjBcC#0-9]{1,8}([A-Za-z])")
_BARE_NAME = re.compile(r"[\w./:@-]+")
_NEXT_OPTION = re.compile(r"--[a-z][a-z-]*(?:=.*)?|-[A-Za-z]", re.DOTALL)
_PORTS = re.compile(r"(?:[\d.]+:)?\d+(?:-\d+)?:\d+(?:-\d+)?(?:/\w+)?")
#: An option that names how, not what; a secret's file or variable; a Docker build secret.
_NO_SECRET = re.compile(
    r"(?:basic|bearer|digest|token|ldap|yes|no|on|off)$|(?:file|env|fd):|id=|@/|/run/secrets/"
)
_ELSEWHERE = re.compile(r"[\"']?(?:file|env|fd):")
_REDIRECTION = re.compile(r"\d?[<>]")
_NO_MORE = -1_000_000
_USER_AND_PASSWORD = re.compile(r"[^/@\s]+/(?P<hidden>[^/@\s]+)(?:@\S*)?")
_GAP = re.compile(r"(?:[ \t,:(){}]|\\\r?\n)+")
_STOP = re.compile(r"(?:[;|&`]|\$\(|\\[nr])+")
_QUOTE = re.compile(r"\\{0,7}[\"']")
_BARE = re.compile(r"(?:[^\s\"'`;|&\\$]|\$(?!\()|\\(?![nr\r\n\"']))+")
_BARE_IN_LIST = re.compile(r"(?:[^\s\"'`;|&\\$,\]]|\$(?!\()|,(?=[^\s\"'])|\\(?![nr\r\n\"']))+")
_ITEM = re.compile(r"[ \t]*(?:#[ \t]*)?-[ \t]+(?=\S)")
_INDENTED = re.compile(r"[ \t]+(?=\S)")
_OPTION = re.compile(r"-{1,2}[A-Za-z]")
#: A quoted string that is longer is read as if the quote did not stand there.
_QUOTED_CHARS = 8192
_DEPTH = 4


@cache
def _rules() -> dict[str, dict[str, str]]:
    """Return what the options of each program mean, as `secrets.toml` has them."""
    commands = tables()["commands"]
    rules: dict[str, dict[str, str]] = {program: {} for program in commands["plain"].split()}
    for line in commands["table"].strip().splitlines():
        programs, _, options = line.partition("|")
        for program in programs.split():
            known = rules.setdefault(program, {})
            for option in options.split():
                marked = len(option) > 1 and option[-1] in _MARKS
                known[option.rstrip(_MARKS) if marked else option] = option[-1] if marked else ""
    return rules


@cache
def _first_words() -> tuple[str, ...]:
    return tuple(sorted({name.split(">")[0] for name, rule in _rules().items() if rule}))


_WHOLE_NAME = re.compile(r"(?:(?<![\w.-])|(?<=\\[nrt]))(?:[\w-]+)(?:\.exe)?(?![\w:=.-])")
#: The hyphen stands first, so that it is searched for as fast as can be.
_LONG_OPTION = re.compile(r"-(?:(?<![\w.-]-)|(?<=\\[nrt]-))-?(?P<name>[A-Za-z][\w.-]{1,80}+)")
#: The key that holds the program, by the key that holds its arguments.
_PROGRAMS = {"Args": "Path", "Cmd": "Entrypoint", "command": "entrypoint", "args": "command"}
_LINE_CHARS = 4096
_COMMAND_CHARS = 8192


def in_text(text: str) -> Iterator[Span]:
    """Yield the secrets of every command in a text, however its words are quoted and listed."""
    done = 0
    for at in sorted(_places(text)):
        if at < done:
            continue
        start = max(done, at - _LINE_CHARS, text.rfind("\n", max(0, at - _LINE_CHARS), at) + 1)
        for command in commands(text, start, min(len(text), at + _COMMAND_CHARS)):
            done = max(done, command.end)
            yield from _in_command(command, ())


def in_line(text: str, before: Sequence[str]) -> Iterator[Span]:
    """Yield the secrets of one command whose first words stand elsewhere."""
    for command in commands(text, 0, len(text)):
        yield from _in_command(command, before)


def _in_command(command: "CommandLine", before: Sequence[str]) -> Iterator[Span]:
    for index, first, last in in_words([word.text for word in command.words], before):
        word = command.words[index]
        yield word.start + first, max(word.start + last, word.limit if last == len(word.text) else 0)


def _places(text: str) -> Iterator[int]:
    """Yield where a program or an option that matters stands."""
    for match in _LONG_OPTION.finditer(text):
        if promises_secret(match["name"], alone=True):
            yield match.start()
    for name in _first_words():
        at = text.find(name)
        while at >= 0:
            whole = _WHOLE_NAME.match(text, at)
            if whole is not None and whole[0].removesuffix(".exe") == name:
                yield at
            at = text.find(name, at + len(name))


def in_words(words: Sequence[str], before: Sequence[str] = ()) -> Iterator[tuple[int, int, int]]:
    """Yield the secrets of one command: the index of a word, and where in it the secret begins and ends.

    `before` are words of the same command that stand elsewhere, as the entrypoint of a container does.
    """
    reading = _Reading()
    for word in before:
        reading.next(word)
    for index, word in enumerate(words):
        for first, last in reading.next(word):
            quoted = (
                len(word) > first + 1
                and last == len(word)
                and word[first] in "\"'"
                and word[-1] == word[first]
            )
            begin, end = (first + 1, last - 1) if quoted else (first, last)
            value = word[begin:end]
            if (
                not _ELSEWHERE.match(word)
                and not harmless(value)
                and not _PORTS.fullmatch(value)
                and not _NO_SECRET.match(value)
            ):
                yield index, begin, end


def words_before(holder: Mapping[Any, Any], key: object) -> list[str]:
    """Return the program of arguments that stand apart from it: Docker's Path, a service's entrypoint."""
    value = holder.get(_PROGRAMS.get(str(key)))
    if isinstance(value, str):
        return value.split()
    return [word for word in value if isinstance(word, str)] if isinstance(value, list | tuple) else []


class _Reading:
    """Reads a command word by word: what the words so far make of the next one."""

    def __init__(self) -> None:
        self._program = ""
        self._rule: dict[str, str] = {}
        self._awaited: str | None = None
        self._previous = ""
        self._operands = 0
        self._together = ""

    def next(self, word: str) -> Iterator[Span]:
        awaited, self._awaited = self._awaited, None
        previous, self._previous = self._previous, word
        if awaited is not None and not _NEXT_OPTION.fullmatch(word):
            return iter(_parts(word, 0, awaited))
        if word.startswith("-") and len(word) > 1:
            return iter(self._option(word))
        return iter(self._operand(word, previous))

    def _option(self, word: str) -> list[Span]:
        name, equals, _ = word.partition("=")
        mark = self._rule.get(name)
        for size in (3, 2) if mark is None else ():
            glued = self._rule.get(word[:size], "") if len(word) > size else ""
            if glued and glued != "=":
                return _parts(word, size, glued)
        long = name.startswith("--") or len(name) > 2
        if (
            mark is None
            and long
            and promises_secret(name, alone=True)
            and (equals or _BARE_NAME.fullmatch(word))
        ):
            mark = ""
        if mark is not None and mark != "+":
            if equals:
                return _parts(word, len(name) + 1, mark)
            self._awaited = mark
            return []
        if not name.startswith("--"):
            self._together += name
            if (cluster := _TOGETHER.fullmatch(word)) and self._rule.get(f"-{cluster[1]}", "+") != "+":
                self._awaited = self._rule[f"-{cluster[1]}"]
        return []

    def _operand(self, word: str, previous: str) -> list[Span]:
        self._operands = _NO_MORE if _REDIRECTION.match(word) else self._operands + 1
        called = "" if "://" in word else posixpath.basename(word).removesuffix(".exe")
        if f"{self._program}>{called}" in _rules():
            self._start(f"{self._program}>{called}", keep=False)
        elif called in _rules() and previous not in _NAMING:
            self._start(called, keep=previous.startswith("-") and previous != "--" and bool(_rules()[called]))
        elif "=" in self._rule and _BARE_NAME.fullmatch(word) and promises_secret(word):
            self._awaited = ""
        elif "/" in self._rule and (login := _USER_AND_PASSWORD.fullmatch(word)):
            return [login.span("hidden")]
        elif any(self._is_hidden(option) for option in self._rule):
            return [(0, len(word))]
        return []

    def _start(self, program: str, *, keep: bool) -> None:
        self._rule = {**(self._rule if keep else {}), **_rules()[program]}
        self._program, self._operands, self._together = program, 0, ""

    def _is_hidden(self, option: str) -> bool:
        """Tell whether an operand is hidden: `htpasswd -b FILE USER PASSWORD`, with `-n` without the file."""
        if option == "#b":
            return "b" in self._together and self._operands == (2 if "n" in self._together else 3)
        return option.startswith("#") and self._operands >= int(option[1:])


def _parts(word: str, start: int, mark: str) -> list[Span]:
    """Return what is secret of a value that begins at `start`; before an empty password the user is."""
    if mark not in (":", "%", ",", "="):
        return [(start, len(word))]
    user, sign, password = word[start:].partition(mark)
    if not sign:
        return []
    if not password.strip("\"'"):
        return [(start, start + len(user))]
    hidden = start + len(user) + 1
    # `-p'a b'` keeps its quotes: quotes around user and password belong to neither.
    return [(hidden, len(word) - (word[start] in "\"'" and word[-1] == word[start]))]


class Word(Record):
    """One word and where it stands. `limit` is beyond its end where it may go on.

    So it is where a closing quote was cut off, and in a YAML list whose item is not quoted.
    """

    text: str
    start: int
    limit: int


class CommandLine(Record):
    """The words of one command, and where the text after them goes on."""

    words: tuple[Word, ...]
    end: int


def commands(text: str, start: int, stop: int) -> Iterator[CommandLine]:
    """Yield the commands that begin on the line at `start`, up to `stop` at most."""
    yield from _read(text, start, stop, 0)


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


def _read(text: str, at: int, stop: int, depth: int) -> Iterator[CommandLine]:
    words: list[Word] = []
    lists, alone_at = 0, -1
    item = _ITEM.match(text, at, stop)
    at = item.end() if item else at
    while at < stop:
        char = text[at]
        if char == "[":
            lists, at = lists + 1, at + 1
        elif char == "]":
            lists, at = max(0, lists - 1), at + 1
        elif gap := _GAP.match(text, at, stop):
            at = gap.end()
        elif char in "\r\n":
            following = _goes_on(text, at, stop, words, inside=lists > 0, item=item is not None)
            if following is None:
                break
            at = following
            alone_at = at if item else -1
        elif ending := _STOP.match(text, at, stop):
            yield CommandLine(tuple(words), ending.end())
            words, at = [], ending.end()
        elif quote := _QUOTE.match(text, at, stop):
            line = _end_of_line(text, at, stop)
            close = closing_quote(text, quote[0], quote.end(), min(line, at + _QUOTED_CHARS))
            if close < 0:
                end = _bare_end(text, quote.end(), stop, lists)
                words.append(Word(text[quote.end() : end], quote.end(), line))
                at = max(end, quote.end())
                continue
            words.append(Word(text[quote.end() : close], quote.end(), close))
            if depth < _DEPTH and any(char in " \t;|&" or char == "\\" for char in words[-1].text):
                yield from _read(text, quote.end(), close, depth + 1)
            at = close + len(quote[0])
        else:
            end = max(_bare_end(text, at, stop, lists), at + 1)
            words.append(Word(text[at:end], at, _end_of_line(text, at, stop) if at == alone_at else end))
            at = end
    yield CommandLine(tuple(words), at)


def _bare_end(text: str, at: int, stop: int, lists: int) -> int:
    """Return the end of a word, which may have a quoted piece in it: `-p'a b'`, `--password="a b"`."""
    bare = _BARE_IN_LIST if lists else _BARE
    word = bare.match(text, at, stop)
    if word is None:
        return at
    end = word.end()
    if _OPTION.match(text, at, stop) or "=" in word[0]:
        quote = _QUOTE.match(text, end, stop)
        if quote is not None:
            limit = min(_end_of_line(text, end, stop), end + _QUOTED_CHARS)
            close = closing_quote(text, quote[0], quote.end(), limit)
            return close + len(quote[0]) if close >= 0 else end
    return end


def _goes_on(text: str, at: int, stop: int, words: list[Word], *, inside: bool, item: bool) -> int | None:
    """Return where the command goes on behind a line break; None when it ends there."""
    line = text.find("\n", at, stop) + 1 or at + 1
    before = text[max(0, at - 200) : at].rstrip(" \t\r")
    if not words or inside or before.endswith((",", "[", "\\")):
        return line
    if listed := _ITEM.match(text, line, stop):
        return listed.end() if item else None
    indented = _INDENTED.match(text, line, stop)
    if indented and (_OPTION.match(text, indented.end(), stop) or words[-1].text.startswith("-")):
        return indented.end()
    return None


def _end_of_line(text: str, at: int, stop: int) -> int:
    end = text.find("\n", at, stop)
    return end if end >= 0 else stop
