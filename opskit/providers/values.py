"""Values out of foreign JSON: what is not of the kind that is expected counts as missing."""

import math
from collections.abc import Mapping
from typing import Any

#: No size, count or duration of a real server is larger; larger ones only break arithmetic.
_MOST = 2**63


def count(value: Any) -> int | None:
    """Return a number of things or bytes: a finite number from 0 below 2**63, cut to an integer."""
    number = _number(value)
    return None if number is None else int(number)


def seconds_of(value: Any, per_second: float) -> float | None:
    """Return seconds; a zero means that nothing was measured, or that it is left out (wire facts A3)."""
    number = _number(value)
    return number / per_second or None if number else None


def text(value: Any) -> str | None:
    """Return a text that is not empty."""
    return value if isinstance(value, str) and value else None


def mapping(value: Any) -> Mapping[str, Any]:
    """Return an object; an empty one for anything else."""
    return value if isinstance(value, Mapping) else {}


def mappings(value: Any) -> list[Mapping[str, Any]]:
    """Return the objects of a list; none for anything else."""
    return [item for item in value if isinstance(item, Mapping)] if isinstance(value, list) else []


def _number(value: Any) -> float | int | None:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    return value if 0 <= value < _MOST and math.isfinite(value) else None
