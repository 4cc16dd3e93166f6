"""Versions and ranges of them: `>=0.5 <1`, `^1.2`, `~1.2.3`, `=1.4 || ^2`. Pure.

What programs print (`v1`, `24.04`, `1.2.3.4`) the `semver` library refuses, and it knows no such ranges.
"""

import re
from collections.abc import Callable

from opskit.records import Record

_VERSION = re.compile(r"v?(\d+)(?:\.(\d+))?(?:\.(\d+))?(?:[.\d]*)(?:-([0-9A-Za-z.-]+))?(?:\+[0-9A-Za-z.-]+)?")
_TERM = re.compile(r"(>=|<=|>|<|=|\^|~)?\s*([vV]?\d[^\s,|]*)")
Version = tuple[int, int, int, tuple[tuple[int, int, str], ...]]
#: A release comes after all of its pre-releases.
_RELEASE = ((2, 0, ""),)


class Range(Record):
    """Alternatives of conditions that must all hold."""

    text: str
    alternatives: tuple[tuple[tuple[str, Version], ...], ...]

    def holds(self, version: Version) -> bool:
        return any(all(_COMPARE[op](version, bound) for op, bound in terms) for terms in self.alternatives)


_COMPARE: dict[str, Callable[[Version, Version], bool]] = {
    ">=": lambda a, b: a >= b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    "<": lambda a, b: a < b,
    "=": lambda a, b: a == b,
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


def compile_range(text: str) -> Range:
    """Raises ValueError for what is no range."""
    return Range(text, tuple(_terms(part) for part in text.split("||")))


def _terms(text: str) -> tuple[tuple[str, Version], ...]:
    terms: list[tuple[str, Version]] = []
    remainder = _TERM.sub(lambda match: _add(match, terms), text)
    if not terms or remainder.strip(" ,"):
        raise ValueError("must be a range of versions such as '>=1.2 <2', '^1.2' or '~1.2.3'")
    return tuple(terms)


def _add(match: re.Match[str], terms: list[tuple[str, Version]]) -> str:
    bound = version(match[2])
    if bound is None:
        return match[0]
    major, minor, patch, pre = bound
    if match[1] in ("^", "~"):
        # Caret: up to the next change of the first part that is not 0; tilde: of the second.
        if match[1] == "~":
            above = (major, minor + 1, 0) if "." in match[2] else (major + 1, 0, 0)
        elif major:
            above = (major + 1, 0, 0)
        else:
            above = (0, minor + 1, 0) if minor or patch == 0 else (0, 0, patch + 1)
        terms += [(">=", (major, minor, patch, pre)), ("<", (*above, ()))]
    else:
        terms.append((match[1] or "=", bound))
    return ""
