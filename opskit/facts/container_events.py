"""What is known of the last minutes of containers: Docker's events, and what opskit recorded of them and did.

Docker keeps its last 256 events of all kinds, three for each run of a health check, and none beyond a restart
of its own. What recovery read of them it records, so that they reach back further.
"""

import asyncio
import contextlib
import json
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from opskit.facts.container import Container, docker_time
from opskit.records import Record, field
from opskit.system.docker import Docker
from opskit.system.docker_records import DockerEvent

#: As many events as Docker keeps, of all kinds together; each run of a health check makes three.
KEPT_EVENTS = 256
#: `docker stop` tells its event this much after the end at most, when networks are slow to leave.
STOP_EVENT_DELAY_S = 1.0
#: The start of a process is known to within this.
_START_S = 2.0
#: What a daemon ends together when it ends itself.
_TOGETHER_S = 1.5
_SIGKILL = "9"
#: SIGINT, SIGQUIT and SIGTERM: what ends a server that may then end with 0.
_ENDING_SIGNALS = ("2", "3", "15")
#: Docker gives all containers together so long to end when it ends itself.
_SHUTDOWN_S = 15.0
_EVER = datetime.fromtimestamp(1, UTC)
#: What is recorded of the events: how containers came and went.
_RECORDED = ("create", "start", "kill", "die", "stop", "destroy")
_RECORDED_AT_MOST = 1000

#: When the commands of a repair began and ended; None while they run, and when they were cut off.
Period = tuple[datetime, datetime | None]


class RecoveryHistory(Record):
    """What recovery remembers: its last repair of each container, and the events that it recorded.

    Times of `repairs` are seconds since the epoch on this machine.
    """

    repairs: Mapping[str, Sequence[tuple[float, float | None]]] = field(default_factory=dict)
    recorded: Any = None


class ContainerEvents(Record):
    """The events of the last seconds that count, on the daemon's clock.

    `complete` tells that none is missing; where some are, none is since `since`. `own_repairs` is when opskit
    repaired a container, by its name. `stopped_by_request` tells by id whether Docker was asked to stop or to
    kill the container, where that can be read. `ended_with_daemon` are others, of which several ended at
    once before the daemon began.
    `were_ended` did not end by themselves: somebody stopped them, or the daemon ended with them.
    """

    now: datetime
    events: Sequence[DockerEvent] = ()
    complete: bool = True
    own_repairs: Mapping[str, Sequence[Period]] = field(default_factory=dict)
    since: datetime | None = None
    stopped_by_request: Mapping[str, bool] = field(default_factory=dict)
    ended_with_daemon: frozenset[str] = frozenset()
    were_ended: frozenset[str] = frozenset()

    def reach(self, at: datetime) -> bool:
        """Tell whether no event since then is missing."""
        return self.complete if self.since is None else at >= self.since

    def as_recorded(self) -> dict[str, Any]:
        events = [event for event in self.events if event.action in _RECORDED][-_RECORDED_AT_MOST:]
        since = self.since or self.now
        return {
            "since": since.timestamp(),
            "until": self.now.timestamp(),
            "events": [
                [event.at_ns, event.id, event.name, event.action, dict(event.attributes)] for event in events
            ],
        }


async def read_container_events(
    docker: Docker,
    containers: Sequence[Container],
    *,
    back_s: float,
    history: RecoveryHistory,
    clock_s: float,
) -> ContainerEvents:
    """Read the events of the last `back_s`; `clock_s` is the time on this machine.

    Raises OpskitError DOCKER_*.
    """
    began = time.monotonic()
    info = await docker.info()
    took_s = time.monotonic() - began
    now = docker_time(info.get("SystemTime")) or datetime.now(UTC)
    # An answer that took so long does not tell whether a smaller difference is one.
    seen_s = now.timestamp() - clock_s
    ahead_s = 0.0 if -0.05 <= seen_s <= took_s + 0.05 else seen_s - took_s / 2
    since = now - timedelta(seconds=back_s)
    past = await docker.all_past_events(_EVER, now)
    if any(may_be_stopping(container, past, now) for container in containers):
        # The `stop` that belongs to an end comes a moment after it: Docker itself waits for that.
        past = await docker.all_past_events(_EVER, now + timedelta(seconds=STOP_EVENT_DELAY_S))
    events = [event for event in past if event.at >= since]
    daemon_s = await docker.began_s()
    # A daemon makes its own bridge again each time that it starts.
    bridge = await docker.found("network", "bridge") if daemon_s is None else None
    daemon = docker_time((bridge or {}).get("Created")) if daemon_s is None else _moment(daemon_s + ahead_s)
    recorded = _recorded(history.recorded)
    reaches_s = _reaches_back_s(events, recorded, since, daemon)
    known = {(event.at_ns, event.id, event.action): event for event in (*recorded.events, *past)}
    known_in_order = [event for _, event in sorted(known.items())]
    ended = [container for container in containers if not container.running and container.finished]
    root = Path(str(info.get("DockerRootDir") or "/var/lib/docker"))
    requests = await asyncio.to_thread(_stopped_by_request, root, [container.id for container in ended])
    were_ended = {container.id for container in ended if was_stopped(container, known_in_order)}
    were_ended |= {identifier for identifier, asked in requests.items() if asked}
    were_ended |= last_of_projects(containers, daemon)
    return ContainerEvents(
        now,
        [event for event in known_in_order if event.at >= since],
        len(events) < KEPT_EVENTS,
        {
            container.name: [
                (_moment(begin_s + ahead_s), None if end_s is None else _moment(end_s + ahead_s))
                for begin_s, end_s in history.repairs.get(container.name, ())
            ]
            for container in containers
        },
        _moment(max(reaches_s, since.timestamp())),
        requests,
        _ended_together(ended, daemon) - requests.keys(),
        frozenset(were_ended),
    )


