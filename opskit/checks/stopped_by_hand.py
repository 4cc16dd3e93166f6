"""Whether a person stopped or removed a container lately: what they did is theirs, and is left to them. Pure.

A person's `docker stop` leaves an event `stop` behind the container's end; a crash, `docker kill` and the
out-of-memory killer do not. Where the events that are known do not reach back to the end, the container's own
record decides: whether Docker was asked to stop it, and its exit code. What is not known is
left alone for as long.
"""

from collections.abc import Collection
from datetime import datetime, timedelta

from opskit.facts.container import KILLED, Container, is_one_off
from opskit.facts.container_events import ContainerEvents
from opskit.system.docker_records import PROJECT, SERVICE, DockerEvent

#: A stop this soon after a repair of opskit began that never ended was its own.
_UNFINISHED_S = 90.0
#: Clocks agree to within this.
_CLOCK_S = 0.25
#: Exit codes of Docker itself begin here: its daemon failed, the program cannot be run or is not there.
_OF_DOCKER = 125


def stopped_by_hand(container: Container, events: ContainerEvents, hands_off_s: float) -> str:
    """Return why a container that does not run is left alone; nothing when nobody stopped it lately."""
    if container.finished is None:
        return ""
    ago_s = (events.now - container.finished).total_seconds()
    if ago_s >= hands_off_s:
        return ""
    last = last_event(container, events)
    if last is not None and last.action == "stop":
        own = _is_own_stop(container, last.at, events)
        return "" if own else f"somebody stopped it {ago_s:.0f} s ago{until(ago_s, hands_off_s)}"
    if last is not None or events.reach(container.finished) or _crashed(container, events):
        return ""
    if container.id in events.ended_with_daemon or _is_own_stop(container, container.finished, events):
        return ""
    return (
        f"it ended {ago_s:.0f} s ago, and Docker does not remember whether somebody stopped it"
        f"{until(ago_s, hands_off_s)}"
    )


def ended_by_itself(container: Container, events: ContainerEvents | None) -> bool:
    """Tell whether it is known for sure that nobody stopped a container."""
    if events is None:
        return False
    last = last_event(container, events)
    if last is not None:
        return last.action == "die"
    return events.stopped_by_request.get(container.id) is False


def _crashed(container: Container, events: ContainerEvents) -> bool:
    """Tell whether a container shows by itself that no stop ended it.

    A stop ends a program by its stop signal, which it may answer by any code of its own, or by SIGKILL where
    the program ignores that, which looks the same as a kill.
    """
    code, asked = container.exit_code, events.stopped_by_request.get(container.id)
    if container.oom_killed or container.error or asked is False:
        return True
    if code == KILLED:
        return not container.stops_by_kill
    if code in (0, container.stop_exit) or asked:
        return False
    return code >= _OF_DOCKER


def _is_own_stop(container: Container, at: datetime, events: ContainerEvents) -> bool:
    """Tell whether opskit's repair stopped a container; what that has started since, a person stops."""
    began = max((began for began, _ in events.own_repairs.get(container.name, ()) if began <= at), default=at)
    starts = [event.at for event in events.events if event.action == "start" and event.id == container.id]
    starts += [] if container.started is None else [container.started]
    return is_own(container.name, at, events) and not any(began <= start < at for start in starts)


def last_event(container: Container, events: ContainerEvents) -> DockerEvent | None:
    """Return the last event that tells how a container came to run or not to, as it is now."""
    since = container.finished or container.started
    own = [
        event
        for event in events.events
        if event.id == container.id and event.action in ("start", "die", "stop")
    ]
    is_of_now = bool(own) and (since is None or own[-1].at >= since - timedelta(seconds=1))
    return own[-1] if is_of_now else None


def removed_by_hand(
    services: Collection[str], project: str, events: ContainerEvents, hands_off_s: float
) -> dict[str, str]:
    """Return the services whose container somebody stopped and removed lately, and why they are left alone.

    As `compose down` does it. What vanished without having been stopped (`docker rm -f`, a prune after a
    crash) is missed like what was killed.
    """
    removed: dict[str, str] = {}
    stopped: set[str] = set()
    for event in events.events:
        labels, service = event.attributes, event.attributes.get(SERVICE, "")
        if labels.get(PROJECT) != project or service not in services or is_one_off(labels):
            continue
        if event.action == "stop":
            stopped.add(event.id)
        elif event.action == "destroy" and event.id in stopped:
            at = event.at
            ago_s = max(0.0, (events.now - at).total_seconds())
            if not is_own(labels.get("name", ""), at, events):
                removed[service] = f"somebody removed it {ago_s:.0f} s ago{until(ago_s, hands_off_s)}"
        elif event.action == "create":
            removed.pop(service, None)
    return removed


def is_own(container: str, at: datetime, events: ContainerEvents) -> bool:
    """Tell whether what happened to a container then was opskit's own repair: while its commands ran."""
    slack, unfinished = timedelta(seconds=_CLOCK_S), timedelta(seconds=_UNFINISHED_S)
    return any(
        began - slack <= at <= (began + unfinished if ended is None else ended + slack)
        for began, ended in events.own_repairs.get(container, ())
    )


def until(ago_s: float, hands_off_s: float) -> str:
    """Say for how long something is left alone."""
    return f"; left alone for {max(0.0, hands_off_s - ago_s):.0f} s more"
