"""One check as it stands in a checklist: its shape, its expectation compiled to matchers, its JSON schema.

Every mistake is reported at its place. The schema (draft 2020-12, for editors) and the list of kinds (for
people) come from one declaration.
"""

from collections.abc import Mapping
from pathlib import Path as FilePath
from typing import Annotated, Any, ClassVar, Literal, get_args

from opskit.checks import matchers
from opskit.checks.jsonpath import compile_path
from opskit.checks.kinds import KINDS
from opskit.checks.matchers import Matcher
from opskit.checks.spec import Check, Expectation, Kind, Severity
from opskit.config.document import Path, Report, dotted, retyped, unknown
from opskit.config.fields import Seconds, Text, Texts, count, json_schema
from opskit.config.values import Parameters, validated
from opskit.errors import OpskitError
from opskit.records import names
from opskit.text import amount

MATCHERS = (
    "equal", "gt", "ge", "lt", "le", "contains", "matches", "prefix", "suffix", "len", "has_key", "semver",
    "jsonpath", "all", "any", "not",
)  # fmt: skip
#: The value of a kind whose expectations are keyed by JSONPath.
JSON = "json"
_MAX_RETRIES = 1000
#: What a check may be repeated for: each node, agent or database that is configured.
Each = Literal["nodes", "agents", "databases"]
EACH = get_args(Each)
_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_MATCHER = {"$ref": "#/$defs/matcher"}


def compile_expectation(raw: Any, known: Mapping[str, str], at: Path, report: Report) -> Expectation:
    """Compile an expectation of `known` values; after a reported mistake the result is unusable."""
    if not isinstance(raw, Mapping):
        report(at, "must be a section of `value: matcher` lines")
        return Expectation({})
    if not raw:
        report(at, "is empty: it would pass whatever happens")
    expected: dict[str, Matcher] = {}
    for key, wanted in raw.items():
        if key not in known:
            report((*at, key), unknown(str(key), known))
            continue
        compiled = _at_paths if key == JSON and isinstance(wanted, Mapping) else compile_matcher
        expected[key] = compiled(wanted, (*at, key), report)
    return Expectation(expected)


def compile_matcher(raw: Any, at: Path, report: Report) -> Matcher:
    """Compile a matcher; a bare value means equal. After a reported mistake the result is unusable."""
    if raw == []:
        report(at, "an empty list matches nothing in particular: write {equal: []} or {len: 0}")
    if not isinstance(raw, Mapping):
        return matchers.equal(raw)
    if not raw:
        report(at, "an empty matcher asserts nothing")
    compiled: list[Matcher] = []
    for name, operand in raw.items():
        try:
            compiled.append(_compiled(name, operand, (*at, name), report))
        except ValueError as exc:
            report((*at, name), str(exc))
    return matchers.every(compiled)


def _compiled(name: str, operand: Any, at: Path, report: Report) -> Matcher:
    """Raises ValueError for an operand that cannot be used."""
    match name:
        case "equal":
            return matchers.equal(operand)
        case _ if name in matchers.ORDERS:
            return matchers.ordered(name, _number(operand), str(operand))
        case _ if name in matchers.TEXT_TESTS:
            return matchers.of_text(name, _text(operand))
        case "matches":
            return _matching(_text(operand))
        case "semver":
            return matchers.semver(_text(operand))
        case "jsonpath":
            return _at_paths(operand, at, report)
        case "contains":
            return _contains(operand, at, report)
        case "len":
            return matchers.length(compile_matcher(operand, at, report))
        case "not":
            return matchers.negated(compile_matcher(operand, at, report))
        case "all" | "any":
            if not isinstance(operand, list) or not operand:
                raise ValueError("must be a list of matchers")
            inner = [compile_matcher(raw, (*at, index), report) for index, raw in enumerate(operand)]
            return matchers.every(inner) if name == "all" else matchers.either(inner)
    raise ValueError(unknown(str(name), MATCHERS, "matcher"))


def _contains(operand: Any, at: Path, report: Report) -> Matcher:
    """Compile a matcher for what contains the operand, or each item of a list."""
    if operand == "" or (isinstance(operand, list) and "" in operand):
        raise ValueError("everything contains an empty text")
    is_list = isinstance(operand, list) and bool(operand)
    items = [((*at, index), raw) for index, raw in enumerate(operand)] if is_list else [(at, operand)]
    return matchers.every(
        [
            matchers.contains(compile_matcher(raw, place, report), raw if isinstance(raw, str) else None)
            for place, raw in items
        ]
    )


