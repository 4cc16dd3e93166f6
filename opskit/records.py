"""Records: values with named fields, compared and shown by their fields.

They are msgspec's structs. A class of the standard library's dataclasses takes 0.5 ms to make, because its
methods are compiled from text; a struct takes 0.02 ms, and its values are made eight times as fast: a command
that needs two hundred records starts 0.1 s sooner. What a struct cannot do (a field that is not compared, not
shown or not among the arguments) is a dataclass. The functions here take both.
"""

import dataclasses
from collections.abc import Mapping
from enum import Enum
from typing import Any, TypeVar, dataclass_transform

from msgspec import Struct, field, structs

__all__ = ["MutableRecord", "Record", "asdict", "field", "is_record", "names", "replace"]

T = TypeVar("T")


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
class Record(Struct, frozen=True):
    """A value that does not change."""


@dataclass_transform(field_specifiers=(field,))
class MutableRecord(Struct):
    """A value whose fields are set while it lives."""


def is_record(value: object) -> bool:
    """Whether a value, or a class, has the fields of a record."""
    return hasattr(value, "__struct_fields__") or hasattr(value, "__dataclass_fields__")


def names(record: Any) -> tuple[str, ...]:
    """Return the names of the fields of a record, or of its class, in their order."""
    if hasattr(record, "__struct_fields__"):
        return tuple(record.__struct_fields__)
    return tuple(each.name for each in dataclasses.fields(record))


def replace(record: T, **changes: Any) -> T:
    """Return a copy with other values in some fields. Raises TypeError for a name that is no field."""
    change: Any = structs.replace if isinstance(record, Struct) else dataclasses.replace
    changed: T = change(record, **changes)
    return changed


def asdict(record: Any) -> dict[str, Any]:
    """Return the fields as JSON has them: records in them, in lists and mappings too, by their fields."""
    return {name: _plain(getattr(record, name)) for name in names(record)}


def _plain(value: Any) -> Any:
    if is_record(value):
        return asdict(value)
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple) and not hasattr(value, "_fields"):
        return type(value)(_plain(item) for item in value)
    return value
