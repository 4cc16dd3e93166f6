"""The only place of opskit that runs a command which changes something.

Every command that repairs (`recover` and its subcommands, `doctor --fix`, `schedule`) uses an executor: one
process at a time, never against a pause, within the budget of the target, with evidence and an audit line
before the first command, and with the same look again afterwards.
"""

import asyncio
import contextlib
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from opskit.checks.attempt import Failure, attempt
from opskit.config.schema import Config, LogConfig, RecoveryConfig
from opskit.records import MutableRecord, field, replace
from opskit.recovery import budget, pauses
from opskit.recovery import memory as memories
from opskit.recovery.audit import Audit, NoAudit
from opskit.recovery.budget import Level, RepairCircuit
from opskit.recovery.command_runner import CommandRunner
from opskit.recovery.memory import Memory, alone, alone_with_docker
from opskit.recovery.notice import Notice, Tell
from opskit.recovery.outcome import Outcome, Ran, RepairResult
from opskit.recovery.step import Command, Condition, Repair, TargetFinding
from opskit.system.process import read_process
from opskit.text import span, utc

#: The target after its repair, watched for so many seconds; None when it is no longer there.
LookAgain = Callable[[Repair, float], Awaitable[TargetFinding | None]]
#: A second reading and evidence ask the same servers that are in trouble.
_READ_S = 15.0
_EVIDENCE_S = 15.0


