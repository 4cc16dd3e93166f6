"""How often a target is repaired, on a clock that the test turns."""

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opskit.config.schema import RecoveryConfig
from opskit.records import replace
from opskit.recovery import budget
from opskit.recovery.budget import Level, RepairCircuit, RepairRecord

RULES = RecoveryConfig()
START = 1_750_000_000.0


@dataclass
class Target:
    """A target that is looked at every `every_s` seconds; each repair is allowed to happen at once."""

    rules: RecoveryConfig = RULES
    now: float = START
    record: RepairRecord = field(default_factory=RepairRecord)
    repairs: list[float] = field(default_factory=list)
    told: list[tuple[float, Level]] = field(default_factory=list)

    def broken(self) -> bool:
        """Seen broken: whether it was repaired."""
        permit, self.record = budget.judge(self.record, self.now, self.rules)
        self.told += [(self.now - START, level) for level in permit.notices]
        if permit.allowed:
            self.record = budget.begun(self.record, self.now)
            self.repairs.append(self.now - START)
        return permit.allowed

    def well(self) -> None:
        self.record, level = budget.healthy(self.record, self.now, self.rules)
        if level is not None:
            self.told.append((self.now - START, level))

    def stay_broken(self, seconds: float, every_s: float = 1.0) -> None:
        end = self.now + seconds
        while self.now < end:
            self.broken()
            self.now += every_s

    def stay_well(self, seconds: float, every_s: float = 1.0) -> None:
        end = self.now + seconds
        while self.now < end:
            self.well()
            self.now += every_s

    def times(self, level: Level) -> list[float]:
        return [at for at, what in self.told if what is level]


def test_ten_failures_in_a_row_give_five_repairs_and_one_critical_notice():
    """Repairs at 0, 10, 30, 70 and 150 s; then the circuit is open."""
    target = Target()
    target.stay_broken(3000)
    assert target.repairs == [0, 10, 30, 70, 150]
    assert target.times(Level.CRITICAL) == [151]
    assert target.record.circuit is RepairCircuit.OPEN


def test_an_open_circuit_reminds_and_tries_once_an_hour():
    """Six hours of failure: a reminder and one repair each hour, no second critical notice."""
    target = Target()
    target.stay_broken(6 * 3600 + 200)
    hours = [151 + 3600 * number for number in range(1, 7)]
    assert target.repairs == [0, 10, 30, 70, 150, *hours]
    assert target.times(Level.REMINDER) == hours
    assert target.times(Level.CRITICAL) == [151]
    assert target.times(Level.ESCALATION) == []


def test_a_run_every_five_minutes_opens_the_circuit_too():
    """The timer never sees five repairs in 300 s: five in a row without health do."""
    target = Target()
    target.stay_broken(3600, every_s=300)
    assert target.repairs == [0, 300, 600, 900, 1200]
    assert target.times(Level.CRITICAL) == [1500]


@pytest.mark.parametrize("every_s", [1.0, 300.0])
def test_six_hundred_seconds_of_health_close_the_circuit(every_s):
    """It says so once, and the schedule begins anew."""
    target = Target()
    target.stay_broken(1800, every_s)
    target.stay_well(599, every_s)
    assert target.record.opened_at is not None
    assert target.record.circuit is RepairCircuit.HALF_OPEN
    target.stay_well(600, every_s)
    assert target.times(Level.RECOVERED) == [1800 + 600]
    assert target.record.circuit is RepairCircuit.CLOSED
    assert target.record.row == 0
    target.repairs.clear()
    assert target.broken()


def test_health_that_does_not_last_closes_nothing():
    """Well for less than 600 s after the half-open try: the next try is an hour later, without a notice."""
    target = Target()
    target.stay_broken(151 + 3601)
    assert target.repairs[-1] == 151 + 3600
    target.stay_well(500)
    target.stay_broken(3600)
    assert target.repairs[-1] == 151 + 7200
    assert target.times(Level.CRITICAL) == [151]
    assert target.times(Level.RECOVERED) == []


def test_repairs_that_help_and_do_not_last_call_a_person_once_in_a_day():
    """One repair an hour, each followed by health: a person is called at the sixth failure, and a day on."""
    target = Target()
    for _ in range(40):
        target.broken()
        target.now += 1
        target.stay_well(3599, every_s=60)
        target.now = START + round((target.now - START) / 3600) * 3600
    assert target.times(Level.CRITICAL) == []
    assert target.times(Level.ESCALATION) == [5 * 3600, 29 * 3600]


def test_repairs_are_remembered_for_the_longest_rule():
    """An escalation window that is shorter than the budget's does not make the budget forget."""
    rules = replace(RULES, escalate_s=20.0, window_s=300.0, reset_s=1.0)
    target = Target(rules)
    for _ in range(6):
        target.broken()
        target.now += 1
        target.stay_well(3)
        target.now += 30
    assert len(target.repairs) == 5
    assert target.times(Level.CRITICAL) != []


def test_what_is_forgotten_counts_for_nothing():
    """A record that is idle behaves as none."""
    target = Target()
    target.well()
    assert target.record.idle
    assert not budget.begun(RepairRecord(), START).idle


def test_the_next_try_is_told_without_taking_it():
    """0 at once, the rest of the back-off, the rest of the hour."""
    target = Target()
    assert budget.next_try_s(target.record, target.now, RULES) == 0
    target.broken()
    assert budget.next_try_s(target.record, target.now + 4, RULES) == 6
    target.stay_broken(200)
    assert budget.next_try_s(target.record, START + 151 + 600, RULES) == 3000


