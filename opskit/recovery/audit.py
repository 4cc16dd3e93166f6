"""The audit: lines for each repair, with its cause, its commands and what came of it (ops facts 9, 14.3)."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from opskit.config.schema import LogConfig
from opskit.errors import StateError
from opskit.system.logfile import RotatingLog

FILE_NAME = "audit.jsonl"
_BLOCK = 64 * 1024
#: A line for each run every five minutes: a week.
_SEARCHED = 2000


class Audit:
    """Appends JSON objects, one a line, to a file that rotates."""

    def __init__(self, folder: Path, limits: LogConfig) -> None:
        """Raises StateError when the file cannot be opened: no repair without evidence."""
        path = folder / FILE_NAME
        try:
            self._file = RotatingLog(path, max_bytes=limits.max_bytes, backups=limits.backups)
        except OSError as exc:
            raise StateError(f"{path}: {exc.strerror}") from exc

    def write(self, **content: Any) -> None:
        self._file(json.dumps(content, ensure_ascii=False, default=str))

    def close(self) -> None:
        self._file.close()


def last(folder: Path, count: int) -> list[Mapping[str, Any]]:
    """The last lines, oldest first, from rotated files too; what is no JSON object is left out."""
    found: list[Mapping[str, Any]] = []
    for line in _backwards(folder):
        if len(found) == count:
            break
        try:
            content = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(content, dict):
            found.append(content)
    return found[::-1]


def last_repairs(folder: Path, count: int) -> list[Mapping[str, Any]]:
    """The last repairs of about a week, oldest first: how each ended, or that it began and never did."""
    found: list[Mapping[str, Any]] = []
    ended: set[tuple[object, object]] = set()
    for line in reversed(last(folder, _SEARCHED)):
        event, key = str(line.get("event", "")), (str(line.get("run")), str(line.get("target")))
        if event == "repair_begins" and key in ended:
            ended.discard(key)
        elif event.startswith("repair"):
            ended.add(key)
            found.append(line)
        if len(found) == count:
            break
    return found[::-1]


def _backwards(folder: Path) -> Iterator[bytes]:
    """The lines of the newest file from its end, then those of older ones, as far as they are asked for."""
    number = 0
    while True:
        path = folder / (f"{FILE_NAME}.{number}" if number else FILE_NAME)
        try:
            yield from _lines_from_end(path)
        except OSError:
            if number:
                return
        number += 1


def _lines_from_end(path: Path) -> Iterator[bytes]:
    """Raises OSError when there is no such file, or it cannot be read."""
    with path.open("rb") as stream:
        at = stream.seek(0, 2)
        rest = b""
        while at:
            begin = max(0, at - _BLOCK)
            stream.seek(begin)
            rest = stream.read(at - begin) + rest
            at = begin
            first, *whole = rest.split(b"\n")
            if at:
                yield from reversed(whole)
                rest = first
            else:
                yield from reversed([first, *whole])
