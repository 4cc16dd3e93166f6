"""The only place of opskit that runs a command which changes something.

Whoever repairs (`recover` and its subcommands, `doctor --fix`, `schedule`) does it through an executor: one
process at a time, never against a pause, within the budget of the target, with evidence and an audit line
before the first command, and with the same look again afterwards.
"""

import asyncio
import contextlib
import os
import socket
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from opskit.config.schema import Config, LogConfig, RecoveryConfig
from opskit.errors import OpskitError
from opskit.recovery import budget, pauses
from opskit.recovery import memory as memories
from opskit.recovery.audit import Audit
from opskit.recovery.budget import Level, RepairCircuit
from opskit.recovery.command_runner import CommandRunner
from opskit.recovery.memory import Memory
from opskit.recovery.notice import Notice, Tell
from opskit.recovery.outcome import Outcome, Ran, RepairResult
from opskit.recovery.step import Command, Condition, Repair, TargetObservation
from opskit.system.lock import try_lock
from opskit.system.process import read_process
from opskit.text import utc

LOCK_NAME = "recover.lock"
#: Gathers what would be gone after a repair.
Collect = Callable[[], Awaitable[Mapping[str, Any]]]
#: The target after a repair, watched for so many seconds; None when it is no longer there.
LookAgain = Callable[[float], Awaitable[TargetObservation | None]]
#: Evidence is asked of the same servers that are in trouble.
_EVIDENCE_S = 15.0
_AS_SEEN = {
    Condition.WAITING: RepairResult.WAITING,
    Condition.LEFT: RepairResult.LEFT,
    Condition.ABSENT: RepairResult.ABSENT,
    Condition.UNKNOWN: RepairResult.INCONCLUSIVE,
}


