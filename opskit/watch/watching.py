"""The watch itself: asks on a beat, listens in between, and tells what changed.

Everything that it holds is bounded. It asks no model for a token and loads nothing; a target that hangs
delays neither the beat nor the others, since each question has a deadline and a task of its own.
"""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any

from opskit.config.schema import Config
from opskit.errors import UsageError
from opskit.facts.survey import Survey
from opskit.logs.container import ContainerSource
from opskit.logs.files import FileSource
from opskit.logs.glob_source import resolve
from opskit.logs.source import LeftOut, LogSource, Note
from opskit.records import Record
from opskit.system.docker import Docker
from opskit.system.docker_records import ListedContainer
from opskit.system.logfile import LOG_NAME
from opskit.system.threads import use_abandonable_threads
from opskit.text import duration_s
from opskit.watch.containers import ContainerWatch
from opskit.watch.logs import HISTORY_LINES, LogWatch, Reader
from opskit.watch.machine import MachineWatch
from opskit.watch.polling import Poller, Ticker, ask_all, jump_s
from opskit.watch.targets import AgentTarget, NodeTarget, Target, TargetWatch
from opskit.watch.view import Kind, View, WatchEvent

AREAS = ("nodes", "agents", "requests", "errors", "machine", "containers")
LEAST_EVERY_S = 0.5
MOST_EVERY_S = 86_400.0
#: How long a tick waits for answers, so that it tells of now and not of the beat before.
PATIENCE_S = 0.25
FIRST_PATIENCE_S = 1.0
_NOTES = 5


class WatchOptions(Record):
    """What was asked for, as far as it can be judged without a configuration."""

    specs: tuple[str, ...]
    every_s: float
    count: int | None
    only: tuple[str, ...]


class WatchParts(Record, kw_only=True):
    """What is watched. `own` is the source whose past is read too, `docker` None where nobody asks it.

    `stack_containers` have their state reported at the start; with `follows_logs` their logs are read as
    soon as they are there. `disks` are folders.
    """

    areas: frozenset[str]
    every_s: float
    targets: Sequence[Target] = ()
    sources: Sequence[LogSource] = ()
    own: LogSource | None = None
    docker: Docker | None = None
    stack_containers: Sequence[str] = ()
    follows_logs: bool = False
    disks: Sequence[str] = ("/",)


def options(specs: Sequence[str], every: str, count: int | None, only: Sequence[str]) -> WatchOptions:
    """Read the options of the command. Raises UsageError for an interval that cannot be used."""
    word = every.strip()
    seconds = duration_s(f"{word}s" if word.replace(".", "", 1).isdecimal() else word)
    if seconds is None:
        raise UsageError(f"--every {every!r} is no duration", remedy="write it like 500ms, 5s or 1m30s")
    if not LEAST_EVERY_S <= seconds <= MOST_EVERY_S:
        bound = f"at least {LEAST_EVERY_S:g} s" if seconds < LEAST_EVERY_S else "at most a day"
        raise UsageError(f"--every {every}: it must be {bound}", remedy="write it like 500ms, 5s or 1m30s")
    return WatchOptions(tuple(specs), seconds, count, tuple(only))


