"""The watch itself: asks on a beat, listens in between, and tells what changed.

Everything that it holds is bounded. It asks no model for a token and loads nothing; a target that hangs
delays neither the beat nor the others, since each question has a deadline and a task of its own.
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from opskit.checks.model_rows import LoadedModel
from opskit.config.schema import Config
from opskit.errors import Exit, UsageError
from opskit.facts.survey import Survey
from opskit.logs.container import ContainerSource
from opskit.logs.files import FileSource
from opskit.logs.glob_source import resolve
from opskit.logs.source import LogSource, Note
from opskit.records import Record, asdict, replace
from opskit.system.docker import Docker
from opskit.system.docker_records import ListedContainer
from opskit.system.logfile import LOG_NAME
from opskit.system.threads import use_abandonable_threads
from opskit.text import duration_s
from opskit.watch.containers import ContainersView, ContainerWatch
from opskit.watch.event import Kind, WatchEvent
from opskit.watch.logs import LogsView, LogWatch
from opskit.watch.machine import MachineView, MachineWatch
from opskit.watch.requests import Summary
from opskit.watch.targets import NodeReader, Target, TargetView, TargetWatch, read_agent

AREAS = ("nodes", "agents", "requests", "errors", "machine", "containers")
LEAST_EVERY_S = 0.5
MOST_EVERY_S = 86_400.0
#: How long a tick waits for answers, so that it tells of now and not of the beat before.
PATIENCE_S = 0.25
FIRST_PATIENCE_S = 1.0
_NOTES = 5
#: One look at something that is watched; it tells what changed.
Look = Callable[[], Coroutine[None, None, None]]


def next_tick(began: float, every_s: float, now: float) -> tuple[int, float]:
    """Return the number of the first tick that is due later than `now`, and when that is.

    Ticks are due at `began`, `began + every_s`, ...: they neither drift nor catch up. What was missed is left
    out: a slow tick or a sleep is followed by one tick.
    """
    number = max(0, int((now - began) // every_s) + 1)
    # The product may round to `now` or just before it.
    while began + number * every_s <= now:
        number += 1
    return number, began + number * every_s


class WatchParts(Record, kw_only=True):
    """What is watched. `own` is the source whose past is read too, `docker` None where nobody asks it.

    The containers of the stack have their state reported at the start; beside our `own` log theirs are read
    as soon as they are there.
    """

    areas: frozenset[str]
    every_s: float
    targets: Sequence[Target] = ()
    sources: Sequence[LogSource] = ()
    own: LogSource | None = None
    docker: Docker | None = None


def interval_s(text: str) -> float:
    """Read the interval between two looks. Raises UsageError for one that cannot be used."""
    word = text.strip()
    seconds = duration_s(f"{word}s" if word.replace(".", "", 1).isdecimal() else word)
    if seconds is not None and LEAST_EVERY_S <= seconds <= MOST_EVERY_S:
        return seconds
    bound = f"it must be at least {LEAST_EVERY_S:g} s and at most a day"
    fault = f"{text!r} is no duration" if seconds is None else f"{text}: {bound}"
    raise UsageError(f"--every {fault}", remedy="write it like 500ms, 5s or 1m30s")


async def open_parts(survey: Survey, specs: Sequence[str], only: Sequence[str], every_s: float) -> WatchParts:
    """Return the parts of a watch: the logs `specs`, and the areas and targets `only`, all where empty.

    Raises UsageError for what cannot be watched, OpskitError for a source that is not there.
    """
    config, areas = survey.config, frozenset(only or AREAS)
    names = sorted([node.name for node in config.nodes] + [agent.name for agent in config.agents])
    if unknown := next((word for word in only if word not in (*AREAS, *names)), None):
        remedy = f"use one of: {', '.join([*AREAS, *names])}"
        raise UsageError(f"--only {unknown!r} names nothing that can be watched", remedy=remedy)
    targets = [
        Target("node", node.name, node.required or node.name in areas, NodeReader(survey, node).read)
        for node in config.nodes
        if areas & {"nodes", node.name}
    ]
    targets += [
        Target("agent", agent.name, agent.required or agent.name in areas, partial(read_agent, survey, agent))
        for agent in config.agents
        if areas & {"agents", agent.name}
    ]
    own = Path(config.state_dir).absolute() / LOG_NAME
    sources: Sequence[LogSource] = ()
    if specs:
        sources, _ = await resolve(specs, own, follow=True)
        for source in sources:
            if isinstance(source, FileSource):
                # Raises for one that cannot be read: it was named.
                _ = source.is_plain
    reads_own = not specs and bool(areas & {"requests", "errors"})
    return WatchParts(
        areas=areas,
        every_s=every_s,
        targets=targets,
        sources=sources,
        own=FileSource(own, "opskit") if reads_own else None,
        docker=Docker() if "containers" in areas or (reads_own and config.stack.containers) else None,
    )


class View(Record, kw_only=True):
    """All at one moment: `at` in epoch seconds, `now` in monotonic ones. What was not asked for is None."""

    at: float
    now: float
    number: int
    skipped: int
    every_s: float
    logs: LogsView
    targets: tuple[TargetView, ...] = ()
    machine: MachineView | None = None
    requests: Summary | None = None
    containers: ContainersView | None = None
    notes: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Return the body of a tick."""
        document: dict[str, Any] = {
            "number": self.number,
            "skipped": self.skipped,
            "every_s": self.every_s,
            "status": {Exit.OK: "pass", Exit.FAILED: "fail"}.get(exit_of(self.targets), "inconclusive"),
        }
        for target in self.targets:
            document.setdefault(f"{target.kind}s", []).append(target.as_json(self.now))
        if self.machine is not None:
            document["machine"] = self.machine.as_json(self.now)
            document["warnings"] = [warning.as_json() for warning in self.machine.warnings]
        if self.requests is not None:
            document["requests"] = asdict(self.requests)
        if self.containers is not None:
            document["containers"] = self.containers.as_json()
        return {**document, "logs": self.logs.as_json()}


