"""Values side by side: what is equal, what is not there, and how a value stands in a sentence. Pure."""

from collections.abc import Mapping
from typing import Any, Final

from opskit.config.substitute import FromEnvironment
from opskit.config.yaml import scalar

_SHOWN_CHARS = 80


class Missing:
    """There is no such value."""

    def __repr__(self) -> str:
        return "nothing"


MISSING: Final = Missing()


def shown(value: Any) -> str:
    """A value in a sentence: short, on one line."""
    text = repr(str(value)) if isinstance(value, str) else str(value)
    if value is None or isinstance(value, bool):
        text = {None: "null", True: "true", False: "false"}[value]
    return text if len(text) <= _SHOWN_CHARS else text[: _SHOWN_CHARS - 1] + "…"


def same(value: Any, wanted: Any) -> bool:
    """Equality without Python's `True == 1`. Text out of a variable may stand for a number."""
    if isinstance(wanted, FromEnvironment) and not isinstance(value, str):
        return same(value, scalar(wanted))
    if isinstance(value, bool) is not isinstance(wanted, bool):
        return False
    if isinstance(value, list | tuple) and isinstance(wanted, list | tuple):
        return len(value) == len(wanted) and all(map(same, value, wanted))
    if isinstance(value, Mapping) and isinstance(wanted, Mapping):
        return value.keys() == wanted.keys() and all(same(value[key], wanted[key]) for key in wanted)
    return bool(value == wanted)


def written_alike(value: Any, wanted: Any) -> bool:
    """Whether one is a number or a truth value and the other the text that writes it: `200` and `"200"`."""
    if isinstance(value, str) is isinstance(wanted, str):
        return False
    text, other = (value, wanted) if isinstance(value, str) else (wanted, value)
    read = scalar(text)
    return isinstance(read, bool | int | float) and same(other, read)
