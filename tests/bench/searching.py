"""Searching a log of 0.5 GB with 5 % tagged lines as whole processes, beside ripgrep and GNU grep."""

import os
import shutil
import statistics
import sys
import tempfile
from pathlib import Path

from tests.bench.measure import Figure, Process, process
from tests.parts import logfile
from tests.parts.command import environment

SIZE = 500_000_000
RUNS = 5
PATTERN = r"\[(EXECUTOR_INIT|REQUEST|LLM_CALL|LLM_RESPONSE|LLM_ERROR|LLM_PARSE|LLM_CRASH|FALLBACK)\]"


def figures() -> list[Figure]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "big.log"
        logfile.write(path, size_bytes=SIZE)
        _warm(path)
        env = environment(Path(folder))
        ours = [sys.executable, "-m", "opskit", "logs", str(path)]
        commands = {
            "raw": [*ours, "--raw"],
            "python": [*ours, "--raw"],
            "text": ours,
            "grep": ["sh", "-c", f"grep -cE '{PATTERN}' {path} | cat"],
        }
        if shutil.which("rg"):
            commands["rg"] = ["rg", "-c", PATTERN, str(path)]
        runs: dict[str, list[Process]] = {name: [] for name in commands}
        for _ in range(RUNS):
            for name, command in commands.items():
                runs[name].append(
                    process(command, {**env, "PATH": "/nonexistent"} if name == "python" else env)
                )
    wall = {name: statistics.median(run.wall_s for run in of) for name, of in runs.items()}
    peak = max(run.peak_mib for name, of in runs.items() if name in ("raw", "text", "python") for run in of)
    found = [
        Figure(
            "tag grep (--raw) / grep -cE",
            wall["raw"] / wall["grep"],
            "x",
            "<= 1.5",
            _times(wall, "raw", "grep"),
        ),
        Figure(
            "tag grep (events) / grep -cE", wall["text"] / wall["grep"], "x", "", _times(wall, "text", "grep")
        ),
        Figure("tag grep, peak memory", peak, "MiB", "<= 150"),
    ]
    if "rg" in wall:
        found.insert(
            0,
            Figure(
                "tag grep (--raw) / rg -c", wall["raw"] / wall["rg"], "x", "<= 3", _times(wall, "raw", "rg")
            ),
        )
        found.insert(
            1,
            Figure(
                "the same without ripgrep / rg -c",
                wall["python"] / wall["rg"],
                "x",
                "",
                _times(wall, "python", "rg"),
            ),
        )
    return found


def _warm(path: Path) -> None:
    """Bring the file into the page cache, in small pieces: a child's peak would start at ours."""
    with path.open("rb", buffering=0) as file:
        while file.read(1024 * 1024):
            pass


def _times(wall: dict[str, float], one: str, other: str) -> str:
    return f"{wall[one]:.2f} s against {wall[other]:.2f} s, {os.cpu_count()} cores"
