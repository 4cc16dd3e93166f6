"""The jobs that a scheduler is told to run: one description, from which a plist or the units are written."""

import math
import os
import sys
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path

from opskit.config.load import ensure_state_dir
from opskit.config.origins import default_state_dir
from opskit.config.schema import Config
from opskit.errors import OpskitError, UsageError
from opskit.records import Record, field
from opskit.schedule.environment import job_path, job_variables
from opskit.system.host import is_loopback
from opskit.system.network import endpoint
from opskit.text import duration_s

ARGUMENTS = ("-m", "opskit", "recover", "--json", "--quiet-lock")


class JobKind(Record):
    """One of opskit's jobs. `good_exits` are statuses that are no failure; `stays`: it is a server.

    `command` is what it runs as a person types it, `purpose` what for.
    """

    name: str
    command: str
    purpose: str
    good_exits: tuple[int, ...] = (0,)
    stays: bool = False

    @property
    def label(self) -> str:
        return f"dev.opskit.{self.name}"

    @property
    def unit(self) -> str:
        return f"opskit-{self.name}"

    @property
    def install(self) -> str:
        """The command that installs it."""
        return "opskit schedule install" + (f" {self.name}" if self.stays else "")


#: Nothing to do, repaired, and another run holds the lock are no failures of `opskit recover`.
RECOVER = JobKind(
    "recover", "opskit recover", "Find what is broken in the local LLM stack and mend it", (0, 4, 75)
)
VICTORIA = JobKind("victoria", "opskit serve victoria", "Victoria, the agent of opskit", stays=True)
LABEL, UNIT = RECOVER.label, RECOVER.unit
#: Where agents listen that no configuration names (SPEC D1).
AGENT_PORT = 8010
#: Only calendar times survive the sleep of a Mac (ops facts 10), so an hour is cut into equal parts.
MINUTES = tuple(minutes for minutes in range(1, 61) if 60 % minutes == 0)
DEFAULT_MINUTES = 5
#: What `recover` needs beyond its own budget to write down how it ended.
_AFTER_BUDGET_S = 40


class SchedulePlace(Record):
    """Where a schedule is made: all that is not configuration. Tests have places of their own."""

    environ: Mapping[str, str]
    home: Path
    platform: str = sys.platform
    uid: int = 0
    interpreter: str = sys.executable

    @classmethod
    def here(cls, environ: Mapping[str, str]) -> "SchedulePlace":
        home = Path(environ["HOME"]) if environ.get("HOME") else Path.home()
        # Not resolved: the link to the interpreter is what makes a virtual environment.
        interpreter = str(Path(sys.executable).absolute())
        return cls(environ, home, sys.platform, os.getuid(), interpreter)

    @property
    def state_folder(self) -> Path:
        """The state folder of this place, whatever a configuration says: what is installed needs none."""
        return ensure_state_dir(self.environ.get("OPSKIT_STATE_DIR") or default_state_dir(self.environ))


class Job(Record):
    """`arguments` begin with the absolute interpreter; `every` is in minutes.

    `limit_s` is when a run that hangs is killed. A server that stays has neither.
    """

    arguments: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    every: int = DEFAULT_MINUTES
    limit_s: int = 280
    kind: JobKind = RECOVER


def planned(
    config: Config, place: SchedulePlace, *, every: int = DEFAULT_MINUTES, kind: JobKind = RECOVER
) -> Job:
    """Return the job for this configuration as this shell sees it. Reads files, changes nothing.

    The scheduler starts it in `/` without this shell's variables, so the configuration is named by its
    absolute path and PATH is made of the folders in which the programs of recovery really lie. Raises
    OpskitError SCHEDULE_004 for a secret, and CONFIG_001 for what no plist or unit can hold.
    """
    programs = [command[0] for command in (*config.stack.start.values(), config.notices.command) if command]
    path = job_path(programs, place.environ, platform=place.platform, home=place.home)
    environment = {"PATH": path, **job_variables(config, place.environ, serves=kind.stays)}
    interpreter = place.interpreter
    arguments: tuple[str, ...] = (interpreter, *ARGUMENTS)
    if kind.stays:
        # It listens where the configuration expects Victoria here.
        agent = config.agent_named("victoria")
        port = endpoint(agent.url)[1] if agent is not None and is_loopback(agent.url) else AGENT_PORT
        arguments = (interpreter, "-m", "opskit", "serve", "victoria", "--port", str(port))
    if place.platform != "darwin" and set(interpreter) & set("\"'\\$"):
        raise OpskitError(
            "CONFIG_001",
            f"systemd starts no program with a quote, a backslash or a dollar in its path: {interpreter}",
            remedy="make the virtual environment in a folder with a plain name",
        )
    if not all(text.isprintable() for text in (*arguments, *environment.values())):
        raise OpskitError(
            "CONFIG_001",
            "a path or a variable of the job holds characters that cannot be shown",
            remedy="rename the folder, or correct the variable; `opskit config show` shows the values",
        )
    if kind.stays:
        return Job(arguments, environment, kind=kind)
    return Job(arguments, environment, every, math.ceil(config.recovery.budget_s) + _AFTER_BUDGET_S)


def minutes_of(text: str) -> int:
    """Return `5m`, `300s` and `1h` as minutes. Raises UsageError, with the list, for what divides no hour."""
    seconds = duration_s(text)
    if seconds is None or seconds % 60 or int(seconds) // 60 not in MINUTES:
        listed = ", ".join("1h" if minutes == 60 else f"{minutes}m" for minutes in MINUTES)
        raise UsageError(
            f"--every {text!r} does not divide an hour into equal parts", remedy=f"use one of: {listed}"
        )
    return int(seconds) // 60


def next_start(every: int, now: datetime) -> datetime:
    """Return the first start after `now`, whose zone decides: some zones are half an hour off the others."""
    this_minute = now.replace(second=0, microsecond=0)
    return this_minute + timedelta(minutes=every - this_minute.minute % every)
