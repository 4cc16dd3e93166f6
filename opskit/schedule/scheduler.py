"""What launchd and systemd have in common: the state of the job, the steps that change it, who runs them."""

import asyncio
import shlex
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Literal

from opskit.errors import OpskitError
from opskit.records import Record
from opskit.recovery.executor import Executor
from opskit.recovery.step import Command
from opskit.schedule.inside import InsideComparison
from opskit.schedule.job import RECOVER, Job, JobKind
from opskit.system.program import NotStarted, ProgramResult, run
from opskit.system.textfile import write_text

Name = Literal["launchd", "systemd"]
#: How long a program may take that looks from inside: it is started at once, and Python in a second.
INSIDE_S = 40.0
#: A scheduler answers in milliseconds; one that takes longer hangs.
_ANSWER_S = 20.0
#: launchd needs up to 5 s to end a job that does not end by itself, and 10 s between two starts.
_PATIENCE_S = 15.0
_POLL_S = 0.2


class ChangeFile(Record):
    """Write a file and its folder, or remove the file, where `text` is None.

    Others may read it and only its owner may write it: launchd refuses any other.
    """

    path: Path
    text: str | None

    @property
    def shell(self) -> str:
        path, folder = shlex.quote(str(self.path)), shlex.quote(str(self.path.parent))
        if self.text is None:
            return f"rm -f {path}"
        text = self.text.rstrip("\n")
        return f"mkdir -p {folder}\ncat > {path} <<'END_OF_FILE'\n{text}\nEND_OF_FILE\nchmod 644 {path}"

    def carry_out(self, executor: Executor) -> None:
        """Do it, with an audit line. Raises OpskitError SCHEDULE_002."""
        executor.write("file_changes", change="remove" if self.text is None else "write", path=str(self.path))
        try:
            if self.text is None:
                self.path.unlink(missing_ok=True)
            else:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                write_text(self.path, self.text)
                self.path.chmod(0o644)
        except OSError as exc:
            raise OpskitError(
                "SCHEDULE_002",
                f"{self.path}: {exc.strerror or 'it cannot be written'}",
                remedy=f"make {self.path.parent} writable for yourself, then run it again",
            ) from exc


class RunCommand(Record):
    """Run a command. `accepts` says which failures are none, `again` which are worth another try.

    `until_absent` waits until the command, a question, fails: what it asks for is gone.
    """

    argv: tuple[str, ...]
    accepts: Callable[[ProgramResult], bool] = lambda _result: False
    again: Callable[[ProgramResult], bool] = lambda _result: False
    why_accepted: str = ""
    remedy: str = ""
    until_absent: bool = False

    @property
    def shell(self) -> str:
        line = shlex.join(self.argv)
        if self.until_absent:
            return f"while {line} >/dev/null 2>&1; do sleep {_POLL_S}; done"
        return f"{line} || true  # {self.why_accepted}" if self.why_accepted else line


ScheduleStep = ChangeFile | RunCommand


class Refused(OpskitError):  # noqa: N818 - it reads as what it is
    """A command of the scheduler failed; `argv` and `result` say which and how."""

    def __init__(self, step: RunCommand, result: ProgramResult) -> None:
        words = result.complaint if result.exit else f"it still finds the old job after {_PATIENCE_S:g} s"
        super().__init__("SCHEDULE_002", f"`{' '.join(step.argv)}`: {words}", remedy=step.remedy or None)
        self.argv = step.argv
        self.result = result


class ScheduleStatus(Record):
    """What the scheduler knows of the job. `scheduler` and `loaded` are None where none answers.

    `files` are the texts of the installed files, None for one that is missing; `job` is what they say.
    `stale`: the scheduler has not read them since they were changed. `last_exit` is negative for a signal;
    `trouble` is the scheduler's own word for a bad end. `last_run` is when the last run ended, in UTC.
    `problem` is empty when the job is loaded, up to date, and ended well or has not run yet; `state` is its
    word for that.
    """

    scheduler: Name | None
    files: Mapping[Path, str | None]
    job: Job | None = None
    loaded: bool | None = None
    disabled: bool = False
    stale: bool = False
    running: bool = False
    last_exit: int | None = None
    last_run: datetime | None = None
    next_run: datetime | None = None
    trouble: str = ""
    log: str = ""
    state: str = "loaded"
    problem: str = ""
    remedy: str = ""
    inside: InsideComparison | None = None
    kind: JobKind = RECOVER

    @property
    def installed(self) -> bool:
        return None not in self.files.values()

    @property
    def traces(self) -> bool:
        """Whether anything of the job is there."""
        return bool(self.loaded) or any(text is not None for text in self.files.values())


