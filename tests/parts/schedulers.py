"""launchctl, plutil, systemctl and their kin as programs in a folder, to be put first on PATH."""

import json
import os
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.parts import scheduler_programs
from tests.parts.scheduler_programs import State

UID = scheduler_programs.UID
NAMES = ("launchctl", "plutil", "systemctl", "loginctl", "systemd-run")
_ASKING = ("print", "print-disabled", "show", "is-active", "show-user", "-lint")


@dataclass(frozen=True)
class Schedulers:
    """`state` is the folder that they keep their state in, and that tells them to behave otherwise."""

    programs: Path
    folder: Path

    @classmethod
    def made(cls, home: Path) -> "Schedulers":
        programs, folder = home / "programs", home / "scheduler"
        programs.mkdir(parents=True)
        folder.mkdir()
        source = Path(scheduler_programs.__file__).parent
        for name in NAMES:
            path = programs / name
            path.write_text(
                f"#!{sys.executable} -S\nimport sys\n"
                f"sys.path.insert(0, {str(source)!r})\n"
                f"import scheduler_programs\nscheduler_programs.main({str(folder)!r})\n"
            )
            path.chmod(0o755)
        return cls(programs, folder)

    @property
    def path(self) -> str:
        return f"{self.programs}{os.pathsep}{os.environ['PATH']}"

    def set(self, name: str, value: Any = "") -> None:
        """Make them behave otherwise: `old`, `no-session`, `no-bus`, `fail-bootstrap`, ..."""
        State(self.folder).set(name, value if isinstance(value, str) else json.dumps(value))

    def clear(self, name: str) -> None:
        (self.folder / name).unlink(missing_ok=True)

    def job(self, label: str) -> dict[str, Any] | None:
        return State(self.folder).job(label)

    @property
    def jobs(self) -> list[str]:
        return [one.name.removeprefix("job-") for one in self.folder.glob("job-*")]

    def change(self, label: str, **fields: Any) -> None:
        """What launchd remembers of the job: `runs`, `pid`, `end` (its own line about the last exit)."""
        state = State(self.folder)
        state.keep(label, {**(state.job(label) or {}), **fields})

    @property
    def calls(self) -> list[list[str]]:
        path = self.folder / "calls"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    @property
    def changes(self) -> list[str]:
        """The calls that change something, as a person would type them."""
        return [shlex.join(call) for call in self.calls if not set(call[1:3]) & set(_ASKING)]
