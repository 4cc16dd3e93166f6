"""How long `opskit --version` and `--help` take beside importing Typer alone."""

import sys

from tests.bench.measure import Figure, in_turn

RUNS = 15


def figures() -> list[Figure]:
    base = [sys.executable, "-c", "import typer"]
    found = []
    for flag in ("--version", "--help"):
        ours, typer, ratio = in_turn([sys.executable, "-m", "opskit", flag], base, RUNS)
        note = f"{ours * 1000:.0f} ms against {typer * 1000:.0f} ms"
        found.append(Figure(f"opskit {flag} / import typer", ratio, "x", "<= 1.5", note))
    return found
