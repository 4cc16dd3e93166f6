"""Whether the health check of a container can run at all: one that cannot says nothing of the service. Pure.

Docker counts a check whose program is missing in the image as failed. Its exit code is -1 where Docker could
not start it (as after a timeout, which its text names), 126 or 127 where a shell could not; a command
line such as `curl ... || exit 1` hides that, and then only the words of the shell tell.
"""

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import PurePosixPath

from opskit.facts.container import Container, HealthCheckRun
from opskit.records import Record

_NOT_STARTED = -1
_NOT_EXECUTABLE, _NOT_FOUND = 126, 127
_TIMEOUT = "exceeded timeout"
_WORDS_CHARS = _OUTPUT_CHARS = 200
#: No complaint of a shell is longer, and no pattern is to search more.
_LINE_CHARS = 600
_GONE = r"(?:[Nn]o such file or directory|[Nn]o such file|not found)"
_NO_START = rf"(?:{_GONE}|[Pp]ermission denied|Is a directory)"
#: What complains: a shell, or a script by its path, its extension or its line; then `line 3`, `3` or `[3]`.
_SHELL = r"(?:-?(?:\S*/)?\w*sh|/[^\s:]+|[^\s:]+\.\w{1,4}|[^\s:]+(?=: line \d))(?:: (?:line )?\d+|\[\d+\])?"
_SYNTAX = r"[Ss]yntax error"
_WRAPPER = r"(?:\S*/)?(?:env|timeout|nice|nohup|xargs|stdbuf|setpriv|sudo|su-exec|chroot|time)"
#: Lines that name a program which could not be started, as shells, wrappers and interpreters write them.
_MISSING = tuple(
    re.compile(pattern)
    for pattern in (
        rf"{_SHELL}: (?:exec: )?(?:line \d+: )?(?P<name>[^:\s]+): (?:command )?not found",
        rf"{_SHELL}: (?P<name>[^:\s]+): cannot execute\b.*",
        rf".*?(?P<name>/[^:\s]+): bad interpreter: {_GONE}",
        rf"(?P<name>){_SHELL}: (?:-c: )?(?:line \d+: )?{_SYNTAX}.*",
        r"\S*zsh:(?:\d+:)? command not found: (?P<name>\S+)",
        r"(?P<name>[\w.+-]+): applet not found",
        rf"{_WRAPPER}: (?:[a-z' ]+ )?['\"`‘]?(?P<name>[^'\"`’:\s]+)['\"`’]?: {_NO_START}",
        r'.*exec: \\?"(?P<name>[^"\\]+)\\?": .+',
        r".*executable file `(?P<name>[^`]+)` not found in \$PATH.*",
        r"(?:standard_init_linux\.go:\d+: )?exec (?P<name>/[^\s:]+): .+",
        r"(?P<name>)standard_init_linux\.go:\d+: exec user process caused.*",
        rf"\S*sh: can't open '(?P<name>[^']+)': {_GONE}",
        r"\S*sh: 0: [Cc]an(?:'t|not) open '?(?P<name>[^\s':]+).*",
        r"\S*python[\d.]*: can't open file '?(?P<name>[^':]+)'?: .+",
        r"(?:ModuleNotFoundError|ImportError): No module named '?(?P<name>[^'\s]+)'?",
        r"Error: Cannot find module '(?P<name>[^']+)'",
        r"Could not open input file: (?P<name>\S+)",
        r"Can't open perl script \"(?P<name>[^\"]+)\": .+",
        r"ruby: No such file or directory -- (?P<name>\S+) \(LoadError\)",
        r"Error: Unable to access jarfile (?P<name>\S+)",
    )
)
#: These may tell of a file that the check only reads: they count for a word that the check runs.
_PERHAPS = tuple(
    re.compile(pattern)
    for pattern in (
        rf"(?:{_SHELL}: )?(?P<name>[^:\s]+): {_NO_START}",
        r"(?P<name>[\w./+-]+): (?:command )?not found",
    )
)
_SHELLS = frozenset({"sh", "ash", "bash", "dash", "zsh", "ksh"})
_SPLIT_STATEMENTS = re.compile(r"\|\||;|\n")
_SPLIT_COMMANDS = re.compile(r"&&|\||\$\(|[(){}`]|&")
_ASSIGNED = re.compile(r"(?<![\w$])(\w+)=")
_REFERRED = re.compile(r"\$\{?(\w+|\?)")
_KEYWORDS = frozenset(
    {"if", "then", "else", "elif", "fi", "while", "until", "do", "done", "for", "!", "time"}
)
_BUILTINS = frozenset(
    {"exit", "return", "echo", "printf", "true", "false", ":", "export", "set", "trap", "kill"}
)
#: Programs whose arguments are programs, or what they are to run.
_RUNNERS = _SHELLS | {"exec", "env", "timeout", "nice", "nohup", "xargs", "python", "python3", "node", "php"}


class HealthCheckFault(Record):
    """Why a health check cannot run. `program` is what cannot be started, empty where nobody tells."""

    program: str
    reason: str

    @property
    def detail(self) -> str:
        return f"its health check cannot run: {self.program or 'its command'} {self.reason}"


def health_check_fault(container: Container) -> HealthCheckFault | None:
    """Return why the last check since the container's start could not run; None when it ran, or well enough.

    While Docker still calls the container healthy or starting, its own count of failures has not ended.
    """
    if container.health != "unhealthy" or not container.health_log:
        return None
    return fault_of(container.health_test, container.health_log[-1])


