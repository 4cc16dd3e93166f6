"""The types of what people write in configurations and checklists, checked by pydantic at the border.

What came out of a variable is text; it may stand for a number or a truth value too. The JSON schemas are for
the editors of checklists.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Annotated, Any, TypeVar, dataclass_transform

from pydantic import (
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    WithJsonSchema,
)

from opskit.config import values
from opskit.config.document import Path, Report, retyped, unknown
from opskit.records import names
from opskit.text import duration_s, size_bytes

T = TypeVar("T")

MAX_SECONDS = 24 * 3600.0
MAX_COUNT = values.MAX_COUNT
CONFIG = ConfigDict(extra="forbid", hide_input_in_errors=True)

_VARIABLE = {"type": "string", "pattern": r"\$\{"}
_MISSING = "is missing"
_PHRASES = {
    "bool_type": values.NOT_A_FLAG,
    "int_type": values.NOT_A_COUNT,
    "float_type": values.NOT_A_NUMBER,
    "string_type": values.NOT_TEXT,
    "tuple_type": values.NOT_A_LIST,
    "dict_type": values.NOT_A_SECTION,
    "dataclass_type": values.NOT_A_SECTION,
    "string_too_short": values.EMPTY,
    "too_short": values.EMPTY,
    "missing": _MISSING,
}
_WORDS = (
    ("Value error, ", ""),
    ("Input should be", "must be"),
    ("greater than or equal to", "at least"),
    ("less than or equal to", "at most"),
    ("greater than", "more than"),
)


def _amount(read: Callable[[str], float | None], problem: str) -> BeforeValidator:
    """Return the validator that turns text with a unit into its number."""

    def number(value: object) -> object:
        value = retyped(value)
        if not isinstance(value, str):
            return value
        amount = read(value)
        if amount is None:
            raise ValueError(problem)
        return amount

    return BeforeValidator(number)


def _one_or_more(value: object) -> object:
    """Accept a list of one item without its brackets."""
    return [value] if isinstance(value, str) else value


def _described(kind: str, **more: Any) -> WithJsonSchema:
    return WithJsonSchema({"anyOf": [{"type": kind, **more}, _VARIABLE]})


RETYPED = BeforeValidator(retyped)
DURATION = _amount(duration_s, values.NOT_A_DURATION)

AnyText = Annotated[str, Field(strict=True)]
Text = Annotated[str, Field(strict=True, min_length=1)]
Texts = Annotated[tuple[Text, ...], BeforeValidator(_one_or_more)]
Flag = Annotated[bool, Field(strict=True), RETYPED, _described("boolean")]
Count = Annotated[int, Field(strict=True, ge=0, le=MAX_COUNT), RETYPED, _described("integer", minimum=0)]
Port = Annotated[
    int, Field(strict=True, ge=1, le=65535), RETYPED, _described("integer", minimum=1, maximum=65535)
]
Seconds = Annotated[
    float,
    Field(strict=True, gt=0, le=MAX_SECONDS, allow_inf_nan=False),
    DURATION,
    WithJsonSchema({"anyOf": [{"type": "number", "exclusiveMinimum": 0}, {"type": "string"}]}),
]
Bytes = Annotated[
    int,
    Field(strict=True, ge=1, le=2**40),
    _amount(size_bytes, values.NOT_A_SIZE),
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 1}, {"type": "string"}]}),
]


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def parameters(shape: type[T]) -> type[T]:
    """Make a frozen dataclass of what may be written in a section of a checklist; other keys are refused."""
    record = dataclass(frozen=True, slots=True)(shape)
    record.__pydantic_config__ = CONFIG  # type: ignore[attr-defined]
    return record


@cache
def adapter(shape: type) -> TypeAdapter[Any]:
    """Return what checks and describes a frozen dataclass."""
    return TypeAdapter(shape)


def validated(shape: type, raw: object, at: Path, report: Report) -> Any:
    """Return an instance of `shape`, or None after problems, which went to `report`."""
    try:
        return adapter(shape).validate_python({} if raw is None else raw)
    except ValidationError as exc:
        messages: dict[Path, str] = {}
        for error in exc.errors(include_url=False, include_context=True, include_input=False):
            path: Path = tuple(part for part in error["loc"] if part != "[key]")
            messages.setdefault(path, _phrase(error["type"], error["msg"], path, shape))
        for path, message in messages.items():
            if message != _MISSING or not _mistyped(path, messages):
                report((*at, *path), message)
        return None


def _mistyped(path: Path, messages: Mapping[Path, str]) -> bool:
    """Whether the missing key is there under a mistyped name, which is reported anyway."""
    return any(message.endswith(f"did you mean `{path[-1]}`?") for message in messages.values())


def _phrase(kind: str, message: str, path: Path, shape: type) -> str:
    if kind == "unexpected_keyword_argument":
        return unknown(str(path[-1]), [*names(shape), *getattr(shape, "OF_THE_KIND", ())])
    if kind in _PHRASES:
        return _PHRASES[kind]
    for theirs, ours in _WORDS:
        message = message.replace(theirs, ours)
    return message