class Scheduler(ABC):
    """The scheduler of one user, for one job.

    What asks it raises OpskitError SCHEDULE_001 when it does not answer.
    """

    name: Name
    #: How to read what the job wrote.
    log: str
    #: How a person gives the job a variable (`{}`) that is not written into its files.
    by_hand: str
    #: The folder of the job's output, where the job needs one.
    log_folder: Path | None = None
    #: The files of the job.
    paths: tuple[Path, ...]

    def __init__(self, environ: Mapping[str, str], kind: JobKind) -> None:
        self.environ = dict(environ)
        self.kind = kind

    @abstractmethod
    def files(self, job: Job) -> dict[Path, str]:
        """Return the files that an installation writes."""

    @abstractmethod
    async def state(self, now: datetime) -> ScheduleStatus:
        """Return what holds now; changes nothing."""

    @abstractmethod
    def load(self) -> Sequence[ScheduleStep]:
        """Return the steps that make the scheduler follow the files, in place of an older job."""

    @abstractmethod
    def unload(self) -> Sequence[ScheduleStep]:
        """Return the steps that end the schedule; each does no harm where there is nothing."""

    def forget(self) -> Sequence[ScheduleStep]:
        """Return the steps after the files of an unloaded job have changed."""
        return ()

    @abstractmethod
    def start(self) -> ScheduleStep:
        """Return the step that starts the job now."""

    @abstractmethod
    def silence(self, result: ProgramResult) -> OpskitError | None:
        """Return SCHEDULE_001 for an answer which says that the scheduler cannot be reached."""

    async def explained(self, refused: Refused) -> OpskitError:
        """Return the failure of a step in words that say what to do."""
        return refused

    @abstractmethod
    async def inside(self, executor: Executor, command: Sequence[str], environment: Mapping[str, str]) -> str:
        """Return what a program writes that runs where the job runs. Raises OpskitError."""

    async def runs_without_session(self) -> bool:
        """Return whether the job also starts while the user is logged out, as far as that can be arranged."""
        return True

    def install(self, job: Job) -> Sequence[ScheduleStep]:
        """Return the steps of an installation, which also replace an older job."""
        folders = [RunCommand(("mkdir", "-p", str(self.log_folder)))] if self.log_folder else []
        return (*folders, *(ChangeFile(path, text) for path, text in self.files(job).items()), *self.load())

    def restore(self, files: Mapping[Path, str | None], *, loaded: bool) -> Sequence[ScheduleStep]:
        """Return the steps that bring back what was there before; no files are a removal."""
        changes = (ChangeFile(path, files.get(path)) for path in self.paths)
        return (*self.unload(), *changes, *(self.load() if loaded else self.forget()))

    def installed_files(self) -> dict[Path, str | None]:
        """Return the texts of the job's files, None for one that is missing."""
        return {path: text_of(path) for path in self.paths}

    def as_wanted(self, job: Job, state: ScheduleStatus) -> bool:
        """Return whether an installation of this job would change nothing."""
        ready = self.log_folder is None or self.log_folder.is_dir()
        same = dict(self.files(job)) == dict(state.files) and (state.running or not self.kind.stays)
        return same and ready and bool(state.loaded) and not state.disabled and not state.stale

    async def ask(
        self, argv: Sequence[str], *, timeout_s: float = _ANSWER_S, env: Mapping[str, str] | None = None
    ) -> ProgramResult:
        """Run a command that changes nothing.

        Raises OpskitError: SCHEDULE_001 where there is no such program, SCHEDULE_002 at the deadline.
        """
        try:
            async with asyncio.timeout(timeout_s):
                result = await run(argv, env=self.environ | dict(env or {}))
        except NotStarted as exc:
            raise OpskitError("SCHEDULE_001", f"the scheduler cannot be asked: {exc.message}") from exc
        except TimeoutError as exc:
            problem = f"`{' '.join(argv[:3])}` did not answer within {timeout_s:g} s"
            raise OpskitError("SCHEDULE_002", problem) from exc
        if (silence := self.silence(result)) is not None:
            raise silence
        return result

    async def carry_out(self, executor: Executor, steps: Iterable[ScheduleStep]) -> None:
        """Carry out steps in order. Raises OpskitError, explained."""
        try:
            for step in steps:
                if isinstance(step, ChangeFile):
                    step.carry_out(executor)
                else:
                    await self._run(executor, step)
        except Refused as refused:
            raise await self.explained(refused) from refused

    async def _run(self, executor: Executor, step: RunCommand) -> None:
        deadline = time.monotonic() + _PATIENCE_S
        while True:
            if step.until_absent:
                result = await self.ask(step.argv)
                done, again = result.exit != 0, True
            else:
                ran = await executor.run(Command(step.argv, _ANSWER_S), target="schedule")
                if ran.exit is None:
                    raise OpskitError("SCHEDULE_002", f"`{ran.command.shown}`: {ran.said}")
                result = ProgramResult(ran.exit, "", ran.said)
                if (silence := self.silence(result)) is not None:
                    raise silence
                done, again = result.exit == 0 or step.accepts(result), step.again(result)
            if done:
                return
            if not again or time.monotonic() >= deadline:
                raise Refused(step, result)
            await asyncio.sleep(_POLL_S)


def text_of(path: Path) -> str | None:
    """Return the text of a file; None for one that is not there or may not be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
