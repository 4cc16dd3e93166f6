"""Causes of the recovery job."""

from datetime import UTC, datetime

import pytest

from opskit.doctor.areas.schedule import of_job
from opskit.doctor.diagnosis import attribute
from opskit.doctor.evidence import RecoveryJob

NEXT = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)


@pytest.mark.parametrize(
    ("job", "wanted"),
    [
        (RecoveryJob(installed=False, loaded=False, last_exit=1, differences=("x",)), []),
        (RecoveryJob(installed=True, loaded=True, last_exit=0), []),
        (RecoveryJob(installed=True, loaded=None, last_exit=None), []),
        (RecoveryJob(installed=True, loaded=True, last_exit=4), []),
        (RecoveryJob(installed=True, loaded=True, last_exit=75), []),
        (RecoveryJob(installed=True, loaded=True, last_exit=1), []),
        (RecoveryJob(installed=False, given_up=("ollama",)), ["recovery-gave-up"]),
        (RecoveryJob(installed=True, loaded=False), ["job-not-loaded"]),
        (RecoveryJob(installed=True, loaded=True, last_exit=78, next_run=NEXT), ["job-failing"]),
        (RecoveryJob(installed=True, loaded=True, differences=("no docker on PATH",)), ["job-environment"]),
    ],
)
def test_a_job_is_judged_by_what_its_scheduler_tells(job: RecoveryJob, wanted: list[str]):
    """Not loaded, failing, or in another environment; a job that nobody installed is none of our business."""
    assert [one.key for one in of_job(job)] == wanted


def test_a_job_fails_because_its_environment_differs():
    """What works in the shell and not in the job explains why the job fails."""
    job = RecoveryJob(installed=True, loaded=True, last_exit=70, differences=("docker is not on PATH",))
    entries, _ = attribute(list(of_job(job)), [])
    assert [(one.cause.key, one.parent) for one in entries] == [
        ("job-environment", None),
        ("job-failing", "job-environment"),
    ]
    assert entries[0].cause.evidence == ("docker is not on PATH",)


def test_the_next_run_is_told():
    """A failing job says when it is tried again."""
    (one,) = of_job(RecoveryJob(installed=True, loaded=True, last_exit=2, next_run=NEXT))
    assert one.evidence == ("exit status 2; next run 2026-01-02 03:04 UTC",)
