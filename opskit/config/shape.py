"""What may stand in a configuration file, checked by pydantic and derived from `opskit.config.schema`.

Names carry the rules (house style): a float that ends in `_s` is a duration and may be written as `2s`,
other floats are positive numbers, integers are counts. Only this module imports pydantic, and it is needed
only when there is a file.
"""

import math
import re
from collections.abc import Callable
from dataclasses import fields
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    ValidationError,
    create_model,
)

from opskit.config.problems import Path, printable
from opskit.config.schema import AgentConfig, NodeConfig, Secret
from opskit.config.substitute import FromEnvironment
from opskit.config.yaml import scalar

NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")
MAX_DURATION_S = 365 * 24 * 3600.0
MAX_COUNT = 2**53

#: Counts for which zero would switch the whole thing off by accident.
_AT_LEAST_ONE = frozenset(
    {
        "failures",
        "max_tokens",
        "num_ctx",
        "goal_bytes",
        "max_bytes",
        "max_file_bytes",
        "max_repairs",
        "escalate_repairs",
        "keep",
    }
)

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?(ms|s|m|h)")

_PHRASES = {
    "bool_type": "must be true or false",
    "int_type": "must be a whole number",
    "float_type": "must be a number",
    "string_type": "must be text: put it in quotes",
    "list_type": "must be a list",
    "dict_type": "must be a section of `key: value` lines",
    "model_type": "must be a section of `key: value` lines",
    "string_too_short": "must not be empty",
    "too_short": "must not be empty",
}

_WORDS = (
    ("Value error, ", ""),
    ("Input should be", "must be"),
    ("greater than or equal to", "at least"),
    ("less than or equal to", "at most"),
    ("greater than", "more than"),
)


def _retyped(value: object) -> object:
    return scalar(value) if isinstance(value, FromEnvironment) else value


def _finite(value: object) -> object:
    value = _retyped(value)
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("must be a finite number")
    return value


def _duration(value: object) -> object:
    value = _finite(value)
    if not isinstance(value, str):
        return value
    match = _DURATION.fullmatch(value)
    if not match:
        raise ValueError("must be a duration: seconds, or text such as 500ms, 2s, 1m")
    return float(match[1]) * _UNITS[match[2]]


def _shown_text(value: str) -> str:
    if not value.isprintable():
        raise ValueError("holds characters that cannot be shown")
    return str(value)


def _name(value: str) -> str:
    if not NAME.fullmatch(value):
        raise ValueError("a name is made of a-z, 0-9, _ and -")
    return value


def _distinct(values: list[str]) -> list[str]:
    twice = next((value for value in values if values.count(value) > 1), None)
    if twice:
        raise ValueError(f"names {twice} twice")
    return values


_Text = Annotated[str, Field(min_length=1), AfterValidator(_shown_text)]
_Url = Annotated[str, AfterValidator(str)]
_Name = Annotated[str, AfterValidator(_name)]
_Bool = Annotated[StrictBool, BeforeValidator(_retyped)]
_Duration = Annotated[float, BeforeValidator(_duration), Field(gt=0, le=MAX_DURATION_S)]
_Positive = Annotated[float, BeforeValidator(_finite), Field(gt=0)]
_Count = Annotated[int, BeforeValidator(_retyped), Field(ge=0, le=MAX_COUNT)]
_CountFromOne = Annotated[int, BeforeValidator(_retyped), Field(ge=1, le=MAX_COUNT)]


def _annotation(name: str, hint: Any) -> Any:
    """The check for a field of the schema."""
    simple = {
        bool: _Bool,
        int: _CountFromOne if name in _AT_LEAST_ONE else _Count,
        float: _Duration if name.endswith("_s") and not name.endswith("_per_s") else _Positive,
        str: _Url if name == "url" else _Text,
    }
    if hint in simple:
        return simple[hint]
    if get_origin(hint) is UnionType:
        (inner,) = (arg for arg in get_args(hint) if arg is not NoneType)
        # A secret is resolved before it comes here, so that nothing else ever sees it.
        return Any if inner is Secret else _annotation(name, inner) | None
    if get_origin(hint) is tuple:
        item = get_args(hint)[0]
        if get_origin(item) is Literal:
            return Annotated[list[item], Field(min_length=1), AfterValidator(_distinct)]  # type: ignore[valid-type]
        return list[_Text]
    if get_origin(hint) is dict:
        return dict[_Name, list[_Text]]
    return hint


_Shape = type[BaseModel]
_CONFIG = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)


@cache
def section(schema: type) -> _Shape:
    """The shape of the section that becomes `schema`; every key is optional."""
    hints = get_type_hints(schema)
    checks: dict[str, Any] = {
        field.name: (_annotation(field.name, hints[field.name]), None) for field in fields(schema)
    }
    if schema in (NodeConfig, AgentConfig):
        del checks["name"], checks["explicit"]
        checks["enabled"] = (_Bool, None)
    model: _Shape = create_model(schema.__name__, __config__=_CONFIG, **checks)
    return model


class Root(BaseModel):
    """The keys outside every section."""

    model_config = _CONFIG

    state_dir: _Text | None = None
    debug: _Bool = False
    victoria_model: _Text | None = None


Report = Callable[[Path, str], None]


def checked(shape: _Shape, value: object, at: Path, report: Report) -> dict[str, Any]:
    """The keys that `value` sets and that are valid; problems go to `report`."""
    try:
        model = shape.model_validate({} if value is None else value)
    except ValidationError as exc:
        wrong = {error["loc"][0] for error in exc.errors() if error["loc"]}
        for error in exc.errors(include_url=False, include_context=True, include_input=False):
            path = tuple(part for part in error["loc"] if part != "[key]")
            report((*at, *path), _phrase(error["type"], error["msg"], path, shape))
        good = (
            {key: item for key, item in value.items() if key not in wrong} if isinstance(value, dict) else {}
        )
        return checked(shape, good, at, report) if wrong else {}
    return {name: _frozen(item) for name, item in model.model_dump(exclude_unset=True).items()}


def unknown(key: str, known: list[str]) -> str:
    """What to say about a key that does not exist."""
    import difflib

    close = difflib.get_close_matches(key, known, 1)
    hint = f"did you mean `{close[0]}`?" if close else "known: " + ", ".join(sorted(known))
    return f"unknown key; {hint}"


def _phrase(kind: str, message: str, path: Path, shape: _Shape) -> str:
    if kind == "extra_forbidden":
        return unknown(printable(str(path[-1])), list(shape.model_fields))
    for theirs, ours in _WORDS:
        message = message.replace(theirs, ours)
    return _PHRASES.get(kind, message)


def _frozen(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(value)
    if isinstance(value, dict):
        return {name: _frozen(item) for name, item in value.items()}
    return value
