"""The job as a LaunchAgent: agents live in the graphical session, where Docker, Ollama and notices are."""

import asyncio
import os
import plistlib
import tempfile
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from xml.parsers.expat import ExpatError

from opskit.errors import OpskitError
from opskit.records import replace
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
from opskit.system import launchctl
from opskit.system.program import ProgramResult
from opskit.text import last_lines

_POLL_S = 0.1
#: Answers of launchctl: the job is being ended; it runs already, or an operation on its label goes on.
_ENDING, _IN_PROGRESS = 36, 37


class Launchd(Scheduler):
    """The agents of one user. `uid` names the session, `home` the folder in which agents lie."""

    name: Name = "launchd"

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
        printed = await self._ask("print", self._target)
        disabled = await self._disabled()
        if printed.exit and not launchctl.absent(printed):
            raise self._unreachable(printed)
        if printed.exit:
            return replace(status, disabled=disabled)
        loaded = launchctl.job(printed.out)
        stays = self.kind.stays
        elsewhere = loaded.path is not None and loaded.path != str(self._plist)
        return replace(
            status,
            loaded=True,
            disabled=disabled,
            running=loaded.running,
            last_exit=loaded.last_exit,
            last_run=None if stays or loaded.runs == 0 else _changed_at(self._logs / "recover.out.log"),
            next_run=None if job is None or disabled or stays else next_start(job.every, now),
            stale=job is not None and not _holds(loaded, job),
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
                accepts=lambda result: launchctl.absent(result) or result.exit == _ENDING,
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
        return self._unreachable(result) if launchctl.no_session(result) else None

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
        loaded = (await self._ask("print", self._target)).exit == 0
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
        bootout = RunCommand(("launchctl", "bootout", target), launchctl.absent)
        with tempfile.TemporaryDirectory(prefix="opskit-inside-", ignore_cleanup_errors=True) as folder:
            output, errors, agent = (
                Path(folder) / name for name in ("out.json", "err.txt", f"{label}.plist")
            )
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
            job = launchctl.job((await self._ask("print", target)).out)
            if job.last_exit is not None and not job.running:
                return job.last_exit
            if time.monotonic() >= deadline:
                raise OpskitError("SCHEDULE_002", f"a look from inside did not end within {INSIDE_S:g} s")
            await asyncio.sleep(_POLL_S)

    async def _ask(self, *arguments: str) -> ProgramResult:
        return await self.ask(("launchctl", *arguments))

    async def _disabled(self) -> bool:
        result = await self._ask("print-disabled", self._domain)
        return result.exit == 0 and launchctl.disabled(result.out, self.kind.label)


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
    return (
        Job(arguments, environment, DEFAULT_MINUTES if kind.stays else every, kind=kind)
        if arguments
        else None
    )


def _dumped(content: dict[str, Any]) -> str:
    return plistlib.dumps(content, sort_keys=False).decode()


def _holds(loaded: launchctl.LaunchdJob, job: Job) -> bool:
    """Whether what launchd has loaded is what the file says; it adds variables of its own."""
    same_environment = not loaded.environment or job.environment.items() <= loaded.environment.items()
    return loaded.arguments in ((), job.arguments) and same_environment


def _changed_at(path: Path) -> datetime | None:
    """When the last output was written: that is at the end of each run, which launchd does not report."""
    try:
        return datetime.fromtimestamp(path.stat().st_mtime, UTC)
    except OSError:
        return None


def _owned(path: Path, uid: int) -> bool:
    """Whether launchd would take the file: ours, and writable by nobody else."""
    try:
        status = path.stat()
    except OSError:
        return False
    return status.st_uid == uid and not status.st_mode & 0o022
