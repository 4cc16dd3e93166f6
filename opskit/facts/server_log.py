"""What the logs of a model server tell of the last hour: failed requests, the last answer, cut prompts.

Where its log lies is looked up: the files that its process writes, its unit's journal, its container, the log
of a start by opskit, and where no process is seen the place in the home folder that its kind uses.
"""

import asyncio
import os
import re
import stat
import time
from collections.abc import Iterable, Iterator
from contextlib import aclosing
from pathlib import Path

from opskit.config.schema import NodeConfig
from opskit.errors import OpskitError
from opskit.facts.model_requests import WINDOW_S, CutPrompt, cut_prompt
from opskit.facts.port_owner import read_port
from opskit.facts.survey import Survey
from opskit.llm.faults import FaultKind, fault_in
from opskit.logs.events import Grouper
from opskit.logs.files import FileSource, distinct
from opskit.logs.levels import COMPLAINTS
from opskit.logs.record import LogEntry, facts, uncoloured
from opskit.logs.source import JournalSource, LineSplitter, LogSource, Window
from opskit.providers.kinds import ServerKind, expected_kind
from opskit.records import Record
from opskit.system.host import is_loopback
from opskit.system.network import endpoint
from opskit.text import duration_s

#: So much of the end of each log is read, and so long.
_TAIL_BYTES = 2 * 1024 * 1024
_TAIL_LINES = 10_000
_READ_S = 5.0
_TEXT_CHARS = 200
#: What follows in a log is so much later at least: many clocks count whole seconds.
_ORDER_S = 1e-5
#: A line without any of these tells nothing that is looked for here.
_TELLING = re.compile(
    rb"POST|eval time|truncat|rror|RROR|xception|Traceback|exceed|memory|ailed|magic|template|architecture"
)
#: Requests as Ollama (GIN), Python's servers and llama.cpp write them: path and status.
_REQUESTS = (
    re.compile(r'\| *(?P<status>\d{3}) \| *(?P<took>\S+) *\|.*\| *POST +"(?P<path>/[^"?]*)'),
    re.compile(r'"POST (?P<path>/[^\s?]*)\S* HTTP/[\d.]+" (?P<status>\d{3})'),
    re.compile(r"request: POST (?P<path>/[^\s?]*)\S* \S+ (?P<status>\d{3})"),
)
_GENERATES = re.compile(r"/(chat|generate|completions?|messages|responses|embed|embeddings?|infill)")
#: llama.cpp writes this once a request was answered.
_ANSWERED = re.compile(r"\beval time = +[\d.]+ ms / +\d+ (tokens|runs)")
#: llama.cpp's own clock: minutes, seconds, milliseconds, microseconds since its start.
_SINCE_START = re.compile(r"(\d+)\.(\d\d)\.(\d{3})\.\d{3} [DIWE] ")
#: The client left, or the server had too much to do: neither is a failure of the server.
_HARMLESS = (401, 403, 405, 408, 411, 413, 429, 499, 503)
_CLIENT_LEFT = re.compile(r"^(BrokenPipe|ConnectionReset|ConnectionAborted)Error\b", re.MULTILINE)


class LoggedFailure(Record, kw_only=True):
    """One request that failed, as the log of the server tells of it. `text` is its line.

    `seconds` is how long the server worked on it, None where the log does not tell.
    """

    at: float
    kind: FaultKind
    text: str
    source: str
    seconds: float | None = None


class ServerLog(Record, kw_only=True):
    """What the logs of one node tell of the last hour.

    `sources` are the logs that were read; `answered_at` is the time of the last answer, which failures in one
    log precede or follow whatever the grain of its clock.
    """

    node: str
    sources: tuple[str, ...] = ()
    failures: tuple[LoggedFailure, ...] = ()
    answered_at: float | None = None
    cuts: tuple[CutPrompt, ...] = ()


async def read_server_log(survey: Survey, node: NodeConfig) -> ServerLog:
    """Read the logs of a node of this machine; nothing of one elsewhere. Never raises for what is read."""
    if not is_loopback(node.url):
        return ServerLog(node=node.name)
    since, sources = time.time() - WINDOW_S, await _sources(survey, node)
    logs = await asyncio.gather(*(_read(source, since) for source in distinct(sources)))
    read = [log for log in logs if log is not None]
    failures = [failure for log in read for failure in log.failures]
    return ServerLog(
        node=node.name,
        sources=tuple(log.sources[0] for log in read),
        failures=tuple(sorted(failures, key=lambda failure: failure.at)),
        answered_at=max((log.answered_at for log in read if log.answered_at is not None), default=None),
        cuts=tuple(cut for log in read for cut in log.cuts),
    )


