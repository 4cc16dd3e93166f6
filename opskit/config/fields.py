"""The types of parameters, of checks and of tools, and their JSON schemas for editors and model servers.

What came out of a variable is text; it may stand for a number or a truth value too.
"""

from types import NoneType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from msgspec import NODEFAULT, structs

from opskit.config import values
from opskit.config.document import retyped
from opskit.config.values import Parameters, Rule

_MAX_SECONDS = 24 * 3600.0
_VARIABLE = {"type": "string", "pattern": r"\$\{"}
_TEXT = {"type": "string"}
_TYPES = {bool: "boolean", int: "integer", float: "number", str: "string", NoneType: "null"}


def text(least: int = 0, most: int | None = None, **more: Any) -> Rule:
    """Return the rule of a text of so many characters; `more` is for its schema."""

    def read(value: object) -> str:
        if not isinstance(value, str):
            raise values.WrongValueError(values.NOT_TEXT)
        if len(value) < least:
            raise values.WrongValueError(values.EMPTY)
        if most is not None and len(value) > most:
            raise values.WrongValueError(f"must have at most {most} characters")
        return str(value)

    bounds = {"minLength": least or None, "maxLength": most}
    return Rule(read, {**_TEXT, **{name: bound for name, bound in bounds.items() if bound}, **more})


def count(least: int, most: int, **bounds: int) -> Rule:
    """Return the rule of a whole number between two others."""
    schema = {"anyOf": [{"type": "integer", "minimum": least, **bounds}, _VARIABLE]}
    return Rule(lambda value: values.whole(retyped(value), least, most), schema)


def _flag(value: object) -> bool:
    value = retyped(value)
    if not isinstance(value, bool):
        raise values.WrongValueError(values.NOT_A_FLAG)
    return value


AnyText = Annotated[str, text()]
Text = Annotated[str, text(1)]
#: A list of one item may stand without its brackets.
Texts = Annotated[tuple[Text, ...], Rule(lambda value: [value] if isinstance(value, str) else value)]
Flag = Annotated[bool, Rule(_flag, {"anyOf": [{"type": "boolean"}, _VARIABLE]})]
Count = Annotated[int, count(0, values.MAX_COUNT)]
Port = Annotated[int, count(1, 65535, maximum=65535)]
Seconds = Annotated[
    float,
    Rule(
        lambda value: values.number(values.duration(retyped(value)), most=_MAX_SECONDS),
        {"anyOf": [{"type": "number", "exclusiveMinimum": 0}, _TEXT]},
    ),
]
Bytes = Annotated[
    int,
    Rule(
        lambda value: values.whole(values.size(retyped(value)), 1, 2**40),
        {"anyOf": [{"type": "integer", "minimum": 1}, _TEXT]},
    ),
]


def json_schema(shape: type) -> dict[str, Any]:
    """Return the JSON schema of a class of parameters."""
    schema: dict[str, Any] = {"type": "object", "additionalProperties": False, "properties": {}}
    if shape.__doc__:
        schema["description"] = "\n".join(line.strip() for line in shape.__doc__.strip().splitlines())
    required = []
    for field in structs.fields(shape):
        described = _described(values.hints_of(shape)[field.name])
        if field.required:
            required.append(field.name)
        elif field.default is not NODEFAULT:
            described["default"] = list(field.default) if isinstance(field.default, tuple) else field.default
        schema["properties"][field.name] = described
    return schema | ({"required": required} if required else {})


def _described(hint: Any) -> dict[str, Any]:
    kind, parts = get_origin(hint), get_args(hint)
    if kind is Annotated:
        schemas = [rule.schema for rule in parts[1:] if rule.schema is not None]
        return dict(schemas[-1]) if schemas else _described(parts[0])
    if kind is Literal:
        return {"type": "string", "enum": list(parts)}
    if kind is tuple:
        return {"type": "array", "items": _described(parts[0])}
    if kind is dict:
        names, items = map(_described, parts)
        return {"type": "object", "propertyNames": names, "additionalProperties": items}
    if kind is Union or parts:
        options = [_described(part) for part in parts]
        return {"anyOf": [each for option in options for each in option.get("anyOf", [option])]}
    if isinstance(hint, type) and issubclass(hint, Parameters):
        return json_schema(hint)
    return {"type": _TYPES[hint]} if hint in _TYPES else {}
