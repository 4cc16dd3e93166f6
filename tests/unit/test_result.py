"""Findings and reports."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opskit.errors import Exit
from opskit.result import SCHEMA_VERSION, Finding, Report, Status

statuses = st.lists(st.sampled_from(Status), max_size=8)


def report(found: list[Status], command: str = "probe") -> Report:
    return Report(command, [Finding("reach", f"target {n}", status) for n, status in enumerate(found)])


@given(statuses)
def test_the_exit_status_follows_from_the_findings_alone(found):
    """One failure fails; an open question or nothing judged is inconclusive; the rest is fine."""
    judged = set(found) - {Status.SKIP}
    if Status.FAIL in judged:
        expected = Exit.FAILED
    elif Status.INCONCLUSIVE in judged or not judged:
        expected = Exit.INCONCLUSIVE
    else:
        expected = Exit.OK
    assert report(found).exit is expected
    assert report(found, "verify").exit is expected


@given(statuses, st.randoms())
def test_the_order_of_findings_does_not_matter(found, random):
    """A report of the same findings judges the same."""
    shuffled = found[:]
    random.shuffle(shuffled)
    assert report(shuffled).status is report(found).status


@given(statuses)
def test_ok_and_the_exit_status_agree(found):
    """JSON readers and shells hear the same."""
    assert report(found).ok is (report(found).exit is Exit.OK)


@given(statuses)
def test_a_report_never_passes_while_a_finding_fails(found):
    """A failure cannot be outvoted."""
    if Status.FAIL in found:
        assert report(found).status is Status.FAIL
        assert not report(found).ok


@pytest.mark.parametrize("found", [[], [Status.SKIP], [Status.SKIP, Status.SKIP]])
def test_nothing_judged_is_no_pass(found):
    """A report that looked at nothing says that it does not know."""
    assert report(found).status is Status.INCONCLUSIVE


def test_a_warning_passes_and_is_seen():
    """A warning does not fail a script, and it is not swallowed by a pass."""
    mixed = report([Status.PASS, Status.WARN, Status.PASS])
    assert mixed.status is Status.WARN
    assert mixed.exit is Exit.OK


def test_json_holds_every_field_and_its_version():
    """What stands in a finding stands in its JSON, under a versioned schema."""
    finding = Finding(
        "reach", "mlx", Status.FAIL, "down", "refused", "COMM_001", "start it", 0.123456, {"port": 1}
    )
    body = json.loads(json.dumps(Report("probe", [finding]).as_json()))
    assert body == {
        "schema_version": SCHEMA_VERSION,
        "command": "probe",
        "ok": False,
        "status": "fail",
        "findings": [
            {
                "check": "reach",
                "target": "mlx",
                "status": "fail",
                "state": "down",
                "detail": "refused",
                "code": "COMM_001",
                "remedy": "start it",
                "seconds": 0.1235,
                "evidence": {"port": 1},
            }
        ],
    }