async def _sources(survey: Survey, node: NodeConfig) -> list[LogSource]:
    kind, port = expected_kind(node.source), endpoint(node.url)[1]
    owner = (await survey.get(read_port, "tcp", port)).loopback_owner
    containers = {*survey.config.stack.containers.get(node.name, ())}
    containers |= {owner.container} if owner is not None and owner.container is not None else set()
    if containers:
        logs = await asyncio.gather(*(_of_container(survey, name) for name in sorted(containers)))
        return [source for of_container in logs for source in of_container]
    if owner is None or owner.pid is None or owner.is_ours:
        return [*_usual_places(survey, kind)]
    sources: list[LogSource] = [FileSource(Path(path), path) for path in owner.logs]
    service = owner.service
    if service is not None and service.kind == "systemd" and service.name is not None:
        sources.append(JournalSource(service.name, user=service.domain == "user"))
    return sources


def _usual_places(survey: Survey, kind: ServerKind) -> Iterator[LogSource]:
    """Where the log of a server lies whose process has ended, or is not shown to this user."""
    for path in survey.state_folder.glob("start-*.log"):
        if any(word in path.name.lower() for word in kind.known_by):
            yield FileSource(path, str(path))
    home = Path(survey.environ.get("HOME") or "~").expanduser()
    if kind.log_file:
        yield FileSource(home / kind.log_file)
    for unit in kind.services:
        yield JournalSource(f"{unit}.service")


async def _of_container(survey: Survey, name: str) -> list[LogSource]:
    from opskit.logs.container import containers

    try:
        async with asyncio.timeout(_READ_S):
            return [*await containers(name, docker=await survey.docker())]
    except (OpskitError, TimeoutError):
        return []


async def _read(source: LogSource, since: float) -> ServerLog | None:
    """Read the end of one log; None for one that is not there, or that cannot be read."""
    try:
        if isinstance(source, FileSource):
            return await asyncio.to_thread(_of_file, source, since)
        lines: list[LogEntry] = []
        async with (
            asyncio.timeout(_READ_S),
            aclosing(source.read(Window(since=since, tail=_TAIL_LINES))) as batches,
        ):
            async for batch in batches:
                lines += (entry for entry in batch if isinstance(entry, LogEntry))
    except (OpskitError, OSError, TimeoutError):
        return None
    return logged(source.name, lines, since=since, until=time.time()) if lines else None


def _of_file(source: FileSource, since: float) -> ServerLog | None:
    lines, until = file_tail(source)
    return logged(source.name, lines, since=since, until=until) if until >= since else None


