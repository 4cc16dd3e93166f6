"""How recovery stands is judged from its files, with one exit status for it."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opskit.config.schema import Config, LogConfig
from opskit.errors import Exit
from opskit.records import replace
from opskit.recovery import pauses
from opskit.recovery.audit import Audit
from opskit.recovery.budget import RepairRecord
from opskit.recovery.memory import FILE_NAME, History, Memory
from opskit.recovery.notice import Undelivered, record
from opskit.recovery.outcome import Outcome, RecoveryRun, RepairResult
from opskit.recovery.pauses import Pause
from opskit.recovery.status import Overview, Schedule, last_run, overview

NOW = 1_800_000_000.0
STARTED = "2027-01-15T07:58:00.000Z"  # two minutes before NOW
LOADED = Schedule("systemd", installed=True)


@pytest.fixture
def memory(tmp_path: Path) -> Memory:
    """Recovery ran two minutes ago, and ollama was well."""
    kept = Memory(tmp_path / FILE_NAME)
    _ran(kept, Outcome("ollama", "ollama", RepairResult.OK))
    return kept


def _ran(kept: Memory, *outcomes: Outcome, started: str = STARTED) -> None:
    kept.remember(RecoveryRun("r-1", started, 10.0, False, outcomes))


def _look(kept: Memory, schedule: Schedule | None = None, now: float = NOW) -> Overview:
    kept.save()
    return overview(Config("/state", (), ()), kept.path.parent, now, lambda: schedule)


def _finding(found: Overview, check: str, target: str = "") -> dict[str, object]:
    return next(f.as_json() for f in found.report.findings if f.check == check and target in ("", f.target))


def test_all_is_well(memory: Memory):
    """Exit 0, and the age of the last run."""
    found = _look(memory)
    assert found.report.exit is Exit.OK
    assert found.age_s == 110
    assert found.as_json()["last_run"]["counts"] == {"ok": 1}


def test_recovery_that_never_ran_is_inconclusive(tmp_path: Path):
    """Exit 3, with what to type."""
    found = overview(Config("/state", (), ()), tmp_path, NOW, lambda: None)
    assert found.report.exit is Exit.INCONCLUSIVE
    assert "opskit recover" in str(_finding(found, "last run")["remedy"])


@pytest.mark.parametrize(
    ("result", "status"),
    [
        (RepairResult.FAILED, Exit.FAILED),
        (RepairResult.MANUAL, Exit.FAILED),
        (RepairResult.NOT_YET, Exit.FAILED),
        (RepairResult.GAVE_UP, Exit.FAILED),
        (RepairResult.INCONCLUSIVE, Exit.INCONCLUSIVE),
        (RepairResult.OK, Exit.OK),
        (RepairResult.REPAIRED, Exit.OK),
        (RepairResult.WAITING, Exit.OK),
        (RepairResult.LEFT, Exit.OK),
        (RepairResult.PAUSED, Exit.OK),
        (RepairResult.ABSENT, Exit.OK),
    ],
)
def test_the_last_run_decides_the_exit_status(memory: Memory, result: RepairResult, status: Exit):
    """Broken is 1, not judged is 3."""
    _ran(memory, Outcome("mlx", "mlx", result))
    assert _look(memory).report.exit is status


@pytest.mark.parametrize(
    ("age_s", "schedule", "status"),
    [
        (751, LOADED, Exit.FAILED),
        (749, LOADED, Exit.OK),
        (1000, replace(LOADED, interval_s=900.0), Exit.OK),
        (2251, replace(LOADED, interval_s=900.0), Exit.FAILED),
        (86_400, replace(LOADED, installed=False), Exit.OK),
        (86_400, None, Exit.OK),
    ],
)
def test_a_healer_that_does_not_run_is_a_failure(memory: Memory, age_s, schedule, status):
    """More than two and a half intervals after the last run, where it is scheduled."""
    now = NOW - 110 + age_s
    assert _look(memory, schedule, now).report.exit is status


def test_an_overdue_healer_says_why(memory: Memory):
    """In the scheduler's words, with its remedy."""
    broken = replace(LOADED, problem="it is switched off", remedy="`opskit schedule install`")
    finding = _finding(_look(memory, broken, NOW + 7200), "last run")
    assert finding["state"] == "overdue"
    assert "recovery has not run for 2 h 1 min, although it is to run every 5 min: it is switched off" in str(
        finding["detail"]
    )
    assert finding["remedy"] == "`opskit schedule install`"


def test_the_scheduler_is_asked_only_when_it_matters(memory: Memory):
    """Who looks often gets an answer at once."""
    memory.save()

    def ask() -> Schedule:
        raise AssertionError("nobody needs to know")

    overview(Config("/state", (), ()), memory.path.parent, NOW, ask)


def test_a_run_from_the_future_is_a_new_one(memory: Memory):
    """The clock was set back since."""
    assert _look(memory, LOADED, NOW - 86_400).age_s == 0


