"""Kinds that look at processes: process, command.

A command that is written as one text is cut into words as a shell cuts it, and started without a shell. What
only a shell understands is refused: as a plain argument it would make a check pass, or fail, for a reason
that nobody meant. (`shlex` does not say which words were quoted.)
"""

import asyncio
import json
import re
import shlex
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

from opskit.checks.spec import CheckContext, Observation, kind
from opskit.config.document import FromEnvironment
from opskit.config.fields import AnyText, Bytes, Text
from opskit.config.values import Parameters, Rule
from opskit.records import MutableRecord, field
from opskit.system.program import NotStarted, run
from opskit.text import listing, shortened

if TYPE_CHECKING:
    from opskit.system.process import Process
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


def _pattern(text: str) -> str:
    from opskit.errors import OpskitError
    from opskit.logs.select import compiled

    try:
        compiled(text)
    except OpskitError as exc:
        raise ValueError(exc.message) from exc
    return text


Pattern = Annotated[Text, Rule(_pattern)]


class ProcessParams(Parameters):
    """At least one of them; all that are given must hold."""

    name: Text | None = None
    command: Pattern | None = None
    pid_file: Text | None = None

    def __post_init__(self) -> None:
        if self.name is None and self.command is None and self.pid_file is None:
            raise ValueError("needs name, command (a pattern) or pid_file")

    @property
    def shown(self) -> str:
        named = f"named {self.name}" if self.name else ""
        like = f"like /{self.command}/" if self.command else ""
        return " ".join(filter(None, (named, like))) or f"of {self.pid_file}"


@kind(
    "a process runs (opskit's own and its parents do not count)",
    {
        "running": "whether there is one",
        "count": "how many",
        "pids": "their ids",
        "memory_bytes": "resident memory of all together",
        "age_s": "age of the oldest",
        "states": "their states: running, sleeping, stopped, ...",
        "users": "their users",
        "error": "unreadable (the pid file), or null",
    },
    {"running": True},
    lambda p: str(p.shown),
    imports=("opskit.system.process", "opskit.logs.select"),
)
async def process(params: ProcessParams, context: CheckContext) -> Observation:
    pid: int | None = None
    values: dict[str, Any] = {"running": False, "count": 0, "pids": []}
    if params.pid_file is not None:
        try:
            content = context.path(params.pid_file).read_text(encoding="ascii", errors="replace")
            pid = int(content[:32])
        except FileNotFoundError:
            return Observation(values, f"{params.pid_file} is not there", state="stopped")
        except (OSError, ValueError) as exc:
            why = exc.strerror if isinstance(exc, OSError) else "it holds no process id"
            values["error"] = "unreadable"
            problem = f"{params.pid_file} cannot be read: {why}"
            return Observation(values, problem=problem, undecided=problem, state="unreadable")
    processes, hidden = await asyncio.to_thread(_matching, params, pid)
    now = time.time()
    values = {
        "running": bool(processes),
        "count": len(processes),
        "pids": [process.pid for process in processes],
        "memory_bytes": sum(process.rss_bytes for process in processes),
        "age_s": max((now - process.began for process in processes), default=0.0),
        "states": sorted({process.status for process in processes}),
        "users": sorted({process.user for process in processes}),
    }
    if not processes and hidden:
        problem = f"no process {params.shown} is seen; {hidden} processes are hidden from this user"
        return Observation(values, problem=problem, undecided=problem, state="unknown")
    if not processes:
        return Observation(values, f"no process {params.shown}", state="stopped")
    shown = listing([f"process {process.pid} ({process.name})" for process in processes], 1)
    return Observation(values, f"{shown} runs", state="running")


def _matching(params: ProcessParams, pid: int | None) -> "tuple[list[Process], int]":
    """Return the processes, and how many more may be meant and may not be looked at."""
    from opskit.logs.select import compiled
    from opskit.system.process import ancestry, find_processes

    regex = compiled(params.command) if params.command is not None else None
    us = ancestry()

    def matches(command: Sequence[str]) -> bool:
        return regex is None or bool(regex.search(" ".join(command).encode("utf-8", "surrogateescape")))

    processes, hidden = find_processes(
        pids=lambda other: other == pid if pid is not None else other not in us,
        names=None if params.name is None else {params.name},
        command=None if regex is None else matches,
    )
    return sorted(processes, key=lambda process: process.pid), hidden


CommandLine = Annotated[
    tuple[AnyText, ...],
    Rule(
        lambda value: words(value) if isinstance(value, str) else value,
        {
            "anyOf": [
                {"type": "array", "minItems": 1, "items": {"type": "string"}},
                {"type": "string", "minLength": 1},
            ],
            "description": "the words of a command, or one text that is cut into words; no shell runs",
        },
    ),
]


class CommandParams(Parameters):
    run: CommandLine
    cwd: Text | None = None
    env: dict[Text, AnyText] = field(default_factory=dict)
    stdin: AnyText = ""
    max_output: Bytes = 64 * 1024

    def __post_init__(self) -> None:
        if not self.run or not self.run[0]:
            raise ValueError("there is no command to run")


@kind(
    "a command ends well: a list of words, or one text that is cut into words; no shell runs",
    {
        "exit": "exit status; negative for a signal",
        "stdout": "text, as far as max_output goes",
        "stderr": "text, as far as max_output goes",
        "truncated": "whether there was more",
        "seconds": "how long it ran",
        "error": "'not started', or null",
    },
    {"exit": 0},
    lambda p: shortened(shlex.join(p.run), 80),
    timeout_s=30.0,
)
async def command(params: CommandParams, context: CheckContext) -> Observation:
    began = time.monotonic()
    try:
        done = await run(
            params.run,
            cwd=context.path(params.cwd) if params.cwd else context.survey.cwd,
            env={**context.survey.environ, **params.env},
            stdin=params.stdin.encode(),
            max_output=params.max_output,
        )
    except NotStarted as exc:
        values: dict[str, Any] = {"exit": None, "stdout": "", "stderr": "", "error": "not started"}
        return Observation(values, problem=exc.message, state="not started")
    took = time.monotonic() - began
    values = {
        "exit": done.exit,
        "stdout": done.out,
        "stderr": done.err,
        "truncated": done.cut,
    }
    ended = f"exit {done.exit}" if done.exit >= 0 else f"ended by signal {-done.exit}"
    said = f": {done.complaint}" if done.exit and (done.out or done.err) else ""
    return Observation(values, f"{ended} in {took:.3f} s{said}", state="ok" if done.exit == 0 else "failed")


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
