"""Asks launchd or systemd, and carries out the steps of a change through the executor, which audits them."""

import asyncio
import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from opskit.errors import OpskitError
from opskit.recovery.executor import Executor, scheduling
from opskit.recovery.outcome import Ran
from opskit.recovery.step import Command
from opskit.schedule.steps import Folder, Remove, RunCommand, Step, WaitUntilAbsent, Write
from opskit.system.program import NotStarted, ProgramResult, run
from opskit.system.textfile import write_text

#: A scheduler answers in milliseconds; one that takes longer hangs.
ANSWER_S = 20.0
#: launchd needs up to 5 s to end a job that does not end by itself, and 10 s between two starts.
PATIENCE_S = 15.0
_POLL_S = 0.2


class SchedulerClient:
    """Talks to the scheduler under `environ`. `done` holds the steps that were carried out, in order."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = dict(environ)
        self._executor: Executor | None = None
        self.done: list[Step] = []

    @contextlib.contextmanager
    def changing(self, folder: Path, source: str, *, exclusive: bool = True) -> Iterator[None]:
        """Allow steps to be carried out; `source` is what the audit in the state folder calls them."""
        with scheduling(self._environ, folder, source=source, exclusive=exclusive) as executor:
            self._executor = executor
            try:
                yield
            finally:
                self._executor = None

    async def ask(
        self,
        argv: Sequence[str],
        *,
        stdin: bytes = b"",
        timeout_s: float = ANSWER_S,
        env: Mapping[str, str] | None = None,
    ) -> ProgramResult:
        """A question that changes nothing. Raises OpskitError: SCHEDULE_001 where the program is missing,

        SCHEDULE_002 at the deadline.
        """
        try:
            async with asyncio.timeout(timeout_s):
                return await run(argv, env=self._environ | dict(env or {}), stdin=stdin)
        except NotStarted as exc:
            raise OpskitError("SCHEDULE_001", f"the scheduler cannot be asked: {exc.message}") from exc
        except TimeoutError as exc:
            raise OpskitError(
                "SCHEDULE_002", f"`{' '.join(argv[:3])}` did not answer within {timeout_s:g} s"
            ) from exc

    async def do(self, step: Step) -> None:
        """Carry a step out. Raises OpskitError: Refused with the scheduler's own words, or as `ask` does."""
        executor = self._executor
        if executor is None:
            raise AssertionError("a step is carried out inside of `changing`")
        self.done.append(step)
        match step:
            case RunCommand():
                await self._run(step, executor)
            case WaitUntilAbsent():
                await self._wait(step)
            case _:
                executor.write("file_changes", change=type(step).__name__.lower(), path=str(step.path))
                try:
                    _write(step)
                except OSError as exc:
                    raise OpskitError(
                        "SCHEDULE_002",
                        f"{step.path}: {exc.strerror or 'it cannot be written'}",
                        remedy=f"make {step.path.parent} writable for yourself, then run it again",
                    ) from exc

    async def _run(self, step: RunCommand, executor: Executor) -> None:
        until = time.monotonic() + PATIENCE_S
        while True:
            done = _done(step, await executor.run(Command(step.argv, ANSWER_S), target="schedule"))
            if done.exit == 0 or step.tolerates(done):
                return
            if not step.again(done) or time.monotonic() >= until:
                raise Refused(step, done)
            await asyncio.sleep(_POLL_S)

    async def _wait(self, step: WaitUntilAbsent) -> None:
        until = time.monotonic() + PATIENCE_S
        while (await self.ask(step.argv)).exit == 0:
            if time.monotonic() >= until:
                raise OpskitError(
                    "SCHEDULE_002", f"`{' '.join(step.argv)}` still finds the old job after {PATIENCE_S:g} s"
                )
            await asyncio.sleep(_POLL_S)


class Refused(OpskitError):  # noqa: N818 - it reads as what it is
    """A command of the scheduler failed; `step` and `answer` tell which and how."""

    def __init__(self, step: RunCommand, answer: ProgramResult) -> None:
        super().__init__("SCHEDULE_002", f"`{' '.join(step.argv)}`: {answer.complaint}")
        self.step = step
        self.answer = answer


def _done(step: RunCommand, ran: Ran) -> ProgramResult:
    """What the program said; raises OpskitError as `ask` does where it said nothing."""
    if ran.exit is None:
        raise OpskitError("SCHEDULE_002", f"`{' '.join(step.argv[:3])}`: {ran.said}")
    return ProgramResult(ran.exit, "", ran.said)


def _write(step: Write | Remove | Folder) -> None:
    match step:
        case Write():
            write_text(step.path, step.text)
            step.path.chmod(0o644)
        case Remove():
            step.path.unlink(missing_ok=True)
        case Folder():
            step.path.mkdir(parents=True, exist_ok=True)
