"""The types of parameters in a checklist, checked by pydantic at the border and described for editors.

A parameter that came out of a variable is text; it may stand for a number or a truth value too.
"""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Annotated, Any

from pydantic import BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError, WithJsonSchema

from opskit.checks.expectation import Report
from opskit.checks.quantity import duration_s, size_bytes
from opskit.config.problems import Path, printable
from opskit.config.shape import unknown
from opskit.config.substitute import FromEnvironment
from opskit.config.yaml import scalar

MAX_SECONDS = 24 * 3600.0
CONFIG = ConfigDict(extra="forbid", hide_input_in_errors=True)

_VARIABLE = {"type": "string", "pattern": r"\$\{"}
_MISSING = "is missing"
_PHRASES = {
    "bool_type": "must be true or false",
    "int_type": "must be a whole number",
    "float_type": "must be a number",
    "string_type": "must be text: put it in quotes",
    "tuple_type": "must be a list",
    "list_type": "must be a list",
    "dict_type": "must be a section of `key: value` lines",
    "dataclass_type": "must be a section of `key: value` lines",
    "string_too_short": "must not be empty",
    "too_short": "must not be empty",
    "missing": _MISSING,
}
_WORDS = (
    ("Value error, ", ""),
    ("Input should be", "must be"),
    ("greater than or equal to", "at least"),
    ("less than or equal to", "at most"),
    ("greater than", "more than"),
)
_UNKNOWN = ("unexpected_keyword_argument", "extra_forbidden")


def _retyped(value: object) -> object:
    return scalar(value) if isinstance(value, FromEnvironment) else value


def _seconds(value: object) -> object:
    value = _retyped(value)
    if not isinstance(value, str):
        return value
    found = duration_s(value)
    if found is None:
        raise ValueError("must be a duration: seconds, or text such as 500ms, 2s, 1m")
    return found


def _bytes(value: object) -> object:
    value = _retyped(value)
    if not isinstance(value, str):
        return value
    found = size_bytes(value)
    if found is None:
        raise ValueError("must be a size: bytes, or text such as 64KiB, 10MB")
    return found


def _one_or_more(value: object) -> object:
    """A list of one may be written without its brackets."""
    return [value] if isinstance(value, str) else value


def _described(kind: str, **more: Any) -> WithJsonSchema:
    return WithJsonSchema({"anyOf": [{"type": kind, **more}, _VARIABLE]})


Text = Annotated[str, Field(strict=True, min_length=1)]
AnyText = Annotated[str, Field(strict=True)]
Texts = Annotated[tuple[Text, ...], BeforeValidator(_one_or_more)]
Flag = Annotated[bool, Field(strict=True), BeforeValidator(_retyped), _described("boolean")]
Count = Annotated[
    int, Field(strict=True, ge=0, le=2**53), BeforeValidator(_retyped), _described("integer", minimum=0)
]
Port = Annotated[
    int,
    Field(strict=True, ge=1, le=65535),
    BeforeValidator(_retyped),
    _described("integer", minimum=1, maximum=65535),
]
Seconds = Annotated[
    float,
    Field(gt=0, le=MAX_SECONDS, allow_inf_nan=False),
    BeforeValidator(_seconds),
    WithJsonSchema({"anyOf": [{"type": "number", "exclusiveMinimum": 0}, {"type": "string"}]}),
]
Bytes = Annotated[
    int,
    Field(ge=1, le=2**40),
    BeforeValidator(_bytes),
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 1}, {"type": "string"}]}),
]


@cache
def adapter(shape: type) -> TypeAdapter[Any]:
    """What checks and describes a frozen dataclass of parameters."""
    return TypeAdapter(shape)


def validated(shape: type, raw: object, at: Path, report: Report) -> Any:
    """An instance of the frozen dataclass `shape`, or None after problems, which went to `report`."""
    try:
        return adapter(shape).validate_python({} if raw is None else raw)
    except ValidationError as exc:
        told: dict[Path, str] = {}
        for error in exc.errors(include_url=False, include_context=True, include_input=False):
            path: Path = tuple(part for part in error["loc"] if part != "[key]")
            told.setdefault(path, _phrase(error["type"], error["msg"], path, shape))
        for path, message in told.items():
            if message != _MISSING or not _mistyped(path, told):
                report((*at, *path), message)
        return None


def _mistyped(path: Path, told: Mapping[Path, str]) -> bool:
    """Whether what is missing is there under a mistyped name, which is told anyway."""
    return any(message.endswith(f"did you mean `{path[-1]}`?") for message in told.values())


def described(shape: type) -> Mapping[str, Any]:
    """The JSON schema of the parameters."""
    return adapter(shape).json_schema()


def _phrase(kind: str, message: str, path: Path, shape: type) -> str:
    if kind in _UNKNOWN:
        known = [field.name for field in fields(shape)] if is_dataclass(shape) else []
        return unknown(printable(str(path[-1])), [*known, *getattr(shape, "OF_THE_KIND", ())])
    if kind in _PHRASES:
        return _PHRASES[kind]
    for theirs, ours in _WORDS:
        message = message.replace(theirs, ours)
    return message
