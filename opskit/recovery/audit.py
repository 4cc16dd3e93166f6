"""The audit: lines for each repair, with its cause, its commands and what came of it (ops facts 9, 14.3).

The tools of the agent write one of their own with the same writer.
"""

import contextlib
import itertools
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from opskit.config.schema import LogConfig
from opskit.errors import StateError
from opskit.system.logfile import RotatingLog

FILE_NAME = "audit.jsonl"
#: A line for each run every five minutes: a week.
_SEARCHED = 2000


class NoAudit:
    """The audit of a run whose state folder cannot be written: it keeps nothing."""

    def write(self, **content: Any) -> None:
        """Keep nothing."""

    def close(self) -> None:
        """Nothing is open."""


class Audit(NoAudit):
    """Appends JSON objects, one a line, to a file that rotates."""

    def __init__(self, folder: Path, limits: LogConfig, name: str = FILE_NAME) -> None:
        """Open the file. Raises StateError when that fails: no repair without evidence."""
        path = folder / name
        try:
            self._file = RotatingLog(path, max_bytes=limits.max_bytes, backups=limits.backups)
        except OSError as exc:
            raise StateError.of(path, exc) from exc

    def write(self, **content: Any) -> None:
        self._file(json.dumps(content, ensure_ascii=False, default=str))

    def close(self) -> None:
        self._file.close()


def last(folder: Path, count: int) -> list[Mapping[str, Any]]:
    """Return the last lines, oldest first, from rotated files too; what is no JSON object is left out."""
    entries: list[Mapping[str, Any]] = []
    for line in _backwards(folder):
        if len(entries) == count:
            break
        with contextlib.suppress(ValueError, RecursionError):
            content = json.loads(line)
            if isinstance(content, dict):
                entries.append(content)
    return entries[::-1]


def last_repairs(folder: Path, count: int) -> list[Mapping[str, Any]]:
    """Return the last repairs of about a week, oldest first: how each ended, or that it never did."""
    repairs: list[Mapping[str, Any]] = []
    ended: set[tuple[str, str]] = set()
    for entry in reversed(last(folder, _SEARCHED)):
        event, key = str(entry.get("event", "")), (str(entry.get("run")), str(entry.get("target")))
        if event == "repair_begins" and key in ended:
            ended.discard(key)
        elif event.startswith("repair"):
            ended.add(key)
            repairs.append(entry)
        if len(repairs) == count:
            break
    return repairs[::-1]


def _backwards(folder: Path) -> Iterator[bytes]:
    """The lines of the newest file from its end, then of older ones, as far as they are asked for."""
    for number in itertools.count():
        path = folder / (f"{FILE_NAME}.{number}" if number else FILE_NAME)
        try:
            yield from reversed(path.read_bytes().split(b"\n"))
        except OSError:
            if number:
                return
