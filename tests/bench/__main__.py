"""`python -m tests.bench [NAME...]`: prints the figures as Markdown, each bench in a process of its own.

A child's peak memory starts at that of the process it was forked from: benches must not follow one another in
one process.
"""

import asyncio
import inspect
import subprocess
import sys
from importlib import import_module

from tests.bench.measure import Figure

BENCHES = (
    "startup",
    "routing",
    "agent",
    "probing",
    "verifying",
    "healing",
    "searching",
    "log_stats",
    "following",
    "backups",
    "serving",
)


def main() -> None:
    names = sys.argv[1:] or list(BENCHES)
    print("| figure | measured | asked | note |\n|---|---|---|---|", flush=True)
    for name in names:
        subprocess.run([sys.executable, "-m", "tests.bench", "--rows", name], check=True)


def rows(name: str) -> None:
    measured = import_module(f"tests.bench.{name}").figures()
    if inspect.isawaitable(measured):
        measured = asyncio.run(_of(measured))
    for one in measured:
        _row(one)


async def _of(work):
    return await work


def _row(one: Figure) -> None:
    print(f"| {one.name} | {one.value:.3g} {one.unit} | {one.bound} | {one.note} |", flush=True)


if sys.argv[1:2] == ["--rows"]:
    rows(sys.argv[2])
else:
    main()
