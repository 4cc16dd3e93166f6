"""The last run of recovery, as it is remembered: read with care, because it comes from a file. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from opskit.recovery.memory import number


@dataclass(frozen=True, slots=True)
class LastTarget:
    """`result` is a value of `opskit.recovery.outcome.Result`."""

    step: str
    target: str
    result: str
    cause: str
    remedy: str | None = None
    minor: bool = False


@dataclass(frozen=True, slots=True)
class LastRun:
    """`began` is in seconds since the epoch."""

    run: str
    began: float
    seconds: float
    exit: int
    counts: Mapping[str, int]
    mutations: int
    targets: tuple[LastTarget, ...]

    @property
    def ended(self) -> float:
        return self.began + self.seconds


def last_run(content: Mapping[str, Any] | None) -> LastRun | None:
    """None when there was none, or when nothing can be made of what is remembered of it."""
    if content is None:
        return None
    try:
        return LastRun(
            str(content["run"]),
            datetime.fromisoformat(content["at"]).timestamp(),
            number(content["seconds"]),
            int(number(content["exit"])),
            {str(word): int(number(count)) for word, count in content["counts"].items()},
            int(number(content["mutations"])),
            tuple(_target(one) for one in content["targets"]),
        )
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
        return None


def _target(content: Mapping[str, Any]) -> LastTarget:
    step, target, result, cause = (str(content[name]) for name in ("step", "target", "result", "cause"))
    remedy = content.get("remedy")
    minor = content.get("minor") is True
    return LastTarget(step, target, result, cause, None if remedy is None else str(remedy), minor)
