"""One container of a Compose project: what `docker inspect` tells of it, and what that means. Pure.

Ages are on the daemon's clock: the virtual machine of a Mac that slept may be far behind.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from opskit.checks.health_check import HealthCheckFault, health_check_fault, health_check_remedy
from opskit.facts.container import container
from opskit.recovery.steps.box import action_of, fresh_health, instant, was_healthy
from opskit.system.docker_records import PROJECT, SERVICE

_ONE_OFF = "com.docker.compose.oneoff"
_DIGEST = "com.docker.compose.config-hash"
_VERSION = "com.docker.compose.version"
_FOLDER = "com.docker.compose.project.working_dir"
_STOP_S = 10.0
#: Docker waits ever longer between its restarts, a minute at most; what ran so long has settled.
_SETTLED_S = 10.0
#: One restart by Docker is its business, a row of them is a loop.
_LOOP = 3
_OUTPUT_CHARS = 200
_KILL = ("SIGKILL", "KILL", "9")


class State(StrEnum):
    """What is to be said of one container, and done.

    `up` is well; `ended` is a one-shot that did its work. `fallen` has stopped, or was never started: `up`
    starts it again. `unhealthy` and `cut_off` (its network namespace is gone) are restarted, `orphaned` (the
    container whose namespace it shares was replaced) is made anew. `looping`, `dead` and `stuck` are beyond
    opskit. `starting` and `leaving` change by themselves, `paused` is a person's doing. The health check of
    an `unchecked` one cannot run, so a restart would not help.
    """

    UP = "up"
    ENDED = "ended"
    FALLEN = "fallen"
    UNHEALTHY = "unhealthy"
    CUT_OFF = "cut off"
    ORPHANED = "orphaned"
    LOOPING = "restarting"
    DEAD = "dead"
    STARTING = "starting"
    LEAVING = "leaving"
    PAUSED = "paused"
    UNCHECKED = "unchecked"


@dataclass(frozen=True, slots=True)
class Unit:
    """One container as it is. `parent` is the id of the container whose network namespace it shares.

    `stops_by_kill` tells that `docker stop` sends it what `docker kill` sends. `serves` tells that it
    publishes ports or has a health check: a server, which is never done. `was_well` tells that a health
    check succeeded since it was started, so that it is past its start.
    """

    id: str
    name: str
    service: str
    status: str
    image: str = ""
    exit_code: int = 0
    oom: bool = False
    error: str = ""
    restart: str = "no"
    restarts: int = 0
    created: datetime | None = None
    started: datetime | None = None
    finished: datetime | None = None
    health: str | None = None
    said: str = ""
    start_period_s: float = 0.0
    stop_s: float = _STOP_S
    stops_by_kill: bool = False
    parent: str | None = None
    networks: tuple[str, ...] = ()
    action: str = "restart"
    digest: str | None = None
    version: str | None = None
    folder: str | None = None
    serves: bool = False
    was_well: bool = False
    fault: HealthCheckFault | None = None
    fault_remedy: str = ""

    @property
    def running(self) -> bool:
        return self.status == "running"


@dataclass(frozen=True, slots=True)
class Verdict:
    """`cause` is in plain words; `facts` are evidence."""

    state: State
    cause: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)


def unit(item: Mapping[str, Any]) -> Unit | None:
    """None for a container of `compose run`, which nobody wants back."""
    config, state, host = item["Config"], item["State"], item.get("HostConfig") or {}
    labels = config.get("Labels") or {}
    if str(labels.get(_ONE_OFF, "False")).lower() == "true" or PROJECT not in labels:
        return None
    mode = str(host.get("NetworkMode") or "")
    health, started = state.get("Health"), instant(state.get("StartedAt"))
    log = (health or {}).get("Log") or [{}]
    check = config.get("Healthcheck") or {}
    stop_s = config.get("StopTimeout")
    record = container(item)
    fault = health_check_fault(record)
    return Unit(
        str(item["Id"]),
        str(item["Name"]).lstrip("/"),
        str(labels.get(SERVICE, "")),
        str(state["Status"]),
        str(config.get("Image") or ""),
        int(state.get("ExitCode") or 0),
        bool(state.get("OOMKilled")),
        str(state.get("Error") or ""),
        str((host.get("RestartPolicy") or {}).get("Name") or "no"),
        int(item.get("RestartCount") or 0),
        instant(item.get("Created")),
        started,
        instant(state.get("FinishedAt")),
        fresh_health(health, started) if health else None,
        " ".join(str(log[-1].get("Output") or "").split())[:_OUTPUT_CHARS],
        (check.get("StartPeriod") or 0) / 1e9,
        _STOP_S if stop_s is None else float(stop_s),
        str(config.get("StopSignal") or "").upper() in _KILL,
        mode.partition(":")[2] if mode.startswith("container:") else None,
        tuple(sorted((item.get("NetworkSettings") or {}).get("Networks") or {})),
        action_of(labels),
        labels.get(_DIGEST),
        labels.get(_VERSION),
        labels.get(_FOLDER),
        bool(host.get("PortBindings")) or (check.get("Test") or ["NONE"])[0] != "NONE",
        was_healthy(health or {}, started),
        fault,
        health_check_remedy(record, fault) if fault else "",
    )


def judge(one: Unit, there: Mapping[str, Unit], now: datetime, grace_s: float) -> Verdict:
    """What one container is. `there` are all containers of the project by id."""
    if one.status == "running":
        return _running(one, there, now, grace_s)
    if one.status == "restarting":
        return (
            _looping(one)
            if one.restarts >= _LOOP
            else Verdict(State.STARTING, f"Docker restarts it ({_end(one)})")
        )
    if one.status == "paused":
        return Verdict(State.PAUSED, "it is paused, which only a person does")
    if one.status == "removing":
        return Verdict(State.LEAVING, "it is being removed")
    if one.status == "dead":
        return Verdict(State.DEAD, "Docker could not remove it and calls it dead")
    if (
        one.status == "exited"
        and one.exit_code == 0
        and one.restart in ("no", "on-failure")
        and not one.error
        and not one.serves
    ):
        return Verdict(State.ENDED, "it ended well")
    if one.parent is not None and one.parent not in there:
        return Verdict(State.ORPHANED, f"the container whose network it shares is gone, and it {_end(one)}")
    return Verdict(
        State.FALLEN, "it was never started" + _why(one) if one.started is None else f"it {_end(one)}"
    )


def _running(one: Unit, there: Mapping[str, Unit], now: datetime, grace_s: float) -> Verdict:
    age_s = (now - one.started).total_seconds() if one.started else float("inf")
    if one.restarts >= _LOOP and age_s < _SETTLED_S:
        return _looping(one)
    if one.parent is not None:
        parent = there.get(one.parent)
        if parent is None:
            return Verdict(State.ORPHANED, "the container whose network it shares was replaced")
        if not parent.running:
            return Verdict(State.CUT_OFF, f"{parent.name}, whose network it shares, does not run")
        if parent.started and one.started and parent.started > one.started:
            cause = f"{parent.name}, whose network it shares, was started after it: its own network is gone"
            return Verdict(State.CUT_OFF, cause)
    if one.health == "unhealthy" and one.fault is not None:
        return Verdict(State.UNCHECKED, one.fault.detail, {"health_output": one.said})
    if one.health == "unhealthy":
        said = f": {one.said}" if one.said else ""
        allowed_s = 0.0 if one.was_well else max(grace_s, one.start_period_s)
        if age_s < allowed_s:
            cause = f"its health check fails, but it was started only {age_s:.0f} s ago{said}"
            return Verdict(State.STARTING, cause)
        return Verdict(State.UNHEALTHY, f"its health check fails{said}", {"health_output": one.said})
    if one.health == "starting":
        return Verdict(State.STARTING, f"it was started {age_s:.0f} s ago, and its health is not known yet")
    return Verdict(State.UP)


def _looping(one: Unit) -> Verdict:
    cause = f"Docker has restarted it {one.restarts} times, and it ends each time ({_end(one)})"
    return Verdict(State.LOOPING, cause, {"restarts": one.restarts, "exit_code": one.exit_code})


def _end(one: Unit) -> str:
    if one.oom:
        return f"was killed for want of memory (exit code {one.exit_code})"
    return f"ended with exit code {one.exit_code}{_why(one)}"


def _why(one: Unit) -> str:
    return f": {one.error}" if one.error else ""