class Executor(MutableRecord):
    """Repairs one target after the other. Without an `audit` it is a dry run and changes nothing.

    `notify` sends a notice to people. `source` is the command of opskit that repairs, for the audit; `note`
    is called with each command before it is run. `cut_off` are the commands of repairs that the end of the
    run broke off, by target.
    """

    rules: RecoveryConfig
    folder: Path
    memory: Memory
    runner: CommandRunner
    audit: NoAudit | None
    notify: Tell | None = None
    run_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    source: str = "recover"
    clock: Callable[[], float] = time.time
    note: Callable[[str], None] = lambda _text: None
    cut_off: dict[str, tuple[Ran, ...]] = field(default_factory=dict)

    @property
    def dry(self) -> bool:
        return self.audit is None

    @property
    def ran(self) -> Sequence[Ran]:
        return self.runner.ran

    def pause_of(self, target: str, *names: str) -> pauses.Pause | None:
        return pauses.covering(pauses.read(self.folder, self.clock()), target, *names)

    async def repair(self, finding: TargetFinding, outcome: Outcome, *, look_again: LookAgain) -> Outcome:
        """Repair one target, if its pauses and its budget allow, and look whether it helped.

        `outcome` is what is known of it so far. Never raises for what planning or gathering evidence does.
        """
        if (paused := self._paused(finding, outcome)) is not None:
            return paused
        if finding.read_again is not None:
            fresh = await attempt(finding.read_again(), _READ_S)
            if isinstance(fresh, Failure) and fresh.is_late:
                why = f"{finding.cause}; no repair could be planned in time"
                return replace(outcome, result=RepairResult.INCONCLUSIVE, cause=why)
            if isinstance(fresh, Failure):
                why = f"{finding.cause}; no repair could be planned: {fresh.error.message}"
                remedy = finding.remedy or fresh.error.remedy
                return replace(outcome, result=RepairResult.MANUAL, cause=why, remedy=remedy)
            finding, outcome = fresh, Outcome.of(outcome.step, fresh)
        if finding.condition is not Condition.BROKEN:
            return outcome
        if finding.repair is None:
            return await self._leave_to_person(outcome)
        repair = replace(finding.repair, counted=finding.repair.counted or (finding.target,))
        outcome = replace(outcome, undo=repair.undo)
        if (refused := self._unremembered(finding, repair, outcome)) is not None:
            return refused
        permits = [await self._permit(name, finding, outcome) for name in repair.counted]
        permit = next((permit for permit in permits if not permit.allowed), None)
        if permit is not None:
            result = RepairResult.GAVE_UP if permit.circuit is RepairCircuit.OPEN else RepairResult.NOT_YET
            return replace(outcome, result=result, cause=f"{finding.cause}; {permit.why}")
        if self.dry:
            return replace(outcome, result=RepairResult.WOULD_REPAIR, planned=repair.commands)
        if repair.evidence is not None:
            evidence = await attempt(repair.evidence(), _EVIDENCE_S)
            if isinstance(evidence, Failure):
                reason = "no answer in time" if evidence.is_late else evidence.error.message
                evidence = {"evidence": f"could not be gathered: {reason}"}
            outcome = replace(outcome, evidence={**outcome.evidence, **evidence})
        if (paused := self._paused(finding, outcome)) is not None:
            return paused
        return await self._carry_out(finding, repair, outcome, look_again)

    def _unremembered(self, finding: TargetFinding, repair: Repair, outcome: Outcome) -> Outcome | None:
        """Return the outcome of what is not repaired while nothing can be remembered; None when it may be.

        Docker itself remembers when a container was last started: it is started once in `retry_s`.
        """
        if self.memory.is_lasting:
            return None
        starts = [finding.worst_of((name,)).started_s for name in repair.counted]
        last_s = max((at for at in starts if at is not None), default=None)
        if last_s is None or None in starts:
            why = "the state folder cannot be written, and a repair that is not remembered could be endless"
            return replace(outcome, result=RepairResult.MANUAL, cause=f"{finding.cause}; {why}")
        ago_s = max(0.0, self.clock() - last_s)
        if ago_s >= self.rules.retry_s:
            return None
        every = span(self.rules.retry_s)
        why = f"it was started {span(ago_s)} ago; without a state folder that is done once in {every}"
        return replace(outcome, result=RepairResult.NOT_YET, cause=f"{finding.cause}; {why}")

    async def _permit(self, name: str, finding: TargetFinding, outcome: Outcome) -> budget.Permit:
        """Judge the budget of the target, or of one of its parts; people are notified of the result."""
        now, lasted = self.clock(), name not in finding.relapsed
        permit, record = budget.judge(self.memory.of(name), now, self.rules, lasted=lasted)
        if not self.dry:
            self.memory.targets[name] = record
            for level in permit.notices:
                await self._notify(level, replace(outcome, target=name), permit.why)
        return permit

    def _paused(self, finding: TargetFinding, outcome: Outcome) -> Outcome | None:
        """Return the outcome of a broken target that a person paused; None when nobody did."""
        pause = self.pause_of(finding.target, outcome.step, *finding.names)
        if pause is None:
            return None
        cause = f"paused {pause_words(pause)}; it is broken: {finding.cause}"
        return replace(outcome, result=RepairResult.PAUSED, cause=cause)

    async def _carry_out(
        self, finding: TargetFinding, repair: Repair, outcome: Outcome, look_again: LookAgain
    ) -> Outcome:
        target, counted = finding.target, repair.counted
        if target not in counted and self.memory.of(target).repairs:
            # A state file of an older version counted the repairs of all parts together.
            del self.memory.targets[target]
        for name in counted:
            self.memory.targets[name] = budget.begun(self.memory.of(name), self.clock())
        if repair.mark is not None:
            self.memory.marks[repair.mark] = self.clock()
        self.memory.save()
        self._audit_repair("repair_begins", outcome, repair, (), evidence=outcome.evidence)
        ran: list[Ran] = []
        try:
            for command in repair.commands:
                self.note(f"{target} is {finding.state} ({finding.cause}): `{command.shown}`")
                await self.runner.run(command, ran)
                self._remember_server(target, ran[-1])
                if ran[-1].exit != 0:
                    break
            for name in counted:
                # From here on what happens to it is a person's doing.
                self.memory.targets[name] = replace(self.memory.of(name), ended_at=self.clock())
            self.memory.save()
            settle_s = self.rules.step_s if repair.settle_s is None else repair.settle_s
            # What was not done is not waited for; the target may be well all the same.
            failed = bool(ran) and ran[-1].exit != 0
            after = await look_again(repair, 0.0 if failed else settle_s)
        except asyncio.CancelledError:
            self.cut_off[target] = tuple(ran)
            self._audit_repair("repair_cut_off", outcome, repair, ran)
            raise
        outcome = _after(replace(outcome, ran=tuple(ran)), finding, after, counted)
        if outcome.result is RepairResult.FAILED and ran and (end := self.runner.end_of(ran[-1])) is not None:
            outcome = replace(outcome, cause=f"{outcome.cause}; {end[0]}", remedy=end[1])
        if ran and ran[-1].command.detached and ran[-1].exit is None:
            outcome = replace(outcome, remedy=f"correct `stack.start.{target}`")
        self._audit_repair("repair_ended", outcome, repair, ran, result=outcome.result.value)
        if outcome.result in (RepairResult.REPAIRED, RepairResult.LEFT):
            # What is left is a person's, and delays no later repair.
            for name in counted:
                await self.note_health(replace(outcome, target=name))
        elif after is not None:
            await self.note_parts(outcome, after)
        if outcome.result is RepairResult.REPAIRED:
            await self._notify(Level.REPAIRED, outcome, "")
        self.memory.save()
        return outcome

    async def run(self, command: Command, **context: Any) -> Ran:
        """Run one command of a procedure that a person asked for; `context` goes into its audit lines."""
        if self.audit is None:
            raise AssertionError("a dry run runs nothing")
        self.write("command_begins", **context, command=command.shown, cwd=command.cwd)
        done = await self.runner.run(command)
        self.write("command_ended", **context, **done.as_json())
        return done

    def record(self, done: Ran, **context: Any) -> None:
        """Keep and audit what was done without a program: a request to a server's own API, or a file."""
        self.runner.ran.append(done)
        self.write("command_ended", **context, **done.as_json())

    def write(self, event: str, **content: Any) -> None:
        """Write one audit line; nothing in a dry run."""
        if self.audit is not None:
            self.audit.write(
                at=utc(self.clock()), event=event, run=self.run_id, source=self.source, **content
            )

    async def note_health(self, outcome: Outcome) -> None:
        """Remember that a target is well, and notify people of it who heard that it was given up."""
        record = self.memory.targets.get(outcome.target)
        if self.dry or record is None:
            return
        record, level = budget.healthy(record, self.clock(), self.rules)
        self.memory.targets[outcome.target] = record
        if level is not None:
            await self._notify(level, outcome, "it has been well since, and is watched as before")

    async def note_parts(self, outcome: Outcome, finding: TargetFinding) -> None:
        for part in finding.parts:
            if part.condition is Condition.HEALTHY:
                await self.note_health(replace(outcome, target=part.target, cause=part.cause))

    async def notify_person(self, outcome: Outcome) -> None:
        """Call a person about what is not a target of the run."""
        await self._notify(Level.ESCALATION, outcome, "")

    async def _leave_to_person(self, outcome: Outcome) -> Outcome:
        """Return the outcome of a target that opskit cannot repair; a person is notified once in a while."""
        now = self.clock()
        record = budget.sane(self.memory.of(outcome.target), now, self.rules)
        notified_at = record.escalated_at
        if not self.dry:
            if notified_at is None or now - notified_at >= self.rules.escalate_s:
                record = replace(record, escalated_at=now)
                await self._notify(Level.ESCALATION, outcome, "opskit cannot repair this")
            self.memory.targets[outcome.target] = replace(record, healthy_since=None)
        return replace(outcome, result=RepairResult.MANUAL)

    async def _notify(self, level: Level, outcome: Outcome, more: str) -> None:
        if self.notify is not None:
            text = "; ".join(part for part in (outcome.cause, more) if part)
            at, run = self.clock(), self.run_id
            await self.notify(Notice.of(level, outcome.target, text, outcome.remedy, at=at, run=run))

    def _remember_server(self, target: str, done: Ran) -> None:
        """Remember a server that was started: it is ours to end, however this run ends."""
        process = None if done.pid is None else read_process(done.pid)
        if process is not None:
            self.memory.remember_server(target, process)
            self.memory.save()

    def _audit_repair(
        self,
        event: str,
        outcome: Outcome,
        repair: Repair,
        ran: Sequence[Ran],
        **more: Any,
    ) -> None:
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
            **{"result": None, "evidence": None, **more},
        )


