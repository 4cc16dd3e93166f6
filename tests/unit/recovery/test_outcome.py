"""The exit status and the document of a run follow from what became of its targets."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opskit.errors import Exit
from opskit.recovery.outcome import Outcome, Ran, RecoveryRun, RepairResult
from opskit.recovery.step import Command
from opskit.result import Status

COMMAND = Command(("docker", "restart", "a b"), cwd="/srv")
GOOD = (
    RepairResult.OK,
    RepairResult.REPAIRED,
    RepairResult.WAITING,
    RepairResult.LEFT,
    RepairResult.PAUSED,
    RepairResult.ABSENT,
)


def _run(*results: RepairResult, dry: bool = False) -> RecoveryRun:
    outcomes = [Outcome("step", f"t{number}", result) for number, result in enumerate(results)]
    return RecoveryRun("r", "2026-11-21T09:30:00.000Z", 1.0, dry, outcomes)


@pytest.mark.parametrize(
    ("results", "plain", "detailed"),
    [
        ((), Exit.INCONCLUSIVE, Exit.INCONCLUSIVE),
        ((RepairResult.OK,), Exit.OK, Exit.OK),
        ((RepairResult.OK, RepairResult.REPAIRED), Exit.OK, Exit.REPAIRED),
        ((RepairResult.WAITING,), Exit.OK, Exit.OK),
        ((RepairResult.PAUSED, RepairResult.LEFT, RepairResult.ABSENT), Exit.OK, Exit.OK),
        ((RepairResult.OK, RepairResult.INCONCLUSIVE), Exit.INCONCLUSIVE, Exit.INCONCLUSIVE),
        ((RepairResult.REPAIRED, RepairResult.INCONCLUSIVE), Exit.INCONCLUSIVE, Exit.INCONCLUSIVE),
        ((RepairResult.INCONCLUSIVE, RepairResult.FAILED), Exit.FAILED, Exit.FAILED),
        ((RepairResult.MANUAL,), Exit.FAILED, Exit.FAILED),
        ((RepairResult.NOT_YET,), Exit.FAILED, Exit.FAILED),
        ((RepairResult.WOULD_REPAIR,), Exit.FAILED, Exit.FAILED),
        ((RepairResult.FAILED, RepairResult.GAVE_UP, RepairResult.INCONCLUSIVE), Exit.GAVE_UP, Exit.GAVE_UP),
    ],
)
def test_the_worst_target_decides(results: tuple[RepairResult, ...], plain: Exit, detailed: Exit):
    """Given up, then broken, then not judged, then repaired, then well."""
    assert _run(*results).exit() is plain
    assert _run(*results).exit(detailed=True) is detailed


@given(st.lists(st.sampled_from(RepairResult)))
def test_document_and_exit_status_never_disagree(results: list[RepairResult]):
    """`ok` is exit 0 or 4; the status word follows."""
    for detailed in (False, True):
        content = _run(*results).as_json(detailed=detailed)
        good = content["exit"] in (0, 4)
        assert content["ok"] is good
        assert (content["status"] in ("pass", "warn", "skip")) is good
        assert sum(content["counts"].values()) == len(results)


@given(st.lists(st.sampled_from(GOOD), min_size=1))
def test_good_ends_are_never_a_failure(results: list[RepairResult]):
    """What waits, is paused, left alone or not there fails no timer."""
    assert _run(*results).exit() is Exit.OK


def test_only_what_is_well_lets_others_go_on():
    """A step that requires it needs it well, now."""
    assert {result for result in RepairResult if result.good} == {RepairResult.OK, RepairResult.REPAIRED}


def test_evidence_cannot_hide_the_result():
    """A step may call its evidence as it likes."""
    outcome = Outcome("s", "t", RepairResult.FAILED, evidence={"result": "ok", "log": "boom"})
    assert outcome.as_finding().evidence == {"result": "failed", "log": "boom"}


def test_a_finding_tells_commands_undo_and_remedy():
    """What was run can be copied from it."""
    ran = Ran(COMMAND, 1, 0.25, "no such container")
    outcome = Outcome(
        "s", "t", RepairResult.FAILED, "down", "it is down", ran=(ran,), undo="stop it", remedy="help"
    )
    finding = outcome.as_finding()
    assert finding.status is Status.FAIL
    assert finding.remedy == "help"
    assert finding.evidence["undo"] == "stop it"
    assert finding.evidence["ran"] == [
        {
            "command": "docker restart 'a b'",
            "cwd": "/srv",
            "exit": 1,
            "seconds": 0.25,
            "said": "no such container",
        }
    ]


def test_a_dry_run_plans_and_changes_nothing():
    """Its commands are planned ones, and its mutations are none."""
    outcome = Outcome("s", "t", RepairResult.WOULD_REPAIR, planned=(COMMAND,))
    run = RecoveryRun("r", "2026-11-21T09:30:00.000Z", 1.0, True, [outcome])
    assert run.mutations == 0
    assert run.as_json()["findings"][0]["evidence"]["planned"] == ["docker restart 'a b'"]
