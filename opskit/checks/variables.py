"""`${name}` in a checklist: its own variables first, then the environment."""

from collections import ChainMap
from collections.abc import Mapping
from typing import Any

from opskit.checks.expectation import Report
from opskit.config.problems import Path
from opskit.config.substitute import substitute

Names = Mapping[str, str]


def resolved(raw: Mapping[str, Any], given: Names, environ: Names, report: Report) -> dict[str, str]:
    """The variables of one file. `given` wins over what the file says: `--var`, or whoever includes it.

    A variable may use those above it.
    """
    found: dict[str, str] = {}
    for name, value in raw.items():
        if name in given:
            found[name] = given[name]
        elif isinstance(value, dict | list) or value is None:
            report(("vars", name), "must be one value")
        else:
            text = str(value).lower() if isinstance(value, bool) else str(value)
            found[name] = filled(text, ChainMap(found, dict(given), dict(environ)), ("vars", name), report)
    return {**found, **{name: value for name, value in given.items() if name not in found}}


def filled(value: Any, names: Names, at: Path, report: Report) -> Any:
    """The value with every reference replaced; what has no value is reported."""
    if isinstance(value, dict):
        return {key: filled(item, names, (*at, key), report) for key, item in value.items()}
    if isinstance(value, list):
        return [filled(item, names, (*at, index), report) for index, item in enumerate(value)]
    if not isinstance(value, str) or "$" not in value:
        return value
    result = substitute(value, names)
    if result.malformed:
        report(at, "a `${` needs a name and a `}`; a dollar sign is `$$`")
    elif result.unset:
        name = result.unset[0]
        report(at, f"{name} is neither in `vars` nor in the environment: write ${{{name}:-default}}")
    return result.text
