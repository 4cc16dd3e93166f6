"""The Docker daemon: does it answer, and what starts it again?

A socket that is not there or refuses is *down*; one that accepts and stays silent is *hung*, which happens
to the virtual machine of a Mac after sleep. Docker on another machine is looked at and never repaired.
"""

import asyncio
import errno
import os
import shlex
from collections.abc import Mapping, Sequence
from enum import StrEnum
from functools import partial
from typing import Any, Literal

from opskit.config.schema import StackConfig
from opskit.errors import OpskitError
from opskit.records import Record, replace
from opskit.recovery.compose_projects import usable_projects
from opskit.recovery.step import Command, Condition, RecoveryContext, Repair, Step, TargetFinding
from opskit.system import docker_runtime, end_process
from opskit.system.docker_host import Host, resolve
from opskit.system.docker_runtime import Machine, Runtime, RuntimeKind
from opskit.system.process import Process
from opskit.system.systemctl import instant, unit_properties

_NAME = "docker"
#: A daemon that was silent for the client's own limit gets so long again: slow is not dead.
_PATIENCE_S = 10.0
_UNIT_PROPERTIES = ("ActiveState", "Result", "InactiveEnterTimestamp")
_FORBIDDEN_ERRNO = (errno.EACCES, errno.EPERM)
_DOWN_ERRNO = (errno.ENOENT, errno.ECONNREFUSED, errno.ENOTDIR, errno.ECONNRESET)
#: Marks of the memory: when Docker was last restarted, and when it was last killed.
RESTARTED, KILLED = "docker restarted", "docker killed"
#: A virtual machine boots, and brings its containers up.
_SETTLE_S = 150.0
_COMMAND_S = 120.0
_OPEN_DESKTOP = ("open", "-ga", "Docker")


class DaemonState(StrEnum):
    """Why the daemon does not answer."""

    DOWN = "down"
    HUNG = "hung"
    FORBIDDEN = "forbidden"
    UNCLEAR = "unclear"


def docker_daemon(
    context: RecoveryContext,
    *,
    patience_s: float = _PATIENCE_S,
    machine: Machine | None = None,
    administrator: bool | None = None,
) -> Step:
    """Return the step. `machine` and `administrator` (root) are this one's unless given."""
    daemon = _Daemon(
        context,
        patience_s,
        machine or Machine.of(context.platform, context.environ),
        os.geteuid() == 0 if administrator is None else administrator,
    )
    return Step(_NAME, daemon.look, after=("internet",))


