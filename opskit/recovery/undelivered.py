"""Notices that reached nobody: kept in the memory of recovery, shown by `opskit status`."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

#: The fact under which they are remembered.
FACT = "notices_failed"
#: The newest are kept; one that fails again and again for the same reason is one.
_KEPT = 20


@dataclass(frozen=True, slots=True)
class Undelivered:
    """`about` is a notice in a few words; `first` and `last` are seconds since the epoch."""

    channel: str
    about: str
    why: str
    first: float
    last: float
    times: int = 1


def recorded(facts: Mapping[str, Any]) -> list[Undelivered]:
    """Oldest first; what cannot be understood is left out."""
    content = facts.get(FACT)
    found = []
    for one in content if isinstance(content, list) else ():
        try:
            found.append(
                Undelivered(
                    str(one["channel"]),
                    str(one["about"]),
                    str(one["why"]),
                    float(one["first"]),
                    float(one["last"]),
                    int(one["times"]),
                )
            )
        except (ValueError, KeyError, TypeError, OverflowError):
            continue
    return found


def record(facts: dict[str, Any], failure: Undelivered) -> None:
    """Add a failure; the same one again counts."""
    known = recorded(facts)
    same = [one for one in known if _key(one) == _key(failure)]
    for one in same:
        known.remove(one)
        failure = replace(failure, first=min(one.first, failure.first), times=one.times + failure.times)
    facts[FACT] = [asdict(one) for one in [*known, failure][-_KEPT:]]


def _key(one: Undelivered) -> tuple[str, str, str]:
    return one.channel, one.about, one.why
