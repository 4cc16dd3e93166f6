"""How each Docker runtime is brought up again, as commands. Pure."""

import sys
from collections.abc import Sequence

from opskit.recovery.step import Command, Repair, TargetObservation
from opskit.system.docker_runtime import Runtime, RuntimeKind

#: Marks of the memory: when Docker was last restarted, and when it was last killed.
RESTARTED, KILLED = "docker restarted", "docker killed"
#: A virtual machine boots, and brings its containers up.
_SETTLE_S = 150.0
_COMMAND_S = 120.0


def plan(
    runtime: Runtime,
    seen: TargetObservation,
    *,
    rungs: Sequence[str],
    desktop_command: bool,
    processes: Sequence[tuple[int, float]],
    administrator: bool,
) -> Repair | None:
    """How this runtime is brought up, None when opskit may not. Pure.

    `rungs` are the marks whose repair was not made lately: a hung daemon is restarted, then killed and
    opened, each once in `docker_restart_every_s`.
    """
    if seen.state == "down":
        commands = _start(runtime, desktop_command=desktop_command, administrator=administrator)
        mark = None
    elif RESTARTED in rungs and (
        commands := _restart(runtime, desktop_command=desktop_command, administrator=administrator)
    ):
        mark = RESTARTED
    elif KILLED in rungs:
        commands, mark = _kill(runtime, processes), KILLED
    else:
        return None
    if not commands:
        return None
    made = tuple(Command(argv, _COMMAND_S) for argv in commands)
    return Repair(
        made, f"{runtime.kind.value} is {seen.state}: {seen.cause}", _undo(runtime), _SETTLE_S, mark
    )


_Commands = list[tuple[str, ...]]


def _start(runtime: Runtime, *, desktop_command: bool, administrator: bool) -> _Commands:
    match runtime.kind:
        case RuntimeKind.DESKTOP if runtime.mac:
            opened = (
                ("docker", "desktop", "start", "--detach") if desktop_command else ("open", "-ga", "Docker")
            )
            return [opened]
        case RuntimeKind.DESKTOP:
            return [("systemctl", "--user", "start", "docker-desktop")] if runtime.managed else []
        case RuntimeKind.ORBSTACK:
            return [("orb", "start")]
        case RuntimeKind.COLIMA:
            return [("colima", "start", "--profile", runtime.profile or "default")]
        case RuntimeKind.SERVICE:
            return [("systemctl", "start", "docker")] if runtime.managed and administrator else []
        case RuntimeKind.USER_SERVICE:
            return [("systemctl", "--user", "start", "docker")] if runtime.managed else []
    return []


def _restart(runtime: Runtime, *, desktop_command: bool, administrator: bool) -> _Commands:
    match runtime.kind:
        case RuntimeKind.DESKTOP if runtime.mac:
            return [("docker", "desktop", "restart", "--detach")] if desktop_command else []
        case RuntimeKind.DESKTOP:
            return [("systemctl", "--user", "restart", "docker-desktop")] if runtime.managed else []
        case RuntimeKind.ORBSTACK:
            return [("orb", "restart", "docker")]
        case RuntimeKind.COLIMA:
            return [("colima", "restart", "--profile", runtime.profile or "default")]
        case RuntimeKind.SERVICE:
            return [("systemctl", "restart", "docker")] if runtime.managed and administrator else []
        case RuntimeKind.USER_SERVICE:
            return [("systemctl", "--user", "restart", "docker")] if runtime.managed else []
    return []


def _kill(runtime: Runtime, processes: Sequence[tuple[int, float]]) -> _Commands:
    """The last resort, on a Mac alone: end the application, whatever it says, and open it again."""
    if not runtime.mac:
        return []
    match runtime.kind:
        case RuntimeKind.DESKTOP:
            ending = (sys.executable, "-m", "opskit.system.end_process")
            ended = [(*ending, str(pid), f"{began:.2f}") for pid, began in processes]
            return [*ended, ("open", "-ga", "Docker")]
        case RuntimeKind.ORBSTACK:
            return [("orb", "stop"), ("orb", "start")]
        case RuntimeKind.COLIMA:
            profile = runtime.profile or "default"
            return [
                ("colima", "stop", "--force", "--profile", profile),
                ("colima", "start", "--profile", profile),
            ]
    return []


def _undo(runtime: Runtime) -> str:
    match runtime.kind:
        case RuntimeKind.DESKTOP:
            return "docker desktop stop" if runtime.mac else "systemctl --user stop docker-desktop"
        case RuntimeKind.ORBSTACK:
            return "orb stop"
        case RuntimeKind.COLIMA:
            return f"colima stop --profile {runtime.profile or 'default'}"
        case RuntimeKind.USER_SERVICE:
            return "systemctl --user stop docker"
    return "systemctl stop docker"
