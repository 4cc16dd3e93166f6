"""Where a value begins and ends: quoted, bare, in brackets, in a block, on the next line. Pure."""

import re
from collections.abc import Iterator

from opskit.diagnose.command_words import closing_quote

Span = tuple[int, int]

_WHOLE_LINE = frozenset({"authorization", "proxy-authorization", "cookie", "set-cookie"})
_GAP = re.compile(r"[ \t]+")
_SCHEME_CHARS = 10
_SCHEMES = frozenset({"bearer", "basic", "token", "digest", "apikey", "key"})
_BLOCK = re.compile(r"[|>][+-]?\d?[+-]?[ \t]*(?:#[^\n]*)?\n")
_OPENING = re.compile(r"b?(?P<quote>\\*[\"'`])")
_BARE = re.compile(r"\S++")
_IN_QUERY = re.compile(r"[^&\s\"'#<>]++")
_IN_BRACKETS = re.compile(
    r"(?P<space>[\s,]++)|(?P<open>[\[{(])|(?P<close>[\]})])|b?(?P<quote>\\*[\"'])|(?P<sign>[:=])|(?P<bare>[^\s\"',\[\]{}():=\\]++|.)"
)
_SIGN = re.compile(r"\s*+(?:=>|[:=])")
#: YAML: nothing but an anchor, a tag or a comment behind the name, and a deeper line below it.
_LINE_BELOW = re.compile(r"(?:[&!][\w.!-]{0,64}[ \t]*)*(?:#[^\n]*)?\r?\n(?P<indent>[ \t]*)(?=[^\s#])")
_ITEM = re.compile(r"[ \t]*-[ \t]+(?P<hidden>[^\n]*\S)[ \t]*\r?(?:\n|\Z)")
_KEY = re.compile(r"[\w.\"'-]+:(?:\s|\Z)")
#: `PGPASSWORD=$PASSWORD psql`: behind it stands a command.
_REFERENCE = re.compile(r"\$(?:\{[A-Z_][A-Z0-9_]*\}|[A-Z_][A-Z0-9_]*)[ \t]")
_LOOK_BACK = 4096
#: A quoted value, or one in brackets, that is longer is masked to the end of its line.
_QUOTED_CHARS = 8192


