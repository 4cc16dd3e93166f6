"""What the scheduler is told to run: one description, from which a plist or the units are written."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from opskit.config.schema import Config
from opskit.errors import OpskitError
from opskit.schedule import carried
from opskit.schedule.folders import job_path

LABEL = "dev.opskit.recover"
UNIT = "opskit-recover"
ARGUMENTS = ("-m", "opskit", "recover", "--json", "--quiet-lock")
#: Statuses of `opskit recover` that are no failure: nothing to do, repaired, another run holds the lock.
GOOD_EXITS = (0, 4, 75)
#: What `recover` needs beyond its own budget to write down how it ended.
_AFTER_BUDGET_S = 40


@dataclass(frozen=True, slots=True)
class Job:
    """`arguments` begin with the absolute interpreter; `limit_s` is when a run that hangs is killed."""

    arguments: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    every: int = 5
    limit_s: int = 280


def planned(
    config: Config,
    environ: Mapping[str, str],
    *,
    interpreter: str,
    every: int,
    platform: str,
    home: Path,
) -> Job:
    """The job for this configuration as this shell sees it. Reads files, changes nothing.

    The scheduler starts it in `/` without this shell's variables, so the configuration is named by its
    absolute path and PATH is made of the folders in which the programs of recovery really lie. Raises
    OpskitError SCHEDULE_004 for a secret, and CONFIG_001 for what no plist or unit can hold.
    """
    programs = [command[0] for command in (*config.stack.start.values(), config.notices.command) if command]
    path = job_path(programs, environ, platform=platform, home=home)
    environment = {"PATH": path, **carried.variables(config, environ)}
    arguments = (interpreter, *ARGUMENTS)
    if platform != "darwin" and set(interpreter) & set("\"'\\$"):
        raise OpskitError(
            "CONFIG_001",
            f"systemd starts no program with a quote, a backslash or a dollar in its path: {interpreter}",
            remedy="make the virtual environment in a folder with a plain name",
        )
    for text in (*arguments, *environment.values()):
        if not text.isprintable():
            raise OpskitError(
                "CONFIG_001",
                "a path or a variable of the job holds characters that cannot be shown",
                remedy="rename the folder, or correct the variable; `opskit config show` shows the values",
            )
    return Job(arguments, environment, every, math.ceil(config.recovery.budget_s) + _AFTER_BUDGET_S)
