"""What Docker remembers of the last minutes, and when opskit itself repaired a container."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from opskit.facts.container import Container, docker_time
from opskit.system.docker import Docker
from opskit.system.docker_records import DockerEvent

#: As many events as Docker keeps, of all kinds together; each run of a health check makes three.
KEPT_EVENTS = 256
#: `docker stop` tells its event this much after the end at most, when networks are slow to leave.
STOP_EVENT_DELAY_S = 1.0
_SIGKILL = "9"
#: As many may come between two questions to a lively daemon.
_NEWER_EVENTS = 32
#: SIGINT, SIGQUIT and SIGTERM: what ends a server that may then end with 0.
_ENDING_SIGNALS = ("2", "3", "15")
#: Docker gives all containers together so long to end when it ends itself.
_SHUTDOWN_S = 15.0
_EVER = datetime.fromtimestamp(1, UTC)


@dataclass(frozen=True, slots=True)
class ContainerEvents:
    """Docker's events of the last seconds that count, on the daemon's clock.

    `complete` tells that none is missing. `own_repairs` is when opskit began to repair a container, by its
    name, on the same clock. `were_ended` are the ids of containers that did not end by themselves: somebody
    stopped them, or the daemon ended with them.
    """

    now: datetime
    events: Sequence[DockerEvent] = ()
    complete: bool = True
    own_repairs: Mapping[str, Sequence[datetime]] = field(default_factory=dict)
    were_ended: frozenset[str] = frozenset()


async def read_container_events(
    docker: Docker,
    containers: Sequence[Container],
    *,
    back_s: float,
    own_repairs: Mapping[str, Sequence[float]],
    clock_s: float,
) -> ContainerEvents:
    """Read the events of the last `back_s`; `own_repairs` and `clock_s` are epoch seconds of this machine.

    Raises OpskitError DOCKER_*.
    """
    now = docker_time((await docker.info()).get("SystemTime")) or datetime.now(UTC)
    ahead_s = now.timestamp() - clock_s
    since = now - timedelta(seconds=back_s)
    past = await docker.all_past_events(_EVER, now)
    if any(may_be_stopping(container, past, now) for container in containers):
        # The `stop` that belongs to an end comes a moment after it: Docker itself waits for that.
        past = await docker.all_past_events(_EVER, now + timedelta(seconds=STOP_EVENT_DELAY_S))
    began = None
    if not _remembers_all(past):
        # The daemon makes its own bridge again each time that it starts.
        began = docker_time((await docker.found("network", "bridge") or {}).get("Created"))
    events = [event for event in past if event.at >= since]
    repairs = {
        container.name: [
            datetime.fromtimestamp(at + ahead_s, UTC) for at in own_repairs.get(container.name, ())
        ]
        for container in containers
    }
    were_ended = {container.id for container in containers if was_told_to_end(container, past)}
    were_ended |= ended_with_daemon(containers, past, began)
    return ContainerEvents(now, events, len(events) < KEPT_EVENTS, repairs, frozenset(were_ended))


def _remembers_all(events: Sequence[DockerEvent]) -> bool:
    """Tell whether the daemon has forgotten no event; some may be newer than the time that was asked for."""
    return len(events) < KEPT_EVENTS - _NEWER_EVENTS


def was_told_to_end(container: Container, events: Iterable[DockerEvent]) -> bool:
    """Tell whether somebody stopped a container, or sent it the signal that ended it. Pure."""
    was_told, sent_s = False, float("-inf")
    for event in events:
        if event.id != container.id:
            continue
        match event.action:
            case "kill" if event.attributes.get("signal") in _ENDING_SIGNALS:
                sent_s = event.at.timestamp()
            case "start":
                was_told = False
            case "die":
                was_told = event.at.timestamp() - sent_s <= container.stop_timeout_s
            case "stop":
                was_told = True
    return was_told


def ended_with_daemon(
    containers: Sequence[Container], events: Sequence[DockerEvent], began: datetime | None
) -> set[str]:
    """Return the ids of containers that ended when an earlier daemon did: the last of their project. Pure.

    What a job ended by itself long before that is none of them, nor what ended before its project got new
    containers. An end that no event tells of was before the daemon `began`, as long as it remembers all; else
    the end itself says so, where that time is known.
    """
    died = {event.id for event in events if event.action == "die"}
    remembers_all = _remembers_all(events)
    ends: dict[str, datetime] = {}
    last: dict[str, datetime] = {}
    slack_s = _SHUTDOWN_S
    for container in containers:
        project, end = container.project or container.id, container.finished
        moments = [last.get(project, _EVER), container.created or _EVER]
        if end and not (container.id in died if remembers_all else began is None or end >= began):
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


def may_be_stopping(container: Container, events: Iterable[DockerEvent], now: datetime) -> bool:
    """Tell whether a container ended a moment ago by what may be a `docker stop` that is not told yet. Pure.

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
