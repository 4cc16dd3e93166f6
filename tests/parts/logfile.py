"""Log files of any size whose truth is known: a block made by chance, repeated with other numbers.

The lines are those of a stack under load: plain text, JSON, uvicorn's access lines, compose prefixes, whole
requests in our tags, tracebacks of several lines, here and there bytes that are no UTF-8.
"""

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from opskit.tags import format_line

START = datetime(2026, 3, 1, tzinfo=UTC)
BLOCK_BYTES = 4 << 20
LINES_PER_S = 70
#: Stand-ins of the same width as what replaces them in each block.
_BLOCK_ID = b"zzzzzz"
_BLOCK_NUMBER = b"70707"
_HUNDREDTHS = b"~~"
_RESERVED = bytes.maketrans(b"\n\r@~", b"\0\0\0\0")

_MODELS = (
    ("ollama", "phi3.5:3.8b"),
    ("ollama", "qwen2.5-coder:32b"),
    ("mlx", "qwen2.5:3b"),
    ("mlx", "tinyllama:1.1b-chat"),
)
_FAULTS = (
    ("runner_crashed", 500, "the model runner has unexpectedly stopped"),
    ("first_token_timeout", None, "no token within 30.0 s"),
    ("refused", None, "connection refused by 127.0.0.1:11435"),
)
_INFOS = (
    "app.worker: task {n} done in {m} ms, {m} waiting",
    "app.queue: took {m} tasks for model qwen2.5-coder:32b from /srv/queue/{n}.json",
    "app.http: POST /run answered 200 to 172.18.0.{m}",
    "app.cache: hit for key {h} after {m} ms",
    "app.scan: 4 models on http://localhost:11434, none of them new",
)
_ERRORS = (
    "app.db: connection to 10.0.0.{m}:5432 lost after {m} ms",
    "app.worker: task {n} failed: timeout",
    'app.files: cannot open "/srv/data/{n}.bin": no such file',
)
_WARNINGS = (
    "app.pool: {m} of 20 connections in use",
    "app.worker: task {n} is stuck for {m} s",
    "app.cache: key {h} evicted",
)
_SERVICES = ("victoria-agent-1  | ", "worker-1          | ")


@dataclass
class Call:
    """What became of the calls of one model on one node."""

    calls: int = 0
    ok: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    tokens: int = 0
    seconds: list[float] = field(default_factory=list)


@dataclass
class Counts:
    """The truth about a file. `slow` counts finished calls and JSON entries over 10 s."""

    size_bytes: int = 0
    blocks: int = 0
    lines: int = 0
    errors: int = 0
    warnings: int = 0
    tagged: Counter[str] = field(default_factory=Counter)
    calls: dict[tuple[str, str], Call] = field(default_factory=dict)
    requests: int = 0
    request_seconds: list[float] = field(default_factory=list)
    fallbacks: int = 0
    crashes: int = 0
    slow: int = 0
    tracebacks: int = 0
    first: datetime = START
    last: datetime = START


