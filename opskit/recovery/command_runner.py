"""Runs the commands of repairs one by one and keeps what came of each. Only the executor uses it."""

import asyncio
import os
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

from opskit.recovery.outcome import Ran
from opskit.recovery.step import Command
from opskit.system.program import NotStarted, not_started, run


class CommandRunner:
    """Runs commands under `environ`. `ran` holds every command that was run, in order."""

    def __init__(self, folder: Path, environ: Mapping[str, str]) -> None:
        self._folder = folder
        self._environ = dict(environ)
        self.ran: list[Ran] = []

    async def run(self, command: Command, ran: list[Ran] | None = None) -> Ran:
        """Run to its end, or to its deadline, at which it is killed with everything it started.

        It is added to `ran` too, also when it is cut off.
        A detached command is a server: it is started and left, its output goes to `start-PROGRAM.log` in the
        state folder. Never raises for what the command does.
        """
        began = time.monotonic()
        exit_status: int | None
        pid: int | None = None
        try:
            if command.detached:
                log = self._log(command)
                pid = await asyncio.to_thread(_spawned, command, self._environ, log)
                exit_status, said = 0, f"started as process {pid}, its output goes to {log}"
            else:
                cwd = None if command.cwd is None else Path(command.cwd)
                async with asyncio.timeout(command.timeout_s):
                    program = await run(command.argv, cwd=cwd, env=self._environ)
                exit_status, said = program.exit, "" if program.exit == 0 else program.complaint
        except NotStarted as why:
            exit_status, said = None, why.message
        except TimeoutError:
            exit_status, said = None, f"no end within {command.timeout_s:g} s; it was killed"
        except asyncio.CancelledError:
            took = time.monotonic() - began
            self._keep(Ran(command, None, took, "the run ended before it did; it was killed"), ran)
            raise
        done = Ran(command, exit_status, time.monotonic() - began, said, pid)
        self._keep(done, ran)
        return done

    def end_of(self, done: Ran) -> tuple[str, str] | None:
        """Say how a server ended that was started and left, and what shows why; None while it runs."""
        try:
            pid, status = (0, 0) if done.pid is None else os.waitpid(done.pid, os.WNOHANG)
        except ChildProcessError:
            return None
        detail = f"process {pid} ended with exit code {os.waitstatus_to_exitcode(status)}"
        return (detail, f"`tail {self._log(done.command)}` shows its last words") if pid else None

    def _log(self, command: Command) -> Path:
        return self._folder / f"start-{Path(command.argv[0]).name}.log"

    def _keep(self, done: Ran, ran: list[Ran] | None) -> None:
        self.ran.append(done)
        if ran is not None:
            ran.append(done)


def _spawned(command: Command, environ: Mapping[str, str], log: Path) -> int:
    """Start a server in a session of its own and return its process id. Raises NotStarted."""
    try:
        handle = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except (OSError, ValueError) as exc:
        raise NotStarted(f"{log}: {getattr(exc, 'strerror', None) or 'it cannot be written'}") from exc
    try:
        process = subprocess.Popen(
            command.argv,
            cwd=command.cwd,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=handle,
            stderr=handle,
            start_new_session=True,
        )
    except (OSError, ValueError) as exc:
        raise not_started(exc, command.argv) from exc
    finally:
        os.close(handle)
    # No matter which process reaps it later, it is not our child that ended badly.
    process.returncode = 0
    return process.pid