async def open_parts(options: WatchOptions, survey: Survey) -> WatchParts:
    """Return the parts of a watch over a survey. Raises OpskitError for a source that is not there."""
    config = survey.config
    areas, named = _areas(options.only, config)

    def is_chosen(area: str, name: str) -> bool:
        return area in areas and (name in named or area in options.only or not named)

    targets: list[Target] = [
        NodeTarget(node, survey, required=node.required or node.name in named)
        for node in config.nodes
        if is_chosen("nodes", node.name)
    ]
    targets += [
        AgentTarget(agent, survey, required=agent.required or agent.name in named)
        for agent in config.agents
        if is_chosen("agents", agent.name)
    ]
    own = Path(config.state_dir) / LOG_NAME
    sources: Sequence[LogSource] = ()
    if options.specs:
        sources, _ = await resolve(options.specs, own, follow=True)
        for source in sources:
            if isinstance(source, FileSource):
                # Raises for one that cannot be read: it was named.
                _ = source.is_plain
    reads_own = not options.specs and bool(areas & {"requests", "errors"})
    stack = tuple(dict.fromkeys(name for names in config.stack.containers.values() for name in names))
    folder = Path(config.state_dir).absolute()
    state = next((path for path in (folder, *folder.parents) if path.exists()), "/")
    return WatchParts(
        areas=areas,
        every_s=options.every_s,
        targets=targets,
        sources=sources,
        own=FileSource(own, "opskit") if reads_own else None,
        docker=Docker() if "containers" in areas or (reads_own and stack) else None,
        stack_containers=stack,
        follows_logs=reads_own,
        disks=tuple(dict.fromkeys(("/", str(state)))),
    )


def _areas(only: Sequence[str], config: Config) -> tuple[frozenset[str], frozenset[str]]:
    """Return the areas to watch, and the targets that were named. Raises UsageError for other words."""
    if not only:
        return frozenset(AREAS), frozenset()
    area_of = {node.name: "nodes" for node in config.nodes} | {
        agent.name: "agents" for agent in config.agents
    }
    for word in only:
        if word not in AREAS and word not in area_of:
            known = ", ".join([*AREAS, *sorted(area_of)])
            raise UsageError(
                f"--only {word!r} names nothing that can be watched", remedy=f"use one of: {known}"
            )
    named = frozenset(word for word in only if word not in AREAS)
    return frozenset(word if word in AREAS else area_of[word] for word in only), named


