"""What people did to a project lately, or do now: it is theirs, and left alone for `hands_off_s`.

A person's `docker stop` leaves an event `stop` behind the container's end; a crash, `docker kill` and the
out-of-memory killer do not. Docker keeps only its last 256 events of all kinds, three for each health
check, so on a lively machine they may not reach back far enough: what cannot be told is then left alone too,
for as long and no longer.
"""

import asyncio
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from opskit.recovery.ground import Ground
from opskit.recovery.steps.box import instant
from opskit.recovery.steps.containers import Unit
from opskit.recovery.steps.declared import Sources
from opskit.system.docker_records import PROJECT, SERVICE, Happening
from opskit.system.handiwork import Worker, workers

#: As many events as Docker keeps.
KEPT = 256
#: `docker stop` tells its event this much after the end at most, when networks are slow to leave.
_AFTER_END_S = 1.0
#: A stop this soon after our own repair began was ours.
_OURS_S = 90.0
_SIGKILL = "9"
_ONE_OFF = "com.docker.compose.oneoff"


@dataclass(frozen=True, slots=True)
class Past:
    """The events of the last `hands_off_s`, on the daemon's clock. `whole` tells that none is missing."""

    now: datetime
    events: Sequence[Happening] = ()
    whole: bool = True
    #: When our own repairs of a container began, by its name, on the same clock.
    ours: Mapping[str, Sequence[datetime]] = field(default_factory=dict)

    def was_ours(self, container: str, at: datetime) -> bool:
        began = self.ours.get(container, ())
        return any(0.0 <= (at - one).total_seconds() < _OURS_S for one in began)


async def past(ground: Ground, units: Sequence[Unit]) -> Past:
    """What Docker remembers, and when opskit repaired these containers.

    Raises OpskitError DOCKER_*.
    """
    now = instant((await ground.door.info()).get("SystemTime")) or datetime.now(UTC)
    ahead_s = now.timestamp() - ground.clock()
    since = now - timedelta(seconds=ground.config.recovery.hands_off_s)
    events = await ground.door.all_past_events(since, now)
    if any(may_be_stopping(one, events, now) for one in units):
        # The `stop` that belongs to an end comes a moment after it: Docker itself waits for that.
        events = await ground.door.all_past_events(since, now + timedelta(seconds=_AFTER_END_S))
    ours = {
        one.name: [datetime.fromtimestamp(at + ahead_s, UTC) for at in _repairs(ground, one.name)]
        for one in units
    }
    return Past(now, events, len(events) < KEPT, ours)


def _repairs(ground: Ground, container: str) -> list[float]:
    """When opskit restarted a container: as itself, or as the home of a node or an agent."""
    homes = [name for name, containers in ground.config.stack.containers.items() if container in containers]
    return [at for name in (f"container:{container}", *homes) for at in ground.memory.of(name).repairs]


def may_be_stopping(one: Unit, events: Iterable[Happening], now: datetime) -> bool:
    """Whether a container ended a moment ago by what may be a `docker stop` that is not told yet. Pure.

    `docker kill` sends SIGKILL at once, a stop the container's own signal first.
    """
    own = [event for event in events if event.id == one.id]
    if not own or not any(event.action == "die" and _age_s(event, now) < _AFTER_END_S for event in own):
        return False
    started = max((event.at_ns for event in own if event.action == "start"), default=0)
    signals = [
        event.attributes.get("signal") for event in own if event.action == "kill" and event.at_ns > started
    ]
    return any(signal != _SIGKILL or one.stops_by_kill for signal in signals)


def _age_s(event: Happening, now: datetime) -> float:
    return now.timestamp() - event.at_ns / 1e9


def stopped_in_order(one: Unit, seen: Past, hands_off_s: float) -> str | None:
    """Who ended a container of which there is nothing else to say; None when it ended by itself. Pure."""
    last = [event for event in seen.events if event.id == one.id and event.action in ("start", "die", "stop")]
    if not last or last[-1].action != "stop":
        return None
    return stopped(one, seen, hands_off_s)


