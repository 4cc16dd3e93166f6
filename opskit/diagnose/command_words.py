"""The words of commands in any text: shell lines, lists of JSON, YAML, Python and Go. Pure.

A quoted string with spaces is a word of its command, and may be a command itself (`sh -c "..."`).
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

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


@dataclass(frozen=True, slots=True)
class Word:
    """One word and where it stands. `limit` is beyond its end where it may go on.

    So it is where a closing quote was cut off, and in a YAML list whose item is not quoted.
    """

    text: str
    start: int
    limit: int


@dataclass(frozen=True, slots=True)
class CommandLine:
    """The words of one command, and where the text after them goes on."""

    words: tuple[Word, ...]
    end: int


def commands(text: str, start: int, stop: int) -> Iterator[CommandLine]:
    """Those that begin on the line at `start`, up to `stop` at most."""
    yield from _read(text, start, stop, 0)


def closing_quote(text: str, opening: str, at: int, limit: int) -> int:
    """Where the same quote stands again, unescaped; -1 when it does not before `limit`."""
    while (found := text.find(opening, at, limit)) >= 0:
        escapes = 0
        while found - escapes > at and text[found - escapes - 1] == "\\":
            escapes += 1
        if escapes % 2 == 0:
            return found
        at = found + 1
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
    """A word may have a quoted piece in it: `-p'a b'`, `--password="a b"`."""
    bare = _BARE_IN_LIST if lists else _BARE
    found = bare.match(text, at, stop)
    if found is None:
        return at
    end = found.end()
    if _OPTION.match(text, at, stop) or "=" in found[0]:
        quote = _QUOTE.match(text, end, stop)
        if quote is not None:
            limit = min(_end_of_line(text, end, stop), end + _QUOTED_CHARS)
            close = closing_quote(text, quote[0], quote.end(), limit)
            return close + len(quote[0]) if close >= 0 else end
    return end


def _goes_on(text: str, at: int, stop: int, words: list[Word], *, inside: bool, item: bool) -> int | None:
    """Where the command goes on behind a line break; None when it ends there."""
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
    found = text.find("\n", at, stop)
    return found if found >= 0 else stop