class Values:
    """The values of one text. Ends of lines and words are kept: one word may hold many names."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._line: Span = (0, -1)
        self._word: Span = (0, -1)
        self._query: Span = (0, -1)
        self._brackets = 0

    def behind(self, name: str, start: int, at: int) -> Iterator[Span]:
        """The value that begins at `at` behind a name, or words that stand for one, from `start` on."""
        text = self.text
        before = text[start - 1] if start else "\n"
        line = text.rfind("\n", max(0, start - _LOOK_BACK), start) + 1
        lead = text[line:start] if line or start <= _LOOK_BACK else None
        opens = lead is not None and opens_a_line(lead)
        if block := _BLOCK.match(text, at):
            yield block.end(), _end_of_block(text, block.end(), lead or "")
        elif opening := _OPENING.match(text, at):
            limit = self._end_of_line(at)
            closing = closing_quote(text, opening["quote"], opening.end(), min(limit, at + _QUOTED_CHARS))
            yield opening.end(), _or(closing, limit)
        elif before in "?&;" and name.lower() not in _WHOLE_LINE:
            yield at, self._end_in_query(at)
        elif text[at : at + 1] in ("[", "{", "(") and self._holds_several(at, opens=opens):
            if at >= self._brackets:
                leaves, self._brackets = _in_brackets(text, at, self._end_of_line(at))
                yield from leaves
        elif opens and text[start:at].rstrip().endswith(":") and (below := _LINE_BELOW.match(text, at)):
            yield from _below(text, name, lead or "", below)
            if text[at] == "#":
                yield at, self._end_of_line(at)
        else:
            whole = (opens and not _REFERENCE.match(text, at)) or name.lower() in _WHOLE_LINE
            yield at, self._end_of_bare(at, lead, whole=whole)

    def _holds_several(self, at: int, *, opens: bool) -> bool:
        """A password may begin with a bracket; a template begins with two."""
        following = self.text[at + 1 : at + 2]
        return following != "{" and (not opens or following in "\r\n" or self.text[at - 1] in ": ")

    def _end_of_line(self, at: int) -> int:
        if not self._line[0] <= at <= self._line[1]:
            self._line = (at, _or(self.text.find("\n", at), len(self.text)))
        return self._line[1]

    def _end_of_word(self, at: int) -> int:
        """`at` itself where no word stands."""
        self._word = self._run(_BARE, self._word, at)
        return self._word[1]

    def _end_in_query(self, at: int) -> int:
        self._query = self._run(_IN_QUERY, self._query, at)
        return self._query[1]

    def _run(self, pattern: re.Pattern[str], known: Span, at: int) -> Span:
        if known[0] <= at < known[1]:
            return known
        found = pattern.match(self.text, at)
        return (at, found.end() if found else at)

    def _end_of_bare(self, at: int, lead: str | None, *, whole: bool) -> int:
        """Inside a quoted string the value ends with it; else with the line, or the word."""
        text, limit = self.text, self._end_of_line(at)
        for quote in "\"'":
            if lead is not None and lead.count(quote) % 2:
                limit = min(limit, _or(text.find(quote, at, min(limit, at + _QUOTED_CHARS)), limit))
        if whole:
            return limit
        end = min(limit, self._end_of_word(at))
        if end - at <= _SCHEME_CHARS and text[at:end].lower() in _SCHEMES:
            gap = _GAP.match(text, end, limit)
            return min(limit, self._end_of_word(gap.end())) if gap else end
        return end


def opens_a_line(lead: str) -> bool:
    """Whether only what may stand before an assignment stands before a name on its line."""
    return lead.strip() in ("", "-", "export", "set", "ENV", "ARG", "#", "- #", "+", "<", ">")


def _in_brackets(text: str, at: int, line: int) -> tuple[list[Span], int]:
    """Every leaf of a list or a mapping, without its keys, and where it ends.

    Where the brackets do not match, the whole line is one leaf.
    """
    begin, limit, depth = at, min(len(text), at + _QUOTED_CHARS), 0
    leaves: list[Span] = []
    while at < limit and (token := _IN_BRACKETS.match(text, at, limit)):
        at = token.end()
        if token["open"]:
            depth += 1
        elif token["close"]:
            depth -= 1
            if depth == 0:
                return leaves, at
        elif token["quote"]:
            closing = closing_quote(text, token["quote"], at, limit)
            if closing < 0:
                break
            if not _SIGN.match(text, closing + len(token["quote"]), limit):
                leaves.append((at, closing))
            at = closing + len(token["quote"])
        elif token["bare"] and not _SIGN.match(text, at, limit):
            leaves.append(token.span())
    return [*leaves, (begin, line)], max(at, line)


def _below(text: str, name: str, lead: str, below: re.Match[str]) -> Iterator[Span]:
    """The value is a scalar, or a list, on the lines below; a mapping has names of its own."""
    at, indent = below.end(), len(below["indent"])
    own = len(lead) - len(lead.lstrip(" "))
    if item := _ITEM.match(text, below.start("indent")):
        while item is not None and indent >= own and name != "secrets":
            if not _KEY.match(item["hidden"]):
                yield item.span("hidden")
            item = _ITEM.match(text, item.end())
    elif indent > own and not _KEY.match(text, at):
        yield at, _end_of_block(text, at, lead)


def _end_of_block(text: str, at: int, lead: str) -> int:
    """A YAML block lasts as long as its lines are indented deeper than its key."""
    indent = len(lead) - len(lead.lstrip(" "))
    first = at
    while at < len(text):
        end = _or(text.find("\n", at), len(text))
        line = text[at:end]
        inside = at == first and at > 0 and text[at - 1] != "\n"
        if line.strip() and not inside and len(line) - len(line.lstrip(" ")) <= indent:
            break
        at = min(end + 1, len(text))
    # The line break stays: what follows is no part of the value.
    return at - 1 if first < at < len(text) else at


def _or(found: int, otherwise: int) -> int:
    return found if found >= 0 else otherwise
