"""The audit: lines for each repair, with its cause, its commands and what came of it (ops facts 9, 14.3)."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from opskit.config.schema import LogConfig
from opskit.errors import StateError
from opskit.system.logfile import RotatingLog

FILE_NAME = "audit.jsonl"


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
    """The last lines, oldest first; what is no JSON object is left out."""
    try:
        lines = (folder / FILE_NAME).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    found: list[Mapping[str, Any]] = []
    for line in reversed(lines):
        if len(found) == count:
            break
        try:
            content = json.loads(line)
        except ValueError:
            continue
        if isinstance(content, dict):
            found.append(content)
    return found[::-1]
