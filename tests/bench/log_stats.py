"""Statistics of a large log: lines a second on one core, and the memory of the whole command."""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from opskit.logs.files import blocks
from opskit.logs.packed import open_log
from opskit.logs.stats import LogTally
from tests.bench.measure import Figure
from tests.parts.logfile import write

_RUNS = 5
_MB = 1_000_000
# What `opskit logs stats FILE` does, without the command line; the parent takes a part of the file itself.
# Its own ru_maxrss would begin with the peak of the process that started it, so VmHWM is read.
_COMMAND = """
import json, resource, sys, time
from pathlib import Path
from opskit.logs.stats import tally_file
from opskit.logs.stats_report import as_json
began = time.perf_counter()
workers = int(sys.argv[2])
tally = tally_file(Path(sys.argv[1]), workers=workers)
json.dumps(as_json(tally))
wall = time.perf_counter() - began
status = Path("/proc/self/status").read_text()
ours = int(status.partition("VmHWM:")[2].split()[0])
child = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
print(json.dumps({"wall_s": wall, "lines": tally.lines, "peak_kib": ours + child * (workers - 1)}))
"""


def figures() -> list[Figure]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "app.log"
        return [_per_core(path), *_command(path, workers=2)]


def _per_core(path: Path) -> Figure:
    """The best of some runs, in processor time: others on this machine do not count."""
    truth = write(path, size_bytes=100 * _MB)
    with open_log(path) as stream:
        text = list(blocks(stream))
    best = float("inf")
    for _ in range(_RUNS):
        tally = LogTally()
        began = time.process_time()
        for block in text:
            tally.feed(block, "app")
        best = min(best, time.process_time() - began)
        assert (tally.lines, tally.errors.total) == (truth.lines, truth.errors)
    rate = truth.lines / best / 1e6
    note = f"{truth.lines:,} lines of 100 MB in {best:.2f} s"
    return Figure("logs stats, one core", rate, "M lines/s", ">= 1", note)


def _command(path: Path, *, workers: int) -> list[Figure]:
    truth = write(path, size_bytes=500 * _MB)
    done = subprocess.run(
        [sys.executable, "-c", _COMMAND, str(path), str(workers)], check=True, capture_output=True, text=True
    )
    told = json.loads(done.stdout)
    assert told["lines"] == truth.lines
    note = f"0.5 GB, {workers} processes, {told['wall_s']:.2f} s"
    return [
        Figure("logs stats, whole command", told["lines"] / told["wall_s"] / 1e6, "M lines/s", "", note),
        Figure("logs stats, peak of all processes", told["peak_kib"] / 1024, "MiB", "<= 150", note),
    ]
