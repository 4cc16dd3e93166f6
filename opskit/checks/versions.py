"""Versions and ranges of them: `>=0.5 <1`, `^1.2`, `~1.2.3`, `=1.4 || ^2`. Pure.

What programs print (`v1`, `24.04`, `1.2.3.4`) the `semver` library refuses, and it knows no such ranges.
"""

import operator
import re
from collections.abc import Callable

_VERSION = re.compile(r"v?(\d+)(?:\.(\d+))?(?:\.(\d+))?(?:[.\d]*)(?:-([0-9A-Za-z.-]+))?(?:\+[0-9A-Za-z.-]+)?")
_TERM = re.compile(r"(>=|<=|>|<|=|\^|~)?\s*([vV]?\d[^\s,|]*)")
Version = tuple[int, int, int, tuple[tuple[int, int, str], ...]]
#: A release comes after all of its pre-releases.
_RELEASE = ((2, 0, ""),)
_NO_RANGE = "must be a range of versions such as '>=1.2 <2', '^1.2' or '~1.2.3'"


_COMPARE: dict[str, Callable[[Version, Version], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
    "=": operator.eq,
}


def version(text: str) -> Version | None:
    """None when `text` is no version. Missing parts are 0."""
    match = _VERSION.fullmatch(text.strip())
    if match is None:
        return None
    # Numbers come before words.
    parts = (match[4] or "").split(".")
    pre = tuple((0, int(part), "") if part.isdigit() else (1, 0, part) for part in parts)
    return int(match[1]), int(match[2] or 0), int(match[3] or 0), pre if match[4] else _RELEASE


def compile_range(text: str) -> Callable[[Version], bool]:
    """Return whether a version is in a range. Raises ValueError for what is no range."""
    alternatives = [_terms(part) for part in text.split("||")]
    return lambda known: any(all(_COMPARE[op](known, bound) for op, bound in terms) for terms in alternatives)


def _terms(text: str) -> list[tuple[str, Version]]:
    """Return the conditions of an alternative, which must all hold."""
    terms: list[tuple[str, Version]] = []
    for match in _TERM.finditer(text):
        bound = version(match[2])
        if bound is None:
            raise ValueError(_NO_RANGE)
        major, minor, patch, _ = bound
        if match[1] not in ("^", "~"):
            terms.append((match[1] or "=", bound))
            continue
        # Caret: up to the next change of the first part that is not 0; tilde: of the second.
        above = (major + 1, 0, 0)
        if match[1] == "~" and "." in match[2]:
            above = (major, minor + 1, 0)
        elif match[1] == "^" and not major:
            above = (0, minor + 1, 0) if minor or patch == 0 else (0, 0, patch + 1)
        terms += [(">=", bound), ("<", (*above, ()))]
    if not terms or _TERM.sub("", text).strip(" ,"):
        raise ValueError(_NO_RANGE)
    return terms
