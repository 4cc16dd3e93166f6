"""What `opskit pause` and `opskit resume` print: what was done, and what holds now."""

from typing import TYPE_CHECKING

from opskit.cli import render
from opskit.recovery.pauses import ALL

if TYPE_CHECKING:
    from opskit.recovery.pauses import Pause
    from opskit.recovery.pausing import PauseChange


def show(command: str, change: "PauseChange", *, as_json: bool) -> None:
    """One line each; what lasts until somebody remembers it is a warning."""
    from opskit.recovery.status import shown
    from opskit.result import SCHEMA_VERSION

    if as_json:
        render.document(
            {
                "schema_version": SCHEMA_VERSION,
                "command": command,
                "ok": True,
                "target": change.target,
                "changed": change.changed,
                "pauses": [shown(one, change.now) for one in change.after.values()],
            }
        )
    else:
        _told(command, change)
    mine = change.after.get(change.target)
    if command == "pause" and mine is not None and mine.until is None:
        resume = "opskit resume" + ("" if mine.target == ALL else f" {mine.target}")
        render.note(f"warning: this lasts until `{resume}`; `--for 1h` would end by itself")


def _told(command: str, change: "PauseChange") -> None:
    if command == "resume" and not change.changed:
        render.line("nothing was paused" if change.target == ALL else f"{change.target} was not paused")
    for one in change.before.values():
        if one.target not in change.after:
            render.line(render.printable(f"{_named(one.target)} is looked after again"))
    for one in change.after.values():
        render.line(render.printable(_line(one, change)))


def _line(one: "Pause", change: "PauseChange") -> str:
    from opskit.recovery.span import moment, span

    until = "until it is resumed"
    if one.until is not None:
        until = f"until {moment(one.until, change.now)} ({span(round(one.until - change.now))})"
    old = change.before.get(one.target)
    still = "still " if old is not None and (old == one or one.target != change.target) else ""
    reason = f": {one.reason}" if one.reason else ""
    return f"{_named(one.target)} is {still}paused {until}{reason}"


def _named(target: str) -> str:
    return "everything" if target == ALL else target
