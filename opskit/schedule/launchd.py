"""The job as a LaunchAgent: agents live in the graphical session, where Docker, Ollama and notices are.

The manual says of `launchctl print` that it is for people and may change; between macOS 10.15 and 26 the
first line, the states and the wording of exits did, and the indentation of the job's own fields did not.
"""

import asyncio
import contextlib
import os
import plistlib
import re
import tempfile
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from xml.parsers.expat import ExpatError

from opskit.errors import OpskitError
from opskit.records import Record, field, replace
from opskit.recovery.executor import Executor
from opskit.schedule.job import DEFAULT_MINUTES, RECOVER, Job, JobKind, next_start
from opskit.schedule.scheduler import (
    INSIDE_S,
    ChangeFile,
    Name,
    Refused,
    RunCommand,
    Scheduler,
    ScheduleStatus,
    ScheduleStep,
    text_of,
)
from opskit.system.program import ProgramResult
from opskit.text import last_lines

_POLL_S = 0.1
#: Answers of launchctl: the job is being ended; it runs already, or an operation on its label goes on.
_ENDING, _IN_PROGRESS = 36, 37


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

    def holds(self, job: Job) -> bool:
        """Return whether what is loaded is what the file says; launchd adds variables of its own."""
        is_same = not self.environment or job.environment.items() <= self.environment.items()
        return is_same and self.arguments in ((), job.arguments)


