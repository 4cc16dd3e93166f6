"""Circuits that a person closes: `opskit resume TARGET --reset` forgets the repairs that did not help."""

import contextlib
from pathlib import Path

from opskit.config.schema import Config
from opskit.errors import OpskitError
from opskit.recovery.audit import Audit
from opskit.recovery.memory import LOCK_NAME, load
from opskit.recovery.pauses import ALL, chosen, known_names, same
from opskit.system.lock import wait_lock
from opskit.text import utc

#: A run holds the lock for as long as it works; a short one is waited for.
_PATIENCE_S = 5.0


def reset(config: Config, folder: Path, target: str | None, now: float) -> list[str]:
    """Forget the repairs of a target and its parts, or of all; return those that something was known of.

    The next run repairs them as if it were the first. Raises OpskitError RECOVER_001 while a recovery runs,
    RECOVER_002 for an unknown name, StateError.
    """
    with wait_lock(folder / LOCK_NAME, _PATIENCE_S) as mine:
        if not mine:
            raise OpskitError("RECOVER_001", "a recovery is running", remedy="try again when it has ended")
        memory, _ = load(folder, keep=True)
        name = ALL if target is None else chosen(target, known_names(config, memory), command="resume")
        forgotten = [known for known in memory.targets if name == ALL or _is_of(known, name)]
        if not forgotten:
            return []
        for known in forgotten:
            del memory.targets[known]
        with contextlib.closing(Audit(folder, config.log)) as audit:
            memory.save()
            audit.write(at=utc(now), event="circuits_reset", source="resume --reset", targets=forgotten)
        return forgotten


def _is_of(target: str, name: str) -> bool:
    """Tell whether a target is meant by a name, or is a service of the project that is meant."""
    project, _, service = target.partition("/")
    return same(target, name) or (bool(service) and (same(project, name) or service == name))