def file_tail(source: FileSource) -> tuple[list[LogEntry], float]:
    """Return the lines at the end of a file, and when the last one was written. Raises OSError.

    What is no file is empty.
    """
    descriptor = os.open(source.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        about = os.fstat(descriptor)
        begin = max(0, about.st_size - _TAIL_BYTES)
        content = os.pread(descriptor, _TAIL_BYTES, begin) if stat.S_ISREG(about.st_mode) else b""
    finally:
        os.close(descriptor)
    splitter = LineSplitter(source.name)
    batch = [*splitter.feed(content.partition(b"\n")[2] if begin else content), *splitter.finish()]
    return [entry for entry in batch if isinstance(entry, LogEntry)], about.st_mtime


def logged(source: str, lines: Iterable[LogEntry], *, since: float, until: float) -> ServerLog:
    """Return what the lines of one log tell, the last of which was written at `until`. Pure.

    A line without a time has that of the line before it; in a log without times, llama.cpp's own clock is
    set by its last line, and anything else counts only as the last thing that was written.
    """
    reader = _LogReader(source, since, until)
    grouper = Grouper()
    for line in lines:
        for event in grouper.push(line):
            reader.take(event)
    for event in grouper.flush():
        reader.take(event)
    return reader.result()


class _LogReader:
    def __init__(self, source: str, since: float, until: float) -> None:
        self._source, self._since, self._until = source, since, until
        self._at: float | None = None
        self._started_s: float | None = None
        self._clock_s = 0.0
        self._outcomes: list[_Outcome] = []
        self._reason: tuple[FaultKind, str] | None = None
        self._names_requests = False
        self._cuts: list[tuple[float | None, CutPrompt]] = []
        self._events = 0

    def take(self, event: LogEntry) -> None:
        self._events += 1
        raw = uncoloured(event.raw)
        text = raw.decode("utf-8", "replace")
        clock = _SINCE_START.match(text)
        if event.at is not None:
            self._at = event.at
        elif self._at is None and clock is not None:
            self._tick(int(clock[1]) * 60 + int(clock[2]) + int(clock[3]) / 1000)
        if _TELLING.search(raw) is None:
            return
        if (cut := cut_prompt(event)) is not None:
            self._cuts.append((self._when(), cut))
            return
        request = next((match for form in _REQUESTS if (match := form.search(text))), None)
        if request is not None:
            if _GENERATES.search(request["path"]):
                self._ask(int(request["status"]), text, request.groupdict().get("took"))
        elif _ANSWERED.search(text):
            self._add(None, "", of_request=False)
        else:
            self._complain(event, text)

    def _tick(self, clock_s: float) -> None:
        """Follow the clock of the server; where it goes back, another process has begun to write."""
        if clock_s < self._clock_s:
            self._outcomes.clear()
        self._clock_s = clock_s

    def _when(self) -> float | None:
        """The time of this event; seconds of the server's own clock where there is no other."""
        return self._at if self._at is not None else self._clock_s or None

    def _ask(self, status: int, text: str, took: str | None) -> None:
        self._names_requests = True
        reason, self._reason = self._reason, None
        seconds = None if took is None else duration_s(took)
        if status < 400:
            self._add(None, "", of_request=True)
        elif status in _HARMLESS or (status == 400 and reason is None):
            return
        elif reason is not None:
            self._add(*reason, of_request=True, seconds=seconds)
        else:
            kind = FaultKind.NOT_INSTALLED if status == 404 else FaultKind.SERVER_ERROR
            self._add(kind, text, of_request=True, seconds=seconds)

    def _complain(self, event: LogEntry, text: str) -> None:
        is_traceback = "Traceback (most recent call last)" in text
        level = facts(event.raw).level or event.level
        if not is_traceback and level not in (None, *COMPLAINTS):
            return
        kind = fault_in(text)
        if is_traceback:
            last = text.rstrip("-\n ").rpartition("\n")[2]
            if (kind is not None or "do_POST" in text) and not _CLIENT_LEFT.search(text):
                self._add(kind or FaultKind.SERVER_ERROR, last, of_request=True)
        elif kind is not None:
            self._reason = kind, text
            if level in ("error", "critical"):
                self._add(kind, text, of_request=False)

    def _add(
        self, kind: FaultKind | None, text: str, *, of_request: bool, seconds: float | None = None
    ) -> None:
        self._outcomes.append(_Outcome(self._when(), self._events, kind, text, of_request, seconds))

    def result(self) -> ServerLog:
        """What was collected; where requests are logged themselves, what else is said is no outcome."""
        failures, answered_at, last_at = [], None, 0.0
        for outcome in self._outcomes:
            at = self._dated(outcome)
            if at is None or (self._names_requests and not outcome.of_request):
                continue
            last_at = at = max(at, last_at + _ORDER_S)
            if outcome.kind is None:
                answered_at = at
            else:
                text = " ".join(outcome.text.split())[:_TEXT_CHARS]
                failures.append(
                    LoggedFailure(
                        at=at,
                        kind=outcome.kind,
                        text=text,
                        source=self._source,
                        seconds=outcome.seconds,
                    )
                )
        return ServerLog(
            node="",
            sources=(self._source,),
            failures=tuple(failures),
            answered_at=answered_at,
            cuts=tuple(cut for at, cut in self._cuts if at is None or self._wall_s(at) >= self._since),
        )

    def _dated(self, outcome: "_Outcome") -> float | None:
        """The time of an outcome, None where it is, or may be, older than an hour."""
        if outcome.at is None:
            return self._until if outcome.place == self._events else None
        at = self._wall_s(outcome.at)
        return at if at >= self._since else None

    def _wall_s(self, at: float) -> float:
        return at if self._at is not None else self._until - (self._clock_s - at)


class _Outcome(Record):
    """How one request ended: `kind` None is an answer. `of_request`: the log says so of a request itself."""

    at: float | None
    place: int
    kind: FaultKind | None
    text: str
    of_request: bool
    seconds: float | None
