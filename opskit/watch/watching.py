"""The watch itself: asks on a beat, listens in between, and tells what changed.

Everything that it holds is bounded. It asks no model for a token and loads nothing; a target that hangs
delays neither the beat nor the others, since each question has a deadline and a task of its own.
"""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from opskit.config.schema import Config
from opskit.logs.record import LogEntry, facts
from opskit.logs.source import LeftOut, LogSource, Note
from opskit.system.docker import Docker
from opskit.system.host import Gauges, MemoryUser, Meter, memory_users
from opskit.system.threads import use_abandonable_threads
from opskit.watch.complaints import Complaints
from opskit.watch.containers import Containers
from opskit.watch.event import Kind, WatchEvent
from opskit.watch.machine import MachineLimits, ThresholdEvent, remedy
from opskit.watch.poller import Poller, ask_all
from opskit.watch.reading import HISTORY_LINES, Reader, ReadTally
from opskit.watch.requests import RequestChange, RequestTracker
from opskit.watch.targets import Target, TargetReply, TargetView
from opskit.watch.ticker import Ticker, jump_s
from opskit.watch.view import View, Warned
from opskit.watch.watched_container import WatchedContainer

AREAS = ("nodes", "agents", "requests", "errors", "machine", "containers")
#: How long a tick waits for answers, so that it tells of now and not of the beat before.
PATIENCE_S = 0.25
FIRST_PATIENCE_S = 1.0
#: Requests that are told one by one between two ticks.
_REQUESTS_EACH_ROUND = 200
_LARGEST = 3
_LARGEST_EVERY_S = 5.0
_NOTES = 5


@dataclass(frozen=True, slots=True)
class WatchParts:
    """What is watched. `own` is the source whose past is read too, `docker` None where nobody asks it.

    `default_containers` are followed by their names as soon as they are there; `disks` are folders.
    """

    areas: frozenset[str]
    every_s: float
    targets: Sequence[Target] = ()
    sources: Sequence[LogSource] = ()
    own: LogSource | None = None
    docker: Docker | None = None
    default_containers: Sequence[str] = ()
    follow: Callable[[str], LogSource] | None = None
    disks: Sequence[str] = ("/",)