class Executor:
    """Repairs one target after the other. Without an `audit` it is a dry run and changes nothing.

    `source` is the command of opskit that repairs, for the audit; `note` is called with each command before
    it is run.
    """

    def __init__(
        self,
        rules: RecoveryConfig,
        folder: Path,
        memory: Memory,
        *,
        runner: CommandRunner,
        audit: Audit | None,
        notify: Tell,
        run_id: str,
        source: str = "recover",
        clock: Callable[[], float] = time.time,
        note: Callable[[str], None] = lambda _text: None,
    ) -> None:
        self.rules = rules
        self.memory = memory
        self.run_id = run_id
        self.dry = audit is None
        self._folder = folder
        self._runner = runner
        self._audit = audit
        self._notify_person = notify
        self._source = source
        self._clock = clock
        self._note = note

    @property
    def ran(self) -> Sequence[Ran]:
        """Every command that was run, in order."""
        return self._runner.ran

    def pause_of(self, target: str, *names: str) -> pauses.Pause | None:
        """Return the pause that holds for a target now, by any of its names."""
        return pauses.covering(pauses.read(self._folder, self._clock()), target, *names)

    async def repair(
        self,
        seen: TargetObservation,
        repair: Repair,
        outcome: Outcome,
        *,
        evidence: Collect,
        look_again: LookAgain,
    ) -> Outcome:
        """Repair one target, if its pauses and its budget allow, and look whether it helped."""
        if (pause := self.pause_of(seen.target, outcome.step, *seen.names)) is not None:
            return replace(outcome, result=RepairResult.PAUSED, cause=paused(pause, seen.cause))
        permit, record = budget.judge(self.memory.of(seen.target), self._clock(), self.rules)
        outcome = replace(outcome, undo=repair.undo)
        if not self.dry:
            self.memory.targets[seen.target] = record
            for level in permit.notices:
                await self.notify(level, outcome, permit.why)
        if not permit.allowed:
            result = RepairResult.GAVE_UP if permit.circuit is RepairCircuit.OPEN else RepairResult.NOT_YET
            return replace(outcome, result=result, cause=f"{seen.cause}; {permit.why}")
        if self.dry:
            return replace(outcome, result=RepairResult.WOULD_REPAIR, planned=repair.commands)
        try:
            async with asyncio.timeout(_EVIDENCE_S):
                collected = await evidence()
        except (TimeoutError, OpskitError) as exc:
            collected = {"evidence": f"could not be gathered: {str(exc) or 'no answer in time'}"}
        outcome = replace(outcome, evidence={**outcome.evidence, **collected})
        if (pause := self.pause_of(seen.target, outcome.step, *seen.names)) is not None:
            return replace(outcome, result=RepairResult.PAUSED, cause=paused(pause, seen.cause))
        return await self._carry_out(seen, repair, outcome, look_again)

    async def _carry_out(
        self, seen: TargetObservation, repair: Repair, outcome: Outcome, look_again: LookAgain
    ) -> Outcome:
        self.memory.targets[seen.target] = budget.begun(self.memory.of(seen.target), self._clock())
        if repair.mark is not None:
            self.memory.marks[repair.mark] = self._clock()
        self.memory.save()
        self._write("repair_begins", outcome, repair, ())
        ran: list[Ran] = []
        try:
            for command in repair.commands:
                self._note(f"{seen.target} is {seen.state} ({seen.cause}): `{command.shown}`")
                ran.append(await self._runner.run(command))
                self._keep_server(seen.target, ran[-1])
                if ran[-1].exit != 0:
                    break
            settle_s = self.rules.step_s if repair.settle_s is None else repair.settle_s
            # What was not done is not waited for; the target may be well all the same.
            failed = bool(ran) and ran[-1].exit != 0
            after = await look_again(0.0 if failed else settle_s)
        except asyncio.CancelledError:
            self._write("repair_cut_off", outcome, repair, ran)
            raise
        outcome = _after(replace(outcome, ran=tuple(ran)), seen, after)
        self._write("repair_ended", outcome, repair, ran)
        if outcome.result in (RepairResult.REPAIRED, RepairResult.LEFT):
            # What might be repaired is; what is left is somebody's, and delays no later repair.
            await self.note_health(outcome)
        if outcome.result is RepairResult.REPAIRED:
            await self.notify(Level.REPAIRED, outcome, "")
        self.memory.save()
        return outcome

    async def run(self, command: Command, **context: Any) -> Ran:
        """Run one command of a procedure that a person asked for; `context` goes into its audit lines."""
        if self._audit is None:
            raise AssertionError("a dry run runs nothing")
        self.write("command_begins", **context, command=command.shown, cwd=command.cwd)
        done = await self._runner.run(command)
        self.write("command_ended", **context, **done.as_json())
        return done

    def record(self, done: Ran, **context: Any) -> None:
        """Keep and audit what was done without a program: a request to a server's own API, or a file."""
        self._runner.ran.append(done)
        self.write("command_ended", **context, **done.as_json())

    def write(self, event: str, **content: Any) -> None:
        """Write one audit line; nothing in a dry run."""
        if self._audit is not None:
            self._audit.write(
                at=utc(self._clock()), event=event, run=self.run_id, source=self._source, **content
            )

    async def note_health(self, outcome: Outcome) -> None:
        """Remember that a target is well; whoever heard that it was given up hears that it recovered."""
        record = self.memory.targets.get(outcome.target)
        if self.dry or record is None:
            return
        record, level = budget.healthy(record, self._clock(), self.rules)
        self.memory.targets[outcome.target] = record
        if level is not None:
            await self.notify(level, outcome, "it has been well since, and is watched as before")

    async def leave_to_person(self, outcome: Outcome) -> Outcome:
        """Return the outcome of a target that opskit cannot repair; a person is notified once in a while."""
        now = self._clock()
        record = budget.sane(self.memory.of(outcome.target), now, self.rules)
        notified_at = record.escalated_at
        if not self.dry:
            if notified_at is None or now - notified_at >= self.rules.escalate_s:
                record = replace(record, escalated_at=now)
                await self.notify(Level.ESCALATION, outcome, "opskit cannot repair this")
            self.memory.targets[outcome.target] = replace(record, healthy_since=None)
        return replace(outcome, result=RepairResult.MANUAL)

    async def notify(self, level: Level, outcome: Outcome, more: str) -> None:
        """Send one notice about a target."""
        words = {
            Level.CRITICAL: f"opskit has given up on {outcome.target}",
            Level.REMINDER: f"{outcome.target} is still broken, and opskit has given up on it",
            Level.ESCALATION: f"{outcome.target} needs a person",
            Level.RECOVERED: f"{outcome.target} is well again",
            Level.REPAIRED: f"{outcome.target} was repaired",
        }
        await self._notify_person(
            Notice(
                level,
                outcome.target,
                words[level],
                "; ".join(part for part in (outcome.cause, more) if part),
                utc(self._clock()),
                socket.gethostname(),
                self.run_id,
                outcome.remedy,
            )
        )

    def _keep_server(self, target: str, done: Ran) -> None:
        """A server that was started is ours to end, however this run ends."""
        started = None if done.pid is None else read_process(done.pid)
        if started is not None:
            self.memory.facts[f"started:{target}"] = {"pid": started.pid, "began": started.began}
            self.memory.save()

    def _write(self, event: str, outcome: Outcome, repair: Repair, ran: Sequence[Ran]) -> None:
        self.write(
            event,
            step=outcome.step,
            target=outcome.target,
            state=outcome.state,
            cause=outcome.cause,
            precondition=repair.precondition,
            commands=[command.shown for command in repair.commands],
            ran=[done.as_json() for done in ran],
            undo=repair.undo,
            result=outcome.result.value if event == "repair_ended" else None,
            evidence=outcome.evidence if event == "repair_begins" else None,
        )


