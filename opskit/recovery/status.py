"""How recovery stands: the last run, each target's circuit, pauses, notices that reached nobody.

Recovery is watched here as well: one that has not run for long, although it is scheduled, is a failure.
"""

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

from msgspec import Meta

from opskit.checks.restore_assessment import assess_interrupted_restore
from opskit.config.schema import Config, RecoveryConfig
from opskit.errors import Exit, StateError
from opskit.facts.unfinished_restore import UnfinishedRestore, backup_folders, unfinished_restores
from opskit.records import Record, asdict
from opskit.recovery import audit, budget, pauses
from opskit.recovery import memory as memories
from opskit.recovery.budget import Moment, RepairCircuit
from opskit.recovery.memory import History, Memory, understood
from opskit.recovery.notice import Undelivered, recorded
from opskit.recovery.outcome import RepairResult
from opskit.recovery.pauses import ALL, Pause
from opskit.result import Finding, Report, Status
from opskit.text import span

DEFAULT_INTERVAL_S = 300.0
#: So many intervals without a run, and the schedule does not work.
_MISSED = 2.5
_DAY_S = 86_400.0
#: How many repairs are shown.
_REPAIRS = 5
_BAD = frozenset({RepairResult.FAILED, RepairResult.MANUAL, RepairResult.GAVE_UP, RepairResult.NOT_YET})
_OPEN = frozenset({RepairResult.WAITING, RepairResult.INCONCLUSIVE})
_AGAIN = "`opskit recover`"


class Schedule(Record):
    """What the scheduler says of the job. `next_run` is in seconds since the epoch."""

    scheduler: str
    installed: bool
    interval_s: float = DEFAULT_INTERVAL_S
    next_run: float | None = None
    problem: str = ""
    remedy: str = ""


class LastTarget(Record):
    """One target of the last run; `result` is a word that this opskit may not know."""

    step: str
    target: str
    result: str
    cause: str
    remedy: str | None = None
    minor: bool = False


class LastRun(Record):
    """The last run, as it is remembered. `ended` is in seconds since the epoch."""

    run: str
    at: Annotated[datetime, Meta(tz=True)]
    seconds: Moment
    exit: int
    counts: Mapping[str, int]
    mutations: int
    targets: tuple[LastTarget, ...]

    @property
    def ended(self) -> float:
        return self.at.timestamp() + self.seconds


class TargetStatus(Record):
    """One target. `result` is that of the last run, None when it was not part of it.

    `next_try_s` is None while nothing has to wait; `changes_percent` is how often it changed lately.
    """

    target: str
    result: RepairResult | None
    cause: str
    circuit: RepairCircuit
    repairs_24h: int
    next_try_s: float | None
    flapping: bool
    changes_percent: float
    paused: bool
    remedy: str | None = None
    minor: bool = False

    def as_json(self) -> dict[str, Any]:
        content = asdict(self) | {"next_try_s": None if self.next_try_s is None else round(self.next_try_s)}
        return {name: value for name, value in content.items() if name not in ("remedy", "minor")}


class Overview(Record):
    """What the state folder and the scheduler say at `now`.

    `repairs` are lines of the audit, oldest first. `problems` are state files that cannot be read: what is
    wrong, and what to do. `restores` are interrupted restores.
    """

    now: float
    last: LastRun | None
    targets: tuple[TargetStatus, ...] = ()
    pauses: tuple[Pause, ...] = ()
    undelivered: tuple[Undelivered, ...] = ()
    repairs: tuple[Mapping[str, Any], ...] = ()
    schedule: Schedule | None = None
    problems: tuple[tuple[str, str], ...] = ()
    restores: tuple[UnfinishedRestore, ...] = ()

    @property
    def age_s(self) -> float | None:
        """Since the last run ended; a run that lies ahead (the clock was set back) is new."""
        return None if self.last is None else max(0.0, self.now - self.last.ended)

    @property
    def report(self) -> Report:
        return Report("status", list(_findings(self)))

    def as_json(self) -> dict[str, Any]:
        last_run = None
        if self.last is not None:
            shown = ("run", "ended", "seconds", "exit", "counts", "mutations")
            last_run = {name: getattr(self.last, name) for name in shown} | {
                "age_s": round(self.age_s or 0.0)
            }
        return {
            **self.report.as_json(),
            "last_run": last_run,
            "targets": [target.as_json() for target in self.targets],
            "pauses": [pause.as_json(self.now) for pause in self.pauses],
            "undelivered": [
                {"channel": notice.channel, "about": notice.about, "why": notice.why, "times": notice.times}
                for notice in self.undelivered
            ],
            "last_repairs": list(self.repairs),
        }