def stopped(one: Unit, seen: Past, hands_off_s: float) -> str | None:
    """Why a container that does not run is left alone; None when nobody stopped it lately. Pure."""
    if one.finished is None:
        return None
    ago_s = (seen.now - one.finished).total_seconds()
    if ago_s >= hands_off_s:
        return None
    last = [event for event in seen.events if event.id == one.id and event.action in ("start", "die", "stop")]
    if last and last[-1].action == "stop":
        at = datetime.fromtimestamp(last[-1].at_ns / 1e9, UTC)
        return (
            None
            if seen.was_ours(one.name, at)
            else f"somebody stopped it {ago_s:.0f} s ago{_until(ago_s, hands_off_s)}"
        )
    if last or seen.whole or one.oom or one.error or seen.was_ours(one.name, one.finished):
        return None
    return (
        f"it ended {ago_s:.0f} s ago, and Docker does not remember whether somebody stopped it"
        f"{_until(ago_s, hands_off_s)}"
    )


def removed(services: Collection[str], project: str, seen: Past, hands_off_s: float) -> dict[str, str]:
    """Services whose container somebody stopped and removed lately, and why they are left alone. Pure.

    As `compose down` does it. What vanished without having been stopped (`docker rm -f`, a prune after a
    crash) is missed like what was killed.
    """
    found: dict[str, str] = {}
    halted: set[str] = set()
    for event in seen.events:
        about, service = event.attributes, event.attributes.get(SERVICE, "")
        one_off = about.get(_ONE_OFF, "False").lower() == "true"
        if about.get(PROJECT) != project or service not in services or one_off:
            continue
        if event.action == "stop":
            halted.add(event.id)
        elif event.action == "destroy" and event.id in halted:
            at = datetime.fromtimestamp(event.at_ns / 1e9, UTC)
            ago_s = max(0.0, (seen.now - at).total_seconds())
            if not seen.was_ours(about.get("name", ""), at):
                found[service] = f"somebody removed it {ago_s:.0f} s ago{_until(ago_s, hands_off_s)}"
        elif event.action == "create":
            found.pop(service, None)
    return found


async def busy(ground: Ground, found: Sources) -> str | None:
    """Why nothing of a project is touched now; None when nobody is at it."""
    rules = ground.config.recovery
    ago_s = ground.clock() - found.changed
    if abs(ago_s) < rules.hands_off_s:
        left_s = rules.hands_off_s - max(0.0, ago_s)
        return f"{found.newest} was changed {max(0.0, ago_s):.0f} s ago; left alone for {left_s:.0f} s more"
    if await asyncio.to_thread(_backup_runs, ground):
        return "a backup is being made or restored"
    at_work = await asyncio.to_thread(workers, ground.environ.get("DOCKER_HOST"))
    return worked_on(at_work, rules.hands_off_s)


def worked_on(at_work: Sequence[Worker], hands_off_s: float) -> str | None:
    """What somebody is doing; `up` in the foreground counts only in its first minutes. Pure."""
    for one in at_work:
        if not one.work.stays or one.age_s < hands_off_s:
            return f"somebody runs `{one.work.words}` (process {one.pid})"
    return None


def first_missed(
    marks: dict[str, float],
    key: str,
    missing: Mapping[str, object],
    now: float,
    seen: Past,
    hands_off_s: float,
) -> str | None:
    """Why a project without a container is left alone although no event tells of a removal.

    Where Docker's events do not reach back, the moment at which they were first missed counts. It is kept
    in `marks` and dropped once nothing is missing.
    """
    if not missing or seen.whole:
        marks.pop(key, None)
        return None
    ago_s = max(0.0, now - marks.setdefault(key, now))
    if ago_s >= hands_off_s:
        return None
    return f"Docker does not remember whether somebody removed it{_until(ago_s, hands_off_s)}"


def _until(ago_s: float, hands_off_s: float) -> str:
    return f"; left alone for {max(0.0, hands_off_s - ago_s):.0f} s more"


def _backup_runs(ground: Ground) -> bool:
    from opskit.backup.catalog import running

    return running(ground.config)
