"""The containers of one run: read from Docker in one place, with all that a judgement of them needs."""

import asyncio
import json
import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from opskit.config.schema import Config
from opskit.errors import OpskitError
from opskit.facts.container import Container, StartObstacle, container, docker_time
from opskit.facts.container_events import ContainerEvents, RecoveryHistory, read_container_events
from opskit.facts.survey import Survey
from opskit.logs.record import LogEntry, facts, uncoloured
from opskit.records import Record, field
from opskit.system.docker import Docker
from opskit.system.docker_records import PROJECT, SERVICE, ListedContainer
from opskit.text import size

#: Where recovery remembers its repairs, in the state folder.
RECOVERY_FILE = "recovery.json"
#: The fact of its memory that keeps the events it read.
EVENTS_FACT = "docker events"
_AT_ONCE = 16
#: What is kept of a log at most; the newest lines win.
_LOG_BYTES = 1024 * 1024
_MAX_BYTES = 4 * 1024 * 1024
_LAST_LINES, _LAST_WORDS_S = 40, 4.0
#: Whoever shows it masks its secrets first, then shortens it: half a secret is not known as one.
_LAST_CHARS = 4000


class ContainerSurvey(Record, kw_only=True):
    """The containers that were asked for, and by id all that they are judged beside: `peers` holds them too.

    `now` is the daemon's clock. `events` is None where every container runs, so that nobody stopped one.
    `networks` are the ids of existing networks, None where nobody asked. `obstacles` keep containers, by id,
    from their start.
    """

    containers: tuple[Container, ...]
    peers: Mapping[str, Container]
    now: datetime
    events: ContainerEvents | None = None
    networks: frozenset[str] | None = None
    obstacles: Mapping[str, StartObstacle] = field(default_factory=dict)


async def read_container(docker: Docker, name: str) -> Container | None:
    """Read a container by name or id; None when there is none. Raises OpskitError DOCKER_*."""
    item = await docker.named(name)
    return None if item is None else container(item)


async def read_containers(docker: Docker, names: Iterable[str]) -> list[Container]:
    """Read containers in order; one that is not there (any more) is left out. Raises OpskitError DOCKER_*."""
    gate = asyncio.Semaphore(_AT_ONCE)

    async def read(name: str) -> Container | None:
        async with gate:
            return await read_container(docker, name)

    containers = await asyncio.gather(*map(read, names))
    return [container for container in containers if container is not None]


async def read_compose_containers(
    docker: Docker, project: str | None = None, service: str | None = None
) -> list[Container]:
    """Read the containers of a Compose project or service: stopped ones and ones of `compose run` too."""
    labels = [f"{PROJECT}={project}"] if project else []
    labels += [f"{SERVICE}={service}"] if service else []
    return await read_containers(docker, [listed.id for listed in await docker.containers(labels=labels)])


async def survey_containers(
    docker: Docker,
    containers: Sequence[Container],
    config: Config,
    *,
    history: RecoveryHistory | None = None,
    clock_s: float | None = None,
    obstacles: Mapping[str, StartObstacle] | None = None,
) -> ContainerSurvey:
    """Read what judging these containers needs: peers, the daemon's clock, and events where one stopped.

    `history` is what recovery remembers; None means what the state folder holds of it. `obstacles` are those
    of `read_start_obstacles`.
    Raises OpskitError DOCKER_*.
    """
    peers = await _peers(docker, containers)
    if all(container.running for container in containers):
        now = docker_time((await docker.info()).get("SystemTime")) or datetime.now(UTC)
        return ContainerSurvey(containers=tuple(containers), peers=peers, now=now, obstacles=obstacles or {})
    events, networks = await asyncio.gather(
        read_container_events(
            docker,
            [*peers.values()],
            back_s=config.recovery.hands_off_s,
            history=recovery_history(Path(config.state_dir), config) if history is None else history,
            clock_s=time.time() if clock_s is None else clock_s,
        ),
        read_network_ids(docker),
    )
    return ContainerSurvey(
        containers=tuple(containers),
        peers=peers,
        now=events.now,
        events=events,
        networks=networks,
        obstacles=obstacles or {},
    )


async def read_network_ids(docker: Docker) -> frozenset[str]:
    """Read the ids of all networks. Raises OpskitError DOCKER_*."""
    return frozenset(str(network["Id"]) for network in await docker.all_of("network"))