def as_seen(seen: TargetObservation) -> RepairResult:
    """Return the result of a target that is not to be repaired."""
    return _AS_SEEN.get(seen.condition, RepairResult.OK)


def paused(pause: pauses.Pause, cause: str) -> str:
    """Say until when and why a broken target is paused."""
    until = "until `opskit resume`" if pause.until is None else f"until {utc(pause.until)}"
    why = f" ({pause.reason})" if pause.reason else ""
    return f"paused {until}{why}; it is broken: {cause}"


def _after(outcome: Outcome, before: TargetObservation, after: TargetObservation | None) -> Outcome:
    """What a repair came to."""
    last = outcome.ran[-1] if outcome.ran else None
    failed = last is not None and last.exit != 0
    if after is None or after.condition is Condition.HEALTHY:
        note = f" (although `{last.command.shown}` said: {last.said})" if failed and last else ""
        cause = f"was {before.state}: {before.cause}{note}"
        return replace(outcome, result=RepairResult.REPAIRED, state="ok", cause=cause)
    if failed and last is not None:
        cause = f"{before.cause}; `{last.command.shown}` failed: {last.said}"
        return replace(outcome, result=RepairResult.FAILED, state=after.state, cause=cause)
    if after.condition is Condition.BROKEN or after.condition is Condition.UNKNOWN:
        cause = f"{before.cause}; the repair did not help: {after.cause}"
        return replace(outcome, result=RepairResult.FAILED, state=after.state, cause=cause)
    return replace(
        outcome, result=as_seen(after), state=after.state, cause=f"{before.cause}; now: {after.cause}"
    )


@contextlib.contextmanager
def alone(folder: Path, lock_name: str = LOCK_NAME, what: str = "recovery") -> Iterator[None]:
    """Hold a lock of this state folder, which dies with its process.

    Raises OpskitError RECOVER_001 when another process holds it.
    """
    path = folder / lock_name
    with try_lock(path) as mine:
        if not mine:
            raise OpskitError("RECOVER_001", f"another {what} is running{_holder(path)}")
        with contextlib.suppress(OSError):
            path.write_text(f"{os.getpid()}\n", encoding="ascii")
        yield


def _holder(path: Path) -> str:
    try:
        pid = path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""
    return f" as process {pid}" if pid.isdigit() else ""


@contextlib.asynccontextmanager
async def executing(
    config: Config,
    environ: Mapping[str, str],
    folder: Path,
    *,
    source: str,
    dry: bool = False,
    notify: Callable[[Memory], Tell] | None = None,
    clock: Callable[[], float] = time.time,
    note: Callable[[str], None] = lambda _text: None,
) -> AsyncIterator[Executor]:
    """Yield an executor of repairs under the lock of recovery; what it remembers is saved at the end.

    `notify` makes what sends notices, None sends none. Raises OpskitError RECOVER_001 when another one runs,
    StateError when state cannot be read or written.
    """
    with alone(folder), contextlib.ExitStack() as parts:
        memory, damage = memories.load(folder)
        if damage is not None:
            note(damage)
        pauses.read(folder, clock())  # damaged ones are reported before anything is done
        audit = None if dry else Audit(folder, config.log)
        if audit is not None:
            parts.callback(audit.close)
        yield Executor(
            config.recovery,
            folder,
            memory,
            runner=CommandRunner(folder, environ),
            audit=audit,
            notify=_silent if dry or notify is None else notify(memory),
            run_id=str(uuid.uuid4()),
            source=source,
            clock=clock,
            note=note,
        )
        if audit is not None:
            memory.save()


@contextlib.contextmanager
def scheduling(
    environ: Mapping[str, str], folder: Path, *, source: str, exclusive: bool = True
) -> Iterator[Executor]:
    """Yield an executor for the commands of a scheduler, which repair nothing and remember nothing.

    It has a lock of its own: a job that is started may begin a recovery at once. Raises as `executing` does.
    """
    lock = alone(folder, "schedule.lock", "change of the schedule") if exclusive else contextlib.nullcontext()
    with lock:
        audit = Audit(folder, LogConfig())
        try:
            yield Executor(
                RecoveryConfig(),
                folder,
                Memory(folder / "schedule.json"),
                runner=CommandRunner(folder, environ),
                audit=audit,
                notify=_silent,
                run_id=str(uuid.uuid4()),
                source=source,
            )
        finally:
            audit.close()


async def _silent(_notice: Notice) -> None:
    """Send nothing."""
