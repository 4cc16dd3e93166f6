"""`opskit pause` and `opskit resume`: what recovery leaves alone, and for how long."""

import os
import time
from collections.abc import Sequence
from typing import Annotated

import typer

from opskit.cli import context, render
from opskit.cli.options import SharedOptions, shares
from opskit.config.load import ensure_state_dir
from opskit.recovery import pauses
from opskit.recovery.status import moment
from opskit.result import plain_document
from opskit.text import span


@shares()
def pause(
    shared: SharedOptions,
    target: Annotated[
        str | None,
        typer.Argument(
            metavar="[TARGET]",
            help="A step, node, agent, container or Compose project; everything when none is named.",
        ),
    ] = None,
    duration: Annotated[str | None, "--for", "TIME", "End by itself after 30m, 1h30m, 2d."] = None,
    reason: Annotated[str, "Why, for who looks later."] = "",
    force: Annotated[bool, "Take a name that recovery does not know (yet)."] = False,
) -> None:
    """Let recovery leave a target alone, or everything.

    Until `opskit resume` or for a time. It holds at once, also in the middle of a run. Pausing again changes
    the time and the reason.
    """

    def docker_names() -> list[str]:
        from opskit.facts.stack_containers import read_container_names

        return context.run(read_container_names(os.environ))

    loaded = shared.load()
    for_s = None if duration is None else pauses.pause_s(duration)
    folder = ensure_state_dir(loaded.state_dir)
    change = pauses.pause(
        loaded, folder, target, time.time(), for_s=for_s, reason=reason, force=force, ask=docker_names
    )
    _show(shared, "pause", change)
    if change.after[change.target].until is None:
        name = "" if change.target == pauses.ALL else f" {change.target}"
        render.note(f"warning: this lasts until `opskit resume{name}`; `--for 1h` would end by itself")


@shares()
def resume(
    shared: SharedOptions,
    target: Annotated[
        str | None,
        typer.Argument(metavar="[TARGET]", help="What was paused; everything that was when none is named."),
    ] = None,
    reset: Annotated[bool, "Forget its repairs too: the next run repairs what was given up."] = False,
) -> None:
    """End a pause, or all of them.

    What was not paused stays as it is.
    """
    loaded = shared.load()
    folder, closed = ensure_state_dir(loaded.state_dir), None
    change = pauses.resume(loaded, folder, target, time.time())
    if reset:
        closed = pauses.reset(loaded, folder, target, time.time())
    if not change.changed and not shared.json and not closed:
        name = "" if change.target == pauses.ALL else change.target
        what = "paused or given up" if reset else "paused"
        render.line(f"{name} was not {what}" if name else f"nothing was {what}")
    _show(shared, "resume", change, closed)


def _show(
    shared: SharedOptions, command: str, change: pauses.PauseChange, closed: Sequence[str] | None = None
) -> None:
    """Print what was done and what holds now, one line each; `closed` are circuits, None when not asked."""
    after = change.after.values()
    reset = {} if closed is None else {"reset": list(closed)}
    content = plain_document(
        command,
        target=change.target,
        changed=change.changed,
        pauses=[pause.as_json(change.now) for pause in after],
        **reset,
    )

    def page() -> None:
        ended = [name for name in change.before if name not in change.after]
        lines = [f"{'everything' if name == pauses.ALL else name} is looked after again" for name in ended]
        lines += [f"{name} is no longer given up: the next run may repair it" for name in closed or ()]
        for pause in after:
            name = "everything" if pause.target == pauses.ALL else pause.target
            until = "it is resumed"
            if pause.until is not None:
                until = f"{moment(pause.until, change.now)} ({span(round(pause.until - change.now))})"
            old = change.before.get(pause.target)
            still = "still " if old is not None and (old == pause or pause.target != change.target) else ""
            reason = f": {pause.reason}" if pause.reason else ""
            lines.append(f"{name} is {still}paused until {until}{reason}")
        render.lines(lines)

    shared.show(content, page)