class _Daemon(Record):
    context: RecoveryContext
    patience_s: float
    machine: Machine
    administrator: bool

    async def look(self) -> Sequence[TargetFinding]:
        try:
            version = await self.context.docker.version()
        except OpskitError as error:
            return [await self._in_trouble(error)]
        why = f"Docker {version.get('Version')} answers"
        return [TargetFinding(_NAME, Condition.HEALTHY, "ok", why)]

    async def _in_trouble(self, error: OpskitError) -> TargetFinding:
        """Return why it did not answer, and whether that is anybody's fault."""
        state, runtime = state_of(error), await self._runtime()
        is_installed = docker_runtime.installed(self.machine)
        evidence = {} if runtime is None else {"runtime": runtime.kind.value, "socket": runtime.socket}
        finding = TargetFinding(
            _NAME, Condition.BROKEN, state.value, error.message, evidence=evidence, code=error.code
        )
        if not used(self.context.config.stack):
            there = "Docker does not answer" if is_installed else "Docker is not installed"
            cause = f"{there}, and nothing of the stack is configured to run in it"
            return replace(finding, condition=Condition.ABSENT, state="absent", cause=cause, code=None)
        if state is DaemonState.DOWN and not is_installed:
            choices = "`apt-get install docker.io docker-compose`, Docker Desktop, OrbStack or Colima"
            return replace(
                finding,
                state="missing",
                cause="Docker is not installed",
                evidence={},
                remedy=f"install it: {choices}",
            )
        if state is DaemonState.HUNG and runtime is not None and runtime.socket is not None:
            process = await asyncio.to_thread(docker_runtime.stopped_daemon, runtime.socket)
            if process is not None:
                return self._stopped(finding, process)
        if state is DaemonState.HUNG and (waiting := await self._late()) is not None:
            return replace(waiting, evidence=evidence)
        if state is DaemonState.DOWN or state is DaemonState.FORBIDDEN:
            stopped = await self._unit(runtime) if runtime is not None and runtime.managed else None
            if stopped is not None:
                return replace(stopped, evidence=evidence)
        condition = Condition.UNKNOWN if state is DaemonState.UNCLEAR else Condition.BROKEN
        finding = replace(finding, condition=condition, remedy=error.remedy)
        if runtime is None:
            return finding
        if state in (DaemonState.DOWN, DaemonState.HUNG):
            verb: Literal["start", "restart"] = "start" if state is DaemonState.DOWN else "restart"
            finding = replace(finding, remedy=docker_runtime.by_hand(runtime, verb, self.context.platform))
        return replace(finding, read_again=partial(self._planned, runtime, state, finding))

    def _stopped(self, finding: TargetFinding, process: Process) -> TargetFinding:
        """Return the finding of a daemon whose process somebody stopped: it goes on where it was."""
        wake = Command(("kill", "-CONT", str(process.pid)))
        cause = f"{process.name} (process {process.pid}) is stopped (SIGSTOP or Ctrl-Z)"
        repair = Repair((wake,), "it goes on where it was", f"`kill -STOP {process.pid}`")
        remedy = f"`{wake.shown}`" if self.administrator else f"`sudo {wake.shown}` lets it go on"
        return replace(
            finding,
            state="stopped",
            cause=cause,
            remedy=remedy,
            repair=repair if self.administrator else None,
        )

    async def _late(self) -> TargetFinding | None:
        """Return the finding of a daemon that is slow, or young; None for one that hangs."""
        age_s = await asyncio.to_thread(docker_runtime.daemon_age_s)
        if await self._answers_late():
            return TargetFinding(_NAME, Condition.WAITING, "slow", "Docker answers, but slowly")
        if age_s is None or age_s >= self.context.config.recovery.startup_grace_s:
            return None
        why = f"Docker was started {age_s:.0f} s ago and does not answer yet"
        return TargetFinding(_NAME, Condition.WAITING, "starting", why)

    async def _answers_late(self) -> bool:
        from opskit.system.docker import Docker

        try:
            await Docker(self.context.environ, timeout_s=self.patience_s).version()
        except OpskitError:
            return False
        return True

    async def _unit(self, runtime: Runtime) -> TargetFinding | None:
        """Return what systemd says of a service that is down: stopped by somebody lately, or on its way."""
        is_user = runtime.kind is not RuntimeKind.SERVICE
        name = "docker-desktop.service" if runtime.kind is RuntimeKind.DESKTOP else "docker.service"
        shown = await unit_properties(self.context.environ, name, *_UNIT_PROPERTIES, user=is_user)
        state, ended = shown.get("ActiveState"), instant(shown.get("InactiveEnterTimestamp", ""))
        if state == "activating":
            return TargetFinding(_NAME, Condition.WAITING, "starting", f"{name} is being started")
        if state != "inactive" or shown.get("Result") != "success" or ended is None:
            return None
        remaining_s = self.context.config.recovery.hands_off_s - (self.context.clock() - ended.timestamp())
        if remaining_s <= 0:
            return None
        why = f"somebody stopped {name}; left alone for {remaining_s:.0f} s more"
        user = "--user " if is_user else ""
        remedy = f"`systemctl {user}start {name.removesuffix('.service')}` starts it now"
        return TargetFinding(_NAME, Condition.LEFT, "down", why, remedy=remedy)

    async def _runtime(self) -> Runtime | None:
        """Return what runs the daemon; None for a context or an address that cannot be used."""
        try:
            host: Host = await asyncio.to_thread(resolve, self.context.environ)
        except OpskitError:
            return None
        return docker_runtime.runtime(host, self.machine)

    async def _planned(self, runtime: Runtime, state: DaemonState, finding: TargetFinding) -> TargetFinding:
        has_desktop_command, processes = False, []
        if runtime.kind is RuntimeKind.DESKTOP and runtime.mac:
            has_desktop_command = await docker_runtime.has_desktop_command(self.context.environ)
            processes = await asyncio.to_thread(docker_runtime.desktop_processes)
        now_s, marks = self.context.clock(), self.context.memory.marks
        every_s = self.context.config.recovery.docker_restart_every_s
        repair = plan(
            runtime,
            state,
            finding.cause,
            due=[mark for mark in (RESTARTED, KILLED) if now_s - marks.get(mark, float("-inf")) >= every_s],
            desktop_command=has_desktop_command,
            processes=processes,
            administrator=self.administrator,
        )
        return replace(finding, repair=repair and replace(repair, evidence=self._evidence))

    async def _evidence(self) -> Mapping[str, Any]:
        age_s = await asyncio.to_thread(docker_runtime.daemon_age_s)
        return {"daemon_age_s": None if age_s is None else round(age_s)}


def used(stack: StackConfig) -> bool:
    """Tell whether anything of the stack is configured to run in Docker, beyond opskit's own defaults."""
    usual = StackConfig()
    assumed = (usual.docker_network, usual.containers)
    return bool(stack.compose) or (stack.docker_network, stack.containers) != assumed


def state_of(error: OpskitError) -> DaemonState:
    """Return why the daemon does not answer: by what the connection came to, not by words."""
    cause = error.__cause__
    number = getattr(cause, "errno", None)
    if isinstance(cause, TimeoutError):
        return DaemonState.HUNG
    if number in _FORBIDDEN_ERRNO:
        return DaemonState.FORBIDDEN
    is_down = number in _DOWN_ERRNO or isinstance(cause, ConnectionError)
    return DaemonState.DOWN if is_down else DaemonState.UNCLEAR


