"""The scenarios of `opskit drill`: each a fault that real servers show, and what a caller must see.

A primary and a healthy spare stand on loopback; the primary is scanned while it is well, then the fault is
switched on, as in life. The scenarios stand in `scenarios.toml`; the names follow the wire facts.
"""

from functools import cache
from pathlib import Path
from typing import Literal

from msgspec import convert

from opskit.records import Record

#: What the caller must see in the end.
Expect = Literal["spare", "primary", "broken", "error", "either"]


class Scenario(Record):
    """One fault and its right outcome.

    `fault` is a spec for the primary, without its name (`crash,times=1`). `first` are the faults or verdicts
    that the first attempt may be recorded with, empty when it must succeed. `expect`: the spare's answer, the
    primary's own, a stream that breaks with an explicit error, or an honest error. `scanned`: the primary is
    known before the fault. `player` names how it is played: `once` for what one request can show.
    """

    name: str
    injected: str
    primary: Literal["ollama", "mlx"] = "ollama"
    fault: str = ""
    first: frozenset[str] = frozenset()
    expect: Expect = "spare"
    resident: bool = True
    streamed: bool = False
    spare: bool = True
    waits: bool = False
    scanned: bool = True
    player: str = "once"


@cache
def all_scenarios() -> tuple[Scenario, ...]:
    """Return every scenario, named after its fault, and after its primary where that is not Ollama."""
    import tomllib

    text = Path(__file__).with_name("scenarios.toml").read_text("utf-8")
    scenarios = []
    for name, row in tomllib.loads(text).items():
        kind = name.removeprefix("mlx-").removeprefix("llama-")
        named = {"name": name, "primary": "ollama" if kind == name else "mlx", "fault": kind}
        scenarios.append(convert(named | row, Scenario))
    return tuple(scenarios)
