"""How often a target may be repaired: back-off, circuit, reminders, escalation. Pure; `now` is a parameter.

Times are seconds since the epoch, because they must outlive reboots. The rules, with their defaults
(ops facts 0.4, 0.7, 2.2, 2.3):

- after a repair that did not help the next one waits 10 s, doubled each time, 300 s at most;
- seen broken after 5 repairs within 300 s, or after 5 in a row that did not help, the circuit opens: one
  critical notice, then a reminder every hour, and one repair an hour is tried (half-open);
- a repair after which the target was well helped, unless the target ended again within moments of its start;
- 600 s of health close the circuit and forget the row;
- the 5th repair within 24 hours of a target that broke again calls a person, once in 24 hours, unless the
  critical notice did.

The clock of a machine may be set. When it is set back, everything remembered moves back with it: no wait
ends early, and at worst it begins again. When it is set forward (or the machine slept), that time counts as
passed: one repair may come too early, no more, because a row of repairs is counted and not timed.
"""

import sys
from enum import StrEnum
from typing import Annotated, Any

from msgspec import Meta

from opskit.config.schema import RecoveryConfig
from opskit.records import Record, replace
from opskit.text import counted, span


class RepairCircuit(StrEnum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class Level(StrEnum):
    """How loud a notice is. `critical` is sent once when the circuit opens."""

    CRITICAL = "critical"
    REMINDER = "reminder"
    ESCALATION = "escalation"
    RECOVERED = "recovered"
    REPAIRED = "repaired"
    TEST = "test"


#: A finite number of seconds since the epoch.
Moment = Annotated[float, Meta(ge=-sys.float_info.max, le=sys.float_info.max)]
_MARKS = ("healthy_since", "opened_at", "tried_at", "reminded_at", "escalated_at", "ended_at")
#: More repairs than any rule asks about are counted, but not remembered one by one.
_REMEMBERED = 1000


class RepairRecord(Record):
    """What is remembered of one target.

    `repairs` are the times that a rule may still ask about, `row` counts the last ones that did not
    help. `healthy_since` is None while it is broken. `ended_at` is when the commands of the last repair had
    ended, None while they run and when they were cut off.
    """

    repairs: tuple[Moment, ...] = ()
    row: Annotated[int, Meta(ge=0, le=10**9)] = 0
    healthy_since: Moment | None = None
    opened_at: Moment | None = None
    tried_at: Moment | None = None
    reminded_at: Moment | None = None
    escalated_at: Moment | None = None
    ended_at: Moment | None = None

    @property
    def circuit(self) -> RepairCircuit:
        if self.opened_at is None:
            return RepairCircuit.CLOSED
        return RepairCircuit.OPEN if self.healthy_since is None else RepairCircuit.HALF_OPEN

    @property
    def idle(self) -> bool:
        """Whether forgetting it would change nothing."""
        return not self.repairs and not self.row and self.opened_at is None and self.escalated_at is None


class Permit(Record):
    """Whether a broken target may be repaired now; `why` says why not, `wait_s` when it may.

    `notices` are to be sent, whatever is done.
    """

    allowed: bool
    circuit: RepairCircuit
    why: str = ""
    wait_s: float = 0.0
    notices: tuple[Level, ...] = ()


def judge(
    record: RepairRecord, now: float, rules: RecoveryConfig, *, lasted: bool = True
) -> tuple[Permit, RepairRecord]:
    """The target was seen broken: may it be repaired? Nothing is counted yet; see `begun`.

    `lasted` False tells that it ended by itself within moments of its last start.
    """
    record = sane(record, now, rules)
    helped = record.healthy_since is not None and lasted
    row = 0 if helped and record.opened_at is None else record.row
    record = replace(record, healthy_since=None, row=row)
    notices: list[Level] = []
    in_window = within(record, now, rules.window_s)
    is_used_up = max(in_window, record.row) >= rules.max_repairs
    if record.opened_at is None and is_used_up:
        # It calls a person by itself.
        notices.append(Level.CRITICAL)
        record = replace(record, opened_at=now, tried_at=now, reminded_at=now, escalated_at=now)
    elif (
        record.opened_at is None
        and (record.escalated_at is None or now - record.escalated_at >= rules.escalate_s)
        and within(record, now, rules.escalate_s) >= rules.escalate_repairs
    ):
        notices.append(Level.ESCALATION)
        record = replace(record, escalated_at=now)
    if record.opened_at is not None:
        return _while_open(record, now, rules, notices)
    waits = bool(record.repairs) and record.row > 0 and not helped
    wait_s = _backoff_s(record, rules) - (now - record.repairs[-1]) if waits else 0.0
    if wait_s > 0:
        ago_s = now - record.repairs[-1]
        why = f"a repair {ago_s:.0f} s ago did not help; the next one may begin in {wait_s:.0f} s"
        return Permit(False, RepairCircuit.CLOSED, why, wait_s, tuple(notices)), record
    return Permit(True, RepairCircuit.CLOSED, notices=tuple(notices)), record


def begun(record: RepairRecord, now: float) -> RepairRecord:
    """A repair begins. To be saved before it does: what is killed in the middle still counts."""
    tried = now if record.opened_at is not None else None
    return replace(
        record,
        repairs=(*record.repairs, now),
        row=record.row + 1,
        healthy_since=None,
        tried_at=tried,
        ended_at=None,
    )


def stands_alone(record: RepairRecord, now: float, rules: RecoveryConfig, *, lasted: bool = True) -> bool:
    """Tell whether the target is repaired by itself, so that it keeps no other one waiting.

    Its last repair did not help, or it may not be repaired now.
    """
    permit, judged = judge(record, now, rules, lasted=lasted)
    return judged.row > 0 or not permit.allowed


def healthy(record: RepairRecord, now: float, rules: RecoveryConfig) -> tuple[RepairRecord, Level | None]:
    """The target was seen well. RECOVERED when that closes its circuit."""
    record = sane(record, now, rules)
    since = now if record.healthy_since is None else record.healthy_since
    if now - since < rules.reset_s:
        return replace(record, healthy_since=since), None
    closes = record.opened_at is not None
    rested = RepairRecord(
        record.repairs,
        healthy_since=since,
        escalated_at=record.escalated_at,
        ended_at=record.ended_at,
    )
    return rested, Level.RECOVERED if closes else None


def sane(record: RepairRecord, now: float, rules: RecoveryConfig) -> RepairRecord:
    """Without repairs that are too old for every rule, and without times from the future.

    A time that lies ahead means that the clock was set back since: all times move back by as much, so that
    what lay between them still does.
    """
    marks: dict[str, float | None] = {name: getattr(record, name) for name in _MARKS}
    ahead_s = max(at - now for at in (now, *record.repairs, *marks.values()) if at is not None)
    moved: dict[str, Any] = {
        name: None if at is None else min(at - ahead_s, now) for name, at in marks.items()
    }
    horizon_s = max(rules.escalate_s, rules.window_s)
    most = max(_REMEMBERED, rules.escalate_repairs, rules.max_repairs)
    repairs = (min(at - ahead_s, now) for at in sorted(record.repairs))
    return replace(
        record,
        repairs=tuple(at for at in repairs if now - at < horizon_s)[-most:],
        **moved,
    )


def next_try_s(record: RepairRecord, now: float, rules: RecoveryConfig) -> float:
    """Seconds until a repair may begin if the target is broken then; 0 when it may at once."""
    permit, _ = judge(record, now, rules)
    return 0.0 if permit.allowed else permit.wait_s


def within(record: RepairRecord, now: float, span_s: float) -> int:
    """How many repairs there were in the last `span_s` seconds."""
    return sum(now - at < span_s for at in record.repairs)


def _while_open(
    record: RepairRecord, now: float, rules: RecoveryConfig, notices: list[Level]
) -> tuple[Permit, RepairRecord]:
    opened = record.opened_at if record.opened_at is not None else now
    if record.reminded_at is None or now - record.reminded_at >= rules.reminder_s:
        notices.append(Level.REMINDER)
        record = replace(record, reminded_at=now)
    last = opened if record.tried_at is None else record.tried_at
    wait_s = rules.retry_s - (now - last)
    if wait_s <= 0:
        return Permit(True, RepairCircuit.HALF_OPEN, notices=tuple(notices)), record
    in_vain = f"{counted(record.row, 'repair')} did not help"
    if record.row < rules.max_repairs:
        recent = sum(0 <= opened - at < rules.window_s for at in record.repairs)
        in_vain = f"it broke again after {counted(recent, 'repair')} within {rules.window_s:.0f} s"
    ago, ahead = span(now - opened, rounded=True), span(wait_s, rounded=True)
    why = f"{in_vain}; given up {ago} ago, the next one is tried in {ahead}"
    return Permit(False, RepairCircuit.OPEN, why, wait_s, tuple(notices)), record


def _backoff_s(record: RepairRecord, rules: RecoveryConfig) -> float:
    # Far beyond the limit a power of two is no number any more.
    doublings = min(max(0, record.row - 1), 64)
    return min(rules.backoff_max_s, rules.backoff_s * 2.0**doublings)