def _at_paths(raw: Any, at: Path, report: Report) -> Matcher:
    """Compile a section of `JSONPath: matcher`."""
    if not isinstance(raw, Mapping) or not raw:
        report(at, "must be a section of `JSONPath: matcher` lines")
        return matchers.every([])
    compiled: list[Matcher] = []
    for text, wanted in raw.items():
        try:
            path = compile_path(str(text))
        except ValueError as exc:
            report((*at, text), str(exc))
        else:
            compiled.append(matchers.at_path(path, compile_matcher(wanted, (*at, text), report)))
    return matchers.every(compiled)


def _matching(pattern: str) -> Matcher:
    from opskit.logs.select import compiled

    try:
        return matchers.matching(pattern, compiled(pattern).search)
    except OpskitError as exc:
        raise ValueError(exc.message) from exc


def _number(operand: Any) -> float:
    """Return a number, or the number of an amount such as 500ms or 10GiB."""
    value = retyped(operand)
    if isinstance(value, str):
        value = amount(value)
    if not isinstance(value, int | float) or isinstance(value, bool) or value != value:  # noqa: PLR0124 - NaN
        raise ValueError("must be a number, a duration such as 500ms or a size such as 10GiB")
    return value


def _text(operand: Any) -> str:
    if not isinstance(operand, str) or not operand:
        raise ValueError("must be text: put it in quotes")
    return str(operand)


class RetryShape(Parameters):
    count: Annotated[int, count(0, _MAX_RETRIES)]
    delay: Seconds = 1.0


class CheckShape(Parameters):
    """One check as it stands in a checklist; `with` and `expect` belong to its kind."""

    #: Keys of a check that are read by its kind.
    OF_THE_KIND: ClassVar = ("with", "expect")

    name: Text
    kind: Text
    repeat_for: Each | None = None
    requires: Texts = ()
    retry: RetryShape | None = None
    timeout: Seconds | None = None
    severity: Literal["critical", "error", "warning", "info"] = "error"
    tags: Texts = ()
    skip: bool | Text = False
    remedy: Text | None = None


def read_check(
    raw: Mapping[str, Any], at: Path, report: Report, *, where: str, folder: FilePath
) -> Check | None:
    """Return the check that `raw` describes; None, or an unusable one, after problems in `report`."""
    name = raw.get("kind")
    kind = KINDS.get(name) if isinstance(name, str) else None
    if kind is not None:
        # Before the mistakes that follow from it.
        sections = dict.fromkeys(kind.yields, "expect") | dict.fromkeys(names(kind.params), "with")
        for key in raw.keys() & (sections.keys() - set(names(CheckShape))):
            report((*at, key), f"belongs under `{sections[key]}`")
    own = {key: value for key, value in raw.items() if key not in CheckShape.OF_THE_KIND}
    shape = validated(CheckShape, own, at, report)
    if kind is None:
        if isinstance(name, str):
            report((*at, "kind"), unknown(name, KINDS, "kind"))
        return None
    params = validated(kind.params, raw.get("with"), (*at, "with"), report)
    if "expect" in raw:
        expect = compile_expectation(raw["expect"], kind.yields, (*at, "expect"), report)
    else:
        expect = default_expectation(kind)
    if shape is None or params is None:
        return None
    retry = shape.retry or RetryShape(0)
    skip = "the checklist skips it" if shape.skip is True else shape.skip or None
    return Check(
        name=shape.name,
        kind=kind,
        params=params,
        expect=expect,
        where=where,
        folder=folder,
        requires=shape.requires,
        retries=retry.count,
        delay_s=retry.delay,
        timeout_s=shape.timeout or kind.timeout_s,
        severity=Severity(shape.severity),
        tags=shape.tags,
        skip=skip,
        remedy=shape.remedy,
    )


def default_expectation(kind: Kind) -> Expectation:
    """Return the expectation of a check that has none of its own; a kind that judges by itself needs none."""
    if kind.judges_itself:
        return Expectation({})
    return compile_expectation(kind.expects, kind.yields, (), _never)


def _never(at: Path, message: str) -> None:
    raise AssertionError(f"{dotted(at)}: {message}")


def schema() -> dict[str, Any]:
    check = json_schema(CheckShape)
    check["properties"] = {
        **check["properties"],
        "kind": {"enum": list(KINDS)},
        "with": {"type": "object"},
        "expect": {"type": "object", "minProperties": 1},
    }
    check["allOf"] = [_rule(kind) for kind in KINDS.values()]
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
        "$defs": {"matcher": _matcher(), "check": check},
    }


def kinds() -> list[dict[str, Any]]:
    """Each kind with its parameters, what it yields and what holds without `expect`."""
    return [
        {
            "kind": kind.name,
            "summary": kind.summary,
            "with": _parameters(json_schema(kind.params)),
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


def _rule(kind: Kind) -> dict[str, Any]:
    params = json_schema(kind.params)
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
