"""One check as it stands in a checklist, and the check that it becomes."""

from collections.abc import Mapping
from pathlib import Path as FilePath
from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import Field

from opskit.checks.expectation import compile_expectation
from opskit.checks.kinds import KINDS
from opskit.checks.spec import Check, Expectation, Kind, Severity
from opskit.config.document import Path, Report, dotted, unknown
from opskit.config.fields import Count, Seconds, Text, Texts, parameters, validated

_MAX_RETRIES = 1000
#: What a check may be repeated for: each node, agent or database that is configured.
Each = Literal["nodes", "agents", "databases"]
EACH = get_args(Each)


@parameters
class RetryShape:
    count: Annotated[Count, Field(le=_MAX_RETRIES)]
    delay: Seconds = 1.0


@parameters
class CheckShape:
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
    own = {key: value for key, value in raw.items() if key not in CheckShape.OF_THE_KIND}
    shape = validated(CheckShape, own, at, report)
    name = raw.get("kind")
    if not isinstance(name, str):
        return None
    if name not in KINDS:
        report((*at, "kind"), unknown(name, KINDS, "kind"))
        return None
    kind = KINDS[name]
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