async def _peers(docker: Docker, containers: Sequence[Container]) -> dict[str, Container]:
    """Read the owners of what others share, and for what ended with 0 the other containers of its project."""
    peers = {peer.id: peer for peer in containers}
    shared = (owner for peer in containers for owner in (peer.shares_network_of, *peer.joins))
    owners = {owner for owner in shared if owner} - peers.keys()
    projects = {
        peer.project for peer in containers if peer.status == "exited" and not peer.exit_code and peer.project
    }
    groups = await asyncio.gather(
        read_containers(docker, sorted(owners)),
        *(read_compose_containers(docker, project) for project in sorted(projects)),
    )
    return {peer.id: peer for group in groups for peer in group} | peers


def recovery_history(folder: Path, config: Config) -> RecoveryHistory:
    """Read what recovery remembers of its repairs; nothing where that cannot be read."""
    try:
        with (folder / RECOVERY_FILE).open("rb") as stream:
            content = json.loads(stream.read(_MAX_BYTES))
        repairs = {
            str(name): (float(record["repairs"][-1]), None if ended_at is None else float(ended_at))
            for name, record in content["targets"].items()
            for ended_at in (record.get("ended_at"),)
            if record.get("repairs")
        }
        return history_of(repairs, content["facts"], config)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return RecoveryHistory()


def history_of(
    repairs: Mapping[str, tuple[float, float | None]], facts: Mapping[str, Any], config: Config
) -> RecoveryHistory:
    """Sort the last repairs of targets by container: itself, or the home of a node or an agent. Pure."""
    by_container = {
        name.removeprefix("container:"): [repair]
        for name, repair in repairs.items()
        if name.startswith("container:")
    }
    for member, names in config.stack.containers.items():
        for name in names:
            if member in repairs:
                by_container.setdefault(name, []).append(repairs[member])
    return RecoveryHistory(by_container, facts.get(EVENTS_FACT))


class ContainerLog(Record):
    """The last lines that were read. `problem` is why there are none, or not all."""

    entries: tuple[LogEntry, ...] = ()
    problem: str | None = None

    def lines(self, max_chars: int) -> list[str]:
        """Return each line as text, shortened; the problem is the last one."""
        texts = (entry.raw.decode("utf-8", "replace") for entry in self.entries)
        shown = [text if len(text) <= max_chars else f"{text[:max_chars]}..." for text in texts]
        return shown if self.problem is None else [*shown, f"({self.problem})"]


async def read_container_log(
    docker: Docker,
    name: str,
    lines: int,
    *,
    limit_s: float,
    since: float | None = None,
) -> ContainerLog:
    """Read the last lines of a container's log, from `since` (epoch seconds) on. Never raises for Docker."""
    if lines <= 0:
        return ContainerLog()
    from opskit.logs.container import ContainerSource
    from opskit.logs.source import Window

    entries: deque[LogEntry] = deque()
    held_bytes, problem = 0, None
    source = ContainerSource(docker, ListedContainer(name, name, "", "running"))
    try:
        async with asyncio.timeout(limit_s):
            async for batch in source.read(Window(tail=lines, since=since)):
                for entry in batch:
                    if not isinstance(entry, LogEntry):
                        continue
                    entries.append(entry)
                    held_bytes += len(entry.raw)
                    while held_bytes > _LOG_BYTES and len(entries) > 1:
                        held_bytes -= len(entries.popleft().raw)
                        problem = f"only the last {size(held_bytes)} of it"
    except OpskitError as error:
        problem = f"its log cannot be read: {error.message}"
    except TimeoutError:
        problem = f"its log did not end within {limit_s:g} s"
    return ContainerLog(tuple(entries), problem)


async def read_last_words(survey: Survey, identifier: str, since: float | None) -> str:
    """Read why a container ended, as its log since then says: empty where it says nothing."""
    log = await read_container_log(
        await survey.docker(), identifier, _LAST_LINES, limit_s=_LAST_WORDS_S, since=since
    )
    return last_words(log.entries)


def last_words(entries: Iterable[LogEntry]) -> str:
    """Return the last complaint of a log; where none has that level, the last line with no level. Pure.

    Of a traceback that is its last line, of a line in JSON its message.
    """
    from opskit.logs.events import Grouper

    grouper = Grouper()
    events = [event for entry in entries for event in grouper.push(entry)] + grouper.flush()
    read = [(facts(event.raw), event) for event in events if event.raw.strip()]
    complaints = [pair for pair in read if (pair[0].level or pair[1].level) in ("error", "critical")]
    plain = [pair for pair in read if pair[0].level is None]
    for fact, event in reversed(complaints or plain or read):
        text = uncoloured(event.raw).decode("utf-8", "replace").rstrip()
        is_traceback = "Traceback (most recent call last)" in text
        line = text.rpartition("\n")[2] if is_traceback else text.partition("\n")[0]
        return " ".join((fact.message if fact.form == "json" else line).split())[:_LAST_CHARS]
    return ""
