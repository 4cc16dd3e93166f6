"""What an agent did, step by step, written down while it works, so that a crash loses nothing."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from opskit.errors import StateError, UsageError

FOLDER_NAME = "trajectories"
_KEPT = 500


class Trajectory:
    """The lines of one run in a file of its own, named by the correlation id."""

    def __init__(self, folder: Path, correlation_id: str) -> None:
        self.path = folder / FOLDER_NAME / f"{correlation_id}.ndjson"
        try:
            self.path.parent.mkdir(mode=0o700, exist_ok=True)
            self._file = self.path.open("a", encoding="utf-8")
        except OSError as error:
            raise StateError.of(self.path, error) from error
        self.path.chmod(0o600)
        paths = sorted(self.path.parent.glob("*.ndjson"), key=lambda path: path.stat().st_mtime)
        for path in paths[:-_KEPT]:
            path.unlink(missing_ok=True)

    def write(self, kind: str, **content: Any) -> None:
        """Append one line: goal, understood, plan, step, observation, answer, end."""
        line = {"at": datetime.now(UTC).isoformat(timespec="milliseconds"), "kind": kind, **content}
        self._file.write(json.dumps(line, ensure_ascii=False, default=str) + "\n")
        self._file.flush()

    def close(self) -> None:
        self._file.close()


def read_trajectory(folder: Path, correlation_id: str) -> list[Mapping[str, Any]]:
    """Return the lines of a run; a line that was cut off by a crash is left out. Raises UsageError."""
    # An id is typed by a person: it names a file of this folder, or none.
    path = folder / FOLDER_NAME / f"{Path(correlation_id).name}.ndjson"
    try:
        text = path.read_text("utf-8", "replace")
    except OSError as error:
        raise UsageError(
            f"there is no trajectory of {correlation_id}",
            remedy="only runs with tools have one; `opskit trace show ID` shows the stages of any run",
        ) from error
    lines = []
    for line in text.splitlines():
        try:
            lines.append(json.loads(line))
        except ValueError:
            continue
    return lines
