"""Reads what launchctl writes: `print` of one job, `print-disabled`, and the answers that mean "not there".

The manual says of `print` that it is for people and may change; between macOS 10.15 and 26 the first line,
the states and the wording of exits did, and the indentation of the job's own fields did not.
"""

import re
from collections.abc import Mapping

from opskit.records import Record, field
from opskit.system.program import ProgramResult

_FIELD = re.compile(r"\t([a-z][a-z /()]*?) = (.+)")
_BLOCK = re.compile(r"\t([a-z][a-z /()]*?) = \{")
_NUMBER = re.compile(r"-?[0-9]+")
_SIGNAL = re.compile(r".*: ([0-9]+)")
_DISABLED = re.compile(r'\s*"(?P<label>[^"]+)" => (?P<word>\w+)')
#: 3: no such process (`bootout`), 113: could not find service (`print`, `kickstart`, and old `bootout`).
_ABSENT = (3, 113)
_ABSENT_WORDS = ("could not find service", "could not find specified service", "no such process")
#: 125: the domain does not support the action; 112: could not find the domain.
_NO_SESSION = (112, 125)
_NO_SESSION_WORDS = ("could not find domain", "domain does not support specified action")


class LaunchdJob(Record):
    """A job that launchd has loaded.

    `last_exit` is negative for a signal and None when the job never ended or launchd does not tell;
    `reason` is then launchd's own word, such as that memory was short.
    """

    state: str
    pid: int | None = None
    runs: int | None = None
    last_exit: int | None = None
    reason: str = ""
    path: str | None = None
    arguments: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def running(self) -> bool:
        return self.pid is not None


def job(text: str) -> LaunchdJob:
    """Read the answer of `launchctl print DOMAIN/LABEL`, without the fields of its nested blocks."""
    fields: dict[str, str] = {}
    blocks: dict[str, list[str]] = {}
    inside: list[str] | None = None
    for line in text.splitlines():
        if line == "\t}":
            inside = None
        elif inside is not None:
            inside.append(line.removeprefix("\t\t"))
        elif block := _BLOCK.fullmatch(line):
            inside = blocks.setdefault(block[1], [])
        elif field_line := _FIELD.fullmatch(line):
            fields.setdefault(field_line[1], field_line[2].strip())
    return LaunchdJob(
        state=fields.get("state", "unknown"),
        pid=_number(fields.get("pid")),
        runs=_number(fields.get("runs")),
        last_exit=_last_exit(fields),
        reason=fields.get("last exit reason", ""),
        path=fields.get("path"),
        arguments=tuple(blocks.get("arguments", ())),
        environment=dict(_pairs(blocks.get("environment", []))),
    )


def _pairs(lines: list[str]) -> list[tuple[str, str]]:
    split = (line.partition(" => ") for line in lines)
    return [(name, value) for name, arrow, value in split if arrow]


def disabled(text: str, label: str) -> bool:
    """Whether `launchctl print-disabled DOMAIN` has the label off: `true` until macOS 12, then a word."""
    lines = (_DISABLED.match(line) for line in text.splitlines())
    words = {match["label"]: match["word"] for match in lines if match}
    return words.get(label) in ("true", "disabled")


def absent(done: ProgramResult) -> bool:
    """Whether a failure only says that the job is not loaded."""
    return done.exit != 0 and not no_session(done) and (done.exit in _ABSENT or _says(done, _ABSENT_WORDS))


def no_session(done: ProgramResult) -> bool:
    """Whether there is no graphical session of this user, in which agents live."""
    return done.exit != 0 and (done.exit in _NO_SESSION or _says(done, _NO_SESSION_WORDS))


def _says(done: ProgramResult, words: tuple[str, ...]) -> bool:
    output = f"{done.out} {done.err}".lower()
    return any(phrase in output for phrase in words)


def _number(text: str | None) -> int | None:
    """Read `78: EX_CONFIG` as 78; `(never exited)` is no number."""
    number = _NUMBER.match(text or "")
    return int(number[0]) if number else None


def _last_exit(fields: Mapping[str, str]) -> int | None:
    """Return the exit code, or the negative signal that took its place."""
    if signal := _SIGNAL.fullmatch(fields.get("last terminating signal", "")):
        return -int(signal[1])
    return _number(fields.get("last exit code"))
