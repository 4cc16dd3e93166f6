"""What an installation does, one step at a time: a plan that can be shown, recorded and carried out."""

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from opskit.system.program import ProgramResult


def never(_done: ProgramResult) -> bool:
    return False


@dataclass(frozen=True, slots=True)
class RunCommand:
    """A command. `tolerates` says which failures are none, `again` which are worth another try."""

    argv: tuple[str, ...]
    tolerates: Callable[[ProgramResult], bool] = never
    again: Callable[[ProgramResult], bool] = never
    why_tolerated: str = ""

    @property
    def shell(self) -> str:
        line = shlex.join(self.argv)
        return f"{line} || true  # {self.why_tolerated}" if self.why_tolerated else line


@dataclass(frozen=True, slots=True)
class WaitUntilAbsent:
    """Wait until the command fails: what it asks for is gone."""

    argv: tuple[str, ...]

    @property
    def shell(self) -> str:
        return f"while {shlex.join(self.argv)} >/dev/null 2>&1; do sleep 0.2; done"


@dataclass(frozen=True, slots=True)
class Write:
    """A file for its owner to change and for others to read; launchd refuses any that others may write."""

    path: Path
    text: str

    @property
    def shell(self) -> str:
        target = shlex.quote(str(self.path))
        return f"cat > {target} <<'END_OF_FILE'\n{self.text.rstrip(chr(10))}\nEND_OF_FILE\nchmod 644 {target}"


@dataclass(frozen=True, slots=True)
class Remove:
    path: Path

    @property
    def shell(self) -> str:
        return f"rm -f {shlex.quote(str(self.path))}"


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder and its parents, when they are not there."""

    path: Path

    @property
    def shell(self) -> str:
        return f"mkdir -p {shlex.quote(str(self.path))}"


Step = RunCommand | WaitUntilAbsent | Write | Remove | Folder
