"""What recovery remembers between runs: a file in the state folder that survives reboots and kills."""

import contextlib
import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from opskit.errors import StateError
from opskit.recovery.budget import Record
from opskit.system.textfile import write_text

FILE_NAME = "recovery.json"
_SCHEMA = 1
_MAX_BYTES = 4 * 1024 * 1024


@dataclass(slots=True)
class Memory:
    """The records of targets, and the last run.

    `marks` are moments (seconds since the epoch) that steps keep for themselves, e.g. when Docker was last
    restarted; `facts` are small texts they keep, e.g. which services a Compose file declared; `notices` is
    when a notice about a target was last sent.
    """

    path: Path
    targets: dict[str, Record] = field(default_factory=dict)
    marks: dict[str, float] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    notices: dict[str, float] = field(default_factory=dict)
    last_run: dict[str, Any] | None = None

    def of(self, target: str) -> Record:
        return self.targets.get(target, Record())

    def save(self) -> None:
        """Write everything in one step. Raises StateError."""
        content = {
            "schema_version": _SCHEMA,
            "targets": {name: asdict(record) for name, record in sorted(self.targets.items())},
            "marks": self.marks,
            "facts": self.facts,
            "notices": self.notices,
            "last_run": self.last_run,
        }
        try:
            write_text(self.path, json.dumps(content, ensure_ascii=False, indent=1) + "\n")
        except OSError as exc:
            raise StateError(f"{self.path}: {exc.strerror}") from exc


def load(folder: Path) -> tuple[Memory, str | None]:
    """What is remembered in the state folder, and a note when that could not be read.

    A file that cannot be understood is set aside under another name: never fatal, never lost.
    """
    path = folder / FILE_NAME
    try:
        with path.open("rb") as stream:
            content = stream.read(_MAX_BYTES + 1)
    except FileNotFoundError:
        return Memory(path), None
    except OSError as exc:
        return Memory(path), f"{path}: {exc.strerror}; recovery begins without memory"
    try:
        return _understood(path, json.loads(content)), None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return Memory(path), f"{path} was damaged: it is kept as {_set_aside(path).name}"


def _understood(path: Path, content: Mapping[str, Any]) -> Memory:
    """Raises ValueError, KeyError, TypeError or AttributeError for anything that is not ours."""
    if content["schema_version"] != _SCHEMA:
        raise ValueError(content["schema_version"])
    last_run = content["last_run"]
    if last_run is not None and not isinstance(last_run, dict):
        raise TypeError(last_run)
    return Memory(
        path,
        {str(name): _record(one) for name, one in content["targets"].items()},
        {str(name): float(at) for name, at in content["marks"].items()},
        dict(content["facts"]),
        {str(name): float(at) for name, at in content["notices"].items()},
        last_run,
    )


def _record(content: Mapping[str, Any]) -> Record:
    known = {one.name for one in fields(Record)}
    values = {key: content[key] for key in content if key in known}
    times = [float(at) for at in values.pop("repairs", ())]
    row = int(values.pop("row", 0))
    rest = {key: None if value is None else float(value) for key, value in values.items()}
    return Record(tuple(sorted(times)), row, **rest)


def _set_aside(path: Path) -> Path:
    stamp = datetime.fromtimestamp(time.time(), UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    kept = path.with_name(f"{path.stem}.damaged-{stamp}.json")
    with contextlib.suppress(OSError):
        path.replace(kept)
    return kept
