"""The Docker daemon: does it answer, and what starts it again?

A socket that is not there or refuses is *down*; one that accepts and stays silent is *hung*, which happens
to the virtual machine of a Mac after sleep. Docker on another machine is looked at and never repaired.
"""

import asyncio
import errno
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from opskit.config.schema import StackConfig
from opskit.errors import OpskitError
from opskit.recovery.context import RecoveryContext
from opskit.recovery.step import LOOK_S, Condition, Repair, Step, TargetObservation
from opskit.recovery.steps.docker_repair import KILLED, RESTARTED, plan
from opskit.system import docker_runtime
from opskit.system.docker_host import Host, resolve, start_remedy
from opskit.system.docker_runtime import Machine, Runtime, RuntimeKind
from opskit.system.systemctl import instant, unit_properties

TARGET = "docker"
#: A daemon that was silent for the door's own limit gets so long again: slow is not dead.
_PATIENCE_S = 10.0
_WANTED = ("ActiveState", "Result", "InactiveEnterTimestamp")
_FORBIDDEN_ERRNO = (errno.EACCES, errno.EPERM)
_DOWN_ERRNO = (errno.ENOENT, errno.ECONNREFUSED, errno.ENOTDIR, errno.ECONNRESET)


@dataclass(slots=True)
class _Daemon:
    ground: RecoveryContext
    patience_s: float
    machine: Machine
    administrator: bool
    name: str = TARGET
    title: str = "Docker"
    requires: tuple[str, ...] = ()
    look_s = LOOK_S
    after: tuple[str, ...] = ("internet",)
    known: Runtime | None = None
    """What runs the daemon, once it was asked for."""

    async def look(self) -> Sequence[TargetObservation]:
        try:
            version = await self.ground.door.version()
        except OpskitError as error:
            return [await self._troubled(error)]
        return [
            TargetObservation(TARGET, Condition.HEALTHY, "ok", f"Docker {version.get('Version')} answers")
        ]

    async def evidence(self, seen: TargetObservation) -> Mapping[str, Any]:
        del seen
        age_s = await self._age_s()
        return {"daemon_age_s": None if age_s is None else round(age_s)}

    async def plan(self, seen: TargetObservation) -> Repair | None:
        runtime = await self._runtime()
        if runtime is None or seen.state not in ("down", "hung"):
            return None
        desktop_command, processes = False, []
        if runtime.kind is RuntimeKind.DESKTOP and runtime.mac:
            desktop_command = await docker_runtime.has_desktop_command(self.ground.environ)
            processes = await asyncio.to_thread(docker_runtime.desktop_processes)
        now, marks = self.ground.clock(), self.ground.memory.marks
        every_s = self.ground.config.recovery.docker_restart_every_s
        rungs = [mark for mark in (RESTARTED, KILLED) if now - marks.get(mark, float("-inf")) >= every_s]
        return plan(
            runtime,
            seen,
            rungs=rungs,
            desktop_command=desktop_command,
            processes=processes,
            administrator=self.administrator,
        )

    async def _troubled(self, error: OpskitError) -> TargetObservation:
        """Why it did not answer, and whether that is anybody's fault."""
        state = state_of(error)
        runtime = await self._runtime()
        evidence = {} if runtime is None else {"runtime": runtime.kind.value, "socket": runtime.socket}
        if not used(self.ground.config.stack):
            there = (
                "Docker does not answer"
                if docker_runtime.installed(self.machine)
                else "Docker is not installed"
            )
            cause = f"{there}, and nothing of the stack is configured to run in it"
            return TargetObservation(TARGET, Condition.ABSENT, "absent", cause, evidence=evidence)
        if state == "down" and not docker_runtime.installed(self.machine):
            remedy = (
                "install it: `apt-get install docker.io docker-compose`, Docker Desktop, OrbStack or Colima"
            )
            return TargetObservation(
                TARGET, Condition.BROKEN, "missing", "Docker is not installed", remedy=remedy, code=error.code
            )
        condition, cause = Condition.BROKEN, error.message
        if state == "hung":
            age_s = await self._age_s()
            if await self._answers_late():
                return TargetObservation(
                    TARGET, Condition.WAITING, "slow", "Docker answers, but slowly", evidence=evidence
                )
            if age_s is not None and age_s < self.ground.config.recovery.startup_grace_s:
                return TargetObservation(
                    TARGET,
                    Condition.WAITING,
                    "starting",
                    f"Docker was started {age_s:.0f} s ago and does not answer yet",
                    evidence=evidence,
                )
        elif state == "unclear":
            condition = Condition.UNKNOWN
        elif runtime is not None and runtime.managed and (theirs := await self._unit(runtime)) is not None:
            return replace(theirs, evidence=evidence)
        remedy = self._remedy(state, runtime) or error.remedy
        return TargetObservation(
            TARGET, condition, state, cause, evidence=evidence, remedy=remedy, code=error.code
        )

    async def _unit(self, runtime: Runtime) -> TargetObservation | None:
        """What systemd says of a service that is down: stopped by somebody lately, or on its way."""
        user = runtime.kind is not RuntimeKind.SERVICE
        name = "docker-desktop.service" if runtime.kind is RuntimeKind.DESKTOP else "docker.service"
        shown = await unit_properties(self.ground.environ, name, *_WANTED, user=user)
        state, ended = shown.get("ActiveState"), instant(shown.get("InactiveEnterTimestamp", ""))
        if state == "activating":
            return TargetObservation(TARGET, Condition.WAITING, "starting", f"{name} is being started")
        if state != "inactive" or shown.get("Result") != "success" or ended is None:
            return None
        left_s = self.ground.config.recovery.hands_off_s - (self.ground.clock() - ended.timestamp())
        if left_s <= 0:
            return None
        why = f"somebody stopped {name}; left alone for {left_s:.0f} s more"
        remedy = f"`systemctl {'--user ' if user else ''}start {name.removesuffix('.service')}` starts it now"
        return TargetObservation(TARGET, Condition.LEFT, "down", why, remedy=remedy)

    async def _answers_late(self) -> bool:
        from opskit.system.docker_objects import DockerObjects

        try:
            await DockerObjects(self.ground.environ, timeout_s=self.patience_s).version()
        except OpskitError:
            return False
        return True

    async def _runtime(self) -> Runtime | None:
        """None for a context or an address that cannot be used."""
        if self.known is None:
            try:
                host: Host = await asyncio.to_thread(resolve, self.ground.environ)
            except OpskitError:
                return None
            self.known = docker_runtime.runtime(host, self.machine)
        return self.known

    async def _age_s(self) -> float | None:
        return await asyncio.to_thread(docker_runtime.daemon_age_s)

    def _remedy(self, state: str, runtime: Runtime | None) -> str | None:
        if runtime is None or state not in ("down", "hung"):
            return None
        if runtime.kind is RuntimeKind.REMOTE:
            return (
                "log in to that machine and start Docker there; `docker context ls` shows which one is in use"
            )
        word = "start" if state == "down" else "restart"
        if runtime.kind in (RuntimeKind.SERVICE, RuntimeKind.UNKNOWN) and not runtime.mac:
            if runtime.managed:
                return f"`sudo systemctl {word} docker`"
            return f"`sudo service docker {word}`, or start `dockerd` as it was started before"
        if runtime.kind is RuntimeKind.USER_SERVICE:
            return f"`systemctl --user {word} docker`"
        if state == "down":
            return start_remedy(self.ground.platform)
        return f"quit {runtime.kind.value} and open it again"


def docker_daemon(
    ground: RecoveryContext,
    *,
    patience_s: float = _PATIENCE_S,
    machine: Machine | None = None,
    administrator: bool | None = None,
) -> Step:
    """The step. `machine` and `administrator` (root) are this one's unless given."""
    return _Daemon(
        ground,
        patience_s,
        machine or Machine.of(ground.platform, ground.environ),
        os.geteuid() == 0 if administrator is None else administrator,
    )


def used(stack: StackConfig) -> bool:
    """Whether anything of the stack is configured to run in Docker, beyond what opskit assumes by itself."""
    usual = StackConfig()
    return bool(stack.compose) or (stack.docker_network, stack.containers) != (
        usual.docker_network,
        usual.containers,
    )


def state_of(error: OpskitError) -> str:
    """down, hung, forbidden or unclear: by what the connection came to, not by words."""
    cause = error.__cause__
    number = getattr(cause, "errno", None)
    if isinstance(cause, TimeoutError):
        return "hung"
    if number in _FORBIDDEN_ERRNO:
        return "forbidden"
    return "down" if number in _DOWN_ERRNO or isinstance(cause, ConnectionError) else "unclear"
