"""What launchd and systemd have in common: the files of the job, its state, the steps that change it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal, Protocol

from opskit.errors import OpskitError
from opskit.schedule.client import Refused
from opskit.schedule.job import Job
from opskit.schedule.steps import Step

Name = Literal["launchd", "systemd"]


@dataclass(frozen=True, slots=True)
class JobState:
    """What the scheduler knows.

    `files` are the texts of the installed files, None for one that is missing; `job` is what they say.
    `stale`: the scheduler still has what stood in them before they were changed.
    `last_exit` is negative for a signal; `trouble` is the scheduler's own word for a bad end. `last_run` is
    when the last run ended.
    """

    files: Mapping[Path, str | None]
    job: Job | None = None
    loaded: bool = False
    disabled: bool = False
    stale: bool = False
    running: bool = False
    last_exit: int | None = None
    last_run: datetime | None = None
    next_run: datetime | None = None
    trouble: str = ""

    @property
    def installed(self) -> bool:
        return all(text is not None for text in self.files.values())

    @property
    def traces(self) -> bool:
        """Whether anything of the job is there."""
        return self.loaded or any(text is not None for text in self.files.values())


class Scheduler(Protocol):
    """A scheduler of this user. Questions raise OpskitError SCHEDULE_001 when it does not answer."""

    name: Name
    #: How to read what the job wrote.
    log: str

    def files(self, job: Job) -> dict[Path, str]:
        """The files that an installation writes."""

    def ready(self) -> bool:
        """Whether what the job needs besides its files is there."""

    async def state(self, now: datetime) -> JobState:
        """What holds now; changes nothing."""

    def install(self, job: Job) -> Sequence[Step]:
        """The steps, which also replace an older job."""

    def remove(self) -> Sequence[Step]:
        """The steps; each does no harm where there is nothing."""

    def undo(self, before: JobState) -> Sequence[Step]:
        """The steps that bring back what was there before an installation that failed."""

    def start(self) -> Step:
        """The step that starts the job now."""

    async def explained(self, refused: Refused) -> OpskitError:
        """The failure of a step in words that say what to do."""

    async def inside(self, job: Job, arguments: Sequence[str]) -> str:
        """What a program writes that runs where the job runs, with its environment. Raises OpskitError."""


def text_of(path: Path) -> str | None:
    """None for a file that is not there or may not be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
