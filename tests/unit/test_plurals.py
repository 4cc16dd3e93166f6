"""No message of recovery and its neighbours says "1 containers"."""

import ast
import itertools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2] / "opskit"
PACKAGES = ("backup", "doctor", "recovery", "schedule", "watch")
_NOUNS = re.compile(r" (?!is\b|has\b|was\b|does\b|its\b|this\b|ms\b|us\b)[a-z]+s\b")
_COUNTS = re.compile(r"\blen\(|\bsum\(|count|number|total")


def uncounted(source: str) -> Iterator[str]:
    """Each number of things that is written before a plural without `text.counted`."""
    for node in ast.walk(ast.parse(source)):
        parts = node.values if isinstance(node, ast.JoinedStr) else []
        for value, following in itertools.pairwise(parts):
            if not (isinstance(value, ast.FormattedValue) and isinstance(following, ast.Constant)):
                continue
            expression = ast.unparse(value.value)
            is_number = _COUNTS.search(expression) and not expression.startswith("counted(")
            if is_number and value.format_spec is None and _NOUNS.match(str(following.value)):
                yield f"line {node.lineno}: {expression}{str(following.value)[:20]}"


@pytest.mark.parametrize("package", PACKAGES)
def test_numbers_of_things_have_their_noun_in_the_right_form(package: str):
    """Each is written by `text.counted`."""
    found = {
        str(path.relative_to(ROOT)): hits
        for path in sorted((ROOT / package).rglob("*.py"))
        if (hits := list(uncounted(path.read_text())))
    }
    assert found == {}


@pytest.mark.parametrize(
    ("source", "hits"),
    [
        ('f"{len(x)} containers"', 1),
        ('f"{counted(len(x), 1)} containers"', 0),
        ('f"{name} is {len(x)} s"', 0),
    ],
)
def test_the_scan_finds_what_it_looks_for(source: str, hits: int):
    """A scan that finds nothing anywhere would hold for ever."""
    assert len(list(uncounted(source))) == hits