def exit_of(targets: Sequence[TargetView]) -> Exit:
    """Return the exit status that the targets ask for. Pure.

    A required target that is not well fails; nothing to be seen is no answer.
    """
    if any(target.required and target.failed for target in targets):
        return Exit.FAILED
    unseen = [target for target in targets if not target.answers]
    if any(target.required for target in unseen) or (targets and len(unseen) == len(targets)):
        return Exit.INCONCLUSIVE
    return Exit.OK


class Watch:
    """Asks its sources on each tick, and listens to them in between. Use `events` once.

    `clock` is monotonic seconds, `wall` epoch seconds.
    """

    def __init__(
        self,
        config: Config,
        parts: WatchParts,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._parts, self._clock, self._wall = parts, clock, wall
        self._ready: asyncio.Queue[WatchEvent | BaseException] = asyncio.Queue()
        self._tasks: set[asyncio.Task[None]] = set()
        #: The looks that did not end in time.
        self._late: dict[Look, asyncio.Task[None]] = {}
        self._notes: deque[str] = deque(maxlen=_NOTES)
        self._number = self._skipped = 0
        self._targets = [TargetWatch(target, self._emit) for target in parts.targets]
        self._machine = MachineWatch(config, clock=clock, emit=self._emit, loaded=self._loaded)
        self._logs = LogWatch(
            config, parts.areas, wall=wall, emit=self._emit, note=self._log_note, start=self._start
        )
        self._stack = tuple({name: None for names in config.stack.containers.values() for name in names})
        self._containers: ContainerWatch | None = None
        if parts.docker is not None:
            self._containers = ContainerWatch(
                parts.docker,
                self._stack,
                config,
                is_asked="containers" in parts.areas,
                emit=self._emit,
                note=self._notes.append,
                started=self._follow_container,
                wall=wall,
            )
        self._looks: list[Look] = [target.look for target in self._targets]
        self._looks += [self._logs.look, *[self._machine.look] * ("machine" in parts.areas)]
        if self._containers is not None:
            self._looks.append(self._containers.look)

    async def events(self, count: int | None = None) -> AsyncGenerator[WatchEvent, None]:
        """What happens, as it happens, and a tick on each beat; ends after `count` ticks.

        Close it (`contextlib.aclosing`): that ends every task and connection.
        """
        use_abandonable_threads()
        if self._parts.own is not None:
            self._logs.follow(self._parts.own, is_own=True)
        for source in self._parts.sources:
            self._logs.follow(source)
        if self._containers is not None:
            self._start(self._containers.run())
        number, began = 0, self._clock()
        due = began
        try:
            while True:
                while (event := await self._next(due)) is not None:
                    yield event
                await self._round()
                while (event := await self._next(self._clock())) is not None:
                    yield event
                yield WatchEvent("tick", self._wall(), self.view().as_json())
                if count is not None and self._number >= count:
                    return
                before, (number, due) = number, next_tick(began, self._parts.every_s, self._clock())
                self._skipped += number - before - 1
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def view(self) -> View:
        """Return what is known just now."""
        late = {look for look, task in self._late.items() if not task.done()}
        return View(
            at=self._wall(),
            now=self._clock(),
            number=self._number,
            skipped=self._skipped,
            every_s=self._parts.every_s,
            logs=self._logs.state,
            targets=tuple(replace(target.state, late=target.look in late) for target in self._targets),
            machine=self._machine.state,
            requests=self._logs.requests(),
            containers=None if self._containers is None else self._containers.view(),
            notes=tuple(self._notes),
        )

    async def _next(self, due: float) -> WatchEvent | None:
        """What is ready now or comes until then, else None. Raises what a task of ours raised."""
        try:
            async with asyncio.timeout(max(0.0, due - self._clock())):
                event = await self._ready.get()
        except TimeoutError:
            return None
        if isinstance(event, BaseException):
            raise event
        return event

    async def _round(self) -> None:
        """Let each source look, but never one that is still busy with it, and wait a moment for them."""
        busy = {look: task for look, task in self._late.items() if not task.done()}
        looks = {look: self._start(look()) for look in self._looks if look not in busy}
        await asyncio.wait(looks.values(), timeout=PATIENCE_S if self._number else FIRST_PATIENCE_S)
        self._late = busy | {look: task for look, task in looks.items() if not task.done()}
        self._number += 1

    def _loaded(self) -> list[LoadedModel]:
        answers = (target.state.answer for target in self._targets)
        return [row for answer in answers if answer is not None for row in answer.loaded]

    def _follow_container(self, name: str) -> None:
        parts, is_new = self._parts, name not in self._logs.state.sources
        if is_new and name in self._stack and parts.own is not None and parts.docker is not None:
            self._logs.follow(ContainerSource(parts.docker, ListedContainer(name, name, "", "running")))

    def _start(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        """A fault of our own must not wait for the next tick to be seen."""
        self._tasks.discard(task)
        if not task.cancelled() and (fault := task.exception()) is not None:
            self._ready.put_nowait(fault)

    def _log_note(self, note: Note) -> None:
        if self._containers is not None and note.at is not None:
            return  # what a container went through is reported as its state
        self._notes.append(f"{note.source}: {note.text}")
        body = {"kind": "source", "target": note.source, "from": None, "to": "told", "detail": note.text}
        self._emit("state", body)

    def _emit(self, kind: Kind, body: Mapping[str, Any], at: float = 0.0) -> None:
        self._ready.put_nowait(WatchEvent(kind, at or self._wall(), body))