class Launchd(Scheduler):
    """The agents of one user. `uid` names the session, `home` the folder in which agents lie."""

    name: Name = "launchd"
    by_hand = "`launchctl setenv {} VALUE` gives it to jobs until the next restart"

    def __init__(self, environ: Mapping[str, str], *, home: Path, uid: int, kind: JobKind = RECOVER) -> None:
        super().__init__(environ, kind)
        self._home = home
        self._uid = uid
        self._domain = f"gui/{uid}"
        self._target = f"gui/{uid}/{kind.label}"
        self._plist = home / "Library" / "LaunchAgents" / f"{kind.label}.plist"
        self._logs = home / "Library" / "Logs" / "opskit"
        self.paths = (self._plist,)
        # A job ends with 78 (EX_CONFIG) when this folder is missing.
        self.log_folder = self._logs
        self.log = f"tail -n 50 {self._logs / kind.name}.err.log {self._logs / kind.name}.out.log"

    def files(self, job: Job) -> dict[Path, str]:
        return {self._plist: plist_text(job, self._logs)}

    async def state(self, now: datetime) -> ScheduleStatus:
        files = self.installed_files()
        job = read_plist(files[self._plist] or "", self.kind)
        status = ScheduleStatus(self.name, files, job, loaded=False, log=self.log, kind=self.kind)
        printed = await self.ask(("launchctl", "print", self._target))
        disabled = await self._disabled()
        if printed.exit and not is_absent(printed):
            raise self._unreachable(printed)
        if printed.exit:
            return replace(status, disabled=disabled)
        loaded = loaded_job(printed.out)
        stays, last_run = self.kind.stays, None
        elsewhere = loaded.path is not None and loaded.path != str(self._plist)
        if not stays and loaded.runs != 0:
            # The last output is written at the end of each run, which launchd does not report.
            with contextlib.suppress(OSError):
                written = (self._logs / "recover.out.log").stat().st_mtime
                last_run = datetime.fromtimestamp(written, UTC)
        return replace(
            status,
            loaded=True,
            disabled=disabled,
            running=loaded.pid is not None,
            last_exit=loaded.last_exit,
            last_run=last_run,
            next_run=None if job is None or disabled or stays else next_start(job.every, now),
            stale=job is not None and not loaded.holds(job),
            trouble=f"launchd loaded it from {loaded.path}" if elsewhere else loaded.reason,
        )

    def load(self) -> Sequence[ScheduleStep]:
        """The order matters (ops facts 11): a job that is loaded or disabled cannot be loaded."""
        return (
            RunCommand(("plutil", "-lint", str(self._plist))),
            *self.unload(),
            RunCommand(("launchctl", "enable", self._target)),
            RunCommand(
                ("launchctl", "bootstrap", self._domain, str(self._plist)),
                again=lambda result: result.exit == _IN_PROGRESS,
            ),
            RunCommand(("launchctl", "print", self._target)),
        )

    def unload(self) -> Sequence[ScheduleStep]:
        return (
            RunCommand(
                ("launchctl", "bootout", self._target),
                accepts=lambda result: is_absent(result) or result.exit == _ENDING,
                why_accepted="it is fine when it was not loaded",
            ),
            RunCommand(("launchctl", "print", self._target), until_absent=True),
        )

    def start(self) -> ScheduleStep:
        return RunCommand(
            ("launchctl", "kickstart", self._target),
            accepts=lambda result: result.exit == _IN_PROGRESS,
            remedy=f"load it with `{self.kind.install}`",
        )

    def silence(self, result: ProgramResult) -> OpskitError | None:
        return self._unreachable(result) if has_no_session(result) else None

    def _unreachable(self, result: ProgramResult) -> OpskitError:
        return OpskitError(
            "SCHEDULE_001",
            f"launchd has no graphical session of user {self._uid}: {result.complaint}",
            remedy="log in at the screen of this Mac as this user (ssh is not enough), or switch "
            "automatic log-in on for a Mac without a screen",
        )

    async def explained(self, refused: Refused) -> OpskitError:
        """Explain "5: Input/output error", which launchd says of many things: each is checked."""
        if refused.argv[:2] != ("launchctl", "bootstrap") or refused.result.exit != 5:
            return refused
        loaded = (await self.ask(("launchctl", "print", self._target))).exit == 0
        outside = str(self._home.resolve()).startswith("/Volumes/")
        checks = (
            (loaded, "it is not loaded", "it is loaded already",
             f"remove it by hand: `launchctl bootout {self._target}`, then install again"),
            (await self._disabled(), "it is not disabled", "it is disabled",
             f"`launchctl enable {self._target}`, then install again"),
            (not _owned(self._plist, self._uid), "owner and mode of the file are right",
             "the file is not yours alone to write",
             f"`chown $(id -u) {self._plist} && chmod 644 {self._plist}`, then install again"),
            (outside, "the home folder is on the system's volume", "the home folder is on another volume",
             "agents on another volume are not loaded at log-in; use a home folder on the system's volume"),
        )  # fmt: skip
        facts = ["the plist is valid", "there is a graphical session"]
        facts += [f"{bad} (!)" if wrong else good for wrong, good, bad, _ in checks]
        throttled = "launchd may be throttling it: wait 10 s and install again; then log out and in"
        return OpskitError(
            "SCHEDULE_002",
            f"{refused.message}. launchd says this of many things; checked: {', '.join(facts)}",
            remedy=next((remedy for wrong, _, _, remedy in checks if wrong), throttled),
        )

    async def inside(self, executor: Executor, command: Sequence[str], environment: Mapping[str, str]) -> str:
        """Run a second agent with the same environment once, and take it out again."""
        label = f"{self.kind.label}.inside.{os.getpid()}"
        target = f"{self._domain}/{label}"
        bootout = RunCommand(("launchctl", "bootout", target), is_absent)
        with tempfile.TemporaryDirectory(prefix="opskit-inside-", ignore_cleanup_errors=True) as folder:
            output, errors, agent = (Path(folder) / name for name in ("out", "err", f"{label}.plist"))
            content = {
                "Label": label,
                "ProgramArguments": list(command),
                "EnvironmentVariables": dict(environment),
                "RunAtLoad": True,
                "StandardOutPath": str(output),
                "StandardErrorPath": str(errors),
                "ProcessType": "Standard",
            }
            bootstrap = RunCommand(("launchctl", "bootstrap", self._domain, str(agent)))
            try:
                await self.carry_out(executor, (ChangeFile(agent, _dumped(content)), bootstrap))
                exit_status = await self._ended(target)
            finally:
                await self.carry_out(executor, (bootout,))
            written = text_of(output) or ""
            if exit_status == 0 and written.strip():
                return written
            words = last_lines(text_of(errors) or "") or "it wrote nothing"
            raise OpskitError("SCHEDULE_002", f"a look from inside ended with {exit_status}: {words}")

    async def _ended(self, target: str) -> int:
        deadline = time.monotonic() + INSIDE_S
        while True:
            job = loaded_job((await self.ask(("launchctl", "print", target))).out)
            if job.last_exit is not None and job.pid is None:
                return job.last_exit
            if time.monotonic() >= deadline:
                raise OpskitError("SCHEDULE_002", f"a look from inside did not end within {INSIDE_S:g} s")
            await asyncio.sleep(_POLL_S)

    async def _disabled(self) -> bool:
        result = await self.ask(("launchctl", "print-disabled", self._domain))
        return result.exit == 0 and is_disabled(result.out, self.kind.label)


