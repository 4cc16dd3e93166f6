"""Pauses: what a person told recovery to leave alone, and until when.

They lie in a file of their own, which only `opskit pause` and `opskit resume` write: recovery reads it before
each repair, so that a pause holds even in the middle of a run.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from opskit.errors import StateError
from opskit.system.textfile import write_text

FILE_NAME = "pauses.json"
#: The name that means everything.
ALL = "all"


@dataclass(frozen=True, slots=True)
class Pause:
    """`since` and `until` are seconds since the epoch; until None is until `opskit resume`."""

    target: str
    since: float
    until: float | None = None
    reason: str = ""

    def holds(self, now: float) -> bool:
        return self.until is None or now < self.until


def read(folder: Path, now: float) -> dict[str, Pause]:
    """The pauses that hold now, by target.

    Raises StateError for a file that cannot be understood: to heal against a person's word would be worse
    than not to heal.
    """
    path = folder / FILE_NAME
    try:
        content = json.loads(path.read_bytes())
        found = [Pause(str(name), *_times(one), str(one.get("reason", ""))) for name, one in content.items()]
    except FileNotFoundError:
        return {}
    except OSError as exc:
        raise StateError(f"{path}: {exc.strerror}") from exc
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as exc:
        raise StateError(
            f"{path} is damaged, so it is not known what is paused: remove it, then pause again"
        ) from exc
    return {one.target: one for one in found if one.holds(now)}


def write(folder: Path, pauses: Mapping[str, Pause]) -> None:
    """Replace all pauses in one step. Raises StateError."""
    content = {
        one.target: {"since": one.since, "until": one.until, "reason": one.reason}
        for one in sorted(pauses.values(), key=lambda one: one.target)
    }
    try:
        write_text(folder / FILE_NAME, json.dumps(content, ensure_ascii=False, indent=1) + "\n")
    except OSError as exc:
        raise StateError(f"{folder / FILE_NAME}: {exc.strerror}") from exc


def covering(pauses: Mapping[str, Pause], *names: str) -> Pause | None:
    """The pause that covers one of these names, the pause of everything first."""
    return next((pauses[name] for name in (ALL, *names) if name in pauses), None)


def _times(content: Mapping[str, object]) -> tuple[float, float | None]:
    since, until = content["since"], content["until"]
    if not isinstance(since, int | float) or not isinstance(until, int | float | None):
        raise TypeError(content)
    return float(since), None if until is None else float(until)
