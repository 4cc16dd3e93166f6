"""Processes that the Linux kernel killed in the last hour for want of memory, where its log may be read."""

import asyncio
import contextlib
import os
import re
import time
from collections.abc import Iterable, Iterator
from contextlib import aclosing

from opskit.errors import OpskitError
from opskit.facts.model_requests import WINDOW_S
from opskit.facts.survey import Survey
from opskit.logs.record import LogEntry
from opskit.logs.source import JournalSource, Window
from opskit.records import Record

_KMSG = "/dev/kmsg"
_MOST_RECORDS = 20_000
_JOURNAL_S = 5.0
_RECORD_BYTES = 8192
#: `Out of memory: Killed process 812 (ollama) total-vm:...`, also of a control group.
_KILLED = re.compile(rb"[Oo]ut of memory: Kill(?:ed)? process (\d{1,9}) \(([^)]{1,64})\)")


class KernelKill(Record):
    """One process that was killed, by the name that the kernel has for it: at most 15 characters."""

    at: float
    pid: int
    program: str


async def read_kernel_kills(_: Survey) -> tuple[KernelKill, ...]:
    """Read the kernel's own ring of messages, else the journal; whichever may be read."""
    since = time.time() - WINDOW_S
    try:
        lines = await asyncio.to_thread(lambda: list(_ring(_KMSG)))
    except OSError:
        lines = await _journal(since)
    return kernel_kills(lines, since)


def kernel_kills(lines: Iterable[tuple[float, bytes]], since: float) -> tuple[KernelKill, ...]:
    """Return the kills among timed messages. Pure."""
    kills = ((at, match) for at, text in lines if at >= since and (match := _KILLED.search(text)) is not None)
    return tuple(KernelKill(at, int(match[1]), match[2].decode("utf-8", "replace")) for at, match in kills)


def _ring(path: str) -> Iterator[tuple[float, bytes]]:
    """Each message with its time: `6,1234,98765432,-;text`, in µs since the start of the machine."""
    started = time.time() - time.monotonic()
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        for _ in range(_MOST_RECORDS):
            try:
                record = os.read(descriptor, _RECORD_BYTES)
            except BlockingIOError:
                return
            except BrokenPipeError:
                continue  # this message was overwritten before it was read
            head, _, text = record.partition(b";")
            with contextlib.suppress(ValueError, IndexError):
                yield started + int(head.split(b",")[2]) / 1e6, text
    finally:
        os.close(descriptor)


async def _journal(since: float) -> list[tuple[float, bytes]]:
    source, entries = JournalSource(None, kernel=True), list[object]()
    with contextlib.suppress(OpskitError, OSError, TimeoutError):
        async with asyncio.timeout(_JOURNAL_S), aclosing(source.read(Window(since=since))) as batches:
            async for batch in batches:
                entries += batch
    lines = (entry for entry in entries if isinstance(entry, LogEntry))
    return [(line.at, line.raw) for line in lines if line.at is not None]
