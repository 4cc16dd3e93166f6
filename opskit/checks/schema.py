"""What checklists may hold, for editors (JSON Schema, draft 2020-12) and for people: from the same specs."""

from typing import Any

from opskit.checks.check_shape import CheckShape
from opskit.checks.expectation import JSON, MATCHERS
from opskit.checks.kinds import KINDS
from opskit.checks.spec import Kind
from opskit.config.fields import adapter

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_MATCHER = {"$ref": "#/$defs/matcher"}


def schema() -> dict[str, Any]:
    check = adapter(CheckShape).json_schema()
    definitions: dict[str, Any] = {"matcher": _matcher(), **check.pop("$defs", {})}
    check["properties"] = {
        **check["properties"],
        "kind": {"enum": list(KINDS)},
        "with": {"type": "object"},
        "expect": {"type": "object", "minProperties": 1},
    }
    check["allOf"] = [_rule(kind, definitions) for kind in KINDS.values()]
    definitions["check"] = check
    return {
        "$schema": _DIALECT,
        "title": "opskit checklist",
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "title": {"type": "string"},
            "vars": {"type": "object", "additionalProperties": {"type": ["string", "number", "boolean"]}},
            "include": {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]},
            "checks": {"type": "array", "minItems": 1, "items": {"$ref": "#/$defs/check"}},
        },
        "anyOf": [{"required": ["checks"]}, {"required": ["include"]}],
        "$defs": definitions,
    }


def kinds() -> list[dict[str, Any]]:
    """Each kind with its parameters, what it yields and what holds without `expect`."""
    return [
        {
            "kind": kind.name,
            "summary": kind.summary,
            "with": _parameters(adapter(kind.params).json_schema()),
            "yields": dict(kind.yields),
            "expects": dict(kind.expects),
            "timeout_s": kind.timeout_s,
        }
        for kind in KINDS.values()
    ]


def _parameters(schema: dict[str, Any]) -> dict[str, str]:
    """Return the type and the default of each parameter in words."""
    words = {}
    for name, parameter in schema.get("properties", {}).items():
        options = [parameter, *parameter.get("anyOf", ())]
        types = [str(part["type"]) for part in options if "type" in part and "pattern" not in part]
        values = [str(value) for option in options for value in option.get("enum", ())]
        distinct = dict.fromkeys(values or [word for word in types if word != "null"])
        words[name] = " | ".join(distinct) or "any value"
        default = parameter.get("default")
        if name in schema.get("required", ()):
            words[name] += ", required"
        elif default not in (None, "", [], {}):
            words[name] += f", default {default}"
    return words


def _rule(kind: Kind, definitions: dict[str, Any]) -> dict[str, Any]:
    params = adapter(kind.params).json_schema()
    definitions.update(params.pop("$defs", {}))
    properties: dict[str, Any] = dict.fromkeys(kind.yields, _MATCHER)
    if JSON in properties:
        properties[JSON] = {"anyOf": [_MATCHER, {"type": "object", "patternProperties": {r"^\$": _MATCHER}}]}
    then: dict[str, Any] = {
        "properties": {
            "with": params,
            "expect": {"type": "object", "additionalProperties": False, "properties": properties},
        }
    }
    if params.get("required"):
        then["required"] = ["with"]
    return {"if": {"properties": {"kind": {"const": kind.name}}, "required": ["kind"]}, "then": then}


def _matcher() -> dict[str, Any]:
    text = {"type": "string", "minLength": 1}
    many = {"type": "array", "minItems": 1, "items": _MATCHER}
    number = {"type": ["number", "string"]}
    operands: dict[str, Any] = {
        "equal": True,
        **dict.fromkeys(("gt", "ge", "lt", "le"), number),
        **dict.fromkeys(("matches", "prefix", "suffix", "has_key", "semver"), text),
        **dict.fromkeys(("all", "any"), many),
        **dict.fromkeys(("contains", "len", "not"), _MATCHER),
        "jsonpath": {"type": "object", "minProperties": 1, "additionalProperties": _MATCHER},
    }
    section = {
        "type": "object",
        "minProperties": 1,
        "additionalProperties": False,
        "properties": {name: operands[name] for name in MATCHERS},
    }
    plain = {"type": ["string", "number", "boolean", "null"]}
    return {"anyOf": [plain, {"type": "array", "minItems": 1}, section]}
