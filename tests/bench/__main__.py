"""`python -m tests.bench [NAME...]`: prints the figures as Markdown."""

import asyncio
import inspect
import sys

from tests.bench import following, log_stats, probing, routing, searching, startup
from tests.bench.measure import Figure

BENCHES = {
    "startup": startup.figures,
    "routing": routing.figures,
    "probing": probing.figures,
    "searching": searching.figures,
    "log_stats": log_stats.figures,
    "following": following.figures,
}


def main() -> None:
    names = sys.argv[1:] or list(BENCHES)
    print("| figure | measured | asked | note |")
    print("|---|---|---|---|")
    for name in names:
        measured = BENCHES[name]()
        if inspect.isawaitable(measured):
            measured = asyncio.run(_of(measured))
        for one in measured:
            _row(one)


async def _of(work):
    return await work


def _row(one: Figure) -> None:
    print(f"| {one.name} | {one.value:.3g} {one.unit} | {one.bound} | {one.note} |", flush=True)


main()