def health_check_remedy(container: Container, fault: HealthCheckFault) -> str:
    """Return what a person does about it: the check is wrong, so no restart helps."""
    if container.service is None:
        return (
            f"recreate {container.name} with a `--health-cmd` that its image can run, or `--no-healthcheck`"
        )
    wanted = f"{fault.program or 'its command'} {fault.reason.partition(':')[0]}"
    return (
        f"correct the `healthcheck` of {container.service} in the Compose file ({wanted}), "
        f"then `docker compose up -d {container.service}`"
    )


def fresh_health(container: Container) -> str | None:
    """Return its health, `starting` until a check has ended since the container began (ops facts 12)."""
    if container.health is None:
        return None
    last = container.health_log[-1].ended if container.health_log else None
    if container.started is not None and (last is None or last < container.started):
        return "starting"
    return container.health


def was_healthy(container: Container) -> bool:
    """Tell whether one of the checks that Docker remembers (the last five) succeeded since it began."""
    return any(
        run.exit_code == 0
        and run.ended is not None
        and (container.started is None or run.ended >= container.started)
        for run in container.health_log
    )


def health_words(container: Container) -> str:
    """Return what the health check wrote last, on one line."""
    output = container.health_log[-1].output if container.health_log else ""
    return " ".join(output.split())[:_OUTPUT_CHARS]


def fault_of(test: Sequence[str], run: HealthCheckRun) -> HealthCheckFault | None:
    """Return why one run of a health check could not judge; None where it judged, and for a timeout."""
    not_started = run.exit_code == _NOT_STARTED
    if run.exit_code == 0 or (not_started and _TIMEOUT in run.output):
        return None
    lines = [line.strip()[:_LINE_CHARS] for line in run.output.splitlines() if line.strip()]
    script = _script(test)
    run_words = set(_run_words(test, script))
    missing = {line: name for line in lines if (name := _missing_name(line, run_words)) is not None}
    if not_started and lines and not missing:
        # Its program is there: a limit, or a container that ends, let nothing start.
        return None
    if not_started or _cannot_judge(run.exit_code, script, lines, missing):
        line, name = next(iter(missing.items()), (lines[-1] if lines else "", ""))
        if re.search(_SYNTAX, line):
            return HealthCheckFault("", "has a syntax error")
        return HealthCheckFault(
            name or _first_program(test, script), _reason(line, run.exit_code, named=bool(missing))
        )
    return None


def _cannot_judge(exit_code: int, script: str | None, lines: Sequence[str], missing: dict[str, str]) -> bool:
    if not missing:
        return exit_code in (_NOT_EXECUTABLE, _NOT_FOUND)
    if script is not None:
        alternatives = list(_alternatives(script))
        names = {part for name in missing.values() for part in (name, PurePosixPath(name).name)}
        broken = [bool(names.intersection(words)) for words in alternatives]
        if any(broken):
            return all(broken)
    return (
        exit_code in (_NOT_EXECUTABLE, _NOT_FOUND)
        or lines[-1] in missing
        or any("Cannot find module" in line for line in missing)
    )


def _missing_name(line: str, run_words: set[str]) -> str | None:
    for pattern in _MISSING:
        if match := pattern.fullmatch(line):
            return match["name"]
    for pattern in _PERHAPS:
        if (match := pattern.fullmatch(line)) and match["name"] in run_words:
            return match["name"]
    return None


def _script(test: Sequence[str]) -> str | None:
    """Return the command line that a shell reads; None where Docker starts a program itself."""
    if len(test) > 1 and test[0] == "CMD-SHELL":
        return test[1]
    words = list(test[1:])
    if len(words) > 2 and PurePosixPath(words[0]).name in _SHELLS:
        for flag, text in pairwise(words[1:]):
            if flag.startswith("-") and flag.endswith("c"):
                return text
    return None


def _alternatives(script: str) -> Iterator[list[str]]:
    """Yield the words of each command that judges by itself, not by the result of another command."""
    assigned = {*_ASSIGNED.findall(script), "?"}
    for statement in _SPLIT_STATEMENTS.split(script):
        commands = [words for part in _SPLIT_COMMANDS.split(statement) if (words := _words(part))]
        if not any(words[0] not in _BUILTINS for words in commands):
            continue
        if not assigned.isdisjoint(_REFERRED.findall(statement)):
            continue
        yield [word for words in commands for word in words]


def _words(command: str) -> list[str]:
    words = [word for raw in command.split() if (word := raw.strip("'\""))]
    while words and (words[0] in _KEYWORDS or _ASSIGNED.match(words[0])):
        del words[0]
    return words


def _run_words(test: Sequence[str], script: str | None) -> Iterator[str]:
    """Yield what the check runs: the first word of each command, and all behind a shell or a wrapper."""
    commands = [list(test[1:])]
    if script is not None:
        parts = [part for line in _SPLIT_STATEMENTS.split(script) for part in _SPLIT_COMMANDS.split(line)]
        commands = [_words(part) for part in parts]
    for words in commands:
        if words:
            yield words[0]
        if words and PurePosixPath(words[0]).name in _RUNNERS:
            yield from words[1:]


def _first_program(test: Sequence[str], script: str | None) -> str:
    words = _words(script) if script is not None else list(test[1:])
    return words[0] if words else ""


def _reason(line: str, exit_code: int, *, named: bool) -> str:
    """Say in a few words why a program did not start."""
    text = line.lower()
    if "permission denied" in text or (exit_code == _NOT_EXECUTABLE and not named):
        return "may not be executed in its container"
    if "exec format" in text or "cannot execute binary" in text:
        return "is no program for this machine"
    if named or exit_code == _NOT_FOUND:
        return "is not in its container"
    words = " ".join(line.split())[:_WORDS_CHARS]
    return f"could not be started{f': {words}' if words else ''}"