def was_stopped(container: Container, events: Iterable[DockerEvent]) -> bool:
    """Tell whether somebody stopped a container, or sent it the signal that ended it. Pure."""
    is_stopped, sent_s = False, float("-inf")
    for event in events:
        if event.id != container.id:
            continue
        match event.action:
            case "kill" if event.attributes.get("signal") in _ENDING_SIGNALS:
                sent_s = event.at.timestamp()
            case "start":
                is_stopped = False
            case "die":
                is_stopped = event.at.timestamp() - sent_s <= container.stop_timeout_s
            case "stop":
                is_stopped = True
    return is_stopped


def last_of_projects(containers: Sequence[Container], daemon: datetime | None) -> set[str]:
    """Return the ids of containers that ended when an earlier daemon did: the last of their project. Pure.

    What a job ended by itself long before that is none of them, nor what ended before its project got new
    containers. `daemon` is when the daemon began, None where nobody knows.
    """
    ends: dict[str, datetime] = {}
    last: dict[str, datetime] = {}
    slack_s = _SHUTDOWN_S
    for container in containers:
        project, end = container.project or container.id, container.finished
        moments = [last.get(project, _EVER), container.created or _EVER]
        if end is not None and _is_of_earlier_daemon(container, daemon):
            ends[container.id] = end
            moments.append(end)
            slack_s = max(slack_s, container.stop_timeout_s)
        last[project] = max(moments)
    return {
        container.id
        for container in containers
        if container.id in ends
        and (last[container.project or container.id] - ends[container.id]).total_seconds() <= slack_s
    }


class _RecordedEvents(Record):
    since_s: float = float("inf")
    until_s: float = float("-inf")
    events: Sequence[DockerEvent] = ()


def _recorded(content: Any) -> _RecordedEvents:
    """Read what recovery remembers; nothing where it cannot be understood."""
    try:
        events = [
            DockerEvent(int(at_ns), str(identifier), str(name), str(action), attributes=dict(attributes))
            for at_ns, identifier, name, action, attributes in content["events"]
        ]
        return _RecordedEvents(float(content["since"]), float(content["until"]), events)
    except (TypeError, ValueError, KeyError, OverflowError):
        return _RecordedEvents()


def _reaches_back_s(
    events: Sequence[DockerEvent], recorded: _RecordedEvents, since: datetime, daemon: datetime | None
) -> float:
    """Return since when no event is missing, in Docker's memory and in what is recorded before that."""
    reaches_s = since.timestamp()
    if len(events) >= KEPT_EVENTS:
        reaches_s = events[0].at.timestamp()
    if daemon is not None:
        reaches_s = max(reaches_s, daemon.timestamp() + _START_S)
    there = {(event.at_ns, event.id, event.action) for event in events}
    if any(
        event.at.timestamp() > reaches_s and (event.at_ns, event.id, event.action) not in there
        for event in recorded.events
    ):
        # A daemon that has forgotten them was restarted.
        reaches_s = max(reaches_s, recorded.until_s)
    return min(reaches_s, recorded.since_s) if recorded.until_s >= reaches_s else reaches_s


def _stopped_by_request(root: Path, identifiers: Iterable[str]) -> dict[str, bool]:
    """Read Docker's own record of containers, where this user may: what it keeps for its restart policies."""
    requests: dict[str, bool] = {}
    for identifier in identifiers:
        path = root / "containers" / identifier / "config.v2.json"
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
            requests[identifier] = bool(json.loads(path.read_bytes())["HasBeenManuallyStopped"])
    return requests


def _ended_together(containers: Sequence[Container], daemon: datetime | None) -> frozenset[str]:
    ends = {container.id: container.finished for container in containers}
    earlier = [container for container in containers if _is_of_earlier_daemon(container, daemon)]
    return frozenset(
        container.id
        for container in earlier
        for other, at in ends.items()
        if other != container.id and at is not None and container.finished is not None
        if abs((at - container.finished).total_seconds()) < _TOGETHER_S
    )


def _is_of_earlier_daemon(container: Container, daemon: datetime | None) -> bool:
    """Tell whether a container ended with, or before, the daemon that was there before this one.

    The start of this one may be read too early; it started what it ends itself.
    """
    started, end = container.started, container.finished
    if daemon is None or started is None or end is None:
        return False
    return started < daemon and end < daemon + timedelta(seconds=_START_S)


def _moment(at: float) -> datetime:
    return datetime.fromtimestamp(at, UTC)


def may_be_stopping(container: Container, events: Iterable[DockerEvent], now: datetime) -> bool:
    """Tell whether what ended a container a moment ago may be a `docker stop` without its event yet. Pure.

    `docker kill` sends SIGKILL at once, a stop the container's own signal first.
    """
    own = [event for event in events if event.id == container.id]
    deaths_s = [now.timestamp() - event.at_ns / 1e9 for event in own if event.action == "die"]
    if not any(ago_s < STOP_EVENT_DELAY_S for ago_s in deaths_s):
        return False
    started = max((event.at_ns for event in own if event.action == "start"), default=0)
    signals = [
        event.attributes.get("signal") for event in own if event.action == "kill" and event.at_ns > started
    ]
    return any(signal != _SIGKILL or container.stops_by_kill for signal in signals)
