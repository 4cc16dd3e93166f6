"""`opskit pause`: what recovery is to leave alone, and for how long."""

from typing import Annotated

import typer

from opskit.cli import context
from opskit.cli.options import ConfigOption, DebugOption, JsonOption


def pause(
    target: Annotated[
        str | None,
        typer.Argument(
            metavar="[TARGET]",
            help="A step, node, agent, container or Compose project; everything when none is named.",
            show_default=False,
        ),
    ] = None,
    duration: Annotated[
        str | None,
        typer.Option("--for", metavar="TIME", help="End by itself after 30m, 1h30m, 2d.", show_default=False),
    ] = None,
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why, for who looks later.")] = "",
    force: Annotated[
        bool, typer.Option("--force", help="Take a name that recovery does not know (yet).")
    ] = False,
    config: ConfigOption = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Let recovery leave a target alone, or everything, until `opskit resume` or for a time.

    It holds at once, also in the middle of a run. Pausing again changes the time and the reason.
    """
    del debug  # read by main
    import time

    from opskit.cli import pause_view
    from opskit.config.load import ensure_state_dir
    from opskit.recovery.pausing import paused, wanted_s

    loaded = context.load_config(config)
    limit_s = None if duration is None else wanted_s(duration)
    folder = ensure_state_dir(loaded.state_dir)
    change = paused(loaded, folder, target, time.time(), for_s=limit_s, reason=reason, force=force)
    pause_view.show("pause", change, as_json=json)