def plist_text(job: Job, logs: Path) -> str:
    """Return the plist of the job.

    Calendar times, because launchd drops the firings of an interval while the Mac sleeps and makes one of all
    missed calendar times at wake (ops facts 10). No KeepAlive: the job ends. `Standard`, because background
    jobs are throttled. AbandonProcessGroup, or launchd would end with the job the servers that it started.
    A server is started at log-in and again when it fails, and has a minute to drain.
    """
    minutes = [{"Minute": minute} for minute in range(0, 60, job.every)]
    begin: dict[str, Any] = {"StartCalendarInterval": minutes}
    end: dict[str, Any] = {"AbandonProcessGroup": True}
    if job.kind.stays:
        begin, end = {"RunAtLoad": True, "KeepAlive": {"SuccessfulExit": False}}, {"ExitTimeOut": 60}
    return _dumped(
        {
            "Label": job.kind.label,
            "ProgramArguments": list(job.arguments),
            "EnvironmentVariables": dict(job.environment),
            **begin,
            "StandardOutPath": str(logs / f"{job.kind.name}.out.log"),
            "StandardErrorPath": str(logs / f"{job.kind.name}.err.log"),
            "ProcessType": "Standard",
            **end,
        }
    )


def read_plist(text: str, kind: JobKind = RECOVER) -> Job | None:
    """Return the job of a plist that opskit wrote, or a person changed; None for any other plist."""
    try:
        content = plistlib.loads(text.encode())
        starts = content["RunAtLoad" if kind.stays else "StartCalendarInterval"]
        arguments = tuple(map(str, content["ProgramArguments"]))
        environment = {
            str(name): str(value) for name, value in content.get("EnvironmentVariables", {}).items()
        }
        every = 60 // len(starts) if isinstance(starts, list) and starts else 60
    except (plistlib.InvalidFileException, ExpatError, ValueError, KeyError, TypeError, AttributeError):
        return None
    minutes = DEFAULT_MINUTES if kind.stays else every
    return Job(arguments, environment, minutes, kind=kind) if arguments else None


def _dumped(content: dict[str, Any]) -> str:
    return plistlib.dumps(content, sort_keys=False).decode()


def _owned(path: Path, uid: int) -> bool:
    """Whether launchd would take the file: ours, and writable by nobody else."""
    with contextlib.suppress(OSError):
        status = path.stat()
        return status.st_uid == uid and not status.st_mode & 0o022
    return False


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


def loaded_job(text: str) -> LaunchdJob:
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
    signal = _SIGNAL.fullmatch(fields.get("last terminating signal", ""))
    return LaunchdJob(
        state=fields.get("state", "unknown"),
        pid=_number(fields.get("pid")),
        runs=_number(fields.get("runs")),
        last_exit=-int(signal[1]) if signal else _number(fields.get("last exit code")),
        reason=fields.get("last exit reason", ""),
        path=fields.get("path"),
        arguments=tuple(blocks.get("arguments", ())),
        environment=dict(line.split(" => ", 1) for line in blocks.get("environment", ()) if " => " in line),
    )


def is_disabled(text: str, label: str) -> bool:
    """Whether `launchctl print-disabled DOMAIN` has the label off: `true` until macOS 12, then a word."""
    lines = (_DISABLED.match(line) for line in text.splitlines())
    words = {match["label"]: match["word"] for match in lines if match}
    return words.get(label) in ("true", "disabled")


def is_absent(done: ProgramResult) -> bool:
    """Whether a failure only says that the job is not loaded."""
    return (
        done.exit != 0 and not has_no_session(done) and (done.exit in _ABSENT or _says(done, _ABSENT_WORDS))
    )


def has_no_session(done: ProgramResult) -> bool:
    """Whether there is no graphical session of this user, in which agents live."""
    return done.exit != 0 and (done.exit in _NO_SESSION or _says(done, _NO_SESSION_WORDS))


def _says(done: ProgramResult, words: tuple[str, ...]) -> bool:
    output = f"{done.out} {done.err}".lower()
    return any(phrase in output for phrase in words)


def _number(text: str | None) -> int | None:
    """Read `78: EX_CONFIG` as 78; `(never exited)` is no number."""
    number = _NUMBER.match(text or "")
    return int(number[0]) if number else None
