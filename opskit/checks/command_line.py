"""A command that is written as one text, cut into words as a shell cuts it. Pure.

The program is started without a shell. What only a shell understands is refused: as a plain argument it would
make a check pass, or fail, for a reason that nobody meant. (`shlex` does not say which words were quoted.)
"""

import json
import re
from collections.abc import Sequence

from opskit.config.document import FromEnvironment
from opskit.records import MutableRecord

_SHOWN_CHARS = 160
_VARIABLE = r"\$(?:[A-Za-z_][A-Za-z0-9_]*|[0-9{\[@*\#?$!-]|\\\n)"
_COMMAND = r"`|\$\("
#: The pieces of a command line; the first that fits is taken.
_PIECE = re.compile(
    rf"""
      (?P<blank>[ \t]+)
    | (?P<joined>\\\n)
    | (?P<line>[\r\n]+)
    | \\(?P<escaped>.)
    | '(?P<single>[^']*)'
    | "(?P<double>(?:\\.|[^"\\])*)"
    | (?P<open>['"\\])
    | (?P<operator>(?:[0-9]+|&)?(?:[<>]&[0-9-]*|<<<?-?|>>|>\||<>|[<>])|\|[|&]?|&&?|;;?|[()])
    | (?P<variable>{_VARIABLE}|\$(?=['"]))
    | (?P<command>{_COMMAND})
    | (?P<glob>[*?]|\[(?=[^\s\]]+\])|\{{(?=[^\s{{}}'"]*(?:,|\.\.)[^\s{{}}'"]*\}}))
    | (?P<plain>[^\s\\'"|&;()<>$`*?\[{{]+|.)
    """,
    re.VERBOSE | re.DOTALL,
)
_IN_QUOTES = re.compile(
    rf'\\(?P<escaped>[$`"\\\n])|(?P<variable>{_VARIABLE})|(?P<command>{_COMMAND})', re.VERBOSE
)
_ASSIGNMENT = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)=(.*)", re.DOTALL)
_SHELL = re.compile(r"(?:.*/)?(?:ba|da|z|k|a|fi)?sh")
_SCRIPT_OPTION = re.compile(r"-[a-z]*c")
_ONLY_IN_A_SHELL = re.compile(
    r"""
    [.:!{] | \[\[ | alias | bg | builtin | case | cd | command | declare | dirs | disown | eval | exec | exit
    | export | fg | for | function | hash | if | jobs | let | local | popd | pushd | read | readonly | return
    | select | set | shift | shopt | source | trap | type | typeset | ulimit | umask | unalias | unset | until
    | wait | while
    """,
    re.VERBOSE,
)


class _Word(MutableRecord):
    """A word, and the first piece of it that a shell would replace, inside of double quotes or outside."""

    text: str = ""
    replaced: re.Match[str] | None = None
    replaced_in_quotes: re.Match[str] | None = None


def words(text: str) -> tuple[str, ...]:
    """The words of a command line. Raises ValueError, with how to write it, for what needs a shell."""
    line: list[_Word] = []
    word: _Word | None = None
    line_break = False
    for match in _PIECE.finditer(text):
        kind = str(match.lastgroup)
        if kind in ("blank", "line"):
            word, line_break = None, line_break or (kind == "line" and bool(line))
            continue
        if kind == "joined":
            continue
        if line_break:
            raise ValueError(_refusal("a line break", "", text))
        if kind in ("operator", "command"):
            raise ValueError(_refusal(f"`{match[0]}`", "", text))
        if kind == "open":
            raise ValueError(f"cannot be cut into words: nothing follows or closes {match[0]}")
        if word is None:
            word = _Word()
            line.append(word)
            if match[0][0] in "~#":
                word.replaced = match
        _extend(word, kind, match)
    _check(line, text)
    return tuple(word.text for word in line)


def _extend(word: _Word, kind: str, match: re.Match[str]) -> None:
    if kind == "double":
        inner = match["double"]
        live = (piece for piece in _IN_QUOTES.finditer(inner) if piece["escaped"] is None)
        word.replaced_in_quotes = word.replaced_in_quotes or next(live, None)
        word.text += _IN_QUOTES.sub(lambda piece: (piece["escaped"] or piece[0]).strip("\n"), inner)
        return
    # A URL may hold `?`, `*` and `[::1]`, and a shell finds no file of that name.
    if kind == "variable" or (kind == "glob" and "://" not in word.text):
        word.replaced = word.replaced or match
    word.text += match[kind]


def _check(line: Sequence[_Word], text: str) -> None:
    """Raises ValueError for the first word that a shell would not take as it stands."""
    for index, word in enumerate(line):
        piece = word.replaced
        # What a shell gets as its script, it replaces itself.
        if piece is None and not _is_script([before.text for before in line[: index + 1]]):
            piece = word.replaced_in_quotes
        if piece is not None:
            raise ValueError(_refusal(f"`{_shown(piece)}`", _advice(piece), text))
    first = line[0].text if line else ""
    assignment = _ASSIGNMENT.fullmatch(first)
    if assignment is not None:
        advice = f"set it by `env: {{{assignment[1]}: value}}`, or "
        raise ValueError(_refusal(f"`{assignment[1]}=` before the command", advice, text))
    if _ONLY_IN_A_SHELL.fullmatch(first):
        advice = "name the folder in `cwd`, or " if first == "cd" else ""
        raise ValueError(_refusal(f"`{first}`", advice, text))


def _is_script(so_far: Sequence[str]) -> bool:
    """Whether the last of these words is what a shell is to run (`sh -c SCRIPT`)."""
    *before, option, _ = ("", "", *so_far)
    return bool(_SCRIPT_OPTION.fullmatch(option)) and any(_SHELL.fullmatch(word) for word in before)


def _shown(piece: re.Match[str]) -> str:
    return piece[0] if piece.lastgroup in ("variable", "glob", "command") else piece[0][0]


def _advice(piece: re.Match[str]) -> str:
    name = piece[0].removeprefix("$")
    if piece.lastgroup == "variable" and name.isidentifier():
        return f"let the checklist replace it: `${{{name}}}`, or "
    return "let the checklist replace it: `${HOME}`, or " if piece[0].startswith("~") else ""


def _refusal(what: str, advice: str, text: str) -> str:
    return (
        f"no shell runs here, and {what} needs one: {advice}write `run: {_as_script(text)}`; "
        "what the program is to get as it stands belongs in single quotes"
    )


def _as_script(text: str) -> str:
    """The same command by a shell, as it stands in a checklist; the values of variables are not shown."""
    script = text.strip().replace("$$", "$$$$").replace("${", "$${")
    if isinstance(text, FromEnvironment) or len(script) > _SHOWN_CHARS:
        script = "..."
    return json.dumps(["sh", "-c", script], ensure_ascii=False)