def test_an_open_circuit_fails_even_when_the_last_run_did_not_see_it(memory: Memory):
    """It tells its repairs and when the next is tried."""
    memory.targets["mlx"] = RepairRecord((NOW - 700, NOW - 690), 5, opened_at=NOW - 600, tried_at=NOW - 600)
    found = _look(memory)
    assert found.report.exit is Exit.FAILED
    (row,) = [one for one in found.as_json()["targets"] if one["target"] == "mlx"]
    assert (row["circuit"], row["repairs_24h"], row["next_try_s"]) == ("open", 2, 3000)
    assert "the next repair is tried in 50 min" in str(_finding(found, "target", "mlx")["detail"])


def test_a_target_for_a_person_keeps_its_remedy(memory: Memory):
    """What the run said to type is said again."""
    _ran(
        memory,
        Outcome(
            "mlx", "mlx", RepairResult.MANUAL, cause="it is not installed", remedy="`pip install mlx-lm`"
        ),
    )
    assert _finding(_look(memory), "target", "mlx")["remedy"] == "`pip install mlx-lm`"


def test_a_half_open_circuit_is_a_warning(memory: Memory):
    """Well again, but not for long enough."""
    memory.targets["ollama"] = RepairRecord((NOW - 700,), 5, healthy_since=NOW - 60, opened_at=NOW - 600)
    finding = _finding(_look(memory), "target", "ollama")
    assert (finding["status"], finding["state"]) == ("warn", "on probation")


def test_flapping_is_a_warning(memory: Memory):
    """Although it is well just now."""
    memory.histories["ollama"] = History("+-" * 10, flapping=True)
    finding = _finding(_look(memory), "target", "ollama")
    assert finding["status"] == "warn"
    assert "it keeps changing" in str(finding["detail"])


def test_what_is_paused_fails_nothing(memory: Memory):
    """A person knows of it, also when its circuit is open; without an end it is a warning."""
    memory.targets["mlx"] = RepairRecord((NOW - 700,), 5, opened_at=NOW - 600)
    pauses.write(memory.path.parent, {"mlx": Pause("mlx", NOW - 60, NOW + 3600, "new disk")})
    found = _look(memory)
    assert found.report.exit is Exit.OK
    assert _finding(found, "pause")["detail"] == "for 1 h more: new disk"
    pauses.write(memory.path.parent, {"all": Pause("all", NOW - 3 * 86_400)})
    finding = _finding(_look(memory), "pause")
    assert finding["status"] == "warn"
    assert finding["target"] == "everything"
    assert "for 3 d now" in str(finding["detail"])


def test_notices_that_reached_nobody_are_told_for_a_day(memory: Memory):
    """A warning: the healing went on."""
    for hours, channel in ((1, "webhook"), (30, "command")):
        at = NOW - hours * 3600
        record(memory.facts, Undelivered(channel, "critical mlx", "it answers HTTP 500", at, at))
    found = _look(memory)
    assert [one["channel"] for one in found.as_json()["undelivered"]] == ["webhook"]
    assert found.report.exit is Exit.OK
    finding = _finding(found, "notice")
    assert finding["detail"] == "was not told of critical mlx (last 1 h ago): it answers HTTP 500"


@pytest.mark.parametrize("name", [FILE_NAME, pauses.FILE_NAME])
def test_a_damaged_state_file_is_a_failure_and_left_where_it_is(memory: Memory, name: str):
    """Who looks changes nothing, and everything else is still told."""
    memory.save()
    (memory.path.parent / name).write_text("{")
    found = overview(Config("/state", (), ()), memory.path.parent, NOW, lambda: None)
    assert found.report.exit is Exit.FAILED
    assert name in str(_finding(found, "state")["detail"])
    assert (memory.path.parent / name).read_text() == "{"


def test_the_last_repairs_are_shown(memory: Memory):
    """Five at most, the newest last; how each ended, or that it never did; no line for a mere run."""
    audit = Audit(memory.path.parent, LogConfig())
    for number in range(7):
        for event in ("repair_begins", "repair_ended"):
            audit.write(at=STARTED, event=event, run=f"r{number}", target="mlx")
    audit.write(at=STARTED, event="repair_begins", run="killed", target="mlx")
    for _ in range(100):
        audit.write(at=STARTED, event="run_ended", run="r")
    audit.close()
    lines = [(line["run"], line["event"]) for line in _look(memory).repairs]
    ended = [(f"r{number}", "repair_ended") for number in (3, 4, 5, 6)]
    assert lines == [*ended, ("killed", "repair_begins")]


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)
_FIELDS = ("run", "at", "seconds", "exit", "counts", "mutations", "targets")


@given(st.dictionaries(st.sampled_from(_FIELDS), _JSON | st.just(STARTED)))
def test_a_last_run_that_makes_no_sense_is_none(content):
    """Whatever the file holds, nothing is raised and the document can be printed."""
    found = last_run(content)
    looked = Overview(NOW, found)
    assert json.dumps(looked.as_json())


def test_the_last_run_of_a_run_is_read_back(memory: Memory):
    """What is written by one end is understood by the other."""
    _ran(memory, Outcome("mlx", "mlx", RepairResult.FAILED, cause="it is wedged"))
    found = last_run(memory.last_run)
    assert found is not None
    assert (found.run, found.seconds, found.exit) == ("r-1", 10.0, 1)
    assert found.ended == NOW - 110
    assert found.targets[0].cause == "it is wedged"
