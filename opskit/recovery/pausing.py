"""Pausing and resuming: one change of the pauses, and what holds after it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from opskit.config.schema import Config
from opskit.errors import UsageError
from opskit.quantity import duration_s
from opskit.recovery import memory, names, pauses
from opskit.recovery.pauses import ALL, Pause, same

_MAX_S = 365 * 86_400.0
_REASON_CHARS = 200


@dataclass(frozen=True, slots=True)
class PauseChange:
    """`target` is what was asked for; `before` and `after` are all pauses."""

    target: str
    now: float
    before: Mapping[str, Pause]
    after: Mapping[str, Pause]

    @property
    def changed(self) -> bool:
        return self.before != self.after


def wanted_s(text: str) -> float:
    """Raises UsageError for what is no duration, or longer than a year."""
    seconds = duration_s(text)
    if not seconds or seconds > _MAX_S:
        raise UsageError(
            f"--for {text[:40]!r} is no duration of up to a year", remedy="write 30m, 1h, 1h30m or 2d"
        )
    return seconds


def paused(
    config: Config,
    folder: Path,
    target: str | None,
    now: float,
    *,
    for_s: float | None = None,
    reason: str = "",
    force: bool = False,
) -> PauseChange:
    """Pause a target, or everything. The later word wins; a pause that goes on keeps its beginning.

    Raises OpskitError RECOVER_002 for an unknown target unless `force`, StateError.
    """
    name = ALL if target is None else names.chosen(target, _known(config, folder), force=force)
    until = None if for_s is None else now + for_s
    clean = " ".join("".join(char if char.isprintable() else " " for char in reason).split())[:_REASON_CHARS]
    with pauses.changing(folder, now) as held:
        before = dict(held)
        old = held.get(name)
        if old is not None and old.until is None and until is None and not clean:
            clean = old.reason
        held[name] = Pause(name, now if old is None else old.since, until, clean)
        after = dict(held)
    return PauseChange(name, now, before, after)


def resumed(config: Config, folder: Path, target: str | None, now: float) -> PauseChange:
    """End the pause of a target, under any of its names, or every pause.

    Raises OpskitError RECOVER_002 for a name that is neither known nor paused, StateError.
    """
    with pauses.changing(folder, now) as held:
        before = dict(held)
        known = [*held, *_known(config, folder)]
        name = ALL if target is None else names.chosen(target, known, command="resume")
        for one in [one for one in held if name == ALL or same(one, name)]:
            del held[one]
        after = dict(held)
    return PauseChange(name, now, before, after)


def _known(config: Config, folder: Path) -> list[str]:
    remembered, _ = memory.load(folder, keep=True)
    return names.known(config, remembered)
