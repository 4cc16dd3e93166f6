"""Locks of opskit's state folder that another process holds."""

import asyncio
from pathlib import Path

from opskit.facts.survey import Survey
from opskit.records import Record
from opskit.system.lock import holder_of
from opskit.system.process import Process, ancestry, read_process


class HeldLock(Record):
    """One lock by the name of its file; `process` None means that this user may not see who holds it."""

    name: str
    process: Process | None

    @property
    def words(self) -> str:
        process = self.process
        if process is None:
            return "a process that this user may not see"
        return f"process {process.pid} ({process.name})"

    @property
    def is_ours(self) -> bool:
        """Tell whether a command of opskit holds it, which lets go when it ends."""
        return self.process is not None and any(
            Path(word).name == "opskit" or word == "opskit" for word in self.process.command[:3]
        )


async def read_held_locks(survey: Survey) -> tuple[HeldLock, ...]:
    """Read who holds which lock; locks of this very process are left out."""
    return await asyncio.to_thread(_held, survey.state_folder)


def _held(folder: Path) -> tuple[HeldLock, ...]:
    ours, locks = ancestry(), []
    for path in sorted(folder.glob("*.lock")):
        pid = holder_of(path)
        if pid is not None and pid not in ours:
            locks.append(HeldLock(path.name, read_process(pid) if pid else None))
    return tuple(locks)