def plan(
    runtime: Runtime,
    state: DaemonState,
    cause: str,
    *,
    due: Sequence[str],
    desktop_command: bool,
    processes: Sequence[tuple[int, float]],
    administrator: bool,
) -> Repair | None:
    """Return how this runtime is brought up, None when opskit may not. Pure.

    `due` are the marks whose repair was not made lately: a hung daemon is restarted, then killed and opened,
    each once in `docker_restart_every_s`.
    """
    mark, control = None, _control(runtime, "start" if state is DaemonState.DOWN else "restart")
    commands: list[tuple[str, ...]] = []
    if _is_permitted(runtime, desktop_command, administrator) and control is not None:
        commands = [control]
    elif state is DaemonState.DOWN and runtime.kind is RuntimeKind.DESKTOP and runtime.mac:
        commands = [_OPEN_DESKTOP]
    if state is DaemonState.HUNG:
        mark = RESTARTED if commands and RESTARTED in due else KILLED
        if mark == KILLED:
            commands = _killed(runtime, processes) if KILLED in due else []
    if not commands:
        return None
    made = tuple(Command(argv, _COMMAND_S) for argv in commands)
    undo = shlex.join(_control(runtime, "stop") or ())
    return Repair(made, f"{runtime.kind.value} is {state.value}: {cause}", undo, _SETTLE_S, mark)


def _control(runtime: Runtime, verb: Literal["start", "restart", "stop"]) -> tuple[str, ...] | None:
    """Return the command that starts, restarts or stops a runtime; None where opskit does not know one."""
    desktop = ("systemctl", "--user", verb, "docker-desktop")
    if runtime.mac:
        desktop = ("docker", "desktop", verb, *(() if verb == "stop" else ("--detach",)))
    commands: dict[RuntimeKind, tuple[str, ...]] = {
        RuntimeKind.DESKTOP: desktop,
        RuntimeKind.ORBSTACK: ("orb", verb, *(("docker",) if verb == "restart" else ())),
        RuntimeKind.COLIMA: ("colima", verb, "--profile", runtime.profile or "default"),
        RuntimeKind.USER_SERVICE: ("systemctl", "--user", verb, "docker"),
        RuntimeKind.SERVICE: ("systemctl", verb, "docker"),
    }
    return commands.get(runtime.kind)


def _is_permitted(runtime: Runtime, desktop_command: bool, administrator: bool) -> bool:
    """Tell whether this user may give that command, and there is who obeys it."""
    if runtime.kind is RuntimeKind.DESKTOP and runtime.mac:
        return desktop_command
    if runtime.kind not in (RuntimeKind.DESKTOP, RuntimeKind.USER_SERVICE, RuntimeKind.SERVICE):
        return True
    return runtime.managed and (administrator or runtime.kind is not RuntimeKind.SERVICE)


def _killed(runtime: Runtime, processes: Sequence[tuple[int, float]]) -> list[tuple[str, ...]]:
    """Return the last resort, on a Mac alone: end the application and open it again."""
    profile = ("--profile", runtime.profile or "default")
    commands: dict[RuntimeKind, list[tuple[str, ...]]] = {
        RuntimeKind.DESKTOP: [*(end_process.command(*process) for process in processes), _OPEN_DESKTOP],
        RuntimeKind.ORBSTACK: [("orb", "stop"), ("orb", "start")],
        RuntimeKind.COLIMA: [("colima", "stop", "--force", *profile), ("colima", "start", *profile)],
    }
    return commands.get(runtime.kind, []) if runtime.mac else []


_CREATE_S = 30.0


def docker_network(context: RecoveryContext) -> Step:
    return Step("network", partial(_look, context), requires=("docker",))


async def _look(context: RecoveryContext) -> Sequence[TargetFinding]:
    stack, network = context.config.stack, context.config.stack.docker_network
    if network is None:
        return [TargetFinding("network", Condition.ABSENT, "absent", "`stack.docker_network` is null")]
    seen = partial(TargetFinding, "network", names=(network,))
    if await context.docker.found("network", network) is not None:
        return [seen(Condition.HEALTHY, "ok", f"{network} is there")]
    if not stack.compose and network == StackConfig().docker_network:
        why = f"there is no {network}, and no Compose project is configured that would use it"
        return [seen(Condition.ABSENT, "absent", why)]
    async for key, project in usable_projects(context):
        # Made by anybody else it would lack the labels without which Compose 2 refuses it.
        if network in project.own_networks:
            why = f"there is no {network} yet: Compose project {key} makes it"
            return [seen(Condition.WAITING, "missing", why)]
    cause, command = f"there is no network {network}", ("docker", "network", "create", network)
    repair = Repair((Command(command, _CREATE_S),), cause, f"docker network rm {network}")
    remedy = f"`{repair.commands[0].shown}`"
    return [seen(Condition.BROKEN, "missing", cause, remedy=remedy, repair=repair)]