class Watch:
    """Use `events` once. `clock` is monotonic seconds, `wall` epoch seconds."""

    def __init__(
        self,
        config: Config,
        parts: WatchParts,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._skew_s = config.watch.clock_skew_s
        self._parts = parts
        self._clock = clock
        self._wall = wall
        self._ready: deque[WatchEvent] = deque()
        self._wake = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._notes: deque[str] = deque(maxlen=_NOTES)
        self._followed: set[str] = set()
        self._number = self._skipped = 0
        self._targets = TargetWatch(parts.targets, clock=clock, emit=self._emit)
        self._machine = MachineWatch(
            config, parts.disks, clock=clock, emit=self._emit, loaded=self._targets.loaded
        )
        own = None if parts.own is None else parts.own.name
        self._logs = LogWatch(config, parts.areas, own, wall=wall, emit=self._emit, note=self._log_note)
        self._containers = (
            None
            if parts.docker is None
            else ContainerWatch(
                parts.docker,
                parts.stack_containers,
                config,
                is_asked="containers" in parts.areas,
                emit=self._emit,
                note=self._notes.append,
                started=self._follow_container,
                wall=wall,
            )
        )

    async def events(self, count: int | None = None) -> AsyncGenerator[WatchEvent, None]:
        """What happens, as it happens, and a tick on each beat; ends after `count` ticks.

        Close it (`contextlib.aclosing`): that ends every task and connection.
        """
        use_abandonable_threads()
        own = None if self._parts.own is None else self._follow(self._parts.own, HISTORY_LINES)
        for source in self._parts.sources:
            self._follow(source)
        if self._containers is not None:
            self._start(self._containers.run())
        beat = Ticker(self._clock(), self._parts.every_s)
        due, clocks = beat.began, (self._wall(), self._clock())
        try:
            while True:
                await self._wait_until(due)
                while self._ready:
                    yield self._ready.popleft()
                if (now := self._clock()) < due:
                    continue
                clocks = self._compare_clocks(clocks)
                await self._round(own)
                while self._ready:
                    yield self._ready.popleft()
                yield WatchEvent("tick", self._wall(), self.view().as_json())
                if count is not None and self._number >= count:
                    return
                before = round((due - beat.began) / beat.every_s)
                number, due = beat.after(max(now, self._clock()))
                self._skipped += number - before - 1
        finally:
            await self._end()

    def view(self) -> View:
        """Return what is known just now."""
        now = self._clock()
        return View(
            at=self._wall(),
            now=now,
            number=self._number,
            skipped=self._skipped,
            every_s=self._parts.every_s,
            logs=self._logs.view(),
            targets=self._targets.view(now),
            machine=self._machine.view(now) if "machine" in self._parts.areas else None,
            requests=self._logs.requests(),
            containers=None if self._containers is None else self._containers.view(),
            notes=tuple(self._notes),
        )

    @property
    def _pollers(self) -> list[Poller[Any]]:
        """The questions of each tick."""
        machine = [self._machine.gauges] if "machine" in self._parts.areas else []
        return [*self._targets.pollers, *machine]

    async def _round(self, own: Reader | None) -> None:
        self._number += 1
        is_first = self._number == 1
        self._logs.next_round()
        await asyncio.gather(
            ask_all(self._pollers, FIRST_PATIENCE_S if is_first else PATIENCE_S),
            _past_is_read(own if is_first else None),
        )
        self._targets.compare()
        if "machine" in self._parts.areas:
            await self._machine.compare(PATIENCE_S)
        self._logs.expire()
        if self._containers is not None:
            self._containers.judge_again()

    def _follow(self, source: LogSource, tail: int = 0) -> Reader:
        reader = self._logs.reader(source, tail)
        self._start(reader.run())
        return reader

    def _follow_container(self, name: str) -> None:
        parts = self._parts
        is_new = name in parts.stack_containers and name not in self._followed
        if is_new and parts.follows_logs and parts.docker is not None:
            self._followed.add(name)
            self._follow(ContainerSource(parts.docker, ListedContainer(name, name, "", "running")))

    def _start(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        # A fault of our own must not wait for the next tick to be seen.
        task.add_done_callback(lambda _: self._wake.set())
        self._tasks.append(task)

    async def _end(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(poller.aclose() for poller in (*self._pollers, self._machine.users)))

    async def _wait_until(self, due: float) -> None:
        """Wait until something is ready or the next tick is due; raises what a task of ours raised."""
        self._raise_failures()
        if self._ready:
            return
        self._wake.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, due - self._clock())):
                await self._wake.wait()
        self._raise_failures()

    def _raise_failures(self) -> None:
        for task in [task for task in self._tasks if task.done()]:
            self._tasks.remove(task)
            task.result()

    def _compare_clocks(self, before: tuple[float, float]) -> tuple[float, float]:
        """Tell of a jump of the wall clock since the last tick; return both clocks."""
        now = (self._wall(), self._clock())
        jump = jump_s((before[0], now[0]), (before[1], now[1]))
        if abs(jump) > self._skew_s:
            way = "forward" if jump > 0 else "back"
            detail = f"the clock went {way} by {abs(jump):.0f} s: this machine slept, or its clock was set"
            self._notes.append(detail)
            body = {"kind": "clock", "target": "clock", "from": None, "to": way, "detail": detail}
            self._emit("state", body)
        return now

    def _log_note(self, note: Note) -> None:
        if isinstance(note, LeftOut) or (self._containers is not None and note.at is not None):
            return  # counted by the tally; what a container went through is reported as its state
        self._notes.append(f"{note.source}: {note.text}")
        body = {"kind": "source", "target": note.source, "from": None, "to": "told", "detail": note.text}
        self._emit("state", body)

    def _emit(self, kind: Kind, body: Mapping[str, Any], at: float = 0.0) -> None:
        self._ready.append(WatchEvent(kind, at or self._wall(), body))
        self._wake.set()


async def _past_is_read(reader: Reader | None) -> None:
    """Wait a moment until what a log already holds is read: its last line has no next one."""
    if reader is not None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FIRST_PATIENCE_S):
                await reader.caught_up.wait()
