"""The jobs as services of the user's own systemd; `recover` has a timer."""

import getpass
import os
import re
import shlex
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path

from opskit.errors import OpskitError
from opskit.records import replace
from opskit.recovery.executor import Executor
from opskit.schedule.job import RECOVER, Job, JobKind
from opskit.schedule.scheduler import (
    INSIDE_S,
    Name,
    RunCommand,
    Scheduler,
    ScheduleStatus,
    ScheduleStep,
)
from opskit.system import systemctl
from opskit.system.program import ProgramResult

_TIMER_PROPERTIES = (
    "LoadState,ActiveState,UnitFileState,FragmentPath,NeedDaemonReload,"
    "NextElapseUSecRealtime,NextElapseUSecMonotonic"
)
_SERVICE_PROPERTIES = (
    "LoadState,ActiveState,NeedDaemonReload,Result,ExecMainCode,ExecMainStatus,ExecMainExitTimestamp"
)
#: `ExecMainCode` of a process that ended by itself (CLD_EXITED), and of one that a signal ended.
_EXITED, _SIGNALLED = "1", ("2", "3")
_PLAIN = re.compile(r"[A-Za-z0-9_./:=@,+-]+")


class Systemd(Scheduler):
    """The user's manager. `home` is the folder in which units lie, whatever this shell's XDG_CONFIG_HOME is:

    the manager has an environment of its own.
    """

    name: Name = "systemd"

    def __init__(self, environ: Mapping[str, str], *, home: Path, kind: JobKind = RECOVER) -> None:
        super().__init__(environ, kind)
        folder = home / ".config" / "systemd" / "user"
        self._service = f"{kind.unit}.service"
        #: The unit that is enabled: a server has no timer.
        self._enabled = self._service if kind.stays else f"{kind.unit}.timer"
        self.paths = tuple(folder / unit for unit in dict.fromkeys((self._service, self._enabled)))
        self.by_hand = f"give it by `EnvironmentFile=` in `systemctl --user edit {self._service}`"
        self.log = f"journalctl --user -u {self._service} -n 50 --no-pager"

    def files(self, job: Job) -> dict[Path, str]:
        texts = (service_unit(job), *(() if self.kind.stays else (timer_unit(job),)))
        return dict(zip(self.paths, texts, strict=True))

    async def state(self, now: datetime) -> ScheduleStatus:
        files = self.installed_files()
        timer = await self._show(self._enabled, _TIMER_PROPERTIES)
        service = await self._show(self._service, _SERVICE_PROPERTIES)
        known = timer.get("LoadState") == "loaded"
        # One that failed to start again and again is loaded, and fails.
        loaded = known and (timer.get("ActiveState") == "active" or self.kind.stays)
        switched_off = known and timer.get("UnitFileState") == "disabled"
        path, result = timer.get("FragmentPath"), service.get("Result")
        last_run = systemctl.instant(service.get("ExecMainExitTimestamp", ""))
        code, number = service.get("ExecMainCode"), service.get("ExecMainStatus", "")
        # A unit that never ran has a status of 0 too.
        has_ended = last_run is not None and number.isdigit() and code in (_EXITED, *_SIGNALLED)
        last_exit = int(number) * (1 if code == _EXITED else -1) if has_ended else None
        trouble = "" if result in ("success", "exit-code", "", None) else f"systemd ended it: {result}"
        if loaded and path and path != str(self.paths[-1]):
            trouble = f"systemd loaded it from {path}"
        return ScheduleStatus(
            scheduler=self.name,
            files=files,
            job=read_units(*(text or "" for text in files.values()), kind=self.kind),
            loaded=loaded,
            disabled=timer.get("LoadState") == "masked" or switched_off,
            running=service.get("ActiveState") in ("activating", "active", "deactivating"),
            last_exit=last_exit,
            last_run=last_run,
            next_run=systemctl.next_elapse(timer, now=now, uptime_s=time.monotonic()) if loaded else None,
            stale="yes" in (timer.get("NeedDaemonReload"), service.get("NeedDaemonReload")),
            trouble=trouble,
            log=self.log,
            kind=self.kind,
        )

    def load(self) -> Sequence[ScheduleStep]:
        """A timer keeps the times that it was started with, a server its settings: both are restarted."""
        return (
            _run("daemon-reload"),
            *(_run(verb, self._enabled) for verb in ("enable", "restart", "is-active")),
        )

    def unload(self) -> Sequence[ScheduleStep]:
        return (_run("disable", "--now", self._enabled, why="it is fine when it was not there"),)

    def forget(self) -> Sequence[ScheduleStep]:
        failed = _run("reset-failed", *(path.name for path in self.paths), why="nothing may have failed")
        return (_run("daemon-reload"), failed)

    def start(self) -> ScheduleStep:
        """A service that is running stays as it is."""
        start = _run("start", "--no-block", self._service)
        return replace(start, remedy=f"install it first: `{self.kind.install}`")

    def silence(self, result: ProgramResult) -> OpskitError | None:
        if not systemctl.no_bus(result):
            return None
        return OpskitError(
            "SCHEDULE_001",
            f"the systemd of this user does not answer: {result.complaint}",
            remedy="log in with a session of this user (`sudo -iu USER` and `su` make none), or run "
            "`loginctl enable-linger $USER`; without systemd, `opskit recover --quiet-lock` from cron",
        )

    async def runs_without_session(self) -> bool:
        """Whether the user lingers: without it the user's systemd ends with the last session."""
        command = ("loginctl", "show-user", getpass.getuser(), "--property=Linger")
        try:
            result = await self.ask(command)
        except OpskitError:
            return False
        return result.exit == 0 and result.out.strip() == "Linger=yes"

    async def inside(self, executor: Executor, command: Sequence[str], environment: Mapping[str, str]) -> str:
        del executor  # systemd itself takes the unit out again
        argv = (
            *("systemd-run", "--user", "--wait", "--pipe", "--collect", "--quiet"),
            f"--unit=opskit-inside-{os.getpid()}",
            f"--property=RuntimeMaxSec={INSIDE_S:g}",
            *(f"--setenv={name}={value}" for name, value in environment.items()),
            *command,
        )
        result = await self.ask(argv, timeout_s=INSIDE_S + 5.0)
        if result.exit or not result.out.strip():
            words = f"a look from inside ended with {result.exit}: {result.complaint}"
            raise OpskitError("SCHEDULE_002", words)
        return result.out

    async def _show(self, unit: str, properties: str) -> dict[str, str]:
        command = ("systemctl", "--user", "show", unit, f"--property={properties}")
        result = await self.ask(command, env={"TZ": "UTC"})
        if result.exit:
            raise OpskitError("SCHEDULE_002", f"`{' '.join(command[:4])}`: {result.complaint}")
        return next(iter(systemctl.units(result.out)), {})