def pause_words(pause: pauses.Pause) -> str:
    until = "until `opskit resume`" if pause.until is None else f"until {utc(pause.until)}"
    return f"{until} ({pause.reason})" if pause.reason else until


def _after(
    outcome: Outcome, before: TargetFinding, after: TargetFinding | None, counted: Sequence[str]
) -> Outcome:
    """Return what a repair came to; it helped when the target and all that it repaired of it are well."""
    failed = next((done for done in outcome.ran if done.exit != 0), None)
    if after is not None and after.condition in (Condition.HEALTHY, Condition.LEFT):
        after = after.worst_of(counted)
    if after is None or after.condition is Condition.HEALTHY:
        note = f" (although `{failed.command.shown}` said: {failed.said})" if failed else ""
        cause = f"was {before.state}: {before.cause}{note}"
        return replace(outcome, result=RepairResult.REPAIRED, state="ok", cause=cause)
    failure = replace(
        outcome, result=RepairResult.FAILED, state=after.state, remedy=after.remedy or before.remedy
    )
    if failed is not None:
        cause = f"{before.cause}; `{failed.command.shown}` failed: {failed.said}"
        return replace(failure, cause=cause)
    if after.condition in (Condition.BROKEN, Condition.UNKNOWN):
        others = after.worst_of(counted).condition is Condition.HEALTHY
        cause = f"{before.cause}; {'still broken' if others else 'the repair did not help'}: {after.cause}"
        return replace(failure, cause=cause)
    result = Outcome.of(outcome.step, after).result
    return replace(outcome, result=result, state=after.state, cause=f"{before.cause}; now: {after.cause}")


