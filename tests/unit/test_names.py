"""One name, one thing: a class name stands once in the whole tree."""

import ast
from collections import defaultdict
from pathlib import Path

import opskit

ROOT = Path(opskit.__file__).parent


def test_a_class_name_stands_once():
    """Whoever reads a name knows the thing, and finds it by searching for it."""
    places: dict[str, list[str]] = defaultdict(list)
    for path in sorted(ROOT.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                places[node.name].append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert len(places) > 300
    assert {name: found for name, found in places.items() if len(found) > 1} == {}