def service_unit(job: Job) -> str:
    """Return the service (ops facts 11).

    KillMode=process, or systemd would end with the run the servers that it started: they live in its control
    group. 4 (repaired) and 75 (another run holds the lock) are no failures. A server is started again when it
    fails, and drains on SIGTERM.
    """
    program, *arguments = job.arguments
    # Variables are expanded in every word but the first: there a dollar is doubled.
    command = " ".join((_word(program), *(_word(argument.replace("$", "$$")) for argument in arguments)))
    environment = [f"Environment={_word(f'{name}={value}')}" for name, value in job.environment.items()]
    good = " ".join(str(status) for status in job.kind.good_exits if status)
    run = (f"TimeoutStartSec={job.limit_s}", f"SuccessExitStatus={good}", "KillMode=process")
    server = ("Restart=on-failure", "RestartSec=2", "TimeoutStopSec=60")
    lines = (
        "[Unit]",
        f"Description={job.kind.purpose} ({job.kind.command})",
        "",
        "[Service]",
        f"Type={'exec' if job.kind.stays else 'oneshot'}",
        f"ExecStart={command}",
        *environment,
        *((*server, "", "[Install]", "WantedBy=default.target") if job.kind.stays else run),
    )
    return "\n".join(lines) + "\n"


def timer_unit(job: Job) -> str:
    """Return the timer. It counts from the end of a run, so that runs never overlap."""
    every = "1h" if job.every == 60 else f"{job.every}min"
    unit = f"[Unit]\nDescription=opskit recover every {every}\n"
    timer = f"[Timer]\nOnBootSec=2min\nOnUnitInactiveSec={every}\nAccuracySec=15s\n"
    return f"{unit}\n{timer}\n[Install]\nWantedBy=timers.target\n"


def read_units(service_text: str, timer_text: str = "", *, kind: JobKind = RECOVER) -> Job | None:
    """Return the job of units that opskit wrote, or a person changed; None for any others."""
    settings = list(_settings(service_text))
    values = dict(reversed([*settings, *_settings(timer_text)]))
    span = re.fullmatch(r"(\d+)(min|h)", values.get("OnUnitInactiveSec", ""))
    limit = values.get("TimeoutStartSec", "")
    try:
        program, *arguments = _words(values.get("ExecStart", ""))
        pairs = (word for name, value in settings if name == "Environment" for word in _words(value))
        environment = {name: value for name, _, value in (pair.partition("=") for pair in pairs)}
    except ValueError:
        return None
    command = (program, *(argument.replace("$$", "$") for argument in arguments))
    if kind.stays:
        return Job(command, environment, kind=kind)
    if span is None:
        return None
    return Job(
        command,
        environment,
        int(span[1]) * (60 if span[2] == "h" else 1),
        int(limit) if limit.isdigit() else 280,
    )


def _word(text: str) -> str:
    """One word of a setting: `%` begins a specifier, and quotes take the C escapes (systemd.syntax)."""
    escaped = text.replace("%", "%%")
    if _PLAIN.fullmatch(text):
        return escaped
    return '"' + escaped.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _words(value: str) -> list[str]:
    """The words of a setting as `_word` wrote them. Raises ValueError for a quote without its end."""
    return [word.replace("%%", "%") for word in shlex.split(value)]


def _settings(text: str) -> Iterator[tuple[str, str]]:
    for line in text.splitlines():
        name, sign, value = line.partition("=")
        if sign and not line.startswith(("#", ";")):
            yield name.strip(), value.strip()


def _run(*arguments: str, why: str = "") -> RunCommand:
    """A command of systemctl; with `why` any failure is accepted."""
    argv = ("systemctl", "--user", *arguments)
    return RunCommand(argv, accepts=lambda _result: bool(why), why_accepted=why)
