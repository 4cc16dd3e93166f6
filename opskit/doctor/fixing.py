"""Fixing what may be fixed safely: show the command, ask, run it, and look again whether it helped."""

import asyncio
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from opskit.doctor.cause import Cause
from opskit.doctor.diagnosis import Diagnosis
from opskit.doctor.examination import Patient, examine
from opskit.system.program import NotStarted, run

#: How long a fix may run, and how long its effect is waited for.
_COMMAND_S = 60.0
_AGAIN_S = 0.5
#: Says whether a fix may be made; hears of what becomes of it.
Ask = Callable[[Cause], bool]


@dataclass(frozen=True, slots=True)
class Fixed:
    """What became of one fix. `gone` tells whether the same look no longer finds the cause."""

    key: str
    command: str
    gone: bool
    detail: str

    def as_json(self) -> dict[str, Any]:
        return {"key": self.key, "command": self.command, "fixed": self.gone, "detail": self.detail}


def fixable(diagnosis: Diagnosis) -> list[Cause]:
    """The causes with a safe fix, roots first."""
    return [cause for cause in diagnosis.causes if cause.fix is not None and cause.fix.safe]


async def fix(
    who: Patient, diagnosis: Diagnosis, ask: Ask, *, patience_s: float
) -> tuple[Diagnosis, list[Fixed]]:
    """Make the safe fixes that `ask` allows, one by one; the diagnosis at the end, and what was done.

    A cause that went away meanwhile is left alone. After a fix everything is examined again, until the cause
    is gone or `patience_s` are over.
    """
    done: list[Fixed] = []
    for cause in fixable(diagnosis):
        if cause.key not in {one.key for one in diagnosis.causes} or not ask(cause):
            continue
        detail = await _made(cause, who)
        diagnosis = await _again(who, cause.key, patience_s if not detail else 0.0)
        gone = cause.key not in {one.key for one in diagnosis.causes}
        done.append(Fixed(cause.key, cause.fix.text if cause.fix else "", gone, detail))
    return diagnosis, done


async def _made(cause: Cause, who: Patient) -> str:
    """Run the fix; its complaint, or nothing."""
    if cause.fix is None:
        return "there is no command"
    try:
        async with asyncio.timeout(_COMMAND_S):
            done = await run(_itself(cause.fix.command), env=dict(who.environ))
    except NotStarted as exc:
        return exc.message
    except TimeoutError:
        return f"it did not end within {_COMMAND_S:g} s"
    return done.complaint if done.exit else ""


def _itself(command: Sequence[str]) -> Sequence[str]:
    """The command `opskit` is this one, also where it is not on PATH."""
    return (sys.executable, "-m", "opskit", *command[1:]) if command[0] == "opskit" else command


async def _again(who: Patient, key: str, patience_s: float) -> Diagnosis:
    """The same look again: at once, and until the cause is gone or the time is over."""
    until = time.monotonic() + patience_s
    while True:
        diagnosis = await examine(who)
        if key not in {one.key for one in diagnosis.causes} or time.monotonic() >= until:
            return diagnosis
        await asyncio.sleep(_AGAIN_S)
