"""A check written from what is there now: the state of today becomes the expectation of tomorrow."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from opskit.checks.checklist import default_expectation
from opskit.checks.fields import validated
from opskit.checks.kinds import KINDS
from opskit.checks.runner import observed
from opskit.checks.spec import Check, Kind
from opskit.config.problems import dotted, printable
from opskit.config.shape import unknown
from opskit.config.substitute import FromEnvironment
from opskit.errors import OpskitError, UsageError
from opskit.facts.survey import Survey
from opskit.result import Status

_HINT = "`opskit verify --kinds` shows kinds and their parameters"


async def recorded(kind: str, given: Sequence[str], around: Survey, *, name: str | None) -> dict[str, Any]:
    """The check as it would stand in a checklist. `given` are `parameter=value`.

    Raises UsageError for parameters that cannot be used, and OpskitError when there is nothing to record:
    what is broken now must not become what is expected.
    """
    if kind not in KINDS:
        hint = unknown(printable(kind), list(KINDS)).replace("unknown key", "unknown kind", 1)
        raise UsageError(f"{printable(kind)}: {hint}", remedy=_HINT)
    found = KINDS[kind]
    params = _parameters(given)
    problems: list[str] = []
    checked = validated(
        found.params, params, (), lambda at, message: problems.append(f"{dotted(at)} {message}".strip())
    )
    if checked is None:
        raise UsageError(f"{kind}: {'; '.join(problems)}", remedy=_HINT)
    probe = Check(
        name or f"{kind} {found.target(checked)}",
        found,
        checked,
        default_expectation(found),
        folder=Path(),
        timeout_s=found.timeout_s,
    )
    finding, values = await observed(probe, around)
    if values is None or finding.status in (Status.SKIP, Status.INCONCLUSIVE):
        code = finding.code if finding.code not in (None, "BUG_001") else "VAL_001"
        raise OpskitError(
            str(code), f"there is no state to record: {finding.detail}", remedy=finding.remedy or _HINT
        )
    one: dict[str, Any] = {"name": probe.name, "kind": kind}
    if params:
        one["with"] = {key: _plain(getattr(checked, key)) for key in params}
    return {**one, "expect": expectation(found, values)}


def expectation(kind: Kind, values: Mapping[str, Any]) -> dict[str, Any]:
    """Of what the kind expects anyway, words and whole numbers as they are; amounts keep their bound."""
    return {
        key: values[key] if isinstance(values.get(key), str | bool | int) else usual
        for key, usual in kind.expects.items()
    }


def appended(text: str, check: Mapping[str, Any]) -> str:
    """A checklist with one more check; an empty text becomes a checklist."""
    import yaml

    item = yaml.safe_dump([check], allow_unicode=True, sort_keys=False, width=110)
    if not text.strip():
        return f"checks:\n{item}"
    own = [line for line in text.splitlines() if line.lstrip().startswith("- ")]
    indent = " " * (len(own[-1]) - len(own[-1].lstrip())) if own else ""
    lines = "".join(f"{indent}{line}\n" for line in item.splitlines())
    return f"{text.rstrip()}\n{lines}"


def _plain(value: Any) -> Any:
    """A checked parameter as YAML can write it."""
    if isinstance(value, tuple):
        return [_plain(one) for one in value]
    return str(value) if isinstance(value, str) else value


def _parameters(given: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for one in given:
        key, equals, value = one.partition("=")
        if not equals or not key:
            raise UsageError(f"{printable(one)!r} is no parameter", remedy="write parameter=value")
        # Text as from a variable: it may stand for a number or a truth value.
        found[key] = FromEnvironment(value)
    return found