class Watch:
    """Use `events` once. `clock` is monotonic seconds, `wall` epoch seconds."""

    def __init__(
        self,
        config: Config,
        wish: WatchParts,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._config = config
        self._wish = wish
        self._clock = clock
        self._wall = wall
        self._started = wall()
        self._targets = [Poller[TargetReply](target.look, clock) for target in wish.targets]
        self._meter = Meter(wish.disks)
        self._gauges = Poller[Gauges](self._read_gauges, clock)
        self._largest = Poller[tuple[MemoryUser, ...]](self._read_largest, clock)
        self._limits = MachineLimits(config.watch)
        self._requests = RequestTracker(
            lost_s=2 * config.budgets.total_s,
            slow_s=config.watch.slow_request_s,
            urls={node.name: node.url for node in config.nodes} | {a.name: a.url for a in config.agents},
        )
        self._complaints = Complaints()
        self._tally = ReadTally()
        self._notes: deque[str] = deque(maxlen=_NOTES)
        self._ready: deque[WatchEvent] = deque()
        self._wake = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._followed: set[str] = set()
        self._own: Reader | None = None
        self._sources: list[str] = []
        self._containers: Containers | None = None
        self._states: dict[tuple[str, str], tuple[str, str]] = {}
        self._number = 0
        self._skipped = 0
        self._room = _REQUESTS_EACH_ROUND
        self._gauges_seen: float | None = None

    async def events(self, count: int | None = None) -> AsyncGenerator[WatchEvent, None]:
        """What happens, as it happens, and a tick on each beat; ends after `count` ticks.

        Close it (`contextlib.aclosing`): that ends every task and connection.
        """
        use_abandonable_threads()
        self._begin()
        beat = Ticker(self._clock(), self._wish.every_s)
        due, last = beat.began, (self._wall(), self._clock())
        try:
            while True:
                await self._until(due)
                while self._ready:
                    yield self._ready.popleft()
                if (now := self._clock()) < due:
                    continue
                last = self._look_at_the_clock(last)
                await self._round()
                if self._containers is not None:
                    self._containers.look_again()
                while self._ready:
                    yield self._ready.popleft()
                yield self._event("tick", self.view().as_json())
                if count is not None and self._number >= count:
                    return
                before = round((due - beat.began) / beat.every_s)
                number, due = beat.after(max(now, self._clock()))
                self._skipped += number - before - 1
        finally:
            await self._end()

    def view(self) -> View:
        """What is known just now."""
        now, at, areas = self._clock(), self._wall(), self._wish.areas
        gauges = self._gauges
        return View(
            at,
            now,
            self._number,
            self._skipped,
            self._wish.every_s,
            tuple(self._sight(target, asked, now) for target, asked in self._asked()),
            gauges.answer if "machine" in areas else None,
            None if gauges.at is None else now - gauges.at,
            tuple(self._warned(crossing) for crossing in self._limits.over.values()),
            self._requests.summary(at) if "requests" in areas else None,
            tuple(self._containers.known.values()) if self._containers is not None else None,
            self._containers.present if self._containers is not None else None,
            tuple(self._complaints.latest()) if "errors" in areas else (),
            self._complaints.total,
            self._complaints.not_shown,
            self._tally.lines,
            self._tally.left_out,
            tuple(self._notes),
            tuple(self._sources),
        )

    def _begin(self) -> None:
        wish = self._wish
        if wish.own is not None:
            self._own = self._follow(wish.own, HISTORY_LINES)
        for source in wish.sources:
            self._follow(source, 0)
        if wish.docker is not None:
            self._containers = Containers(
                wish.docker,
                wish.default_containers,
                self._config,
                changed=self._container_changed,
                reached=self._docker_reached,
                started=self._container_started,
                wall=self._wall,
            )
            self._start(self._containers.run())

    def _follow(self, source: LogSource, tail: int) -> Reader:
        self._sources.append(source.name)
        reader = Reader(source, self._tally, found=self._found, told=self._told, tail=tail)
        self._start(reader.run())
        return reader

    def _start(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        # A fault of our own must not wait for the next look to be seen.
        task.add_done_callback(lambda _: self._wake.set())
        self._tasks.append(task)

    async def _end(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        questions: list[Poller[Any]] = [*self._targets, self._gauges, self._largest]
        await asyncio.gather(*(question.aclose() for question in questions))

    async def _until(self, due: float) -> None:
        """Wait until something is ready or the next look is due; raises what a task of ours raised."""
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

    async def _round(self) -> None:
        """Ask everything once, and tell what changed."""
        self._number += 1
        self._complaints.next_round()
        self._room = _REQUESTS_EACH_ROUND
        questions: list[Poller[Any]] = list(self._targets)
        if "machine" in self._wish.areas:
            questions.append(self._gauges)
        await asyncio.gather(
            ask_all(questions, FIRST_PATIENCE_S if self._number == 1 else PATIENCE_S), self._know_the_past()
        )
        for target, asked in self._asked():
            self._compare(target, asked)
        if "machine" in self._wish.areas:
            await self._compare_machine()
        for news in self._requests.expire(self._wall()):
            self._tell_request(news)

    async def _know_the_past(self) -> None:
        """Before the first view, read what our own log already holds: the last line has no next one."""
        if self._number == 1 and self._own is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(FIRST_PATIENCE_S):
                    await self._own.caught_up.wait()

    def _asked(self) -> list[tuple[Target, Poller[TargetReply]]]:
        return list(zip(self._wish.targets, self._targets, strict=True))

    def _sight(self, target: Target, asked: Poller[TargetReply], now: float) -> TargetView:
        age = None if asked.at is None else now - asked.at
        return TargetView(target.kind, target.name, target.required, asked.answer, age, asked.late)

    def _compare(self, target: Target, asked: Poller[TargetReply]) -> None:
        if asked.answer is None:
            return
        found, key = asked.answer.finding, (target.kind, target.name)
        now = (found.status.value, found.state)
        before = self._states.get(key)
        self._states[key] = now
        if before != now:
            self._ready.append(
                self._event(
                    "state",
                    {
                        "kind": target.kind,
                        "target": target.name,
                        "from": before[1] if before is not None else None,
                        "to": found.state,
                        "status": found.status.value,
                        "detail": found.detail,
                        "remedy": found.remedy,
                    },
                )
            )

    async def _compare_machine(self) -> None:
        if self._gauges.answer is None or self._gauges.at == self._gauges_seen:
            return
        self._gauges_seen = self._gauges.at
        crossed = self._limits.take(self._gauges.answer)
        if "memory" in self._limits.over and (
            self._largest.at is None or self._clock() - self._largest.at >= _LARGEST_EVERY_S
        ):
            await ask_all([self._largest], PATIENCE_S)
        for crossing in crossed:
            self._tell_crossing(crossing)

    def _tell_crossing(self, crossing: ThresholdEvent) -> None:
        body = self._warned(crossing).as_json()
        if crossing.change == "recovered":
            body = {key: body[key] for key in ("target", "value_percent", "limit_percent")}
        self._ready.append(self._event(crossing.change, body))

    def _warned(self, crossing: ThresholdEvent) -> Warned:
        users = self._largest.answer or () if crossing.target == "memory" else ()
        rows = [row for asked in self._targets if asked.answer is not None for row in asked.answer.loaded]
        return Warned(crossing, users, remedy(crossing.target, users, rows, self._config.nodes))

    async def _read_gauges(self) -> Gauges:
        return await asyncio.to_thread(self._meter.read)

    async def _read_largest(self) -> tuple[MemoryUser, ...]:
        return await asyncio.to_thread(memory_users, _LARGEST)

    def _look_at_the_clock(self, last: tuple[float, float]) -> tuple[float, float]:
        now = (self._wall(), self._clock())
        jump = jump_s((last[0], now[0]), (last[1], now[1]))
        if abs(jump) > self._config.watch.clock_skew_s:
            way = "forward" if jump > 0 else "back"
            detail = f"the clock went {way} by {abs(jump):.0f} s: this machine slept, or its clock was set"
            self._notes.append(detail)
            body = {"kind": "clock", "target": "clock", "from": None, "to": way, "detail": detail}
            self._ready.append(self._event("state", body))
        return now

    def _found(self, entry: LogEntry) -> None:
        said = facts(entry.raw)
        # Only our own log has a past that is read; the clocks and zones of others are not relied on.
        own = self._wish.own is not None and entry.source == self._wish.own.name
        when = entry.at if own and entry.at is not None else self._wall()
        if "requests" in self._wish.areas:
            for news in self._requests.take(said, when):
                self._tell_request(news)
        is_error = said.level in ("error", "critical") or said.tag == "FALLBACK"
        if not is_error or "errors" not in self._wish.areas or when < self._started:
            return
        complaint = self._complaints.take(entry, said, when)
        if complaint is not None:
            self._put(self._event("error", complaint.as_json()))

    def _tell_request(self, news: RequestChange) -> None:
        if news.at >= self._started and self._room > 0:
            self._room -= 1
            self._put(self._event("request", news.as_json()))

    def _told(self, note: Note) -> None:
        if isinstance(note, LeftOut) or (self._containers is not None and note.at is not None):
            return  # counted by the tally; what a container went through is told as its state
        text = f"{note.source}: {note.text}"
        self._notes.append(text)
        body = {"kind": "source", "target": note.source, "from": None, "to": "told", "detail": note.text}
        self._put(self._event("state", body))

    def _container_changed(
        self, before: WatchedContainer | None, now: WatchedContainer | None, at: float
    ) -> None:
        one = now or before
        if one is None or "containers" not in self._wish.areas:
            return
        body = {
            "kind": "container",
            "target": one.name,
            "from": before.state if before is not None else None,
            "to": now.state if now is not None else "removed",
            "condition": one.condition.value,
            "detail": one.detail,
            "restarts": one.restarts,
        }
        self._put(WatchEvent("state", at or self._wall(), body))

    def _docker_reached(self, problem: str | None) -> None:
        self._notes.append(problem or "connected to Docker")
        body = {
            "kind": "docker",
            "target": "docker",
            "from": None,
            "to": "absent" if problem else "ok",
            "detail": problem or "connected to Docker",
        }
        self._put(self._event("state", body))

    def _container_started(self, name: str) -> None:
        if name in self._wish.default_containers and name not in self._followed and self._wish.follow:
            self._followed.add(name)
            self._follow(self._wish.follow(name), 0)

    def _event(self, kind: Kind, body: dict[str, Any]) -> WatchEvent:
        return WatchEvent(kind, self._wall(), body)

    def _put(self, event: WatchEvent) -> None:
        self._ready.append(event)
        self._wake.set()
