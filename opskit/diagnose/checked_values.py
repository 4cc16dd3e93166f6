"""One look through a kind of check: its values, or why there are none."""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from opskit.checks.check_shape import default_expectation
from opskit.checks.judgement import LATE
from opskit.checks.kinds import KINDS
from opskit.checks.runner import observed
from opskit.checks.spec import Check
from opskit.config.fields import validated
from opskit.facts.survey import Survey
from opskit.result import Finding, Status


@dataclass(frozen=True, slots=True)
class CheckedValues:
    """`values` is None where nothing could be seen; the finding then says why."""

    finding: Finding
    values: Mapping[str, Any] | None


async def seen(
    kind: str, around: Survey, *, timeout_s: float = 5.0, folder: Path = Path(), **given: Any
) -> CheckedValues:
    """What a check of this kind would see now. `given` are its parameters, which must be right."""
    found = KINDS[kind]
    for module in found.imports:
        importlib.import_module(module)
    params = validated(found.params, given, (), _never)
    check = Check(kind, found, params, default_expectation(found), folder=folder, timeout_s=timeout_s)
    finding, values = await observed(check, around)
    if finding.state == LATE:
        # What did not answer here was not seen; a checklist would call it failed.
        finding = replace(finding, status=Status.INCONCLUSIVE)
    return CheckedValues(finding, values)


def _never(at: tuple[Any, ...], message: str) -> None:
    raise AssertionError(f"{at}: {message}")
