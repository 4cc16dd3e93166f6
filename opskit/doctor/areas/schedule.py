"""The recovery job of launchd or systemd: not loaded, failing, in another environment, given up."""

from collections.abc import Iterator

from opskit.checks.spec import Check, CheckContext, NotHere, Observation, assessing
from opskit.doctor.cause import Cause, Fix, warning
from opskit.doctor.evidence import Evidence, RecoveryJob, read_recovery_job
from opskit.doctor.target import ExaminationTarget

_CLAIMS = frozenset({"recovery job"})
#: Exit statuses of a recovery that did its work. 1, 3 and 5 speak of the stack, which is examined by itself.
_FINE = (0, 1, 3, 4, 5, 75)
#: A job that is started and ends; its scheduler's own limit is a little less.
_LIMIT_S = 50.0


def checks(target: ExaminationTarget) -> Iterator[Check]:
    del target
    name = "recovery job"
    yield assessing(name, _job, None, name, name=name, timeout_s=_LIMIT_S, tags=("schedule",))


async def _job(_: None, context: CheckContext) -> Observation:
    job = await context.survey.get(read_recovery_job)
    if not job.installed and not job.given_up:
        raise NotHere("no recovery job is installed (`opskit schedule install`)")
    next_run = f"; next run {job.next_run:%H:%M} UTC" if job.next_run else ""
    problem = "; ".join(cause.title for cause in of_job(job))
    return Observation({}, f"{job.scheduler} runs it{next_run}", problem=problem, state="ok")


def causes(evidence: Evidence) -> Iterator[Cause]:
    if evidence.job is not None:
        yield from of_job(evidence.job)


def of_job(job: RecoveryJob) -> Iterator[Cause]:
    """Nothing for a job that nobody installed, apart from what recovery has given up."""
    if job.given_up:
        yield Cause(
            id="recovery-gave-up",
            title=f"recovery has given up on {', '.join(job.given_up)}",
            evidence=("its repairs did not help; one is tried each hour (`recovery.retry_s`)",),
            remedy="`opskit status` shows when and why; repair it, and the next recovery sees it well",
            claims=_CLAIMS,
        )
    if not job.installed:
        return
    again = Fix(
        ("opskit", "schedule", "install"), safe=True, target="schedule", undo="`opskit schedule remove`"
    )
    if job.lost_program:
        yield Cause(
            id="job-failing",
            title="the recovery job starts a Python that is gone",
            evidence=(f"{job.lost_program} is not there: its virtual environment was moved or removed",),
            remedy="`opskit schedule install` writes the job with the Python of this opskit",
            claims=_CLAIMS,
            fix=again,
        )
        return
    if job.loaded is False:
        why = job.problem or "its file is there, and the scheduler does not know it"
        yield Cause(
            id="job-not-loaded",
            title="the recovery job is installed and not loaded",
            evidence=(why, "nothing is repaired by itself"),
            remedy="`opskit schedule install` loads it again",
            claims=_CLAIMS,
            fix=again,
        )
    if job.last_exit is not None and job.last_exit not in _FINE:
        next_run = f"; next run {job.next_run:%Y-%m-%d %H:%M %Z}".rstrip() if job.next_run else ""
        yield Cause(
            id="job-failing",
            title="the last run of the recovery job failed",
            evidence=(f"{job.problem or f'exit status {job.last_exit}'}{next_run}",),
            remedy="`opskit schedule status` shows why and where its log is",
            claims=_CLAIMS,
            because=("job-environment",),
        )
    if job.differences:
        yield warning(
            id="job-environment",
            title="what works in this shell does not work in the scheduler's environment",
            evidence=job.differences,
            remedy="`opskit schedule install` writes its environment again; `opskit schedule status` "
            "compares both",
            claims=_CLAIMS,
        )