@contextlib.asynccontextmanager
async def executing(
    config: Config,
    environ: Mapping[str, str],
    folder: Path,
    *,
    source: str,
    dry: bool = False,
    clock: Callable[[], float] = time.time,
    note: Callable[[str], None] = lambda _text: None,
    is_lasting: bool = True,
) -> AsyncIterator[Executor]:
    """Yield an executor of repairs under the locks of recovery; what it remembers is saved at the end.

    With `is_lasting` False the state folder cannot be written: nothing is remembered, and only what Docker
    remembers well enough is repaired. It sends no notices unless it is given who does. Raises OpskitError
    RECOVER_001 when another one runs, StateError when state cannot be read or written.
    """
    with contextlib.ExitStack() as parts:
        with contextlib.nullcontext() if is_lasting else contextlib.suppress(OSError):
            parts.enter_context(alone(folder))
        parts.enter_context(alone_with_docker(environ))
        memory, damage = memories.load(folder, keep=not is_lasting)
        memory.is_lasting = is_lasting
        if damage is not None:
            note(damage)
        pauses.read(folder, clock())  # damaged ones are reported before anything is done
        audit: NoAudit | None = None
        if not dry:
            audit = Audit(folder, config.log) if is_lasting else NoAudit()
            parts.callback(audit.close)
        yield Executor(
            config.recovery,
            folder,
            memory,
            CommandRunner(folder, environ),
            audit,
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
    with lock, contextlib.closing(Audit(folder, LogConfig())) as audit:
        memory, runner = Memory(folder / "schedule.json"), CommandRunner(folder, environ)
        yield Executor(RecoveryConfig(), folder, memory, runner, audit, source=source)
