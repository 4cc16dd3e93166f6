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

from opskit.checks.matchers import PartText
from opskit.checks.spec import CheckContext, Observation, kind
from opskit.checks.upkeep import words_without_secrets
from opskit.config.document import FromEnvironment
from opskit.config.fields import AnyText, Bytes, Text
from opskit.config.values import Parameters, Rule
from opskit.records import field
from opskit.system.program import NotStarted, run
from opskit.text import listing, shortened, size

if TYPE_CHECKING:
    from opskit.system.process import Process
_SHOWN_CHARS = 160
#: A part of a command line that a shell takes as plain text, apart from what it replaces in double quotes.
_QUOTED = re.compile(r"""\\(?P<char>.)|'(?P<single>[^']*)'|"(?P<double>(?:\\.|[^"\\])*)\"""", re.DOTALL)
_WORD = re.compile(rf"(?:{re.sub('[?]P<[a-z]+>', '?:', _QUOTED.pattern)}|[^ \t\r\n])+", re.DOTALL)
#: What stands for a quoted part where only the parts outside of quotes are looked at.
_MASK = "\0"
_LIVE = r"`|\$\(|\$(?:[A-Za-z_][A-Za-z0-9_]*|[0-9{\[@*\#?$!-])"
_OPERATOR = re.compile(
    r"`|\$\(|(?:(?<![^\s])[0-9]+|&)?(?:[<>]&[0-9-]*|<<<?-?|>>|>\||<>|[<>])|\|[|&]?|&&?|;;?|[()]"
)
_REPLACED = re.compile(
    rf"^[~#]|{_LIVE}|\$(?={_MASK})|[*?]|\[(?=[^\s\]]+\])|\{{(?=[^\s{{}}]*(?:,|\.\.)[^\s{{}}]*\}})"
)
_ASSIGNMENT = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)=(.*)", re.DOTALL)
_SHELL = re.compile(r"(?:.*/)?(?:ba|da|z|k|a|fi)?sh")
_SCRIPT_OPTION = re.compile(r"-[a-z]*c")
_ONLY_IN_A_SHELL = re.compile(
    r"[.:!{]|\[\[|alias|bg|builtin|case|cd|command|declare|dirs|disown|eval|exec|exit|export|fg|for|function|hash"
    r"|if|jobs|let|local|popd|pushd|read|readonly|return|select|set|shift|shopt|source|trap|type|typeset|ulimit"
    r"|umask|unalias|unset|until|wait|while"
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
    if values["states"] == ["stopped"]:
        detail = f"{shown} is stopped: `kill -CONT {processes[0].pid}` lets it go on"
        return Observation(values, detail, state="stopped")
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
    lambda p: shortened(shlex.join(words_without_secrets(p.run)), 80),
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
        "stdout": PartText(done.out) if done.cut else done.out,
        "stderr": PartText(done.err) if done.cut else done.err,
        "truncated": done.cut,
    }
    ended = f"exit {done.exit}" if done.exit >= 0 else f"ended by signal {-done.exit}"
    said = f": {done.complaint}" if done.exit and (done.out or done.err) else ""
    said += f"; only the first {params.max_output} bytes were read" if done.cut else ""
    remedy = f"`max_output: {size(4 * params.max_output)}` reads more" if done.cut else None
    state = "ok" if done.exit == 0 else "failed"
    return Observation(values, f"{ended} in {took:.3f} s{said}", state=state, remedy=remedy)


def words(text: str) -> tuple[str, ...]:
    """The words of a command line. Raises ValueError, with how to write it, for what needs a shell."""
    # A line that ends with a backslash goes on in the next one, but within single quotes.
    joined = _QUOTED.sub(lambda part: part[0] if part["single"] is not None else _on_one_line(part[0]), text)
    bare = _QUOTED.sub(_MASK, joined).strip()
    if (operator := _OPERATOR.search(bare)) is not None:
        raise ValueError(_refusal(f"`{operator[0]}`", "", text))
    if (open_quote := re.search(r"['\"\\]", bare)) is not None:
        raise ValueError(f"cannot be cut into words: nothing follows or closes {open_quote[0]}")
    if re.search(r"[\r\n]", bare):
        raise ValueError(_refusal("a line break", "", text))
    line: list[str] = []
    for raw in (match[0] for match in _WORD.finditer(joined)):
        if (replaced := _replaced(raw, line)) is not None:
            raise ValueError(_refusal(f"`{replaced}`", _advice(replaced), text))
        line.append(_QUOTED.sub(_plain, raw))
    first = line[0] if line else ""
    assignment = _ASSIGNMENT.fullmatch(first)
    if assignment is not None:
        advice = f"set it by `env: {{{assignment[1]}: value}}`, or "
        raise ValueError(_refusal(f"`{assignment[1]}=` before the command", advice, text))
    if _ONLY_IN_A_SHELL.fullmatch(first):
        advice = "name the folder in `cwd`, or " if first == "cd" else ""
        raise ValueError(_refusal(f"`{first}`", advice, text))
    return tuple(line)


def _on_one_line(part: str) -> str:
    return re.sub(r"\\(.)", lambda pair: "" if pair[1] == "\n" else pair[0], part, flags=re.DOTALL)


def _plain(part: re.Match[str]) -> str:
    """What a quoted part stands for."""
    if part["double"] is not None:
        return re.sub(r'\\([$`"\\])', r"\1", part["double"])
    return part["char"] or part["single"] or ""


def _replaced(raw: str, before: Sequence[str]) -> str | None:
    """Return the first piece of a word that a shell would replace; None where it takes the word as it stands.

    A URL may hold `?`, `*` and `[::1]`, and a shell finds no file of that name. What a shell that is named
    gets as its script, it replaces itself.
    """
    for piece in _REPLACED.finditer(_QUOTED.sub(_MASK, raw)):
        if piece[0][0] not in "*?[{" or "://" not in raw:
            return piece[0]
    is_script = len(before) > 1 and _SCRIPT_OPTION.fullmatch(before[-1]) is not None
    if is_script and any(_SHELL.fullmatch(word) for word in before[:-1]):
        return None
    insides = (re.sub(r"\\.", "", part["double"] or "", flags=re.DOTALL) for part in _QUOTED.finditer(raw))
    return next((live[0] for inside in insides if (live := re.search(_LIVE, inside)) is not None), None)


def _advice(piece: str) -> str:
    name = piece.removeprefix("$")
    if piece != name and name.isidentifier():
        return f"let the checklist replace it: `${{{name}}}`, or "
    return "let the checklist replace it: `${HOME}`, or " if piece == "~" else ""


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
