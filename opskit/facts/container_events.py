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


@dataclass(frozen=True, slots=True)
class ContainerEvents:
    """Docker's events of the last seconds that count, on the daemon's clock.

    `complete` tells that none is missing. `own_repairs` is when opskit began to repair a container, by its
    name, on the same clock.
    """

    now: datetime
    events: Sequence[DockerEvent] = ()
    complete: bool = True
    own_repairs: Mapping[str, Sequence[datetime]] = field(default_factory=dict)


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
    events = await docker.all_past_events(since, now)
    if any(may_be_stopping(container, events, now) for container in containers):
        # The `stop` that belongs to an end comes a moment after it: Docker itself waits for that.
        events = await docker.all_past_events(since, now + timedelta(seconds=STOP_EVENT_DELAY_S))
    repairs = {
        container.name: [
            datetime.fromtimestamp(at + ahead_s, UTC) for at in own_repairs.get(container.name, ())
        ]
        for container in containers
    }
    return ContainerEvents(now, events, len(events) < KEPT_EVENTS, repairs)


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