def write(path: Path, *, size_bytes: int, tagged_share: float = 0.05, seed: int = 1) -> Counts:
    """Write about `size_bytes` (whole blocks, never less) and return what stands there.

    Counts of the calls' own lists (`seconds`, `request_seconds`) are those of one block; every block has the
    same ones.
    """
    block = _Block(min(BLOCK_BYTES, size_bytes), tagged_share, random.Random(seed))
    text, counts = block.text, block.counts
    times = -(-size_bytes // len(text))
    with path.open("wb") as file:
        for number in range(times):
            shifted = text
            for minute in range(block.minutes):
                at = START + timedelta(minutes=number * block.minutes + minute)
                shifted = shifted.replace(_marker(minute, "T"), f"{at:%Y-%m-%dT%H:%M}".encode())
                shifted = shifted.replace(_marker(minute, " "), f"{at:%Y-%m-%d %H:%M}".encode())
            shifted = shifted.replace(_BLOCK_ID, b"%06x" % number)
            shifted = shifted.replace(_HUNDREDTHS, b"%02d" % (number * 37 % 100))
            file.write(shifted.replace(_BLOCK_NUMBER, b"%05d" % (10_000 + number % 90_000)))
    return _multiplied(counts, times, len(text), block.minutes)


def _marker(minute: int, between: str) -> bytes:
    return f"@{minute:07d}@@{between}@@@@@".encode()


def _multiplied(one: Counts, times: int, size: int, minutes: int) -> Counts:
    last = one.last + timedelta(minutes=(times - 1) * minutes)
    return Counts(
        size_bytes=size * times,
        blocks=times,
        lines=one.lines * times,
        errors=one.errors * times,
        warnings=one.warnings * times,
        tagged=Counter({tag: count * times for tag, count in one.tagged.items()}),
        calls={
            key: Call(
                call.calls * times,
                call.ok * times,
                Counter({fault: count * times for fault, count in call.faults.items()}),
                call.tokens * times,
                call.seconds,
            )
            for key, call in one.calls.items()
        },
        requests=one.requests * times,
        request_seconds=one.request_seconds,
        fallbacks=one.fallbacks * times,
        crashes=one.crashes * times,
        slow=one.slow * times,
        tracebacks=one.tracebacks * times,
        first=one.first,
        last=last,
    )


class _Block:
    """One block: events with their times, sorted, then joined."""

    def __init__(self, size_bytes: int, tagged_share: float, chance: random.Random) -> None:
        self.chance = chance
        self.counts = Counts()
        lines = max(size_bytes // 125, 20)
        self.minutes = max(2, round(lines / LINES_PER_S / 60))
        self.span_ms = self.minutes * 60_000
        self.events: list[tuple[int, int, bytes]] = []
        kinds: tuple[tuple[Callable[[int], None], float], ...] = (
            (self._info, 0.62),
            (self._json, 0.2),
            (self._access, 0.14),
            (self._warning, 0.015),
            (self._error, 0.01),
            (self._traceback, 0.0005),
            (self._broken, 0.001),
        )
        while self.counts.tagged.total() < lines * tagged_share:
            self._request(chance.randrange(max(self.span_ms - 100_000, 1)))
        weights = [weight for _, weight in kinds]
        for kind in chance.choices([kind for kind, _ in kinds], weights, k=lines - self.counts.lines):
            kind(chance.randrange(self.span_ms))
        self.events.sort()
        timed = [at_ms for at_ms, _, line in self.events if b"@0000" in line]
        self.counts.first = START + timedelta(milliseconds=timed[0])
        self.counts.last = START + timedelta(milliseconds=timed[-1])
        self.text = b"".join(line for _, _, line in self.events)

    def _add(self, at_ms: int, line: bytes) -> None:
        self.events.append((at_ms, len(self.events), line + b"\n"))
        self.counts.lines += 1 + line.count(b"\n")

    def _clock(self, at_ms: int, between: str, point: str) -> str:
        seconds, ms = divmod(at_ms % 60_000, 1000)
        return f"{_marker(at_ms // 60_000, between).decode()}:{seconds:02d}{point}{ms:03d}"

    def _filled(self, template: str) -> str:
        return template.format(
            n=f"{self.chance.randrange(1000):03d}{_BLOCK_NUMBER.decode()}",
            m=self.chance.randrange(1, 250),
            h=f"{self.chance.getrandbits(64):016x}",
        )

    def _text(self, at_ms: int, level: str, templates: tuple[str, ...]) -> None:
        prefix = self.chance.choice(_SERVICES) if self.chance.random() < 0.2 else ""
        text = self._filled(self.chance.choice(templates))
        self._add(at_ms, f"{prefix}{self._clock(at_ms, ' ', ',')} {level:<7} {text}".encode())

    def _info(self, at_ms: int) -> None:
        self._text(at_ms, "INFO" if self.chance.random() < 0.8 else "DEBUG", _INFOS)

    def _warning(self, at_ms: int) -> None:
        self.counts.warnings += 1
        if self.chance.random() < 0.3:
            self._json_line(at_ms, "warning", self._filled(_WARNINGS[0]), 0.2)
        else:
            self._text(at_ms, "WARNING", _WARNINGS)

    def _error(self, at_ms: int) -> None:
        self.counts.errors += 1
        if self.chance.random() < 0.3:
            self._json_line(at_ms, "error", self._filled("app.worker: task {n} failed: timeout"), 0.3)
        else:
            self._text(at_ms, "ERROR", _ERRORS)

    def _json(self, at_ms: int) -> None:
        duration = round(self.chance.lognormvariate(-1.5, 1.2), 3)
        self._json_line(at_ms, "info", "request handled", duration)

    def _json_line(self, at_ms: int, level: str, message: str, duration: float) -> None:
        tenths = round(duration, 1)
        tenths += 0.1 * (tenths == 10)
        self.counts.slow += tenths > 10
        message = message.replace('"', "'")
        self._add(
            at_ms,
            f'{{"timestamp": "{self._clock(at_ms, "T", ".")}Z", "level": "{level}", "message": "{message}", '
            f'"task": {_BLOCK_NUMBER.decode()}, "duration": {tenths:.1f}{_HUNDREDTHS.decode()}}}'.encode(),
        )

    def _access(self, at_ms: int) -> None:
        port = self.chance.randrange(30_000, 60_000)
        line = f'{_SERVICES[0]}INFO:     172.18.0.5:{port} - "POST /run HTTP/1.1" 200 OK'
        self._add(at_ms, line.encode())

    def _traceback(self, at_ms: int) -> None:
        self.counts.errors += 1
        self.counts.tracebacks += 1
        lines = [
            f"{self._clock(at_ms, ' ', ',')} ERROR   app.http: request failed",
            "Traceback (most recent call last):",
            '  File "/srv/app/http.py", line 41, in run',
            "    answer = await handler(request)",
            '  File "/srv/app/worker.py", line 90, in handler',
            '    raise ValueError(f"ERROR in task {number}")',
            self._filled("ValueError: ERROR in task {n}"),
        ]
        self._add(at_ms, "\n".join(lines).encode())

    def _broken(self, at_ms: int) -> None:
        rubbish = self.chance.randbytes(40).translate(_RESERVED)
        self._add(
            at_ms, f"{self._clock(at_ms, ' ', ',')} INFO    app.raw: ".encode() + b"\0\xff\xfe" + rubbish
        )

    def _request(self, at_ms: int) -> None:
        chance, counts = self.chance, self.counts
        identifier = f"{chance.getrandbits(32):08x}-{chance.getrandbits(16):04x}-4abc-8def-000000{'z' * 6}"
        began = now = at_ms
        counts.requests += 1
        self._tagged(
            now, "REQUEST", identifier, method="RUN", goal="Создай бота", async_mode=False, task_type="coding"
        )
        attempt = 1
        places = chance.sample(_MODELS, k=3)
        for (node, model), following in zip(places, [*places[1:], None], strict=True):
            now += chance.randrange(1, 20)
            self._tagged(
                now,
                "LLM_CALL",
                identifier,
                node=node,
                model=model,
                fallback=attempt > 1,
                attempt=attempt,
                resident=chance.random() < 0.7,
                max_tokens=1024,
                temperature=None,
                why="coding by category",
            )
            call = counts.calls.setdefault((node, model), Call())
            call.calls += 1
            took_ms = min(int(chance.lognormvariate(8.0, 1.0)), 30_500)
            now += took_ms
            seconds = took_ms / 1000
            counts.slow += seconds > 10
            if following is None or chance.random() < 0.85:
                tokens = chance.randrange(20, 900)
                call.ok += 1
                call.tokens += tokens
                call.seconds.append(seconds)
                self._tagged(
                    now,
                    "LLM_RESPONSE",
                    identifier,
                    node=node,
                    model=model,
                    seconds=seconds,
                    status=200,
                    first_token_s=round(seconds / 4, 3),
                    tokens=tokens,
                    preview="Вот код: def main() -> None",
                )
                break
            fault, status, detail = chance.choice(_FAULTS)
            call.faults[fault] += 1
            crash = fault == "runner_crashed"
            counts.crashes += crash
            counts.errors += 1
            self._tagged(
                now,
                "LLM_CRASH" if crash else "LLM_ERROR",
                identifier,
                node=node,
                model=model,
                seconds=seconds,
                fault=fault,
                status=status,
                detail=detail,
            )
            counts.fallbacks += 1
            counts.warnings += 1
            self._tagged(
                now,
                "FALLBACK",
                identifier,
                from_node=node,
                from_model=model,
                to_node=following[0],
                to_model=following[1],
                why=fault,
            )
            attempt += 1
        counts.request_seconds.append((now - began) / 1000)

    def _tagged(self, at_ms: int, tag: str, identifier: str, **fields) -> None:
        self.counts.tagged[tag] += 1
        line = format_line(tag, {"correlation_id": identifier, **fields})
        self._add(at_ms, f"{self._clock(at_ms, 'T', '.')}Z {line}".encode())
