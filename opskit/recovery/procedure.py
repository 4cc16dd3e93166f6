"""A procedure that a person asks for, step by step: every command is shown, and run by the executor.

Unlike a run of recovery it does what was asked for, whatever the target's state; pauses hold all the same.
"""

import contextlib
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from opskit.checks.restore_assessment import assess_interrupted_restore
from opskit.errors import Exit, OpskitError
from opskit.records import MutableRecord, field
from opskit.recovery import hands_off
from opskit.recovery.executor import Executor, executing, pause_words
from opskit.recovery.outcome import Ran
from opskit.recovery.step import Command, RecoveryContext, recovery_context
from opskit.result import Finding, Report

if TYPE_CHECKING:
    from opskit.facts.survey import Survey

#: Narrates: one line for what begins now.
Say = Callable[[str], None]


class Procedure(MutableRecord):
    """One procedure under way, and what it came to. In a dry run commands are collected and none is run.

    `planned` are commands of a dry run, `notes` what a person should know, `seconds` how long it took.
    """

    name: str
    target: str
    context: RecoveryContext
    executor: Executor
    say: Say
    began: float
    planned: list[Command] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    findings: Sequence[Finding] = ()
    seconds: float = 0.0

    @property
    def dry(self) -> bool:
        return self.executor.dry

    @property
    def ran(self) -> Sequence[Ran]:
        return self.executor.ran

    @property
    def exit(self) -> Exit:
        return Exit.OK if self.dry else Report(self.name, self.findings).exit

    def as_json(self) -> dict[str, Any]:
        return {
            **Report(self.name, self.findings).as_json(),
            "ok": self.exit is Exit.OK,
            "target": self.target,
            "dry_run": self.dry,
            "seconds": round(self.seconds, 3),
            "planned": [command.shown for command in self.planned],
            "ran": [done.as_json() for done in self.ran],
            "notes": self.notes,
            "exit": int(self.exit),
        }

    async def do(self, command: Command) -> Ran:
        """Run one command, or in a dry run only keep it, which counts as done."""
        if self.dry:
            self.planned.append(command)
            return Ran(command, 0, 0.0)
        self.say(f"$ {command.shown}")
        return await self.executor.run(command, procedure=self.name, target=self.target)

    def record(self, done: Ran) -> None:
        """Keep and audit what was done without a program: a request of a server's own API."""
        self.executor.record(done, procedure=self.name, target=self.target)

    async def do_all(self, commands: Sequence[Command]) -> Ran | None:
        """Run commands in order up to the one that fails, and return that; None when all went well."""
        for command in commands:
            done = await self.do(command)
            if done.exit != 0:
                return done
        return None

    def done(self, findings: Sequence[Finding]) -> "Procedure":
        """End the procedure; its verdict is audited."""
        self.findings, self.seconds = findings, time.monotonic() - self.began
        verdicts = {
            finding.check: [finding.target, finding.status.value, finding.detail] for finding in findings
        }
        self.executor.write(
            "procedure_ended",
            procedure=self.name,
            target=self.target,
            exit=int(self.exit),
            seconds=round(self.seconds, 3),
            findings=verdicts,
        )
        return self

    def check_pauses(self, *names: str) -> None:
        """Raises OpskitError RECOVER_003 when one of these names is paused: people win."""
        pause = self.executor.pause_of(*names)
        if pause is not None:
            why = f"{pause.target} is paused {pause_words(pause)}"
            raise OpskitError("RECOVER_003", why, remedy=f"`opskit resume {pause.target}`, then again")

    async def check_not_half_restored(self, files: Sequence[Path]) -> None:
        """Raises OpskitError BACKUP_005 where these Compose files, or what they name, are half restored."""
        if (restore := await hands_off.interrupted_restore(self.context, files)) is not None:
            half = assess_interrupted_restore(restore)
            raise OpskitError(half.code or "", half.detail, remedy=half.remedy)

    async def check_nobody_is_at_it(self) -> None:
        """Raises OpskitError RECOVER_003 while somebody builds, pulls or makes a backup."""
        if (work := await hands_off.at_work(self.context)) is not None:
            raise OpskitError("RECOVER_003", work, remedy="wait for its end, or stop it")


@contextlib.asynccontextmanager
async def procedure(
    name: str,
    target: str,
    survey: "Survey",
    *,
    dry: bool,
    platform: str,
    say: Say,
    clock: Callable[[], float] = time.time,
) -> AsyncIterator[Procedure]:
    """Yield everything that a procedure needs, under the lock of recovery.

    Raises OpskitError RECOVER_001 when another recovery runs, StateError when state cannot be used.
    """
    config, source = survey.config, f"recover {name}"
    async with executing(
        config, survey.environ, survey.state_folder, source=source, dry=dry, clock=clock, note=say
    ) as executor:
        context = await recovery_context(survey, config, executor.memory, clock, platform)
        yield Procedure(name, target, context, executor, say, time.monotonic())
