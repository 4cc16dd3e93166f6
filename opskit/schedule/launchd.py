"""The job as a LaunchAgent: agents live in the graphical session, where Docker, Ollama and notices are."""

import asyncio
import os
import shutil
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from opskit.errors import OpskitError
from opskit.schedule import plist
from opskit.schedule.client import Refused, SchedulerClient
from opskit.schedule.interval import next_slot
from opskit.schedule.job import LABEL, Job
from opskit.schedule.scheduler import JobState, Name, text_of
from opskit.schedule.steps import Folder, Remove, RunCommand, Step, WaitUntilAbsent, Write
from opskit.system import launchctl
from opskit.system.program import ProgramResult

#: How long a look from inside may take: launchd starts a job at once, and Python in a second.
_INSIDE_S = 40.0
_POLL_S = 0.1
_NOT_LOADED = "it is fine when it was not loaded"


class Launchd:
    """The agents of one user. `uid` names the session, `home` the folder in which agents lie."""

    name: Name = "launchd"

    def __init__(self, client: SchedulerClient, *, home: Path, uid: int) -> None:
        self._client = client
        self._home = home
        self._uid = uid
        self._domain = f"gui/{uid}"
        self._target = f"gui/{uid}/{LABEL}"
        self._plist = home / "Library" / "LaunchAgents" / f"{LABEL}.plist"
        self._logs = home / "Library" / "Logs" / "opskit"
        self.log = f"tail -n 50 {self._logs / 'recover.err.log'} {self._logs / 'recover.out.log'}"

    def files(self, job: Job) -> dict[Path, str]:
        return {self._plist: plist.text(job, self._logs)}

    def ready(self) -> bool:
        """A job ends with 78 (EX_CONFIG) when the folder of its output is missing."""
        return self._logs.is_dir()

    async def state(self, now: datetime) -> JobState:
        text = text_of(self._plist)
        files = {self._plist: text}
        job = plist.read(text) if text is not None else None
        done = await self._ask("print", self._target)
        if done.exit:
            if not launchctl.absent(done):
                raise self._silent(done)
            return JobState(files, job, disabled=await self._disabled())
        known = launchctl.job(done.out)
        disabled = await self._disabled()
        elsewhere = known.path is not None and known.path != str(self._plist)
        return JobState(
            files,
            job,
            loaded=True,
            disabled=disabled,
            running=known.running,
            last_exit=known.last_exit,
            last_run=_changed(self._logs / "recover.out.log") if known.runs != 0 else None,
            next_run=next_slot(job.every, now) if job is not None and not disabled else None,
            stale=job is not None and not _holds(known, job),
            trouble=f"launchd loaded it from {known.path}" if elsewhere else known.reason,
        )

    def install(self, job: Job) -> Sequence[Step]:
        """The order matters (ops facts 11): a job that is loaded or disabled cannot be loaded."""
        return (
            Folder(self._plist.parent),
            Folder(self._logs),
            Write(self._plist, plist.text(job, self._logs)),
            RunCommand(("plutil", "-lint", str(self._plist))),
            *self._load(),
        )

    def remove(self) -> Sequence[Step]:
        return (*self._unload(), Remove(self._plist))

    def undo(self, before: JobState) -> Sequence[Step]:
        old = before.files[self._plist]
        if old is None:
            return self.remove()
        again = self._load() if before.loaded else ()
        return (*self._unload(), Write(self._plist, old), *again)

    def start(self) -> Step:
        """37: it is running already, which is as good."""
        return RunCommand(("launchctl", "kickstart", self._target), tolerates=lambda done: done.exit == 37)

    async def explained(self, refused: Refused) -> OpskitError:
        argv, done = refused.step.argv, refused.answer
        if argv[0] == "launchctl" and launchctl.no_session(done):
            return self._silent(done)
        if argv[:2] == ("launchctl", "kickstart") and launchctl.absent(done):
            return OpskitError(
                "SCHEDULE_002", "the job is not loaded", remedy="load it with `opskit schedule install`"
            )
        if argv[:2] == ("launchctl", "bootstrap") and done.exit == 5:
            checked, remedy = await self._checked()
            return OpskitError(
                "SCHEDULE_002",
                f"{refused.message}. launchd says this of many things; checked: {checked}",
                remedy=remedy,
            )
        return refused

    async def inside(self, job: Job, arguments: Sequence[str]) -> str:
        """A second agent with the same environment, which runs once and is taken out again."""
        label = f"{LABEL}.inside.{os.getpid()}"
        target = f"{self._domain}/{label}"
        folder = Path(tempfile.mkdtemp(prefix="opskit-inside-"))
        output, agent = folder / "seen.json", folder / f"{label}.plist"
        command = (job.arguments[0], *arguments)
        try:
            await self._client.do(Write(agent, plist.one_shot(label, command, job.environment, output)))
            await self._client.do(RunCommand(("launchctl", "bootstrap", self._domain, str(agent))))
            ended = await self._ended(target)
            written = text_of(output) or ""
            if ended.last_exit != 0 or not written.strip():
                said = " ".join((text_of(output.with_suffix(".err")) or "").split())[-300:]
                raise OpskitError(
                    "SCHEDULE_002",
                    f"a look from inside ended with {ended.last_exit}: {said or 'it wrote nothing'}",
                )
        except Refused as refused:
            raise await self.explained(refused) from refused
        else:
            return written
        finally:
            await self._client.do(
                RunCommand(("launchctl", "bootout", target), launchctl.absent, why_tolerated=_NOT_LOADED)
            )
            shutil.rmtree(folder, ignore_errors=True)

    async def _ended(self, target: str) -> launchctl.LaunchdJob:
        until = time.monotonic() + _INSIDE_S
        while True:
            known = launchctl.job((await self._ask("print", target)).out)
            if known.last_exit is not None and not known.running:
                return known
            if time.monotonic() >= until:
                raise OpskitError("SCHEDULE_002", f"a look from inside did not end within {_INSIDE_S:g} s")
            await asyncio.sleep(_POLL_S)

    def _load(self) -> tuple[Step, ...]:
        """37: an operation on the same label is still going on."""
        return (
            *self._unload(),
            RunCommand(("launchctl", "enable", self._target)),
            RunCommand(
                ("launchctl", "bootstrap", self._domain, str(self._plist)),
                again=lambda done: done.exit == 37,
            ),
            RunCommand(("launchctl", "print", self._target)),
        )

    def _unload(self) -> tuple[Step, ...]:
        """36: it is being ended, which is waited for."""
        return (
            RunCommand(
                ("launchctl", "bootout", self._target),
                tolerates=lambda done: launchctl.absent(done) or done.exit == 36,
                why_tolerated=_NOT_LOADED,
            ),
            WaitUntilAbsent(("launchctl", "print", self._target)),
        )

    async def _ask(self, *arguments: str) -> ProgramResult:
        return await self._client.ask(("launchctl", *arguments))

    async def _disabled(self) -> bool:
        done = await self._ask("print-disabled", self._domain)
        return done.exit == 0 and launchctl.disabled(done.out, LABEL)

    async def _checked(self) -> tuple[str, str]:
        """What can be wrong behind "5: Input/output error", each looked at, and what to do first."""
        loaded = (await self._ask("print", self._target)).exit == 0
        disabled = await self._disabled()
        session = (await self._ask("print", self._domain)).exit == 0
        owned = _owned(self._plist, self._uid)
        outside = str(self._home.resolve()).startswith("/Volumes/")
        facts = {
            "the plist is valid": True,
            "it is loaded already" if loaded else "it is not loaded": not loaded,
            "it is disabled" if disabled else "it is not disabled": not disabled,
            "there is a graphical session" if session else "there is no graphical session": session,
            "owner and mode of the file are right"
            if owned
            else "the file is not yours alone to write": owned,
            "the home folder is on another volume"
            if outside
            else "the home folder is on the system's volume": (not outside),
        }
        remedy = (
            f"remove it by hand: `launchctl bootout {self._target}`, then install again"
            if loaded
            else f"`launchctl enable {self._target}`, then install again"
            if disabled
            else "log in at the screen of this Mac, then install again"
            if not session
            else f"`chown $(id -u) {self._plist} && chmod 644 {self._plist}`, then install again"
            if not owned
            else "agents on another volume are not loaded at log-in; use a home folder on the system's volume"
            if outside
            else "launchd may be throttling it: wait 10 s and install again; then log out and in"
        )
        return ", ".join(f"{what}{'' if good else ' (!)'}" for what, good in facts.items()), remedy

    def _silent(self, done: ProgramResult) -> OpskitError:
        return OpskitError(
            "SCHEDULE_001",
            f"launchd has no graphical session of user {self._uid}: {done.complaint}",
            remedy="log in at the screen of this Mac as this user (ssh is not enough), or switch "
            "automatic log-in on for a Mac without a screen",
        )


def _holds(known: launchctl.LaunchdJob, job: Job) -> bool:
    """Whether what launchd has loaded is what the file says; it adds variables of its own."""
    arguments = known.arguments in ((), job.arguments)
    return arguments and (not known.environment or job.environment.items() <= known.environment.items())


def _changed(path: Path) -> datetime | None:
    """When the last output was written: that is at the end of each run, and launchd does not tell."""
    try:
        return datetime.fromtimestamp(path.stat().st_mtime, UTC)
    except OSError:
        return None


def _owned(path: Path, uid: int) -> bool:
    """Whether launchd would take the file: ours, and writable by nobody else."""
    try:
        found = path.stat()
    except OSError:
        return False
    return found.st_uid == uid and not found.st_mode & 0o022
