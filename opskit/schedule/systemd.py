"""The job as a service and a timer of the user's own systemd."""

import getpass
import os
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from opskit.errors import OpskitError
from opskit.schedule import units
from opskit.schedule.client import Refused, SchedulerClient
from opskit.schedule.job import UNIT, Job
from opskit.schedule.scheduler import JobState, Name, text_of
from opskit.schedule.steps import Folder, Remove, RunCommand, Step, Write
from opskit.system import systemctl
from opskit.system.program import ProgramResult

_SERVICE = f"{UNIT}.service"
_TIMER = f"{UNIT}.timer"
_TIMER_ASKED = (
    *("LoadState", "ActiveState", "UnitFileState", "FragmentPath", "NeedDaemonReload"),
    *("NextElapseUSecRealtime", "NextElapseUSecMonotonic"),
)
_SERVICE_ASKED = (
    *("LoadState", "ActiveState", "NeedDaemonReload"),
    *("Result", "ExecMainCode", "ExecMainStatus", "ExecMainExitTimestamp"),
)
#: `ExecMainCode` of a process that ended by itself (CLD_EXITED), and of one that a signal ended.
_EXITED, _SIGNALLED = "1", ("2", "3")
_INSIDE_S = 40.0


class Systemd:
    """The user's manager. `home` is the folder in which units lie, whatever this shell's XDG_CONFIG_HOME is:

    the manager has an environment of its own.
    """

    name: Name = "systemd"
    log = f"journalctl --user -u {_SERVICE} -n 50 --no-pager"

    def __init__(self, client: SchedulerClient, *, home: Path) -> None:
        self._client = client
        self._folder = home / ".config" / "systemd" / "user"
        self._service = self._folder / _SERVICE
        self._timer = self._folder / _TIMER

    def files(self, job: Job) -> dict[Path, str]:
        return {self._service: units.service(job), self._timer: units.timer(job)}

    def ready(self) -> bool:
        return True

    async def state(self, now: datetime) -> JobState:
        files = {path: text_of(path) for path in (self._service, self._timer)}
        texts = [text for text in files.values() if text is not None]
        job = units.read(*texts) if len(texts) == 2 else None
        timer = await self._show(_TIMER, _TIMER_ASKED)
        service = await self._show(_SERVICE, _SERVICE_ASKED)
        loaded = timer.get("LoadState") == "loaded" and timer.get("ActiveState") == "active"
        result = service.get("Result", "success")
        elsewhere = loaded and timer.get("FragmentPath") not in (None, "", str(self._timer))
        return JobState(
            files,
            job,
            loaded=loaded,
            disabled=timer.get("LoadState") == "masked"
            or (timer.get("LoadState") == "loaded" and timer.get("UnitFileState") == "disabled"),
            running=service.get("ActiveState") in ("activating", "active", "deactivating"),
            last_exit=_last_exit(service),
            last_run=systemctl.instant(service.get("ExecMainExitTimestamp", "")),
            next_run=systemctl.next_elapse(timer, now=now, uptime_s=time.monotonic()) if loaded else None,
            stale="yes" in (timer.get("NeedDaemonReload"), service.get("NeedDaemonReload")),
            trouble=f"systemd loaded it from {timer['FragmentPath']}"
            if elsewhere
            else f"systemd ended it: {result}"
            if result not in ("success", "exit-code", "")
            else "",
        )

    def install(self, job: Job) -> Sequence[Step]:
        return (
            Folder(self._folder),
            *(Write(path, text) for path, text in self.files(job).items()),
            self._run("daemon-reload"),
            # A timer that is active keeps the times that it was started with.
            self._run("enable", _TIMER),
            self._run("restart", _TIMER),
            self._run("is-active", _TIMER),
        )

    def remove(self) -> Sequence[Step]:
        return (
            self._run("disable", "--now", _TIMER, why="it is fine when it was not there"),
            Remove(self._timer),
            Remove(self._service),
            self._run("daemon-reload"),
            self._run("reset-failed", _SERVICE, _TIMER, why="nothing may have failed"),
        )

    def undo(self, before: JobState) -> Sequence[Step]:
        if not before.traces:
            return self.remove()
        old = [Remove(path) if text is None else Write(path, text) for path, text in before.files.items()]
        again = (self._run("enable", _TIMER), self._run("restart", _TIMER)) if before.loaded else ()
        stop = self._run("disable", "--now", _TIMER, why="it may not have been started")
        return (stop, *old, self._run("daemon-reload"), *again)

    def start(self) -> Step:
        """A service that is running stays as it is."""
        return self._run("start", "--no-block", _SERVICE)

    async def explained(self, refused: Refused) -> OpskitError:
        if systemctl.no_bus(refused.answer):
            return _silent(refused.answer)
        if "start" in refused.step.argv:
            return OpskitError(
                "SCHEDULE_002", refused.message, remedy="install it first: `opskit schedule install`"
            )
        return refused

    async def lingers(self) -> bool | None:
        """Whether the user's systemd runs without a session; None when it cannot be told."""
        done = await self._client.ask(("loginctl", "show-user", getpass.getuser(), "--property=Linger"))
        if done.exit:
            return None
        return done.out.strip() == "Linger=yes"

    async def inside(self, job: Job, arguments: Sequence[str]) -> str:
        environment = [f"--setenv={name}={value}" for name, value in job.environment.items()]
        command = (
            *("systemd-run", "--user", "--wait", "--pipe", "--collect", "--quiet"),
            f"--unit=opskit-inside-{os.getpid()}",
            f"--property=RuntimeMaxSec={_INSIDE_S:g}",
            *environment,
            job.arguments[0],
            *arguments,
        )
        done = await self._client.ask(command, timeout_s=_INSIDE_S + 5.0)
        if systemctl.no_bus(done):
            raise _silent(done)
        if done.exit or not done.out.strip():
            raise OpskitError("SCHEDULE_002", f"a look from inside ended with {done.exit}: {done.complaint}")
        return done.out

    async def _show(self, unit: str, properties: Sequence[str]) -> dict[str, str]:
        command = ("systemctl", "--user", "show", unit, f"--property={','.join(properties)}")
        done = await self._client.ask(command, env={"TZ": "UTC"})
        if done.exit:
            raise (
                _silent(done)
                if systemctl.no_bus(done)
                else OpskitError("SCHEDULE_002", f"`{' '.join(command[:4])}`: {done.complaint}")
            )
        return next(iter(systemctl.units(done.out)), {})

    def _run(self, *arguments: str, why: str = "") -> RunCommand:
        argv = ("systemctl", "--user", *arguments)
        if not why:
            return RunCommand(argv)
        return RunCommand(argv, tolerates=lambda done: not systemctl.no_bus(done), why_tolerated=why)


def _last_exit(service: dict[str, str]) -> int | None:
    """None when it never ended: a unit that never ran has a status of 0 too."""
    code, status = service.get("ExecMainCode", "0"), service.get("ExecMainStatus", "")
    if not status.isdigit() or systemctl.instant(service.get("ExecMainExitTimestamp", "")) is None:
        return None
    if code == _EXITED:
        return int(status)
    return -int(status) if code in _SIGNALLED else None


def _silent(done: ProgramResult) -> OpskitError:
    return OpskitError(
        "SCHEDULE_001",
        f"the systemd of this user does not answer: {done.complaint}",
        remedy="log in with a session of this user (`sudo -iu USER` and `su` make none), or run "
        "`loginctl enable-linger $USER`; without systemd, `opskit recover --quiet-lock` from cron",
    )