def overview(config: Config, folder: Path, now: float, ask: Callable[[], Schedule | None]) -> Overview:
    """Return how recovery stands at `now`. Changes nothing.

    `ask` asks the scheduler; it is called only when the last run is so old, or so unknown, that the answer
    matters: a frequent caller gets an answer at once.
    """
    problems: list[tuple[str, str]] = []
    memory, damage = memories.load(folder, keep=True)
    if damage is not None:
        problems.append((damage, "`opskit recover` sets the file aside and begins without memory"))
    paused: dict[str, Pause] = {}
    try:
        paused = pauses.read(folder, now)
    except StateError as error:
        problems.append((error.message, error.remedy))
    last = last_run(memory.last_run)
    recent = last is not None and now - last.ended <= _MISSED * DEFAULT_INTERVAL_S
    return Overview(
        now=now,
        last=last,
        targets=_targets(memory, last, paused, config.recovery, now),
        pauses=tuple(paused.values()),
        undelivered=tuple(notice for notice in recorded(memory.facts) if now - notice.last < _DAY_S),
        repairs=tuple(audit.last_repairs(folder, _REPAIRS)),
        schedule=None if recent else ask(),
        problems=tuple(problems),
        restores=tuple(
            restore for restore in unfinished_restores(backup_folders(config)) if restore.is_interrupted
        ),
    )


def last_run(content: Mapping[str, Any] | None) -> LastRun | None:
    """Return the last run; None when there was none, or when the file makes no sense. Pure."""
    try:
        return None if content is None else understood(content, LastRun)
    except ValueError:
        return None


def _targets(
    memory: Memory, last: LastRun | None, paused: Mapping[str, Pause], rules: RecoveryConfig, now: float
) -> tuple[TargetStatus, ...]:
    """The targets of the last run in its order, then others that have an open circuit or recent repairs."""
    known = {target.target: target for target in (last.targets if last is not None else ())}
    for name, record in sorted(memory.targets.items()):
        if record.opened_at is not None or record.repairs:
            known.setdefault(name, LastTarget("", name, "", ""))
    targets = (_target(last_target, memory, paused, rules, now) for last_target in known.values())
    return tuple(
        target for target in targets if target.result is not RepairResult.ABSENT or target.repairs_24h
    )


def _target(
    last: LastTarget, memory: Memory, paused: Mapping[str, Pause], rules: RecoveryConfig, now: float
) -> TargetStatus:
    record = budget.sane(memory.of(last.target), now, rules)
    result = RepairResult(last.result) if last.result in set(RepairResult) else None
    broken = record.circuit is RepairCircuit.OPEN or result in _BAD
    history = memory.histories.get(last.target, History())
    return TargetStatus(
        target=last.target,
        result=result,
        cause=last.cause,
        circuit=record.circuit,
        repairs_24h=budget.within(record, now, _DAY_S),
        next_try_s=budget.next_try_s(record, now, rules) if broken and record.repairs else None,
        flapping=history.flapping,
        changes_percent=round(100 * history.share, 1),
        paused=pauses.covering(paused, *(name for name in (last.target, last.step) if name)) is not None,
        remedy=last.remedy,
        minor=last.minor,
    )


def _findings(overview: Overview) -> Iterator[Finding]:
    yield _run_finding(overview)
    schedule = overview.schedule
    if schedule is not None and schedule.installed and schedule.problem:
        why, remedy = schedule.problem, schedule.remedy
        yield Finding("schedule", schedule.scheduler, Status.WARN, "problem", why, None, remedy)
    for why, remedy in overview.problems:
        yield Finding("state", "state folder", Status.FAIL, "damaged", why, "STATE_001", remedy)
    yield from map(assess_interrupted_restore, overview.restores)
    yield from map(_target_finding, overview.targets)
    for pause in overview.pauses:
        yield _pause_finding(pause, overview.now)
    for notice in overview.undelivered:
        times = "" if notice.times == 1 else f"{notice.times} times, "
        last = f"{times}last {span(overview.now - notice.last)} ago"
        detail = f"was not told of {notice.about} ({last}): {notice.why}"
        remedy = "`opskit status --test-notice` tries every channel"
        yield Finding("notice", notice.channel, Status.WARN, "not delivered", detail, None, remedy)


