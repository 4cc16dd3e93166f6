"""How recovery stands: the last run, each target's circuit, pauses, notices that reached nobody.

The healer is watched here as well: one that has not run for long, although it is scheduled, is a failure.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from opskit.config.schema import RecoveryConfig
from opskit.errors import Exit
from opskit.recovery import budget
from opskit.recovery.budget import RepairCircuit
from opskit.recovery.flapping import History
from opskit.recovery.last_run import LastRun, LastTarget
from opskit.recovery.memory import Memory
from opskit.recovery.notice import Undelivered, recorded
from opskit.recovery.outcome import RepairResult
from opskit.recovery.pauses import ALL, Pause, covering
from opskit.recovery.span import span
from opskit.result import Finding, Report, Status

#: So many intervals without a run, and the schedule does not work.
MISSED = 2.5
DEFAULT_INTERVAL_S = 300.0
_DAY_S = 86_400.0
_BAD = frozenset({RepairResult.FAILED, RepairResult.MANUAL, RepairResult.GAVE_UP, RepairResult.NOT_YET})
_OPEN = frozenset({RepairResult.WAITING, RepairResult.INCONCLUSIVE})


@dataclass(frozen=True, slots=True)
class Schedule:
    """What the scheduler says of the job. `next_run` is in seconds since the epoch."""

    scheduler: str
    installed: bool
    interval_s: float = DEFAULT_INTERVAL_S
    next_run: float | None = None
    problem: str = ""
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class TargetStatus:
    """One target. `result` is that of the last run, None when it was not part of it.

    `next_try_s` is None while nothing has to wait. `repairs` are those of the last 24 hours.
    """

    target: str
    result: RepairResult | None
    cause: str
    circuit: RepairCircuit
    repairs: int
    next_try_s: float | None
    history: History
    pause: Pause | None
    remedy: str | None = None
    minor: bool = False

    def as_json(self) -> dict[str, Any]:
        return {
            "target": self.target,
            "result": None if self.result is None else self.result.value,
            "cause": self.cause,
            "circuit": self.circuit.value,
            "repairs_24h": self.repairs,
            "next_try_s": None if self.next_try_s is None else round(self.next_try_s),
            "flapping": self.history.flapping,
            "changes_percent": round(100 * self.history.share, 1),
            "paused": self.pause is not None,
        }


@dataclass(frozen=True, slots=True)
class Overview:
    """What the state folder and the scheduler say at `now`.

    `repairs` are lines of the audit, oldest first. `troubles` are state files that cannot be read: what is
    wrong, and what to do.
    """

    now: float
    last: LastRun | None
    targets: tuple[TargetStatus, ...]
    pauses: tuple[Pause, ...]
    undelivered: tuple[Undelivered, ...]
    repairs: tuple[Mapping[str, Any], ...]
    schedule: Schedule | None
    troubles: tuple[tuple[str, str], ...] = ()

    @property
    def age_s(self) -> float | None:
        """Since the last run ended; a run that lies ahead (the clock was set back) is new."""
        return None if self.last is None else max(0.0, self.now - self.last.ended)

    @property
    def report(self) -> Report:
        findings = [_of_run(self), *_of_schedule(self)]
        findings += [
            Finding("state", "state folder", Status.FAIL, "damaged", why, "STATE_001", what)
            for why, what in self.troubles
        ]
        findings += [_of_target(one) for one in self.targets]
        findings += [_of_pause(one, self.now) for one in self.pauses]
        findings += [_of_notice(one, self.now) for one in self.undelivered]
        return Report("status", findings)

    def as_json(self) -> dict[str, Any]:
        last = self.last
        return {
            **self.report.as_json(),
            "last_run": None
            if last is None
            else {
                "run": last.run,
                "ended": last.ended,
                "age_s": round(self.age_s or 0.0),
                "seconds": last.seconds,
                "exit": last.exit,
                "counts": dict(last.counts),
                "mutations": last.mutations,
            },
            "targets": [one.as_json() for one in self.targets],
            "pauses": [shown(one, self.now) for one in self.pauses],
            "undelivered": [
                {"channel": one.channel, "about": one.about, "why": one.why, "times": one.times}
                for one in self.undelivered
            ],
            "last_repairs": list(self.repairs),
        }


def shown(pause: Pause, now: float) -> dict[str, Any]:
    """A pause in a document."""
    return {
        "target": pause.target,
        "since": pause.since,
        "until": pause.until,
        "left_s": None if pause.until is None else round(pause.until - now),
        "reason": pause.reason,
    }


def standings(
    memory: Memory, last: LastRun | None, pauses: Mapping[str, Pause], rules: RecoveryConfig, now: float
) -> tuple[TargetStatus, ...]:
    """The targets of the last run in its order, then others that have an open circuit or recent repairs."""
    met = {one.target: one for one in (last.targets if last is not None else ())}
    others = [
        name
        for name, record in sorted(memory.targets.items())
        if name not in met and (record.opened_at is not None or record.repairs)
    ]
    found = (_standing(name, met.get(name), memory, pauses, rules, now) for name in (*met, *others))
    return tuple(one for one in found if one.result is not RepairResult.ABSENT or one.repairs)


def _standing(
    name: str,
    met: LastTarget | None,
    memory: Memory,
    pauses: Mapping[str, Pause],
    rules: RecoveryConfig,
    now: float,
) -> TargetStatus:
    record = budget.sane(memory.of(name), now, rules)
    known = {one.value for one in RepairResult}
    result = RepairResult(met.result) if met is not None and met.result in known else None
    broken = record.circuit is RepairCircuit.OPEN or result in _BAD
    wait_s = budget.next_try_s(record, now, rules) if broken and record.repairs else None
    names = (name,) if met is None else (name, met.step)
    return TargetStatus(
        name,
        result,
        "" if met is None else met.cause,
        record.circuit,
        budget.within(record, now, _DAY_S),
        wait_s,
        memory.histories.get(name, History()),
        covering(pauses, *names),
        None if met is None else met.remedy,
        met is not None and met.minor,
    )


def undelivered_lately(memory: Memory, now: float) -> tuple[Undelivered, ...]:
    """Of the last 24 hours."""
    return tuple(one for one in recorded(memory.facts) if now - one.last < _DAY_S)


def _of_run(all_: Overview) -> Finding:
    last, age_s = all_.last, all_.age_s
    if last is None and all_.troubles:
        why = "it is not known whether recovery has run"
        return Finding("last run", "recovery", Status.INCONCLUSIVE, "unknown", why)
    if last is None or age_s is None:
        return Finding(
            "last run", "recovery", Status.INCONCLUSIVE, "never ran", "recovery has never run", None,
            "`opskit recover` runs it once, `opskit schedule install` every five minutes",
        )  # fmt: skip
    schedule = all_.schedule
    if schedule is not None and schedule.installed and age_s > MISSED * schedule.interval_s:
        why = (
            f"recovery has not run for {span(age_s)}, although it is to run every {span(schedule.interval_s)}"
        )
        why += f": {schedule.problem}" if schedule.problem else ""
        remedy = schedule.remedy or "`opskit schedule status` tells why"
        return Finding("last run", "recovery", Status.FAIL, "overdue", why, None, remedy)
    when = f"ended {span(age_s)} ago with status {last.exit}"
    if last.exit in (Exit.FAILED, Exit.GAVE_UP):
        state = "gave up" if last.exit == Exit.GAVE_UP else "failed"
        return Finding("last run", "recovery", Status.FAIL, state, when)
    if last.exit == Exit.INCONCLUSIVE:
        remedy = "`opskit recover` shows what could not be judged"
        return Finding("last run", "recovery", Status.INCONCLUSIVE, "not judged", when, None, remedy)
    return Finding("last run", "recovery", Status.PASS, "ok", when)


def _of_schedule(all_: Overview) -> Sequence[Finding]:
    schedule = all_.schedule
    if schedule is None or not schedule.installed or not schedule.problem:
        return ()
    why = schedule.problem
    return (Finding("schedule", schedule.scheduler, Status.WARN, "problem", why, None, schedule.remedy),)


def _of_target(one: TargetStatus) -> Finding:
    words = [one.cause] if one.cause else []
    if one.next_try_s is not None:
        soon = f"in {span(one.next_try_s)}" if one.next_try_s > 0 else "with the next run"
        words.append(f"the next repair is tried {soon}")
    if one.history.flapping:
        words.append(f"it keeps changing ({one.history.share:.0%} of its last runs)")
    status, state, remedy = _judged(one)
    evidence = one.as_json()
    return Finding("target", one.target, status, state, "; ".join(words), None, remedy, evidence=evidence)


def _judged(one: TargetStatus) -> tuple[Status, str, str | None]:
    if one.pause is not None:
        return Status.SKIP, "paused", None
    if one.circuit is RepairCircuit.OPEN:
        return (
            Status.FAIL,
            "given up",
            one.remedy or f"mend it by hand (`opskit doctor` looks for the cause), then {_AGAIN}",
        )
    if one.result in _BAD:
        status = Status.WARN if one.minor else Status.FAIL
        return status, one.result.value.replace("_", " ") if one.result else "", one.remedy or _AGAIN
    if one.circuit is RepairCircuit.HALF_OPEN:
        return Status.WARN, "on probation", None
    if one.history.flapping:
        return Status.WARN, "flapping", "its cause outlives its repairs: `opskit doctor`"
    if one.result in _OPEN:
        return Status.WARN, one.result.value if one.result else "", None
    good = one.result is None or one.result.good
    return (Status.PASS, "ok", None) if good else (Status.SKIP, str(one.result).replace("_", " "), None)


_AGAIN = "`opskit recover`"


def _of_pause(one: Pause, now: float) -> Finding:
    name = "everything" if one.target == ALL else one.target
    reason = f": {one.reason}" if one.reason else ""
    if one.until is not None:
        return Finding("pause", name, Status.SKIP, "paused", f"for {span(one.until - now)} more{reason}")
    resume = "`opskit resume`" if one.target == ALL else f"`opskit resume {one.target}`"
    detail = f"for {span(now - one.since)} now, until it is resumed{reason}"
    return Finding("pause", name, Status.WARN, "paused", detail, None, f"{resume} ends it")


def _of_notice(one: Undelivered, now: float) -> Finding:
    times = "" if one.times == 1 else f"{one.times} times, "
    detail = f"was not told of {one.about} ({times}last {span(now - one.last)} ago): {one.why}"
    remedy = "`opskit status --test-notice` tries every channel"
    return Finding("notice", one.channel, Status.WARN, "not delivered", detail, None, remedy)
