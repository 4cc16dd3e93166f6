"""Pauses: what a person told recovery to leave alone, and until when.

They lie in a file of their own, which only `opskit pause` and `opskit resume` write: recovery reads it before
each repair, so that a pause holds even in the middle of a run.
"""

import contextlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from opskit.errors import OpskitError, StateError
from opskit.recovery.memory import number, written
from opskit.system.lock import wait_lock
from opskit.system.textfile import write_text

FILE_NAME = "pauses.json"
_LOCK_NAME = "pauses.lock"
#: A change takes milliseconds; who holds the lock for so long is stopped.
_PATIENCE_S = 5.0
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
            f"{path} is damaged, so it is not known what is paused",
            remedy=f"remove {path}, then pause again what has to be left alone (`opskit pause TARGET`)",
        ) from exc
    return {one.target: one for one in found if one.holds(now)}


def write(folder: Path, pauses: Mapping[str, Pause]) -> None:
    """Replace all pauses in one step. Raises StateError."""
    content = {
        one.target: {"since": one.since, "until": one.until, "reason": one.reason}
        for one in sorted(pauses.values(), key=lambda one: one.target)
    }
    try:
        write_text(folder / FILE_NAME, written(content))
    except OSError as exc:
        raise StateError(f"{folder / FILE_NAME}: {exc.strerror or 'it cannot be written'}") from exc


@contextlib.contextmanager
def changing(folder: Path, now: float, *, patience_s: float = _PATIENCE_S) -> Iterator[dict[str, Pause]]:
    """The pauses that hold now, to be changed in place and written at the end.

    Who changes them at the same time waits, so that neither loses the other's word. Raises StateError, and
    OpskitError RECOVER_001 when the other does not end within `patience_s`.
    """
    with wait_lock(folder / _LOCK_NAME, patience_s) as mine:
        if not mine:
            raise OpskitError("RECOVER_001", "another `opskit pause` or `opskit resume` does not end")
        pauses = read(folder, now)
        before = dict(pauses)
        yield pauses
        if pauses != before:
            write(folder, pauses)


def covering(pauses: Mapping[str, Pause], *names: str) -> Pause | None:
    """The pause that covers one of these names, the pause of everything first."""
    if ALL in pauses:
        return pauses[ALL]
    return next((pauses[one] for name in names for one in pauses if same(one, name)), None)


def same(one: str, other: str) -> bool:
    """Whether two names mean the same: `victoria-agent` is `container:victoria-agent` too.

    Names of two kinds differ: `container:web` is not `compose:web`.
    """
    return (
        one == other or (one.partition(":")[2] or one) == other or (other.partition(":")[2] or other) == one
    )


def _times(content: Mapping[str, object]) -> tuple[float, float | None]:
    since, until = content["since"], content["until"]
    return number(since), None if until is None else number(until)