def test_a_clock_set_back_keeps_what_lay_between():
    """The spacing of the repairs stays, so that they do not fall into one window."""
    record = RepairRecord(repairs=(START - 7200, START - 3600, START), row=1, healthy_since=None)
    moved = budget.sane(record, START - 86_400, RULES)
    assert moved.repairs == (START - 86_400 - 7200, START - 86_400 - 3600, START - 86_400)


def test_a_clock_set_back_in_a_row_ends_no_wait_early():
    """An hour back after the third repair: the fourth comes after a whole wait."""
    target = Target()
    target.stay_broken(31)
    assert target.repairs == [0, 10, 30]
    target.now = START - 3600
    back = target.now
    target.repairs.clear()
    target.stay_broken(41)
    assert [at + START - back for at in target.repairs] == [40]


def test_a_clock_set_forward_gives_one_repair_too_early():
    """A year ahead with an open circuit: one try, then an hour again."""
    target = Target()
    target.stay_broken(1000)
    target.now += 365 * 86_400
    target.repairs.clear()
    ahead = target.now - START
    target.stay_broken(3700)
    assert target.repairs == [ahead, ahead + 3600]


_TIMES = st.floats(START - 1e6, START + 1e6)
_MAYBE = st.none() | _TIMES
_RECORDS = st.builds(
    RepairRecord,
    st.lists(_TIMES, max_size=12).map(lambda all_: tuple(sorted(all_))),
    st.integers(0, 2000),
    _MAYBE,
    _MAYBE,
    _MAYBE,
    _MAYBE,
    _MAYBE,
)


@given(_RECORDS, _TIMES)
def test_any_record_becomes_one_without_a_future(record, now):
    """No time lies ahead, the order stays, and making it sane again changes nothing."""
    found = budget.sane(record, now, RULES)
    marks = (found.healthy_since, found.opened_at, found.tried_at, found.reminded_at, found.escalated_at)
    assert all(at <= now for at in (*found.repairs, *marks) if at is not None)
    assert list(found.repairs) == sorted(found.repairs)
    assert budget.sane(found, now, RULES) == found


@given(_RECORDS, _TIMES)
def test_a_verdict_is_never_silent(record, now):
    """Refused means a reason and a wait that is positive and bounded; one notice of a kind at most."""
    permit, after = budget.judge(record, now, RULES)
    if not permit.allowed:
        assert permit.why
        assert 0 < permit.wait_s <= max(RULES.backoff_max_s, RULES.retry_s)
    assert len(set(permit.notices)) == len(permit.notices)
    assert after.healthy_since is None
    assert budget.judge(after, now, RULES)[0].notices == ()


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 2000)), max_size=150))
def test_no_course_of_events_makes_a_storm(course):
    """Whatever breaks and heals when: never more than the budget in any window.

    A repair that did not help is never followed by the next one within 10 s.
    """
    target, well_at = Target(), []
    for broken, seconds in course:
        if broken:
            target.broken()
        else:
            target.well()
            well_at.append(target.now - START)
        target.now += seconds
    for earlier, later in zip(target.repairs, target.repairs[1:], strict=False):
        helped = any(earlier <= at < later for at in well_at)
        assert helped or later - earlier >= RULES.backoff_s
    for at in target.repairs:
        assert sum(at <= other < at + RULES.window_s for other in target.repairs) <= RULES.max_repairs


@given(st.lists(st.tuples(st.booleans(), st.integers(-5000, 5000)), max_size=120))
def test_a_clock_that_jumps_raises_nothing_and_loses_no_notice(course):
    """A critical notice comes only when the circuit opens, a recovered one only when it closes."""
    target = Target()
    for broken, seconds in course:
        before = target.record.opened_at is not None
        told = len(target.told)
        if broken:
            target.broken()
        else:
            target.well()
        after = target.record.opened_at is not None
        new = [level for _, level in target.told[told:]]
        assert (Level.CRITICAL in new) == (after and not before)
        assert (Level.RECOVERED in new) == (before and not after)
        target.now += seconds


def test_a_long_life_stays_small():
    """A year in which it breaks all the time is remembered in a bounded record."""
    target = Target(
        replace(RULES, escalate_s=365 * 86_400.0, escalate_repairs=3000, reset_s=1.0, window_s=1.0)
    )
    for _ in range(3500):
        target.broken()
        target.now += 20
        target.well()
        target.now += 2
        target.well()
    assert len(target.record.repairs) <= 3001


def test_a_repair_that_helped_delays_no_other():
    """Killed again right after it came back, a target is repaired at once; five times in 300 s at most."""
    target = Target()
    for _ in range(8):
        target.broken()
        target.now += 3
        target.well()
        target.now += 3
    assert target.repairs == [0, 6, 12, 18, 24]
    assert target.times(Level.CRITICAL) == [30]


def test_repairs_that_helped_are_no_row_and_lengthen_no_wait():
    """One every five minutes, each well afterwards: no circuit, and the first that fails waits 10 s."""
    target = Target()
    for _ in range(8):
        assert target.broken()
        target.now += 3
        target.well()
        target.now += 297
    assert target.times(Level.CRITICAL) == []
    target.broken()
    permit, _ = budget.judge(target.record, target.now + 1, RULES)
    assert permit.wait_s == 9


def test_what_ends_within_moments_of_its_start_was_not_helped():
    """Seen well right after each repair, and ended by itself seconds later: five in a row are all."""
    record, now = RepairRecord(), START
    for _ in range(5):
        permit, record = budget.judge(record, now, RULES, lasted=False)
        assert permit.allowed
        record, _ = budget.healthy(budget.begun(record, now), now + 3, RULES)
        now += 300
    permit, _ = budget.judge(record, now, RULES, lasted=False)
    assert permit.circuit is RepairCircuit.OPEN
    assert permit.notices == (Level.CRITICAL,)
