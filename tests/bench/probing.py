"""A probe of a healthy stack as a whole process: its time and its peak memory."""

import statistics
import sys
import tempfile
from pathlib import Path

from opskit.sandbox.stage import Stage
from tests.bench.measure import Figure, process
from tests.parts.command import environment

RUNS = 7


async def figures() -> list[Figure]:
    import asyncio

    with tempfile.TemporaryDirectory() as home:
        async with Stage() as stage:
            env = environment(Path(home), stage.environment())
            runs = [
                await asyncio.to_thread(process, [sys.executable, "-m", "opskit", "probe", "--json"], env)
                for _ in range(RUNS)
            ]
    assert {run.status for run in runs} == {0}
    wall = statistics.median(run.wall_s for run in runs)
    peak = statistics.median(run.peak_mib for run in runs)
    return [
        Figure("probe of a healthy stack, whole process", wall, "s", "<= 1 + first token"),
        Figure("probe, peak memory", peak, "MiB", "<= 80"),
    ]
