"""The recovery job: what its scheduler says, what it sees from inside, and what recovery has given up."""

from datetime import datetime

from opskit.facts.survey import Survey
from opskit.records import Record
from opskit.schedule.status import status


class RecoveryJob(Record, kw_only=True):
    """The job as its scheduler sees it; None is what it does not tell.

    `problem` is the scheduler's own account of what is wrong. `differences` are sentences on what works in
    this shell and not inside the job. `given_up` are the targets that recovery has given up.
    """

    installed: bool
    scheduler: str | None = None
    loaded: bool | None = None
    last_exit: int | None = None
    next_run: datetime | None = None
    differences: tuple[str, ...] = ()
    problem: str = ""
    given_up: tuple[str, ...] = ()


async def read_recovery_job(survey: Survey) -> RecoveryJob:
    """Ask the scheduler, and look from inside a job that is installed. Never raises for what it says."""
    job = await status(survey.config, survey.environ, inside=False)
    if job.installed:
        job = await status(survey.config, survey.environ, inside=True)
    differences = () if job.inside is None else job.inside.found
    return RecoveryJob(
        installed=job.installed,
        scheduler=job.scheduler,
        loaded=job.loaded,
        last_exit=job.last_exit,
        next_run=job.next_run,
        # Differences that do no harm are left to `opskit schedule status`.
        differences=tuple(difference.text for difference in differences if difference.harmful),
        problem=job.problem,
        given_up=_given_up(survey),
    )


def _given_up(survey: Survey) -> tuple[str, ...]:
    """Return the targets whose circuit is open. A memory that cannot be read says nothing of the stack."""
    from opskit.recovery.budget import RepairCircuit
    from opskit.recovery.memory import FILE_NAME, load

    if not (survey.state_folder / FILE_NAME).is_file():
        return ()
    memory, _ = load(survey.state_folder)
    targets = sorted(memory.targets.items())
    return tuple(name for name, record in targets if record.circuit is RepairCircuit.OPEN)
