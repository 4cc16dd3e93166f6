"""Whole processes with the kernel's own accounting, and medians."""

import os
import statistics
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Process:
    """One finished process: wall seconds and peak resident memory in MiB."""

    wall_s: float
    peak_mib: float
    status: int


def process(command: Sequence[str], env: Mapping[str, str] | None = None) -> Process:
    """Run to the end, output thrown away."""
    began = time.perf_counter()
    child = subprocess.Popen(
        command, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    return Process(time.perf_counter() - began, usage.ru_maxrss / 1024, child.returncode)


def in_turn(
    first: Sequence[str], second: Sequence[str], runs: int, env: Mapping[str, str] | None = None
) -> tuple[float, float, float]:
    """Median wall seconds of both and the median ratio pair by pair (A B A B ..., one warm-up each)."""
    process(first, env)
    process(second, env)
    pairs = [(process(first, env).wall_s, process(second, env).wall_s) for _ in range(runs)]
    return (
        statistics.median(a for a, _ in pairs),
        statistics.median(b for _, b in pairs),
        statistics.median(a / b for a, b in pairs),
    )


@dataclass(frozen=True)
class Figure:
    """One line of the report. `bound` is what the project asks for, in the same unit."""

    name: str
    value: float
    unit: str
    bound: str = ""
    note: str = ""