def _run_finding(overview: Overview) -> Finding:
    last, age_s, schedule = overview.last, overview.age_s, overview.schedule
    status, state, remedy = Status.PASS, "ok", None
    if last is None or age_s is None:
        status, state, detail = Status.INCONCLUSIVE, "unknown", "it is not known whether recovery has run"
        if not overview.problems:
            state, detail = "never ran", "recovery has never run"
            remedy = f"{_AGAIN} runs it once, `opskit schedule install` every five minutes"
    elif schedule is not None and schedule.installed and age_s > _MISSED * schedule.interval_s:
        status, state = Status.FAIL, "overdue"
        every = span(schedule.interval_s)
        detail = f"recovery has not run for {span(age_s)}, although it is to run every {every}"
        detail += f": {schedule.problem}" if schedule.problem else ""
        remedy = schedule.remedy or "`opskit schedule status` tells why"
    else:
        detail = f"ended {span(age_s)} ago with status {last.exit}"
        if last.exit in (Exit.FAILED, Exit.GAVE_UP):
            status, state = Status.FAIL, "gave up" if last.exit == Exit.GAVE_UP else "failed"
        elif last.exit == Exit.INCONCLUSIVE:
            status, state = Status.INCONCLUSIVE, "not judged"
            remedy = f"{_AGAIN} shows what could not be judged"
    return Finding("last run", "recovery", status, state, detail, None, remedy)


def _target_finding(target: TargetStatus) -> Finding:
    words = [target.cause] if target.cause else []
    if target.next_try_s is not None:
        soon = f"in {span(target.next_try_s)}" if target.next_try_s > 0 else "with the next run"
        words.append(f"the next repair is tried {soon}")
    if target.flapping:
        words.append(f"it keeps changing ({target.changes_percent:.0f}% of its last runs)")
    status, state, remedy = _judged(target)
    detail, evidence = "; ".join(words), target.as_json()
    return Finding("target", target.target, status, state, detail, None, remedy, evidence=evidence)


def _judged(target: TargetStatus) -> tuple[Status, str, str | None]:
    word = "ok" if target.result is None else target.result.replace("_", " ")
    if target.paused:
        return Status.SKIP, "paused", None
    if target.circuit is RepairCircuit.OPEN:
        by_hand = f"mend it by hand (`opskit doctor` looks for the cause), then {_AGAIN}"
        return Status.FAIL, "given up", target.remedy or by_hand
    if target.result in _BAD:
        return Status.WARN if target.minor else Status.FAIL, word, target.remedy or _AGAIN
    if target.circuit is RepairCircuit.HALF_OPEN:
        return Status.WARN, "on probation", None
    if target.flapping:
        return Status.WARN, "flapping", "its cause outlives its repairs: `opskit doctor`"
    if target.result in _OPEN:
        return Status.WARN, word, None
    good = target.result is None or target.result.good
    return (Status.PASS, "ok", None) if good else (Status.SKIP, word, None)


def _pause_finding(pause: Pause, now: float) -> Finding:
    name = "everything" if pause.target == ALL else pause.target
    reason = f": {pause.reason}" if pause.reason else ""
    if pause.until is not None:
        return Finding("pause", name, Status.SKIP, "paused", f"for {span(pause.until - now)} more{reason}")
    resume = "`opskit resume`" if pause.target == ALL else f"`opskit resume {pause.target}`"
    detail = f"for {span(now - pause.since)} now, until it is resumed{reason}"
    return Finding("pause", name, Status.WARN, "paused", detail, None, f"{resume} ends it")


def moment(at: float, now: float) -> str:
    """Return the time of day here, with its date unless that is today's; words for what no calendar has."""
    try:
        there, here = datetime.fromtimestamp(at).astimezone(), datetime.fromtimestamp(now).astimezone()
    except (ValueError, OverflowError, OSError):
        return "a time out of the calendar"
    return there.strftime("%H:%M:%S" if there.date() == here.date() else "%Y-%m-%d %H:%M:%S")
