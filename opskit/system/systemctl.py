"""Reads what systemctl writes: `show` of units, with times as instants.

`show` is the form for programs. Ask with TZ=UTC in the environment: it writes times in the caller's zone, and
abbreviations of zones cannot be read back.
"""

import re
import shutil
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from opskit.system.program import ProgramResult, output_of

_TIME = "%Y-%m-%d %H:%M:%S"
_SPAN = re.compile(r"([0-9]+(?:\.[0-9]+)?)(y|month|w|d|h|min|s|ms|us)")
_UNITS_S = {
    "y": 31_557_600.0,
    "month": 2_629_800.0,
    "w": 604_800.0,
    "d": 86_400.0,
    "h": 3600.0,
    "min": 60.0,
    "s": 1.0,
    "ms": 0.001,
    "us": 0.000_001,
}
_NO_BUS = ("failed to connect to bus", "not been booted with systemd", "failed to get d-bus connection")

_SHOW_S = 5.0


async def unit_properties(environ: Mapping[str, str], unit: str, *names: str, user: bool) -> dict[str, str]:
    """Return what `systemctl show` tells of a unit, times in UTC; nothing when there is no systemd to ask."""
    program = shutil.which("systemctl", path=environ.get("PATH"))
    if program is None:
        return {}
    scope = ("--user",) if user else ()
    command = (program, *scope, "show", unit, *(f"--property={name}" for name in names))
    shown = await output_of(command, timeout_s=_SHOW_S, env={**environ, "TZ": "UTC", "LC_ALL": "C"})
    return dict(_pairs(shown or ""))


def units(text: str) -> list[dict[str, str]]:
    """Return the properties of each unit, in the order in which `show` was asked."""
    blocks = (block for block in re.split(r"\n{2,}", text.strip()) if block)
    return [dict(_pairs(block)) for block in blocks]


def _pairs(block: str) -> list[tuple[str, str]]:
    split = (line.partition("=") for line in block.splitlines())
    return [(name, value) for name, sign, value in split if sign]


def instant(text: str) -> datetime | None:
    """Read `Fri 2026-11-20 09:39:29 UTC`; None for `n/a`, nothing, or another zone."""
    words = text.split()
    if len(words) != 4 or words[3] != "UTC":
        return None
    try:
        return datetime.strptime(f"{words[1]} {words[2].split('.')[0]}", _TIME).replace(tzinfo=UTC)
    except ValueError:
        return None


def span_s(text: str) -> float | None:
    """Read `1h 2min 3.5s` in seconds; None for `infinity` and for what is no span."""
    if text == "0":
        return 0.0
    words = text.split()
    parts = [_SPAN.fullmatch(word) for word in words]
    if not words or not all(parts):
        return None
    return sum(float(part[1]) * _UNITS_S[part[2]] for part in parts if part)


def next_elapse(timer: Mapping[str, str], *, now: datetime, uptime_s: float) -> datetime | None:
    """Return when a timer fires next, whichever of its clocks comes first.

    Its monotonic time counts from the start of the machine, without the time that it slept: `uptime_s` is
    the same clock now.
    """
    times = []
    if at := instant(timer.get("NextElapseUSecRealtime", "")):
        times.append(at)
    after = span_s(timer.get("NextElapseUSecMonotonic", ""))
    if after is not None and after > 0:
        times.append(now + timedelta(seconds=after - uptime_s))
    return min(times, default=None)


def no_bus(done: ProgramResult) -> bool:
    return done.exit != 0 and any(words in f"{done.out} {done.err}".lower() for words in _NO_BUS)
